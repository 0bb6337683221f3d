//! How much a peer may say on the control stream. Every message is answered or remembered, so
//! without a bound a hostile peer would fill our memory with answers that it does not read.

use crate::time::MonoTime;

/// Bytes per second, in the long run.
const RATE: u64 = 64 * 1024;

/// Bytes at once: 64 offers of 16 formats each fit.
const BURST: u64 = 256 * 1024;

/// A token bucket over control bytes.
#[derive(Debug)]
pub(super) struct ControlBudget {
    left: u64,
    since: MonoTime,
}

impl ControlBudget {
    /// Full.
    pub(super) fn new(now: MonoTime) -> Self {
        Self { left: BURST, since: now }
    }

    /// Whether `bytes` more are within the bound.
    pub(super) fn take(&mut self, now: MonoTime, bytes: usize) -> bool {
        let earned = now.since(self.since).as_nanos() * u128::from(RATE) / 1_000_000_000;
        if earned > 0 {
            self.left = BURST.min(self.left.saturating_add(earned.try_into().unwrap_or(BURST)));
            self.since = now;
        }
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate_pass_and_no_more() {
        let second = |n: u64| MonoTime::from_nanos(n * 1_000_000_000);
        let mut budget = ControlBudget::new(second(0));
        assert!(budget.take(second(0), BURST as usize));
        assert!(!budget.take(second(0), 1));
        for n in 1..10 {
            assert!(budget.take(second(n), RATE as usize));
            assert!(!budget.take(second(n), 1));
        }
        assert!(budget.take(second(1000), BURST as usize));
        assert!(!budget.take(second(1000), 1));
    }

    #[test]
    fn many_small_messages_lose_no_time_to_rounding() {
        let mut budget = ControlBudget::new(MonoTime::ZERO);
        assert!(budget.take(MonoTime::ZERO, BURST as usize));
        // One byte is earned in 15.26 µs; asked every 16 µs it is always there.
        assert!((1..10_000).all(|n| budget.take(MonoTime::from_nanos(n * 16_000), 1)));
    }
}
