//! The sending half of one stream, for the thread that has the samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::event::Route;
use super::header::{HEADER_LEN, OVERHEAD};
use super::sealer::{self, Sealer};
use crate::units::StreamId;
use crate::wire::{AUDIO_HEADER, AudioHeader};

/// Bytes before a media packet's payload: packet header and AUDIO frame header.
pub const MEDIA_HEAD: usize = 32;

/// Bytes that sealing a block adds to its payload.
pub const MEDIA_OVERHEAD: usize = MEDIA_HEAD + 16;

/// Seals blocks of one stream of one session.
///
/// Cheap to clone; every clone counts through the one atomic counter of the stream's sealer, so
/// the streaming thread and the thread that answers NACKs never use a nonce twice.
#[derive(Clone, Debug)]
pub struct MediaTx {
    shared: Arc<Shared>,
    route: Arc<ArcSwap<Route>>,
    id: StreamId,
    /// Longest packet, in bytes.
    mtu: usize,
}

#[derive(Debug)]
struct Shared {
    sealer: ArcSwapOption<Sealer>,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl MediaTx {
    pub(super) fn new(
        id: StreamId,
        sealer: Arc<Sealer>,
        route: Arc<ArcSwap<Route>>,
        mtu: usize,
    ) -> Self {
        let shared = Shared {
            sealer: ArcSwapOption::new(Some(sealer)),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), route, id, mtu }
    }

    /// The stream's number in its session.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Seals `payload`, which already stands at `packet[32..32 + payload_len]`, into a whole
    /// packet at the front of `packet`; gives its length and which way to send it.
    ///
    /// `packet` needs [`MEDIA_OVERHEAD`] bytes beside the payload. Allocates nothing.
    ///
    /// # Errors
    /// [`MediaError::Closed`] once the stream or its session is over; [`MediaError::Held`] while
    /// there is no way to the peer; [`MediaError::TooLarge`] if the packet would not fit
    /// [`mtu`](Self::mtu). None of these uses up a number.
    pub fn seal(
        &self,
        header: &AudioHeader,
        payload_len: usize,
        packet: &mut [u8],
    ) -> Result<(usize, Route), MediaError> {
        self.seal_with(header, payload_len, 0, packet)
    }

    /// As [`seal`](Self::seal), with `extra` bytes of further AUDIO frames that stand behind the
    /// payload already: [copies](crate::wire::Copies) of blocks before.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_with(
        &self,
        header: &AudioHeader,
        payload_len: usize,
        extra: usize,
        packet: &mut [u8],
    ) -> Result<(usize, Route), MediaError> {
        let length =
            u16::try_from(payload_len).map_err(|_| MediaError::Seal(sealer::SealError::TooLong))?;
        let head = packet
            .get_mut(16..16 + AUDIO_HEADER)
            .ok_or(MediaError::Seal(sealer::SealError::Room))?;
        head.copy_from_slice(&header.encode(length));
        self.seal_frames(AUDIO_HEADER + payload_len + extra, packet)
    }

    /// Seals `plaintext` bytes of frames at `packet[16..]`.
    fn seal_frames(
        &self,
        plaintext: usize,
        packet: &mut [u8],
    ) -> Result<(usize, Route), MediaError> {
        let guard = self.shared.sealer.load();
        let sealer = guard.as_ref().ok_or(MediaError::Closed)?;
        if plaintext.saturating_add(OVERHEAD) > self.mtu {
            return Err(MediaError::TooLarge);
        }
        let route = **self.route.load();
        if route == Route::Held {
            return Err(MediaError::Held);
        }
        let n = sealer.seal(packet, plaintext)?;
        self.shared.packets.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok((n, route))
    }

    /// Leaves out `n` packet numbers, as if that many packets had been sealed.
    #[cfg(any(test, feature = "nonce-guard"))]
    pub fn skip_numbers(&self, n: u64) {
        if let Some(sealer) = &*self.shared.sealer.load() {
            sealer.skip_numbers(n);
        }
    }

    /// The longest packet, in bytes: a block has [`MEDIA_OVERHEAD`] less.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Which way packets leave now.
    pub fn route(&self) -> Route {
        **self.route.load()
    }

    /// Packets and bytes sealed so far, headers and tags included.
    pub fn sent(&self) -> (u64, u64) {
        (self.shared.packets.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }

    /// Whether the stream or its session is over.
    pub fn is_closed(&self) -> bool {
        self.shared.sealer.load().is_none()
    }

    pub(super) fn rekey(&self, sealer: Arc<Sealer>) {
        self.shared.sealer.store(Some(sealer));
    }

    pub(super) fn close(&self) {
        self.shared.sealer.store(None);
    }
}

/// Seals what a receiver says to its sender on the stream's own id: NACK and REPORT.
///
/// Made with the stream, of the one sealer of our direction; follows the session's keys and ends
/// with the stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FeedbackTx(pub(super) MediaTx);

impl FeedbackTx {
    /// Seals `frame` into a whole packet at the front of `packet`, which needs 32 bytes more;
    /// gives its length and which way to send it. Allocates nothing.
    ///
    /// # Errors
    /// As [`MediaTx::seal`].
    pub fn seal(&self, frame: &[u8], packet: &mut [u8]) -> Result<(usize, Route), MediaError> {
        let room = packet
            .get_mut(HEADER_LEN..HEADER_LEN + frame.len())
            .ok_or(MediaError::Seal(sealer::SealError::Room))?;
        room.copy_from_slice(frame);
        self.0.seal_frames(frame.len(), packet)
    }

    /// Which way packets leave now.
    pub fn route(&self) -> Route {
        self.0.route()
    }
}

/// Why a block was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The stream or its session is over.
    #[error("the stream is over; wait for the next session")]
    Closed,
    /// There is no way to the peer now: drop the block and go on with the next.
    #[error("there is no way to the peer now; drop the block and go on with the next")]
    Held,
    /// The packet is longer than the peer takes.
    #[error("the block does not fit the peer's packets; put fewer frames into a block")]
    TooLarge,
    /// The packet is too long for the cipher, or the key is used up.
    #[error(transparent)]
    Seal(#[from] sealer::SealError),
}
