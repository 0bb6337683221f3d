//! When the next output is due: counted in frames, so that no timestamp is ever rounded twice.

use velin_core::units::SampleRate;

/// How late `create` may be called and still catch up back to back.
pub(super) const CATCH_UP: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// A timeline of output frames in running time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    origin: gst::ClockTime,
    frames: u64,
    rate: SampleRate,
}

impl Timeline {
    /// Frame 0 is due at `origin`.
    pub(super) fn new(origin: gst::ClockTime, rate: SampleRate) -> Self {
        Self { origin, frames: 0, rate }
    }

    /// The next frame's number.
    pub(super) fn frame(&self) -> u64 {
        self.frames
    }

    /// When the next frame is due.
    pub(super) fn due(&self) -> gst::ClockTime {
        self.at(self.frames)
    }

    /// Goes on by `frames`; gives the exact time they last.
    pub(super) fn advance(&mut self, frames: u64) -> gst::ClockTime {
        let before = self.due();
        self.frames += frames;
        self.due() - before
    }

    fn at(&self, frames: u64) -> gst::ClockTime {
        let ns = u128::from(frames) * 1_000_000_000 / u128::from(self.rate.hz());
        self.origin + gst::ClockTime::from_nseconds(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_and_durations_add_up_for_ever() {
        let mut t =
            Timeline::new(gst::ClockTime::from_nseconds(5), SampleRate::new(44_100).unwrap());
        for _ in 0..44_100 {
            let before = t.due();
            let duration = t.advance(44);
            assert_eq!(before + duration, t.due());
        }
        assert_eq!(t.due(), gst::ClockTime::from_nseconds(5) + gst::ClockTime::from_seconds(44));
        assert_eq!(t.frame(), 44 * 44_100);
    }
}
