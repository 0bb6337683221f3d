//! What a user may turn while a stream plays.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::units::SampleRate;

/// A stream's volume and mute, shared between any thread and the mixer.
///
/// Changes are heard as 5 ms ramps.
#[derive(Debug)]
pub struct StreamControls {
    volume: AtomicU32,
    mute: AtomicBool,
}

impl StreamControls {
    /// The largest linear volume: +20 dB.
    pub const MAX_VOLUME: f32 = 10.0;

    pub(super) fn new() -> Self {
        Self { volume: AtomicU32::new(1.0_f32.to_bits()), mute: AtomicBool::new(false) }
    }

    /// Linear volume, 0.0 to [`MAX_VOLUME`](Self::MAX_VOLUME).
    pub fn volume(&self) -> f32 {
        f32::from_bits(self.volume.load(Ordering::Relaxed))
    }

    /// Sets the linear volume, clamped to its range; not-a-number is taken as 0.
    pub fn set_volume(&self, volume: f32) {
        let volume = if volume.is_nan() { 0.0 } else { volume.clamp(0.0, Self::MAX_VOLUME) };
        self.volume.store(volume.to_bits(), Ordering::Relaxed);
    }

    /// Whether the stream is muted.
    pub fn mute(&self) -> bool {
        self.mute.load(Ordering::Relaxed)
    }

    /// Mutes or unmutes.
    pub fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    /// What the mixer multiplies with in the end.
    pub(super) fn gain(&self) -> f32 {
        if self.mute() { 0.0 } else { self.volume() }
    }
}

/// How long a change of gain takes, in fractions of a second: 1/200 = 5 ms.
const RAMP_PER_S: u32 = 200;

/// A gain on its way to its target.
#[derive(Debug)]
pub(super) struct Gain {
    current: f32,
    target: f32,
    step: f32,
    /// Frames of the ramp still to come.
    left: u32,
    ramp: u32,
}

impl Gain {
    pub(super) fn new(rate: SampleRate, gain: f32) -> Self {
        Self { current: gain, target: gain, step: 0.0, left: 0, ramp: rate.hz() / RAMP_PER_S }
    }

    /// Whether the gain does nothing.
    pub(super) fn is_unity(&self) -> bool {
        self.left == 0 && self.current == 1.0
    }

    /// Whether the gain has come to silence.
    pub(super) fn is_zero(&self) -> bool {
        self.left == 0 && self.current == 0.0
    }

    /// Multiplies interleaved frames, moving on towards `target`.
    pub(super) fn apply(&mut self, target: f32, audio: &mut [f32], channels: usize) {
        if target != self.target {
            self.target = target;
            self.left = self.ramp;
            self.step = (target - self.current) / self.ramp as f32;
        }
        if self.is_unity() {
            return;
        }
        for frame in audio.chunks_exact_mut(channels) {
            if self.left > 0 {
                self.left -= 1;
                // The last step lands on the target exactly.
                self.current = if self.left == 0 { self.target } else { self.current + self.step };
            }
            frame.iter_mut().for_each(|x| *x *= self.current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_moves_in_small_steps_and_lands_exactly() {
        let mut gain = Gain::new(SampleRate::HZ_48000, 1.0);
        let mut audio = [1.0; 400];
        gain.apply(0.25, &mut audio[..100], 1);
        gain.apply(0.25, &mut audio[100..], 1);
        assert!(audio.windows(2).all(|w| (w[0] - w[1]).abs() < 0.004));
        assert_eq!(audio[239..], [0.25; 161]);
        assert!(!gain.is_unity() && !gain.is_zero());
    }

    #[test]
    fn volume_is_bounded() {
        let controls = StreamControls::new();
        for (set, read) in [(f32::NAN, 0.0), (-1.0, 0.0), (99.0, 10.0), (0.5, 0.5)] {
            controls.set_volume(set);
            assert_eq!(controls.volume(), read);
        }
        controls.set_mute(true);
        assert_eq!(controls.gain(), 0.0);
    }
}
