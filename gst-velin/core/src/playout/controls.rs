//! What a user may turn while a stream plays.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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
