//! The host time at which the output's frames are heard.

use super::line::Line;
use crate::units::SampleRate;

/// A render this far off its time is no late thread …
const JUMP_NS: i64 = 20_000_000;
/// … if so many follow each other.
const JUMPS: u32 = 3;

/// Smooths what the streaming thread says about time: it is woken late, and reads two clocks one
/// after the other.
#[derive(Debug)]
pub(super) struct OutputClock {
    rate: SampleRate,
    line: Line,
    /// Frames rendered so far.
    frames: u64,
    /// Renders in a row that were far off.
    off: u32,
}

impl OutputClock {
    pub(super) fn new(rate: SampleRate) -> Self {
        Self { rate, line: Line::default(), frames: 0, off: 0 }
    }

    /// The next `frames` frames are said to be heard from host time `mono_ns` on: gives when they
    /// are, ns.
    pub(super) fn next(&mut self, mono_ns: i64, frames: u64) -> i64 {
        let nominal = self.nominal();
        let after = mono_ns.saturating_sub(nominal);
        let off = after.saturating_sub(self.line.view().value_at(nominal));
        // A sleep, or another clock: only the slope stays.
        self.off = if off.saturating_abs() > JUMP_NS { self.off + 1 } else { 0 };
        if self.off >= JUMPS {
            self.off = 0;
            self.line.restart_value();
        }
        self.line.record(nominal, after);
        self.frames += frames;
        nominal.saturating_add(self.line.view().value_at(nominal))
    }

    /// How much slower than the host's clock the output's runs.
    pub(super) fn drift(&self) -> f64 {
        self.line.view().slope
    }

    /// The next frame's time by the output's own clock, ns from its first frame.
    fn nominal(&self) -> i64 {
        i64::try_from(self.rate.duration_of(self.frames).as_nanos()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_late_thread_is_not_a_clock() {
        let mut clock = OutputClock::new(SampleRate::HZ_48000);
        for i in 0..5_000 {
            // Woken 9 ms late every 50 ms, and a little late always.
            let late = if i % 50 == 49 { 9 * MS } else { i % 7 * 10_000 };
            let due = clock.next(i * MS + late, 48);
            assert!((due - i * MS).abs() < 60_000, "{i}: {due}");
        }
    }

    #[test]
    fn an_output_that_slept_is_believed_at_once() {
        let mut clock = OutputClock::new(SampleRate::HZ_48000);
        for i in 0..2_000 {
            let slept = if i < 1_000 { 0 } else { 300 * MS };
            let due = clock.next(i * MS + slept, 48);
            if !(1_000..1_002).contains(&i) {
                assert_eq!(due, i * MS + slept, "{i}");
            }
        }
    }

    #[test]
    fn a_slow_output_is_followed() {
        let mut clock = OutputClock::new(SampleRate::HZ_48000);
        for i in 0..20_000 {
            // 200 ppm: 200 ns more than a millisecond each time.
            let due = clock.next(i * (MS + 200), 48);
            // Until two windows are full it lags by what a window drifts.
            assert!((due - i * (MS + 200)).abs() < 120_000, "{i}: {due}");
        }
        assert!((clock.drift() - 200e-6).abs() < 1e-6, "{}", clock.drift());
    }
}
