//! Test material, WAV files, and the comparison of what came out with what went in.

mod compare;
mod material;
mod track;
mod wav;

pub use compare::{CompareError, Comparison, Gap, compare};
pub use material::{Noise, melody, noise, rustle, speech};
pub use wav::WavError;

use std::time::Duration;

/// Interleaved samples with full scale at ±1.0.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame, at least 1.
    pub channels: usize,
    /// Whole frames, interleaved.
    pub samples: Vec<f32>,
}

impl Clip {
    /// `frames` frames of silence.
    #[must_use]
    pub fn silence(rate: u32, channels: usize, frames: usize) -> Self {
        Self { rate, channels, samples: vec![0.0; frames * channels] }
    }

    /// The same mono `signal` on every channel.
    #[must_use]
    pub fn from_mono(rate: u32, channels: usize, signal: &[f32]) -> Self {
        let samples = signal.iter().flat_map(|&s| std::iter::repeat_n(s, channels)).collect();
        Self { rate, channels, samples }
    }

    /// How many frames there are.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.samples.len() / self.channels
    }

    /// How long it plays.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.frames() as f64 / f64::from(self.rate))
    }

    /// One channel, `channel` counting from 0.
    pub fn channel(&self, channel: usize) -> impl Iterator<Item = f32> + '_ {
        self.samples.iter().skip(channel).step_by(self.channels).copied()
    }

    /// Appends `other`, which has the same rate and channels.
    ///
    /// # Panics
    /// The formats differ.
    pub fn append(&mut self, other: &Self) {
        assert_eq!((self.rate, self.channels), (other.rate, other.channels));
        self.samples.extend_from_slice(&other.samples);
    }

    /// At another rate, by linear interpolation: good enough for material, not for measuring.
    #[must_use]
    pub fn at_rate(&self, rate: u32) -> Self {
        if rate == self.rate || self.frames() == 0 {
            return Self { rate, ..self.clone() };
        }
        let step = f64::from(self.rate) / f64::from(rate);
        let frames = (self.frames() as f64 / step) as usize;
        let mut samples = Vec::with_capacity(frames * self.channels);
        for frame in 0..frames {
            let at = frame as f64 * step;
            let (low, part) = (at as usize, at.fract() as f32);
            let high = (low + 1).min(self.frames() - 1);
            for channel in 0..self.channels {
                let a = self.samples[low * self.channels + channel];
                let b = self.samples[high * self.channels + channel];
                samples.push(a + (b - a) * part);
            }
        }
        Self { rate, channels: self.channels, samples }
    }

    /// Root mean square of all samples in dB below full scale; minus infinity for silence.
    #[must_use]
    pub fn level_db(&self) -> f64 {
        let energy: f64 = self.samples.iter().map(|&s| f64::from(s).powi(2)).sum();
        10.0 * (energy / self.samples.len().max(1) as f64).log10()
    }
}
