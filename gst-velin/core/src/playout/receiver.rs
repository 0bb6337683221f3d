//! The receive thread's half.

use std::sync::Arc;

use super::block::Block;
use super::controls::StreamControls;
use super::counters::StreamCounters;
use crate::time::MonoTime;

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// On its way to the player.
    Accepted,
    /// It had come before.
    Duplicate,
    /// Its time has passed.
    TooLate,
    /// Its payload does not fit the stream's format.
    Malformed,
    /// The player has taken nothing for so long that the hand-over is full.
    Overrun,
}

/// The receive thread's half of one stream: checks, counts and hands over blocks.
///
/// Keep it across sessions when the same stream is attached again. Dropping it ends the stream:
/// what was handed over is played, then the mixer lets the stream go.
#[derive(Debug)]
pub struct ReceiverHalf {
    counters: Arc<StreamCounters>,
    controls: Arc<StreamControls>,
}

impl ReceiverHalf {
    /// Takes a block that arrived at `arrival`. Never allocates or waits.
    pub fn insert(&mut self, _arrival: MonoTime, _block: Block<'_>) -> Insert {
        Insert::Accepted
    }

    /// The stream's counters, to be read by any thread.
    pub fn counters(&self) -> &Arc<StreamCounters> {
        &self.counters
    }

    /// The stream's volume and mute, to be turned by any thread.
    pub fn controls(&self) -> &Arc<StreamControls> {
        &self.controls
    }
}
