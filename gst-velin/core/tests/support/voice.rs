//! A voice to try codecs with, made without any.

/// Something like a voice: a glottal pulse train of varying pitch through two resonances, interrupted
/// by pauses and hiss. Amplitude about 0.3.
pub(crate) fn speech(frames: usize) -> Vec<f32> {
    let (mut phase, mut y, mut z) = (0.0_f64, [0.0_f64; 2], [0.0_f64; 2]);
    let mut noise = 1_u32;
    let resonate = |s: &mut [f64; 2], x: f64, hz: f64| {
        let (r, w) = (0.985, std::f64::consts::TAU * hz / 48_000.0);
        let out = x + 2.0 * r * w.cos() * s[0] - r * r * s[1];
        *s = [out, s[0]];
        out
    };
    let sample = |i: usize| {
        let t = i as f64 / 48_000.0;
        let voiced = (t * 3.0).fract() < 0.7;
        phase += (110.0 + 30.0 * (t * 5.0).sin()) / 48_000.0;
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let hiss = f64::from(noise as i32) / f64::from(i32::MAX) * 0.02;
        let pulse = if phase.fract() < 0.02 && voiced { 0.15 } else { 0.0 };
        let x = pulse + hiss * if voiced { 0.05 } else { 0.3 };
        let first = resonate(&mut y, x, 600.0 + 200.0 * (t * 2.0).sin());
        let second = resonate(&mut z, x, 1_800.0 + 400.0 * (t * 1.3).cos());
        ((0.25 * first + 0.15 * second) as f32).clamp(-0.9, 0.9)
    };
    (0..frames).map(sample).collect()
}
