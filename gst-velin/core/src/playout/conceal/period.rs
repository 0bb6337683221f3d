//! The last period of a sound, again and again.
//!
//! The lag is the one of greatest normalised cross-correlation, and the end of the period is
//! cross-faded into what came before its beginning: ITU-T G.711 Appendix I (1999), by which voices
//! keep their level however long a gap is.

use std::time::Duration;

use super::burg::dot;
use super::envelope::rising;
use super::extrapolate::LONG_RATE;
use crate::units::SampleRate;

/// Periods of voices, 67 to 400 Hz.
const SHORTEST: Duration = Duration::from_micros(2_500);
const LONGEST: Duration = Duration::from_millis(15);
/// What is compared, samples of the long predictor: 20 ms.
const WINDOW: usize = LONG_RATE as usize / 50;

#[derive(Debug)]
pub(super) struct Period {
    channels: usize,
    /// Frames between the samples that are compared.
    stride: usize,
    /// Lags in samples of those.
    shortest: usize,
    longest: usize,
    samples: Box<[f32]>,
    /// Of `samples`, those of the period at hand.
    length: usize,
    at: usize,
}

impl Period {
    pub(super) fn new(rate: SampleRate, channels: usize, stride: usize) -> Self {
        let lag = |time| (rate.frames_in(time) as usize / stride).max(1);
        let longest = lag(LONGEST);
        Self {
            channels,
            stride,
            shortest: lag(SHORTEST),
            longest,
            samples: vec![0.0; longest * stride * channels].into(),
            length: channels,
            at: 0,
        }
    }

    /// Takes the last period of `heard`; `mono` is every `stride`th frame of it.
    pub(super) fn take(&mut self, mono: &[f32], heard: &[f32]) {
        let fit = |lag: usize| {
            let window = WINDOW.min(mono.len() - lag);
            let last = &mono[mono.len() - window..];
            let before = &mono[mono.len() - window - lag..mono.len() - lag];
            dot(last, before) / (dot(before, before) + f32::MIN_POSITIVE).sqrt()
        };
        let (mut lag, mut best) = (self.longest, f32::NEG_INFINITY);
        for candidate in self.shortest..=self.longest {
            let fit = fit(candidate);
            if fit > best {
                (lag, best) = (candidate, fit);
            }
        }
        let ch = self.channels;
        let frames = lag * self.stride;
        self.length = frames * ch;
        self.at = 0;
        let from = heard.len() - self.length;
        self.samples[..self.length].copy_from_slice(&heard[from..]);
        let overlap = frames / 4;
        let end = self.samples[self.length - overlap * ch..self.length].chunks_exact_mut(ch);
        let before = heard[from - overlap * ch..from].chunks_exact(ch);
        for (i, (frame, before)) in end.zip(before).enumerate() {
            let gain = rising((i + 1) as f32 / (overlap + 1) as f32);
            frame.iter_mut().zip(before).for_each(|(x, b)| *x += (b - *x) * gain);
        }
    }

    /// The next frame.
    pub(super) fn next(&mut self) -> &[f32] {
        let at = self.at;
        self.at = (at + self.channels) % self.length;
        &self.samples[at..at + self.channels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_repeats_in_its_period_without_a_seam() {
        // 125 Hz at 48 kHz: 384 frames, 64 of every sixth.
        let voice = |i: usize| {
            let t = i as f32 * std::f32::consts::TAU / 384.0;
            (1..8).map(|k| (t * k as f32 + k as f32).sin() / k as f32).sum::<f32>()
        };
        let heard: Vec<f32> = (0..2_400).map(voice).collect();
        let mono: Vec<f32> = heard.iter().copied().skip(5).step_by(6).collect();
        let mut period = Period::new(SampleRate::HZ_48000, 1, 6);
        period.take(&mono, &heard);
        for i in 0..2_000 {
            assert!((period.next()[0] - voice(2_400 + i)).abs() < 0.001, "{i}");
        }
    }
}
