//! What a user may turn while a stream plays.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::gain::Aim;

/// How one stream sounds in the mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixSettings {
    /// Linear volume, 0.0 to [`StreamControls::MAX_VOLUME`].
    pub volume: f32,
    /// Whether it is silent.
    pub mute: bool,
    /// −1.0 (left) over 0.0 (as sent) to 1.0 (right).
    pub pan: f32,
    /// Whether only it, and others with this set, are heard.
    pub solo: bool,
}

impl Default for MixSettings {
    fn default() -> Self {
        Self { volume: 1.0, mute: false, pan: 0.0, solo: false }
    }
}

/// A stream's settings in the mix, shared between any thread and the mixer.
///
/// Changes are heard within a render, as 5 ms ramps without a corner; what is set before the
/// stream's first sample holds from that sample on. A silent stream, by whatever of these, is
/// received, counted and in time as before.
#[derive(Debug)]
pub struct StreamControls {
    volume: AtomicU32,
    pan: AtomicU32,
    mute: AtomicBool,
    solo: AtomicBool,
}

impl StreamControls {
    /// The largest linear volume: +20 dB.
    pub const MAX_VOLUME: f32 = 10.0;

    pub(super) fn new() -> Self {
        let MixSettings { volume, mute, pan, solo } = MixSettings::default();
        Self {
            volume: AtomicU32::new(volume.to_bits()),
            pan: AtomicU32::new(pan.to_bits()),
            mute: AtomicBool::new(mute),
            solo: AtomicBool::new(solo),
        }
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

    /// Place between left (−1.0) and right (1.0); 0.0 is as sent.
    ///
    /// A stream with a left and a right of its own is balanced: the side it leaves fades, nothing
    /// gets louder. Any other is moved at constant power: a side alone is 3 dB louder than both.
    /// An output without left and right ignores it.
    pub fn pan(&self) -> f32 {
        f32::from_bits(self.pan.load(Ordering::Relaxed))
    }

    /// Sets the place, clamped to its range; not-a-number is taken as 0.
    pub fn set_pan(&self, pan: f32) {
        let pan = if pan.is_nan() { 0.0 } else { pan.clamp(-1.0, 1.0) };
        self.pan.store(pan.to_bits(), Ordering::Relaxed);
    }

    /// Whether all streams of the mixer that do not have this set are silent.
    pub fn solo(&self) -> bool {
        self.solo.load(Ordering::Relaxed)
    }

    /// Lets only this stream, and others set so, be heard; or ends that. A stream that is muted
    /// stays silent.
    pub fn set_solo(&self, solo: bool) {
        self.solo.store(solo, Ordering::Relaxed);
    }

    /// All of them.
    pub fn settings(&self) -> MixSettings {
        MixSettings { volume: self.volume(), mute: self.mute(), pan: self.pan(), solo: self.solo() }
    }

    /// Sets all of them, bounded like each alone.
    pub fn set(&self, settings: MixSettings) {
        self.set_volume(settings.volume);
        self.set_mute(settings.mute);
        self.set_pan(settings.pan);
        self.set_solo(settings.solo);
    }

    /// What the gains should be, while some stream of the mixer is `soloed` or none is.
    pub(super) fn aim(&self, soloed: bool) -> Aim {
        let silent = self.mute() || (soloed && !self.solo());
        Aim { level: if silent { 0.0 } else { self.volume() }, place: self.pan() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_and_pan_are_bounded() {
        let controls = StreamControls::new();
        for (set, read) in [(f32::NAN, 0.0), (-1.0, 0.0), (99.0, 10.0), (0.5, 0.5)] {
            controls.set_volume(set);
            assert_eq!(controls.volume(), read);
        }
        for (set, read) in [(f32::NAN, 0.0), (-7.0, -1.0), (1.1, 1.0), (0.5, 0.5)] {
            controls.set_pan(set);
            assert_eq!(controls.pan(), read);
        }
    }

    #[test]
    fn who_is_muted_is_silent_even_alone() {
        let controls = StreamControls::new();
        assert_eq!(controls.settings(), MixSettings::default());
        assert_eq!((controls.aim(false).level, controls.aim(true).level), (1.0, 0.0));
        controls.set_solo(true);
        assert_eq!(controls.aim(true).level, 1.0);
        controls.set_mute(true);
        assert_eq!((controls.aim(false).level, controls.aim(true).level), (0.0, 0.0));
        let settings = MixSettings { volume: 0.5, mute: false, pan: -0.5, solo: true };
        controls.set(settings);
        assert_eq!(controls.settings(), settings);
    }
}
