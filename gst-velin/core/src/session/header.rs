//! The 16 bytes before the ciphertext of every DATA packet. They are its associated data.

use crate::handshake::packets::SessionIndex;
use crate::session::aead::TAG_LEN;
use crate::units::StreamId;

/// First byte of DATA.
pub const TYPE_DATA: u8 = 0x5D;
/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 16;
/// What a packet adds to its frames, in bytes.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// A packet's number within its (direction, epoch, stream): less than 2^48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Counter(u64);

impl Counter {
    /// The first number that may not be used.
    pub const LIMIT: u64 = 1 << 48;

    /// `None` from [`Counter::LIMIT`] on.
    pub const fn new(counter: u64) -> Option<Self> {
        if counter < Self::LIMIT { Some(Self(counter)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a packet says about itself before it is opened. Not yet authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Low 8 bits of the epoch.
    pub epoch: u8,
    /// The stream.
    pub stream: StreamId,
    /// The receiver's session index.
    pub receiver: SessionIndex,
    /// The packet's number.
    pub counter: Counter,
}

/// Why bytes are no DATA packet. Drop them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The first byte names another packet.
    #[error("not a DATA packet; drop it")]
    Type,
    /// Shorter than header and tag.
    #[error("a DATA packet shorter than {OVERHEAD} bytes; drop it")]
    Length,
    /// Session index zero, which nobody has.
    #[error("a DATA packet for session index zero; drop it")]
    Index,
    /// A counter of 2^48 or more, which no sender may use.
    #[error("a DATA packet with a counter past 2^48; drop it")]
    Counter,
}

impl Header {
    /// Reads the header of a whole packet.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn parse(packet: &[u8]) -> Result<Self, HeaderError> {
        let Some((head, rest)) = packet.split_first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Length);
        };
        let [kind, epoch, s0, s1, i0, i1, i2, i3, counter @ ..] = *head;
        if kind != TYPE_DATA {
            return Err(HeaderError::Type);
        }
        if rest.len() < TAG_LEN {
            return Err(HeaderError::Length);
        }
        let receiver = u32::from_be_bytes([i0, i1, i2, i3]);
        Ok(Self {
            epoch,
            stream: StreamId(u16::from_be_bytes([s0, s1])),
            receiver: SessionIndex::new(receiver).ok_or(HeaderError::Index)?,
            counter: Counter::new(u64::from_be_bytes(counter)).ok_or(HeaderError::Counter)?,
        })
    }

    /// The wire form.
    pub const fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [s0, s1] = self.stream.0.to_be_bytes();
        let [i0, i1, i2, i3] = self.receiver.to_bytes();
        let [c0, c1, c2, c3, c4, c5, c6, c7] = self.counter.0.to_be_bytes();
        [TYPE_DATA, self.epoch, s0, s1, i0, i1, i2, i3, c0, c1, c2, c3, c4, c5, c6, c7]
    }
}
