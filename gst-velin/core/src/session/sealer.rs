//! Sealing DATA packets: exactly one sealer per (direction, epoch, stream).
//!
//! [`Sealers`] is the only maker of a [`Sealer`] and makes one per stream. Every thread that sends
//! on the stream shares it; its atomic counter is what keeps nonces from repeating.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::handshake::packets::SessionIndex;
use crate::handshake::schedule::{Direction, Epoch, EpochSecrets, TrafficSecret};
use crate::session::aead::{Aead, AeadError, Nonce, RingAead};
use crate::session::header::{Counter, HEADER_LEN, Header, OVERHEAD};
use crate::units::StreamId;

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// 2^48 packets have been sealed: the key is used up.
    #[error("the stream's key has sealed 2^48 packets; rekey before sending more")]
    Exhausted,
    /// The buffer has no room for header and tag around the plaintext.
    #[error("the buffer is too short: it needs the plaintext's length and {OVERHEAD} bytes")]
    Room,
    /// The plaintext is too long for the cipher.
    #[error("the plaintext is too long for one packet; split it")]
    TooLong,
}

impl From<AeadError> for SealError {
    fn from(_: AeadError) -> Self {
        Self::TooLong
    }
}

/// The stream id was used before in this epoch; ids are never reused within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {0:?} has been retired; take a new stream id")]
pub struct Retired(pub StreamId);

/// The sealers of one direction and epoch.
#[derive(Debug)]
pub struct Sealers {
    traffic: TrafficSecret,
    epoch: Epoch,
    receiver: SessionIndex,
    /// `None`: retired.
    streams: BTreeMap<StreamId, Option<Arc<Sealer>>>,
}

impl Sealers {
    /// For everything we send in this epoch to the peer that calls the session `receiver`. Make
    /// one per epoch: two would repeat each other's nonces.
    pub fn new(secrets: &EpochSecrets, direction: Direction, receiver: SessionIndex) -> Self {
        Self {
            traffic: secrets.traffic(direction),
            epoch: secrets.epoch(),
            receiver,
            streams: BTreeMap::new(),
        }
    }

    /// The epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The stream's one sealer.
    ///
    /// # Errors
    /// [`Retired`] after [`Sealers::retire`].
    pub fn sealer(&mut self, stream: StreamId) -> Result<Arc<Sealer>, Retired> {
        self.streams
            .entry(stream)
            .or_insert_with(|| {
                Some(Arc::new(Sealer {
                    aead: RingAead::new(&self.traffic.stream_key(stream)),
                    epoch: self.epoch,
                    stream,
                    receiver: self.receiver,
                    next: AtomicU64::new(0),
                }))
            })
            .clone()
            .ok_or(Retired(stream))
    }

    /// How many packets the busiest stream has sealed.
    pub fn most_sealed(&self) -> u64 {
        self.streams.values().flatten().map(|sealer| sealer.sealed()).max().unwrap_or(0)
    }

    /// Forgets the stream's sealer for good.
    pub fn retire(&mut self, stream: StreamId) {
        self.streams.insert(stream, None);
    }
}

/// Seals the packets of one stream, from any thread.
#[derive(Debug)]
pub struct Sealer {
    aead: RingAead,
    epoch: Epoch,
    stream: StreamId,
    receiver: SessionIndex,
    next: AtomicU64,
}

impl Sealer {
    /// Makes a DATA packet in place. The caller has written `plaintext` bytes of frames at
    /// `packet[16..]`; this writes the header before them and the tag behind, and returns the
    /// length of the packet, `plaintext + 32`. Allocates nothing.
    ///
    /// # Errors
    /// [`SealError::Room`] (no number is used up), [`SealError::Exhausted`].
    pub fn seal(&self, packet: &mut [u8], plaintext: usize) -> Result<usize, SealError> {
        let length = plaintext.checked_add(OVERHEAD).ok_or(SealError::Room)?;
        let packet = packet.get_mut(..length).ok_or(SealError::Room)?;
        let counter = self.take_number()?;
        let header = Header {
            epoch: self.epoch.to_wire(),
            stream: self.stream,
            receiver: self.receiver,
            counter,
        }
        .to_bytes();
        let (head, rest) = packet.split_at_mut(HEADER_LEN);
        let (frames, tag) = rest.split_at_mut(plaintext);
        head.copy_from_slice(&header);
        let nonce = Nonce::from_counter(counter.get());
        tag.copy_from_slice(&self.aead.seal_in_place(nonce, &header, frames)?.0);
        Ok(length)
    }

    /// Which stream this is.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The epoch of the key.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many packets have been sealed. A rekey is due at 2^32.
    pub fn sealed(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Leaves out `n` numbers, as if that many packets had been sealed.
    #[cfg(any(test, feature = "nonce-guard"))]
    pub fn skip_numbers(&self, n: u64) {
        self.next.fetch_add(n, Ordering::Relaxed);
    }

    /// Relaxed is enough: the numbers only have to differ, and a read-modify-write sees to that.
    fn take_number(&self) -> Result<Counter, SealError> {
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                Counter::new(next).map(|counter| counter.get() + 1)
            })
            .ok()
            .and_then(Counter::new)
            .ok_or(SealError::Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::schedule::StreamKey;

    #[test]
    fn a_key_seals_its_last_number_and_then_no_more() {
        let sealer = Sealer {
            aead: RingAead::new(&StreamKey::for_tests([0x22; 32])),
            epoch: Epoch(0),
            stream: StreamId(1),
            receiver: SessionIndex::new(1).expect("not zero"),
            next: AtomicU64::new(Counter::LIMIT - 1),
        };
        let mut packet = [0; 64];
        assert_eq!(sealer.seal(&mut packet, 8), Ok(40));
        assert_eq!(Header::parse(&packet).unwrap().counter.get(), Counter::LIMIT - 1);
        for _ in 0..2 {
            assert_eq!(sealer.seal(&mut packet, 8), Err(SealError::Exhausted));
        }
        assert_eq!(sealer.sealed(), Counter::LIMIT);
    }
}
