//! Where streams of peers are played: an element with a filter, in the order of attachment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use velin_core::identity::PublicKey;
use velin_core::playout::ReceiverHalf;
use velin_core::wire::{CloseCode, StreamOffer, StreamUuid};

use super::event::{LinkEvent, Observer, PeerInfo};
use super::filter::StreamFilter;
use super::hub::Hub;

/// What names a stream across sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Who sends it.
    pub peer: PublicKey,
    /// Which timeline.
    pub uuid: StreamUuid,
}

/// What becomes of an offer.
#[derive(Debug)]
// Moved once per stream: boxing the half would only cost.
#[allow(clippy::large_enum_variant)]
pub enum Verdict {
    /// Play it.
    Accept {
        /// Which of the offer's formats.
        format: u8,
        /// Where its blocks go.
        receiver: ReceiverHalf,
    },
    /// Do not.
    Refuse(CloseCode),
}

/// Decides about offered streams. Called on network threads with no lock held; must not wait.
pub trait Acceptor: Send + Sync {
    /// A trusted peer offers a stream that the filter takes.
    fn offered(&self, peer: &PeerInfo, offer: &StreamOffer) -> Verdict;

    /// A stream is over. `resumable`: its sender did not say goodbye and may come back with it.
    fn ended(&self, key: StreamKey, receiver: ReceiverHalf, resumable: bool);
}

/// One attached receiver of streams.
pub struct Intake {
    pub(super) filter: StreamFilter,
    pub(super) acceptor: Arc<dyn Acceptor>,
    observer: Observer,
    hub: Weak<Hub>,
    closed: AtomicBool,
}

impl Intake {
    pub(super) fn new(
        filter: StreamFilter,
        acceptor: Arc<dyn Acceptor>,
        observer: Observer,
        hub: Weak<Hub>,
    ) -> Self {
        Self { filter, acceptor, observer, hub, closed: AtomicBool::new(false) }
    }

    /// Takes the receiver off the link. Its streams end; another one that wants them may have
    /// them then.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(hub) = self.hub.upgrade() {
            hub.detached();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn tell(&self, event: LinkEvent) {
        if !self.is_closed() {
            (self.observer)(event);
        }
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("filter", &self.filter).finish_non_exhaustive()
    }
}
