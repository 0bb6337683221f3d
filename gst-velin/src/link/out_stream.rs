//! A stream that this process sends: one timeline, and a way out to every peer that takes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use velin_core::codec::StreamFormat;
use velin_core::handshake::packets::SessionIndex;
use velin_core::identity::Name;
use velin_core::resend::{History, HistoryWriter, history};
use velin_core::wire::StreamUuid;

use super::event::{LinkEvent, Observer};
use super::hub::Hub;
use super::outlet::Outlet;

/// A stream that a link offers.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// What the stream is called.
    pub name: Name,
    /// The stream's identity for as long as its timeline goes on.
    pub uuid: StreamUuid,
    /// What its blocks hold.
    pub format: StreamFormat,
    /// Whether lost blocks are sent again, and copies where a receiver wants them.
    pub repair: bool,
}

/// One attached stream.
pub struct OutStream {
    pub(super) spec: StreamSpec,
    observer: Observer,
    hub: Weak<Hub>,
    /// Read by the streaming thread, which never waits for whoever changes it.
    outlets: ArcSwap<Vec<Arc<Outlet>>>,
    /// Held while `outlets` is replaced.
    changing: Mutex<()>,
    closed: AtomicBool,
    history: Option<History>,
    /// Until whoever makes the blocks takes it.
    writer: Mutex<Option<HistoryWriter>>,
}

impl OutStream {
    pub(super) fn new(spec: StreamSpec, observer: Observer, hub: Weak<Hub>) -> Self {
        let kept =
            spec.repair.then(|| history(spec.format.block_bytes(), spec.format.block_duration()));
        let (writer, history) = kept.unzip();
        Self {
            history,
            writer: Mutex::new(writer),
            spec,
            observer,
            hub,
            outlets: ArcSwap::default(),
            changing: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The ways out, one for every peer that takes the stream.
    pub fn outlets(&self) -> Vec<Arc<Outlet>> {
        self.outlets.load().to_vec()
    }

    /// Calls `f` with every way out: for the streaming thread.
    pub fn for_each_outlet(&self, f: impl FnMut(&Outlet)) {
        self.outlets.load().iter().map(|o| &**o).for_each(f);
    }

    /// Where its blocks are to be kept for repair. Once, for the one that makes them; `None` after
    /// that, and without repair.
    pub fn take_history(&self) -> Option<HistoryWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn history(&self) -> Option<&History> {
        self.history.as_ref()
    }

    /// Takes the stream off the link.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.change(Vec::clear);
        if let Some(hub) = self.hub.upgrade() {
            hub.detached();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// One more peer takes the stream, or the same one through another session. `alone`: whatever
    /// other session there was is being replaced.
    pub(super) fn add(&self, outlet: Outlet, alone: bool) {
        self.change(|outlets| {
            if alone {
                outlets.clear();
            }
            outlets.push(Arc::new(outlet));
        });
        if self.is_closed() {
            self.change(Vec::clear);
        }
    }

    /// The session `session` carries the stream no more. Gives whether it did.
    pub(super) fn remove(&self, session: SessionIndex) -> bool {
        let mut found = false;
        self.change(|outlets| {
            outlets.retain(|outlet| {
                let it = outlet.session() == session;
                found |= it;
                !it
            });
        });
        found
    }

    pub(super) fn tell(&self, event: LinkEvent) {
        if !self.is_closed() {
            (self.observer)(event);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Outlet>>)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outlets = self.outlets.load().to_vec();
        change(&mut outlets);
        self.outlets.store(Arc::new(outlets));
    }
}

impl std::fmt::Debug for OutStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutStream").field("spec", &self.spec).finish_non_exhaustive()
    }
}
