//! Test material made on the spot, so that nothing of unclear licence is needed.

use std::f32::consts::TAU;
use std::process::Command;
use std::time::Duration;

use super::Clip;
use crate::proc;

/// White noise with a flat distribution in ±`amplitude`, the same for the same seed.
#[must_use]
pub fn noise(seed: u64, rate: u32, channels: usize, length: Duration, amplitude: f32) -> Clip {
    let frames = frames(rate, length);
    let samples = Noise::new(seed).take(frames * channels).map(|s| s * amplitude).collect();
    Clip { rate, channels, samples }
}

/// Noise with next to nothing above 20 kHz, where no resampler is flat.
#[must_use]
pub fn rustle(seed: u64, rate: u32, channels: usize, length: Duration, amplitude: f32) -> Clip {
    const SMOOTH: [f32; 5] = [1.0, 4.0, 6.0, 4.0, 1.0];

    let white = noise(seed, rate, channels, length, amplitude);
    let at = |i: usize, tap: usize| {
        white.samples.get((i + tap * channels).wrapping_sub(2 * channels)).copied().unwrap_or(0.0)
    };
    let smooth =
        |i| SMOOTH.iter().enumerate().map(|(tap, weight)| weight / 16.0 * at(i, tap)).sum();
    Clip { rate, channels, samples: (0..white.samples.len()).map(smooth).collect() }
}

/// A tune of plucked tones, different on the left and the right, that never repeats within a minute:
/// it has one position only at which two recordings of it match.
#[must_use]
pub fn melody(rate: u32, channels: usize, length: Duration) -> Clip {
    // A pentatonic scale from A3, in equal temperament.
    const STEPS: [i32; 10] = [0, 2, 4, 7, 9, 12, 14, 16, 19, 21];
    const NOTE: f32 = 0.24;

    let mut clip = Clip::silence(rate, channels, frames(rate, length));
    for channel in 0..channels {
        let mut choice = Noise::new(0x6d65_6c6f + channel as u64);
        for frame_of_note in (0..clip.frames()).step_by((NOTE * rate as f32) as usize) {
            let pick = choice.next_index(STEPS.len());
            let pitch = 220.0 * 2_f32.powf(STEPS[pick] as f32 / 12.0);
            let last = clip.frames().min(frame_of_note + (3.0 * NOTE * rate as f32) as usize);
            for frame in frame_of_note..last {
                let t = (frame - frame_of_note) as f32 / rate as f32;
                let tone: f32 = (1..=4)
                    .map(|n| n as f32)
                    .map(|n| (TAU * pitch * n * t).sin() * (-t * 4.0 * n).exp() / n)
                    .sum();
                let attack = (t / 0.005).min(1.0);
                clip.samples[frame * channels + channel] += 0.18 * attack * tone;
            }
        }
    }
    clip
}

/// `text` spoken by espeak-ng, mono, at 48 kHz.
///
/// # Errors
/// espeak-ng is not there or fails; the text says which.
pub fn speech(text: &str) -> Result<Clip, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = dir.path().join("speech.wav");
    let mut command = Command::new("espeak-ng");
    command.args(["-v", "en", "-s", "160", "-w"]).arg(&path).arg("--").arg(text);
    proc::run(command, Duration::from_secs(20))?;
    let clip = Clip::read(&path).map_err(|e| e.to_string())?;
    Ok(clip.at_rate(48_000))
}

/// An endless, seeded stream of numbers in −1.0..1.0 (xorshift64*, Vigna 2016).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The stream for `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Zero is the one state the generator never leaves; the factor spreads small seeds.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// An index below `length`, which is at least 1.
    pub fn next_index(&mut self, length: usize) -> usize {
        (self.next_bits() % length as u64) as usize
    }

    fn next_bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24
    }
}

impl Iterator for Noise {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        // 40 bits are left; the upper 24 are what a float holds.
        Some((self.next_bits() >> 16) as f32 / 8_388_608.0 - 1.0)
    }
}

fn frames(rate: u32, length: Duration) -> usize {
    (length.as_secs_f64() * f64::from(rate)).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_for_the_same_seed_and_as_loud_as_asked() {
        let second = Duration::from_secs(1);
        let a = noise(1, 48_000, 2, second, 0.5);
        assert_eq!(a, noise(1, 48_000, 2, second, 0.5));
        assert_ne!(a, noise(2, 48_000, 2, second, 0.5));
        // A flat distribution in ±a has an RMS of a/√3: −10.8 dB for 0.5.
        assert!((a.level_db() + 10.8).abs() < 0.1, "{}", a.level_db());
        assert!(a.samples.iter().all(|s| s.abs() <= 0.5));
    }

    #[test]
    fn the_melody_fills_its_length_without_clipping() {
        let tune = melody(48_000, 2, Duration::from_secs(5));
        assert_eq!(tune.duration(), Duration::from_secs(5));
        assert!(tune.samples.iter().all(|s| s.abs() < 1.0));
        let quiet = tune.samples.chunks(4800).filter(|c| c.iter().all(|s| s.abs() < 0.01));
        assert_eq!(quiet.count(), 0);
    }

    #[test]
    fn espeak_speaks() {
        let clip = speech("Good evening.").unwrap();
        assert_eq!(clip.rate, 48_000);
        assert!(clip.duration() > Duration::from_millis(500));
        assert!(clip.level_db() > -40.0);
    }
}
