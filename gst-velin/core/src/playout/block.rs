//! A received block, and the fixed-size slot that carries it between the threads.

use super::line::LineView;
use crate::units::{BlockIndex, FrameIndex};

/// Most payload bytes in a block: the largest UDP payload on a LAN (1440 bytes) without headers.
pub const MAX_PAYLOAD: usize = 1392;

/// One block as it came out of an authenticated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The block's number.
    pub index: BlockIndex,
    /// The stream's frame that is the block's first.
    pub ts: FrameIndex,
    /// The sender says that its capture broke before this block.
    pub discontinuity: bool,
    /// The block came as a copy or a retransmission, not in its first packet.
    pub repair: bool,
    /// What it holds.
    pub body: Body<'a>,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// In the stream's format: interleaved samples, whole frames, at most `frames_per_block`; or
    /// one Opus packet of that duration.
    Audio(&'a [u8]),
    /// Digital silence instead of samples.
    Silence {
        /// How many frames.
        frames: u16,
    },
}

/// A checked block with what the receiver half knew when it came.
///
/// The clock facts travel with the block so that the player never pairs a new stream position
/// with an old clock.
#[derive(Debug)]
pub(super) struct Slot {
    /// Block number, widened so that arithmetic on it cannot overflow.
    pub(super) index: u64,
    /// First frame.
    pub(super) ts: u64,
    /// Frames in the block, at least 1.
    pub(super) frames: u64,
    /// Came as a copy or a retransmission.
    pub(super) repair: bool,
    /// Counts the sender's jumps in media time: positions compare only within one epoch.
    pub(super) epoch: u32,
    /// Counts restarts of the block numbers.
    pub(super) generation: u32,
    /// The path's clock at arrival.
    pub(super) path: PathClock,
    /// Payload bytes in use; 0 for silence.
    pub(super) len: usize,
    /// The payload.
    pub(super) payload: [u8; MAX_PAYLOAD],
}

impl Slot {
    /// The frame after the last.
    pub(super) fn end(&self) -> u64 {
        self.ts + self.frames
    }
}

/// What the arrivals say about the path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PathClock {
    /// Arrival − media time of the fastest way.
    pub(super) base: LineView,
    /// The quantile of relative delay beyond `base`, ns.
    pub(super) jitter_ns: i64,
    /// Delay beyond one block that repair needs, ns.
    pub(super) allowance_ns: i64,
    /// Whether a second of arrivals has been seen.
    pub(super) settled: bool,
}
