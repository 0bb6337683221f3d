//! A bit rate that gives way to loss.

use std::time::Duration;

use crate::units::BitRate;

/// The steps between which the bit rate moves, in bits per second.
const STEPS: [u32; 5] = [192_000, 128_000, 96_000, 64_000, 32_000];
/// More loss than this, …
const MUCH: f64 = 0.05;
/// … for so long, takes a step down.
const DOWN_AFTER: Duration = Duration::from_secs(3);
/// Less than this …
const LITTLE: f64 = 0.02;
/// … for so long takes a step up; …
const UP_AFTER: Duration = Duration::from_secs(10);
/// … twice as long after each step up that did not last so long, at most this.
const UP_AFTER_MOST: Duration = Duration::from_secs(80);

/// Chooses the bit rate: down by a step while much is lost, up again carefully.
#[derive(Clone, Debug)]
pub struct LossAdaptation {
    wish: BitRate,
    now: BitRate,
    /// How long much, and little, has been lost without a break.
    much: Duration,
    little: Duration,
    up_after: Duration,
    /// Since the last step up.
    raised: Option<Duration>,
}

impl LossAdaptation {
    /// Begins at `wish`, which is never exceeded.
    pub fn new(wish: BitRate) -> Self {
        Self {
            wish,
            now: wish,
            much: Duration::ZERO,
            little: Duration::ZERO,
            up_after: UP_AFTER,
            raised: None,
        }
    }

    /// The bit rate now.
    pub fn bit_rate(&self) -> BitRate {
        self.now
    }

    /// `passed` is over, and a `share` of the blocks was lost on the way in it (before repair): gives
    /// the bit rate from now on.
    pub fn update(&mut self, passed: Duration, share: f64) -> BitRate {
        self.raised = self.raised.map(|since| since.saturating_add(passed));
        self.much = if share > MUCH { self.much.saturating_add(passed) } else { Duration::ZERO };
        self.little =
            if share < LITTLE { self.little.saturating_add(passed) } else { Duration::ZERO };
        if self.much >= DOWN_AFTER {
            self.much = Duration::ZERO;
            if self.raised.take().is_some_and(|since| since < self.up_after) {
                self.up_after = (2 * self.up_after).min(UP_AFTER_MOST);
            }
            let lower = STEPS.into_iter().find(|step| *step < self.now.bits_per_second());
            self.now = lower.and_then(BitRate::new).unwrap_or(self.now);
        } else if self.little >= self.up_after && self.now < self.wish {
            self.little = Duration::ZERO;
            if self.raised.replace(Duration::ZERO).is_some() {
                self.up_after = UP_AFTER.max(self.up_after / 2);
            }
            let higher = STEPS.into_iter().rev().find(|step| *step > self.now.bits_per_second());
            let higher = higher.and_then(BitRate::new).unwrap_or(self.wish);
            self.now = higher.min(self.wish);
        }
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(adaptation: &mut LossAdaptation, seconds: u32, share: f64) -> u32 {
        (0..seconds).for_each(|_| {
            adaptation.update(SECOND, share);
        });
        adaptation.bit_rate().bits_per_second()
    }

    #[test]
    fn loss_takes_the_bit_rate_down_step_by_step_and_no_further_than_the_last() {
        let mut a = LossAdaptation::new(BitRate::new(256_000).unwrap());
        let steps: Vec<_> = (0..7).map(|_| after(&mut a, 3, 0.06)).collect();
        assert_eq!(steps, [192_000, 128_000, 96_000, 64_000, 32_000, 32_000, 32_000]);
    }

    #[test]
    fn a_moment_of_loss_or_little_of_it_changes_nothing() {
        let mut a = LossAdaptation::new(BitRate::DEFAULT);
        for _ in 0..100 {
            after(&mut a, 2, 0.5);
            assert_eq!(after(&mut a, 1, 0.0), 128_000);
        }
        assert_eq!(after(&mut a, 100, 0.04), 128_000);
    }

    #[test]
    fn it_comes_up_slowly_to_the_wish_and_not_beyond() {
        let mut a = LossAdaptation::new(BitRate::new(100_000).unwrap());
        assert_eq!(after(&mut a, 9, 0.2), 32_000);
        assert_eq!(after(&mut a, 9, 0.0), 32_000);
        assert_eq!(after(&mut a, 1, 0.0), 64_000);
        assert_eq!(after(&mut a, 100, 0.03), 64_000);
        assert_eq!(after(&mut a, 100, 0.0), 100_000);
        let mut low = LossAdaptation::new(BitRate::new(24_000).unwrap());
        assert_eq!(after(&mut low, 30, 0.3), 24_000);
    }

    #[test]
    fn a_path_that_takes_no_more_is_tried_less_and_less_often() {
        let mut a = LossAdaptation::new(BitRate::DEFAULT);
        let mut ups = 0;
        let mut before = 128_000;
        for _ in 0..600 {
            // Anything above 64 kbit/s is lost.
            let share = if a.bit_rate().bits_per_second() > 64_000 { 0.1 } else { 0.0 };
            let now = a.update(SECOND, share).bits_per_second();
            ups += u32::from(now > before);
            before = now;
        }
        assert!((4..=12).contains(&ups), "{ups}");
    }
}
