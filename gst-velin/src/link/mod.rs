//! The only I/O in the plugin: sockets, files, the runtime.
//!
//! An element that calls holds a [`Caller`], an element that listens a [`Listener`]. Streaming
//! threads never wait for either: blocks go out through [`Outlet`]s, arrive in receiver halves.

mod admission;
mod backoff;
mod caller;
mod clock;
mod connect;
mod connection;
mod entropy;
mod event;
mod listener;
mod outlet;
mod runtime;
pub mod store;
mod sys;
mod tcp_media;
mod trust;
mod udp;

pub use caller::{Caller, CallerSettings, OutStream, StreamSpec};
pub use clock::now;
pub use connect::ConnectError;
pub use entropy::OsEntropy;
pub use event::{LinkEvent, Observer, PeerInfo};
pub use listener::{
    Acceptor, BindError, Listener, ListenerSettings, StartError, StreamKey, Verdict,
};
pub use outlet::Outlet;
pub use runtime::RuntimeError;
pub use trust::TrustSource;

/// The TCP port for control, unless another is set.
pub const DEFAULT_PORT: u16 = 49_000;

/// The UDP port for media of a listener, unless another is set.
pub const DEFAULT_AUDIO_PORT: u16 = 49_001;
