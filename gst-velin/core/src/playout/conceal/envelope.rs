//! How loud a continuation is, the longer it lasts.

use std::f32::consts::PI;
use std::time::Duration;

use crate::units::SampleRate;

/// So long it is as loud as what was heard …
const HOLD: Duration = Duration::from_millis(10);
/// … and after so much more it is silent: 60 ms, as in ITU-T G.711 Appendix I.
const FADE: Duration = Duration::from_millis(50);
/// It ends within this when there is nothing to be heard in its place.
const RELEASE: Duration = Duration::from_millis(5);

/// Half a raised cosine from 0 to 1.
pub(super) fn rising(t: f32) -> f32 {
    0.5 - 0.5 * (PI * t).cos()
}

/// Gain over the frames of a gap.
#[derive(Debug)]
pub(super) struct Envelope {
    hold: usize,
    fade: usize,
    release: usize,
    /// Frames since the beginning, `hold + fade` when it is over.
    at: usize,
    /// Frames since it was released.
    released: Option<usize>,
}

impl Envelope {
    /// One that is over.
    pub(super) fn new(rate: SampleRate) -> Self {
        let frames = |time| rate.frames_in(time).max(1) as usize;
        let (hold, fade, release) = (frames(HOLD), frames(FADE), frames(RELEASE));
        Self { hold, fade, release, at: hold + fade, released: None }
    }

    pub(super) fn begin(&mut self) {
        self.at = 0;
        self.released = None;
    }

    pub(super) fn end(&mut self) {
        self.at = self.hold + self.fade;
    }

    /// Leaves so many frames at most.
    pub(super) fn shorten(&mut self, frames: usize) {
        self.at = self.at.max((self.hold + self.fade).saturating_sub(frames));
    }

    pub(super) fn release(&mut self) {
        self.released.get_or_insert(0);
    }

    /// Frames until silence.
    pub(super) fn left(&self) -> usize {
        let left = self.hold + self.fade - self.at;
        self.released.map_or(left, |released| left.min(self.release - released))
    }

    pub(super) fn is_over(&self) -> bool {
        self.left() == 0
    }

    /// Nothing was faded yet.
    pub(super) fn is_held(&self) -> bool {
        self.at <= self.hold && self.released.is_none()
    }

    /// Lets `frames` of so many channels fade, at most as many as are [`left`](Self::left).
    pub(super) fn apply(&mut self, frames: &mut [f32], channels: usize) {
        for frame in frames.chunks_exact_mut(channels) {
            let mut gain = 1.0;
            if self.at > self.hold {
                gain -= rising((self.at - self.hold) as f32 / self.fade as f32);
            }
            if let Some(released) = &mut self.released {
                *released += 1;
                gain *= 1.0 - rising(*released as f32 / (self.release + 1) as f32);
            }
            if gain < 1.0 {
                frame.iter_mut().for_each(|x| *x *= gain);
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gains(envelope: &mut Envelope, frames: usize) -> Vec<f32> {
        let mut out = vec![1.0; frames.min(envelope.left())];
        envelope.apply(&mut out, 1);
        out
    }

    #[test]
    fn it_holds_and_then_fades_into_silence() {
        let mut envelope = Envelope::new(SampleRate::HZ_48000);
        assert!(envelope.is_over());
        envelope.begin();
        let mut heard = vec![];
        while !envelope.is_over() {
            heard.extend(gains(&mut envelope, 7));
        }
        assert_eq!(heard.len(), 2_880);
        assert!(heard[..480].iter().all(|gain| *gain == 1.0));
        assert!(heard.windows(2).all(|w| w[0] - w[1] < 0.001 && w[1] <= w[0]));
        assert!(heard[2_879] < 0.001);
    }

    #[test]
    fn released_it_ends_in_five_milliseconds() {
        let mut envelope = Envelope::new(SampleRate::HZ_48000);
        envelope.begin();
        gains(&mut envelope, 100);
        envelope.release();
        let heard = gains(&mut envelope, 1_000);
        assert_eq!(heard.len(), 240);
        assert!(heard.windows(2).all(|w| w[1] <= w[0]) && heard[239] < 0.001);
        envelope.release();
        assert!(envelope.is_over());
        envelope.begin();
        assert!(!envelope.is_over());
    }
}
