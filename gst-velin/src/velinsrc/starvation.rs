//! Says that sound was missing, and seldom.

/// It is said at most so often.
const PAUSE: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// Counts what was made up until it is time to say so.
#[derive(Debug, Default)]
pub(super) struct Starvation {
    frames: u64,
    said: Option<gst::ClockTime>,
}

impl Starvation {
    /// At running time `now` so many frames more were made up: gives how many since it was said
    /// last, if it may be said again.
    pub(super) fn note(&mut self, now: gst::ClockTime, frames: u64) -> Option<u64> {
        self.frames += frames;
        let may = self.said.is_none_or(|said| now >= said + PAUSE);
        if self.frames == 0 || !may {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_sound_is_said_at_once_and_then_every_five_seconds() {
        let mut starvation = Starvation::default();
        let mut said = Vec::new();
        for ms in 0..12_000 {
            let missing = if ms >= 1_000 { 48 } else { 0 };
            if let Some(n) = starvation.note(gst::ClockTime::from_mseconds(ms), missing) {
                said.push((ms, n));
            }
        }
        assert_eq!(said, [(1_000, 48), (6_000, 5_000 * 48), (11_000, 5_000 * 48)]);
    }

    #[test]
    fn nothing_missing_is_not_said() {
        let mut starvation = Starvation::default();
        assert!((0..60).all(|s| starvation.note(gst::ClockTime::from_seconds(s), 0).is_none()));
    }
}
