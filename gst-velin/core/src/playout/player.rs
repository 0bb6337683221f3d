//! The streaming thread's half of one stream.

use std::sync::Arc;

use super::controls::StreamControls;
use super::counters::StreamCounters;

/// The streaming thread's half of one stream; give it to the mixer.
#[derive(Debug)]
pub struct PlayerHalf {
    counters: Arc<StreamCounters>,
    controls: Arc<StreamControls>,
}

impl PlayerHalf {
    /// The stream's counters, to be read by any thread.
    pub fn counters(&self) -> &Arc<StreamCounters> {
        &self.counters
    }

    /// The stream's volume and mute, to be turned by any thread.
    pub fn controls(&self) -> &Arc<StreamControls> {
        &self.controls
    }
}
