//! A signal that says which frame it is: every delivered frame names its own number.
//!
//! The left sample holds the low 14 bits of the number plus one and the right sample the next 14, as
//! 16-bit integers at no more than half of full scale. A faded, invented or mixed frame is almost
//! never a valid one.

const BITS: u32 = 14;
const MASK: u64 = (1 << BITS) - 1;
const SCALE: f32 = 32_768.0;

/// Frame `n` as S16LE stereo.
pub(crate) fn encode(n: u64) -> [u8; 4] {
    let left = (n & MASK) as i16 + 1;
    let right = (n >> BITS & MASK) as i16 + 1;
    let ([a, b], [c, d]) = (left.to_le_bytes(), right.to_le_bytes());
    [a, b, c, d]
}

/// The number of an F32LE stereo frame, if it has one.
pub(crate) fn decode(frame: &[u8]) -> Option<u64> {
    let part = |bytes: &[u8]| {
        let value = f32::from_le_bytes(bytes.try_into().ok()?) * SCALE;
        let whole = value.round();
        let valid = (value - whole).abs() < 0.01 && (1.0..=(MASK + 1) as f32).contains(&whole);
        valid.then(|| whole as u64 - 1)
    };
    Some(part(frame.get(0..4)?)? | part(frame.get(4..8)?)? << BITS)
}
