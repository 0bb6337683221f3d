//! A signal that says which frame it is, to a fraction of a frame, and still does so after it was
//! resampled.
//!
//! Left and right are the cosine and the sine of one slow turn of half a second: the angle is the
//! place, and a frame that was faded, invented or mixed does not lie on the circle.

use std::f64::consts::TAU;

/// Frames in a turn.
pub(crate) const TURN: f64 = 24_000.0;
/// Linear radius.
const RADIUS: f64 = 0.45;
/// A frame this far off the circle is none of the source's: 40 times what 16 bits round by.
const OFF: f64 = 0.001_2;

/// Frame `n` as S16LE stereo.
pub(crate) fn encode(n: u64) -> [u8; 4] {
    let angle = (n as f64 % TURN) / TURN * TAU;
    let sample = |x: f64| ((RADIUS * x * 32_768.0).round() as i16).to_le_bytes();
    let ([a, b], [c, d]) = (sample(angle.cos()), sample(angle.sin()));
    [a, b, c, d]
}

/// Where in its turn an F32LE stereo frame is, 0 to [`TURN`], if it is one of the source's.
pub(crate) fn place(frame: &[u8]) -> Option<f64> {
    let part =
        |at: usize| Some(f64::from(f32::from_le_bytes(frame.get(at..at + 4)?.try_into().ok()?)));
    let (cos, sin) = (part(0)?, part(4)?);
    let angle = sin.atan2(cos).rem_euclid(TAU);
    ((cos.hypot(sin) - RADIUS).abs() < OFF).then_some(angle / TAU * TURN)
}
