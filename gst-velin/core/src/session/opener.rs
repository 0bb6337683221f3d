//! Opening DATA packets: cheap checks, then the cipher, then the replay window.

use crate::handshake::packets::SessionIndex;
use crate::handshake::schedule::{Direction, Epoch, EpochSecrets};
use crate::session::aead::{Aead, Nonce, RingAead};
use crate::session::header::{Counter, HEADER_LEN, Header, HeaderError};
use crate::session::replay::{ReplayError, ReplayWindow};
use crate::units::StreamId;

/// Failed opens after which a key is given up (RFC 9001 §6.6 for this cipher).
pub const FAILURE_LIMIT: u64 = 1 << 36;

/// Why a packet was not opened. It changed nothing but the count of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No DATA packet at all.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A packet of another session, epoch or stream.
    #[error("a packet for another session, epoch or stream; look the opener up by its header")]
    Elsewhere,
    /// Seen before, or too old to tell.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Does not authenticate.
    #[error("the packet does not authenticate; drop it")]
    Forged,
    /// Too many packets did not authenticate: the session must close with `KEY_LIMIT`.
    #[error("2^36 packets did not authenticate; close the session with KEY_LIMIT")]
    KeyLimit,
}

/// A packet that authenticated and had not been seen before.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The frames.
    pub frames: &'a mut [u8],
    /// The packet's number.
    pub counter: Counter,
    /// Whether the number is the highest so far: only then may the source address become a
    /// candidate path.
    pub newest: bool,
}

/// Opens the packets of one (direction, epoch, stream). Make one only: it owns the replay window.
#[derive(Debug)]
pub struct Opener {
    aead: RingAead,
    epoch: Epoch,
    stream: StreamId,
    receiver: SessionIndex,
    window: ReplayWindow,
    failures: u64,
}

impl Opener {
    /// For `stream`, as the peer sends it in `direction` to our session index `receiver`.
    pub fn new(
        secrets: &EpochSecrets,
        direction: Direction,
        receiver: SessionIndex,
        stream: StreamId,
    ) -> Self {
        Self {
            aead: RingAead::new(&secrets.traffic(direction).stream_key(stream)),
            epoch: secrets.epoch(),
            stream,
            receiver,
            window: ReplayWindow::new(),
            failures: 0,
        }
    }

    /// Opens `packet` in place. On an error its contents are undefined.
    ///
    /// # Errors
    /// See [`OpenError`]. After [`OpenError::KeyLimit`] nothing opens any more.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<Opened<'a>, OpenError> {
        let header = Header::parse(packet)?;
        if header.epoch != self.epoch.to_wire()
            || header.stream != self.stream
            || header.receiver != self.receiver
        {
            return Err(OpenError::Elsewhere);
        }
        if self.failures >= FAILURE_LIMIT {
            return Err(OpenError::KeyLimit);
        }
        let counter = header.counter;
        self.window.check(counter)?;
        let (head, sealed) = packet.split_at_mut(HEADER_LEN);
        let Ok(frames) = self.aead.open_in_place(Nonce::from_counter(counter.get()), head, sealed)
        else {
            self.failures += 1;
            let spent = self.failures >= FAILURE_LIMIT;
            return Err(if spent { OpenError::KeyLimit } else { OpenError::Forged });
        };
        let newest = self.window.highest().is_none_or(|highest| counter > highest);
        self.window.mark(counter)?;
        Ok(Opened { frames, counter, newest })
    }

    /// Which stream this is.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The epoch of the key.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The highest number that authenticated.
    pub const fn highest(&self) -> Option<Counter> {
        self.window.highest()
    }

    /// Packets that did not authenticate.
    pub const fn failures(&self) -> u64 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::schedule::StreamKey;
    use crate::session::header::TYPE_DATA;

    fn opener() -> Opener {
        Opener {
            aead: RingAead::new(&StreamKey::for_tests([0x21; 32])),
            epoch: Epoch(0),
            stream: StreamId(1),
            receiver: SessionIndex::new(1).expect("not zero"),
            window: ReplayWindow::new(),
            failures: 0,
        }
    }

    fn packet(counter: u64) -> Vec<u8> {
        let mut packet = vec![TYPE_DATA, 0, 0, 1, 0, 0, 0, 1];
        packet.extend(counter.to_be_bytes());
        packet.extend([0; 16]);
        let aead = RingAead::new(&StreamKey::for_tests([0x21; 32]));
        let (head, tag) = packet.split_at_mut(HEADER_LEN);
        tag.copy_from_slice(
            &aead.seal_in_place(Nonce::from_counter(counter), head, &mut []).unwrap().0,
        );
        packet
    }

    #[test]
    fn the_last_failure_a_key_may_see_closes_it_for_good() {
        let mut opener = opener();
        opener.failures = FAILURE_LIMIT - 2;
        let genuine = packet(1);
        let mut forged = genuine.clone();
        forged[20] ^= 1;
        assert_eq!(opener.open(&mut forged.clone()), Err(OpenError::Forged));
        assert_eq!(opener.open(&mut forged), Err(OpenError::KeyLimit));
        assert_eq!(opener.open(&mut genuine.clone()), Err(OpenError::KeyLimit));
    }

    #[test]
    fn the_last_number_opens_and_the_one_after_is_no_packet() {
        let mut opener = opener();
        let last = Counter::LIMIT - 1;
        assert_eq!(opener.open(&mut packet(last)).map(|o| o.counter.get()), Ok(last));
        assert_eq!(
            opener.open(&mut packet(Counter::LIMIT)),
            Err(OpenError::Header(HeaderError::Counter))
        );
        assert_eq!(opener.failures(), 0);
    }
}
