//! The way of a recording out of the receive thread: a ring that never makes it wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::trace::TracedBlock;

/// Takes note of the blocks of one stream; give it to
/// [`ReceiverHalf::set_trace`](super::ReceiverHalf::set_trace). Dropping it ends the recording.
#[derive(Debug)]
pub struct TraceTap {
    ring: rtrb::Producer<TracedBlock>,
    dropped: Arc<AtomicU64>,
}

/// The other end, for a thread that has the time to write.
#[derive(Debug)]
pub struct TraceDrain {
    ring: rtrb::Consumer<TracedBlock>,
    dropped: Arc<AtomicU64>,
}

/// Both ends, with room for so many blocks between them.
///
/// ```
/// use velin_core::playout::trace_ring;
///
/// let (tap, mut drain) = trace_ring(1_000);
/// drop(tap);
/// assert!(drain.next().is_none() && drain.is_over());
/// ```
pub fn trace_ring(blocks: usize) -> (TraceTap, TraceDrain) {
    let (producer, consumer) = rtrb::RingBuffer::new(blocks);
    let dropped = Arc::new(AtomicU64::new(0));
    let tap = TraceTap { ring: producer, dropped: dropped.clone() };
    (tap, TraceDrain { ring: consumer, dropped })
}

impl TraceTap {
    /// Wait-free; what does not fit is counted.
    pub(super) fn note(&mut self, block: TracedBlock) {
        if self.ring.push(block).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl TraceDrain {
    /// The oldest block that was not taken yet.
    #[allow(clippy::should_implement_trait)] // After `None` there may be more.
    pub fn next(&mut self) -> Option<TracedBlock> {
        self.ring.pop().ok()
    }

    /// Whether nothing will come any more.
    pub fn is_over(&self) -> bool {
        // First the flag: what came before the end is seen.
        let ended = self.ring.is_abandoned();
        ended && self.ring.is_empty()
    }

    /// Blocks that did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
