//! How long to wait for a block before it is missed: jitter and reordering.

use super::MS;

/// Share of a new sample.
const GAIN: f64 = 1.0 / 64.0;
/// No path jitters or reorders more than this for repair's purposes; what does has stalled.
const MOST: i64 = 30 * MS;
/// A block is missed this long after its time at the earliest: this class of machine hiccups.
const LEAST_TIMER: i64 = MS * 3 / 2;
/// Reordering is expected so far before any is known.
const FIRST_REORDER: i64 = MS;
/// A little more than was ever seen.
const SPARE: i64 = MS / 5;
/// Share of a new block that was asked for.
const HASTY_GAIN: f64 = 1.0 / 32.0;
/// So many times longer is the wait when all that is asked for comes by itself.
const CAUTION: f64 = 4.0;
/// Reordering is forgotten with this half-life.
const HALF_LIFE_NS: f64 = 5e9;

/// What first packets show about the path.
#[derive(Debug)]
pub(super) struct Lateness {
    mean: f64,
    deviation: f64,
    /// How much later than a later block a block has come, lately.
    reorder: f64,
    /// Per block.
    decay: f64,
    /// The share of blocks asked for that were on their way, lately.
    hasty: f64,
}

impl Lateness {
    pub(super) fn new(block_ns: i64) -> Self {
        Self {
            mean: 0.0,
            deviation: MS as f64 / 4.0,
            reorder: FIRST_REORDER as f64,
            decay: (-(block_ns as f64) / HALF_LIFE_NS).exp2(),
            hasty: 0.0,
        }
    }

    /// A block came in its first packet, so much later than on the fastest path.
    pub(super) fn came(&mut self, late_ns: i64) {
        let late = late_ns.clamp(0, MOST) as f64;
        self.deviation += ((late - self.mean).abs() - self.deviation) * GAIN;
        self.mean += (late - self.mean) * GAIN;
        self.reorder *= self.decay;
    }

    /// A block came in its first packet, so long after a later one.
    pub(super) fn overtaken(&mut self, by_ns: i64) {
        let by = by_ns.clamp(0, MOST) as f64;
        self.reorder = self.reorder.max(by * 1.1);
    }

    /// A block was asked for and then came: by itself, or because it was asked for.
    pub(super) fn asked(&mut self, came_by_itself: bool) {
        self.hasty += (f64::from(u8::from(came_by_itself)) - self.hasty) * HASTY_GAIN;
    }

    /// A block that has not come this long after its time is missed.
    pub(super) fn timer(&self) -> i64 {
        let usual = self.mean + 4.0 * self.deviation + (MS / 2) as f64;
        // Whoever asks in vain had better wait.
        let wait = usual.clamp(LEAST_TIMER as f64, MOST as f64) * (1.0 + CAUTION * self.hasty);
        wait as i64
    }

    /// A block that has not come this long after a later one is missed.
    pub(super) fn reorder(&self) -> i64 {
        self.reorder as i64 + SPARE
    }

    /// Whether the path keeps the order well enough for two later blocks to prove a loss.
    pub(super) fn is_ordered(&self) -> bool {
        self.reorder <= FIRST_REORDER as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: i64 = 2_500_000;

    #[test]
    fn the_timer_lies_beyond_the_jitter() {
        let mut still = Lateness::new(BLOCK);
        (0..1_000).for_each(|_| still.came(100_000));
        assert_eq!(still.timer(), LEAST_TIMER);
        let mut lively = Lateness::new(BLOCK);
        (0..10_000).for_each(|i| lively.came(i * 7_919 % 2_000 * 1_000));
        assert!((2_500_000..4_500_000).contains(&lively.timer()), "{lively:?}");
    }

    #[test]
    fn who_asks_in_vain_waits_longer() {
        let mut l = Lateness::new(BLOCK);
        let usual = l.timer();
        (0..100).for_each(|_| l.asked(true));
        assert!(l.timer() > 4 * usual);
        (0..300).for_each(|_| l.asked(false));
        assert!(l.timer() - usual < MS / 100, "{l:?}");
    }

    #[test]
    fn reordering_is_learned_and_forgotten() {
        let mut l = Lateness::new(BLOCK);
        assert!(l.is_ordered());
        l.overtaken(9 * MS);
        assert!(!l.is_ordered() && l.reorder() > 9 * MS);
        (0..400 * 60).for_each(|_| l.came(0));
        assert!(l.is_ordered() && l.reorder() < MS / 2, "{l:?}");
    }
}
