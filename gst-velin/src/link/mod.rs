//! The only I/O in the plugin: sockets, files, the runtime.
//!
//! An element holds a [`Link`], which calls or listens, and attaches to it what it sends
//! ([`OutStream`]) or plays ([`Intake`]). Each session has an exchange that brings it in line with
//! what is attached. Streaming threads never wait for any of it: blocks go out through
//! [`Outlet`]s, arrive in receiver halves.

mod admission;
mod allow;
mod backoff;
mod caller;
mod clock;
mod connect;
mod connection;
mod entropy;
mod event;
mod exchange;
mod feedback;
mod filter;
mod goodbye;
mod hub;
mod intake;
mod listener;
mod out_repair;
mod out_stream;
mod outlet;
mod recorder;
mod registry;
mod runtime;
pub mod store;
mod sys;
mod tcp_media;
mod trust;
mod udp;
mod unsent;
mod wake;

use std::sync::Arc;

pub use admission::AdmissionCounters;
pub use allow::{AllowList, AllowListError};
pub use caller::{CallError, Caller, CallerSettings};
pub use clock::now;
pub use connect::ConnectError;
pub use entropy::OsEntropy;
pub use event::{CarrierReason, LinkEvent, Observer, PeerInfo};
pub use filter::{FilterError, StreamFilter};
pub use goodbye::wait_for_goodbyes;
pub use intake::{Acceptor, Intake, StreamKey, Verdict};
pub use listener::{BindError, Listener, ListenerSettings, OpenError, Opening};
pub use out_stream::{OutStream, StreamSpec};
pub use outlet::Outlet;
pub use recorder::{RecordError, Recorded, record};
pub use registry::Conflict;
pub use runtime::RuntimeError;
pub use trust::{ExpiredTrust, TrustSource};

/// The TCP port for control, unless another is set.
pub const DEFAULT_PORT: u16 = 49_000;

/// The UDP port for media of a listener, unless another is set.
pub const DEFAULT_AUDIO_PORT: u16 = 49_001;

/// Calls `what` on a network thread after `wait`. It must not wait for anything.
pub fn later(wait: std::time::Duration, what: impl FnOnce() + Send + 'static) {
    if let Ok(runtime) = runtime::handle() {
        runtime.spawn(async move {
            // A little late, so that what is due by then is due.
            tokio::time::sleep(wait + std::time::Duration::from_millis(10)).await;
            what();
        });
    }
}

/// A link as an element holds it. Either role offers and plays streams in the same way.
#[derive(Clone, Debug)]
pub enum Link {
    /// It calls.
    Caller(Arc<Caller>),
    /// It listens.
    Listener(Arc<Listener>),
}

impl Link {
    /// Offers a stream in every session from now on, until it is closed. A listener offers it to
    /// those who ask for it.
    pub fn send(&self, spec: StreamSpec, observer: Observer) -> Arc<OutStream> {
        self.hub().send(spec, observer)
    }

    /// Plays what `filter` takes, but for what somebody plays who came before. A caller asks for
    /// it; a listener takes what is offered.
    pub fn receive(
        &self,
        filter: StreamFilter,
        acceptor: Arc<dyn Acceptor>,
        observer: Observer,
    ) -> Arc<Intake> {
        self.hub().receive(filter, acceptor, observer)
    }

    fn hub(&self) -> &Arc<hub::Hub> {
        match self {
            Self::Caller(caller) => caller.hub(),
            Self::Listener(listener) => listener.hub(),
        }
    }
}
