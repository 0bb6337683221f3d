//! A received block, and the fixed-size slot that carries it between the threads.

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
    /// Interleaved samples in the stream's format, whole frames, at most `frames_per_block`.
    Pcm(&'a [u8]),
    /// Digital silence instead of samples.
    Silence {
        /// How many frames.
        frames: u16,
    },
}
