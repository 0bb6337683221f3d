//! The test signal: noise of which every few milliseconds are like no others, so that what comes out
//! says when it was captured, lossy codec or not, and what a receiver invents says nothing.
//!
//! It repeats after eleven seconds; no peer is as late as that.

use std::f64::consts::TAU;
use std::path::Path;

use anyhow::Context;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

use super::random::Random;
use super::{CHANNELS, RATE};

/// Frames after which the signal repeats.
pub(crate) const PERIOD: usize = 1 << 19;

/// The lowest frequency in it, in Hz: some codecs filter what lies below.
const LOWEST: f64 = 100.0;
/// Peak, of full scale.
const PEAK: f64 = 0.7;

/// What the signal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Band {
    /// Up to 7 kHz, for PCM.
    Wide,
    /// Up to 3.5 kHz, which speech codecs keep the shape of.
    Voice,
}

impl Band {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Voice => "voice",
        }
    }

    fn highest(self) -> f64 {
        match self {
            Self::Wide => 7_000.0,
            Self::Voice => 3_500.0,
        }
    }
}

/// One period; both channels are the same.
#[derive(Clone, Debug)]
pub(crate) struct Signal(Vec<i16>);

impl Signal {
    pub(crate) fn new(band: Band) -> Self {
        let mut random = Random::new(0x5eed);
        let plan = RealFftPlanner::<f64>::new().plan_fft_inverse(PERIOD);
        let mut spectrum = plan.make_input_vec();
        let bin = RATE as f64 / PERIOD as f64;
        for (k, value) in spectrum.iter_mut().enumerate() {
            let frequency = k as f64 * bin;
            if (LOWEST..band.highest()).contains(&frequency) {
                *value = Complex::from_polar(1.0, TAU * random.uniform());
            }
        }
        let mut samples = plan.make_output_vec();
        // The lengths come from the plan itself, which is all this can fail on.
        let _ = plan.process(&mut spectrum, &mut samples);
        let loudest = samples.iter().fold(0.0_f64, |m, s| m.max(s.abs()));
        let scale = PEAK * f64::from(i16::MAX) / loudest;
        Self(samples.iter().map(|s| (s * scale).round() as i16).collect())
    }

    /// As a file, which is read faster than the signal is made.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.0.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        anyhow::ensure!(bytes.len() == 2 * PERIOD, "{} is no signal", path.display());
        let samples = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
        Ok(Self(samples.collect()))
    }

    /// Frame `n`.
    pub(crate) fn sample(&self, n: i64) -> i16 {
        self.0[n.rem_euclid(PERIOD as i64) as usize]
    }

    /// Frames `first` … `first + frames` as interleaved S16LE.
    pub(crate) fn interleaved(&self, first: u64, frames: u64) -> Vec<u8> {
        let samples = (first..first + frames).map(|n| self.sample(n as i64).to_le_bytes());
        samples.flat_map(|s| [s; CHANNELS].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_channels_carry_the_same_and_it_repeats() {
        let signal = Signal::new(Band::Wide);
        let bytes = signal.interleaved(5, 3);
        assert_eq!(bytes.len(), 12);
        assert_eq!(bytes[0..2], bytes[2..4]);
        assert_eq!(bytes, signal.interleaved(PERIOD as u64 + 5, 3));
        let loudest = (0..PERIOD as i64).map(|n| signal.sample(n).unsigned_abs()).max().unwrap();
        assert!((22_000..24_000).contains(&loudest), "{loudest}");
        let file = tempfile::NamedTempFile::new().unwrap();
        signal.write(file.path()).unwrap();
        assert_eq!(Signal::read(file.path()).unwrap().0, signal.0);
    }

    #[test]
    fn a_millisecond_resembles_no_other() {
        let signal = Signal::new(Band::Wide);
        let piece = |at: i64| (at..at + 480).map(|n| f64::from(signal.sample(n))).collect();
        let here: Vec<f64> = piece(1_000);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for at in (2_000..200_000).step_by(7) {
            let there: Vec<f64> = piece(at);
            let likeness = dot(&here, &there) / (dot(&here, &here) * dot(&there, &there)).sqrt();
            assert!(likeness < 0.55, "{likeness} at {at}");
        }
    }
}
