//! The mixer's limiter.

use crate::units::SampleRate;

/// How long the gain takes to recover by 1/e, in fractions of a second: 1/10 = 100 ms.
const RELEASE_PER_S: f32 = 10.0;
/// Above this the gain snaps back to 1: a step of 0.009 dB. Closer to 1 an `f32` would no longer
/// feel the release.
const RELEASED: f32 = 0.999;
/// No mixture of sane streams comes near it; keeps the arithmetic finite.
const SANE: f32 = 1e30;

/// Keeps the sum of streams within ±1.0, the same for all channels.
///
/// It adds no delay. While no sample exceeds full scale it does not touch a bit; a peak takes the
/// gain down at once to where the peak just fits, and the gain comes back slowly.
#[derive(Debug)]
pub(super) struct Limiter {
    gain: f32,
    release: f32,
    /// Frames that it made quieter.
    limited: u64,
}

impl Limiter {
    pub(super) fn new(rate: SampleRate) -> Self {
        Self { gain: 1.0, release: 1.0 - (-RELEASE_PER_S / rate.hz() as f32).exp(), limited: 0 }
    }

    /// The gain now, 1.0 when it is not acting.
    pub(super) fn gain(&self) -> f32 {
        self.gain
    }

    /// Frames that it made quieter so far.
    pub(super) fn limited(&self) -> u64 {
        self.limited
    }

    /// Limits interleaved frames; returns the largest absolute sample afterwards.
    pub(super) fn process(&mut self, audio: &mut [f32], channels: usize) -> f32 {
        let peak = peak(audio);
        if self.gain == 1.0 && peak <= 1.0 {
            return peak;
        }
        let mut written = 0.0_f32;
        for frame in audio.chunks_exact_mut(channels) {
            let peak = frame.iter().fold(0.0_f32, |peak, x| peak.max(x.abs())).min(SANE);
            self.gain += (1.0 - self.gain) * self.release;
            if self.gain > RELEASED {
                self.gain = 1.0;
            }
            if peak * self.gain > 1.0 {
                self.gain = 1.0 / peak;
            }
            if self.gain == 1.0 {
                written = written.max(peak);
                continue;
            }
            self.limited += 1;
            for x in frame {
                *x = (x.clamp(-SANE, SANE) * self.gain).clamp(-1.0, 1.0);
                written = written.max(x.abs());
            }
        }
        written
    }
}

/// The largest absolute sample.
pub(super) fn peak(audio: &[f32]) -> f32 {
    audio.iter().fold(0.0, |peak, x| peak.max(x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_full_scale_nothing_is_touched() {
        let mut limiter = Limiter::new(SampleRate::HZ_48000);
        let before = [1.0, -1.0, -0.0, f32::MIN_POSITIVE / 2.0, 0.999_999_94, -0.3];
        let mut audio = before;
        assert_eq!(limiter.process(&mut audio, 2), 1.0);
        assert_eq!(audio.map(f32::to_bits), before.map(f32::to_bits));
        assert_eq!(limiter.limited(), 0);
    }

    #[test]
    fn above_full_scale_it_stays_within_and_comes_back_to_transparent() {
        let mut limiter = Limiter::new(SampleRate::HZ_48000);
        let mut loud: Vec<f32> = (0..4_800).map(|i| 3.0 * (i as f32 * 0.06).sin()).collect();
        assert!(limiter.process(&mut loud, 1) <= 1.0);
        // Held, not clipped: the quiet parts keep their proportion.
        assert!(limiter.gain() < 0.5);
        let mut quiet = vec![0.5; 96_000];
        limiter.process(&mut quiet, 1);
        assert_eq!(limiter.gain(), 1.0);
        assert_eq!(quiet[95_999], 0.5);
        // From the first peak on, and no longer than the gain was away from 1.
        assert!((4_700..60_000).contains(&limiter.limited()), "{}", limiter.limited());
    }

    #[test]
    fn infinite_sums_become_finite() {
        let mut limiter = Limiter::new(SampleRate::HZ_48000);
        let mut audio = [f32::INFINITY, f32::MAX, -f32::INFINITY, 0.1];
        limiter.process(&mut audio, 2);
        assert!(audio.iter().all(|x| x.abs() <= 1.0), "{audio:?}");
    }
}
