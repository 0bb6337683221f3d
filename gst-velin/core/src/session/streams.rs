//! The streams of a session: who offered what, and which ids were used.

use std::collections::HashMap;

use super::media::{FeedbackTx, MediaTx};
use crate::codec::StreamFormat;
use crate::units::StreamId;
use crate::wire::{MAX_FORMATS, StreamOffer};

/// Most streams open or on offer at a time, both directions together.
pub const MAX_STREAMS: usize = 64;

/// One stream.
#[derive(Debug)]
pub(super) enum Stream {
    /// Ours, on offer.
    Offered { formats: Vec<StreamFormat> },
    /// Ours, taken.
    Outgoing { tx: MediaTx },
    /// The peer's, on offer.
    Incoming,
    /// The peer's, taken by us.
    Playing { feedback: FeedbackTx },
}

impl Stream {
    /// What seals our packets on it.
    pub(super) fn tx(&self) -> Option<&MediaTx> {
        match self {
            Self::Outgoing { tx } | Self::Playing { feedback: FeedbackTx(tx) } => Some(tx),
            Self::Offered { .. } | Self::Incoming => None,
        }
    }

    /// Whether we send on it.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Offered { .. } | Self::Outgoing { .. })
    }
}

/// Every stream of a session. Ids are never used twice.
#[derive(Debug)]
pub(super) struct Streams {
    map: HashMap<StreamId, Stream>,
    /// The next id we open; the initiator's are odd, the responder's even.
    next_own: u16,
    /// The lowest id the peer may open next: its ids must rise, so that none comes back.
    next_peer: u16,
}

impl Streams {
    pub(super) fn new(initiator: bool) -> Self {
        let (next_own, next_peer) = if initiator { (1, 2) } else { (2, 1) };
        Self { map: HashMap::new(), next_own, next_peer }
    }

    /// Room for a stream of ours. `None`: 64 streams are open, or the ids are used up.
    pub(super) fn offer(&mut self, formats: Vec<StreamFormat>) -> Option<StreamId> {
        let id = StreamId(self.next_own);
        if self.map.len() >= MAX_STREAMS || !id.is_media() {
            return None;
        }
        // Both ends stop below 0xFFFF, which is not a media stream.
        self.next_own = self.next_own.saturating_add(2);
        self.map.insert(id, Stream::Offered { formats });
        Some(id)
    }

    /// Whether our ids have run out.
    pub(super) fn is_used_up(&self) -> bool {
        !StreamId(self.next_own).is_media()
    }

    /// The peer offers a stream.
    pub(super) fn offered(&mut self, offer: StreamOffer) -> Result<(), OfferError> {
        let id = StreamId(offer.id);
        if !id.is_media() || offer.id % 2 != self.next_peer % 2 || offer.id < self.next_peer {
            return Err(OfferError::Id);
        }
        self.next_peer = offer.id.saturating_add(2);
        if self.map.len() >= MAX_STREAMS {
            return Err(OfferError::Limit);
        }
        self.map.insert(id, Stream::Incoming);
        Ok(())
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.map.get_mut(&id)
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.map.get(&id)
    }

    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        self.map.remove(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.map.iter().map(|(id, s)| (*id, s))
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (StreamId, Stream)> {
        self.map.drain()
    }
}

/// Why an offer is not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfferError {
    /// An id that is not the peer's to open, or was used before: the peer misbehaves.
    Id,
    /// Too many streams.
    Limit,
}

/// Why a stream could not be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStreamError {
    /// The session is not open, or is over.
    #[error("the session is not open; offer the stream again in the next one")]
    NotOpen,
    /// No format, or more than a peer takes.
    #[error("a stream is offered in 1 to {MAX_FORMATS} formats; choose the best ones")]
    Formats,
    /// 64 streams are open, or the session's ids are used up.
    #[error("the session has no room for another stream; close one, or start a new session")]
    NoRoom,
    /// A block of one of the formats is longer than a packet may be.
    #[error("a block does not fit the peer's packets; offer formats with fewer frames in a block")]
    TooLarge,
    /// We listen, and the caller does not have the grant `capture-from-me`.
    #[error("the caller may not take sound from this device; grant it capture-from-me")]
    NotPermitted,
    /// The peer does not ask, by this number, for a stream of this name.
    #[error("the peer does not ask for this stream any more; offer it when it does")]
    NotAsked,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Name;
    use crate::wire::{Hex, StreamDirection, StreamKind, StreamUuid};

    fn offer(id: u16) -> StreamOffer {
        StreamOffer {
            id,
            dir: StreamDirection::Send,
            name: Name::new("x").unwrap(),
            uuid: StreamUuid(Hex([0; 16])),
            kind: StreamKind::Playback,
            ask: None,
            formats: Vec::new(),
        }
    }

    #[test]
    fn ids_have_the_openers_parity_and_never_return() {
        let mut s = Streams::new(true);
        assert_eq!(s.offer(Vec::new()), Some(StreamId(1)));
        s.remove(StreamId(1));
        assert_eq!(s.offer(Vec::new()), Some(StreamId(3)));
        assert_eq!(s.offered(offer(5)), Err(OfferError::Id));
        assert_eq!(s.offered(offer(0)), Err(OfferError::Id));
        assert_eq!(s.offered(offer(4)), Ok(()));
        s.remove(StreamId(4));
        assert_eq!(s.offered(offer(4)), Err(OfferError::Id));
        assert_eq!(s.offered(offer(2)), Err(OfferError::Id));
    }

    #[test]
    fn ids_run_out_instead_of_wrapping() {
        let mut s = Streams::new(true);
        let mut last = 0;
        while let Some(id) = s.offer(Vec::new()) {
            assert!(id.0 > last);
            last = id.0;
            s.remove(id);
        }
        assert_eq!(last, 0xFFFD);
        let mut s = Streams::new(false);
        let n = std::iter::from_fn(|| s.offer(Vec::new()).and_then(|id| s.remove(id))).count();
        assert_eq!(n, 0x7FFF);
    }

    #[test]
    fn the_number_of_streams_is_bounded() {
        let mut s = Streams::new(false);
        for i in 0..64 {
            assert_eq!(s.offered(offer(1 + 2 * i)), Ok(()));
        }
        assert_eq!(s.offered(offer(1001)), Err(OfferError::Limit));
        assert_eq!(s.offer(Vec::new()), None);
    }
}
