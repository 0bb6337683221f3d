//! PCM samples on the wire and as `f32`.
//!
//! Conversion to `f32` and back is exact for every value of every format: 24 bits fit an `f32`'s
//! mantissa. The bit-exact mode rests on that.

/// How one PCM sample is stored on the wire. All are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleFormat {
    /// 16-bit signed integer.
    S16Le,
    /// 24-bit signed integer in three bytes.
    S24Le,
    /// 32-bit IEEE float, full scale ±1.0.
    F32Le,
}

impl SampleFormat {
    /// Bytes of one sample.
    pub const fn bytes(self) -> usize {
        match self {
            Self::S16Le => 2,
            Self::S24Le => 3,
            Self::F32Le => 4,
        }
    }

    /// The name used on the wire and in GStreamer caps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S16Le => "S16LE",
            Self::S24Le => "S24LE",
            Self::F32Le => "F32LE",
        }
    }

    /// The inverse of [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::S16Le, Self::S24Le, Self::F32Le].into_iter().find(|f| f.name() == name)
    }
}

/// Decodes whole samples from `bytes` into the front of `out`; returns how many.
///
/// Stops at the shorter of the two.
pub fn decode_into(format: SampleFormat, bytes: &[u8], out: &mut [f32]) -> usize {
    let mut n = 0;
    match format {
        SampleFormat::S16Le => {
            for (b, o) in bytes.chunks_exact(2).zip(out.iter_mut()) {
                *o = f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0;
                n += 1;
            }
        }
        SampleFormat::S24Le => {
            for (b, o) in bytes.chunks_exact(3).zip(out.iter_mut()) {
                let v = i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8;
                *o = v as f32 / 8_388_608.0;
                n += 1;
            }
        }
        SampleFormat::F32Le => {
            for (b, o) in bytes.chunks_exact(4).zip(out.iter_mut()) {
                *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                n += 1;
            }
        }
    }
    n
}

/// Encodes `samples` into the front of `out`, rounding to nearest and clamping at full scale;
/// returns the bytes written. Stops at the shorter of the two.
pub fn encode_into(format: SampleFormat, samples: &[f32], out: &mut [u8]) -> usize {
    let mut n = 0;
    match format {
        SampleFormat::S16Le => {
            for (s, o) in samples.iter().zip(out.chunks_exact_mut(2)) {
                let v = (s * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
                o.copy_from_slice(&v.to_le_bytes());
                n += 2;
            }
        }
        SampleFormat::S24Le => {
            for (s, o) in samples.iter().zip(out.chunks_exact_mut(3)) {
                let v = (s * 8_388_608.0).round().clamp(-8_388_608.0, 8_388_607.0) as i32;
                o.copy_from_slice(&v.to_le_bytes()[..3]);
                n += 3;
            }
        }
        SampleFormat::F32Le => {
            for (s, o) in samples.iter().zip(out.chunks_exact_mut(4)) {
                o.copy_from_slice(&s.to_le_bytes());
                n += 4;
            }
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_s16_value_survives_the_round_trip() {
        for v in i16::MIN..=i16::MAX {
            let mut f = [0.0];
            let mut back = [0; 2];
            assert_eq!(decode_into(SampleFormat::S16Le, &v.to_le_bytes(), &mut f), 1);
            assert_eq!(encode_into(SampleFormat::S16Le, &f, &mut back), 2);
            assert_eq!(back, v.to_le_bytes());
        }
    }

    #[test]
    fn every_s24_value_survives_the_round_trip() {
        for v in -8_388_608..=8_388_607_i32 {
            let bytes = &v.to_le_bytes()[..3];
            let mut f = [0.0];
            let mut back = [0; 3];
            decode_into(SampleFormat::S24Le, bytes, &mut f);
            encode_into(SampleFormat::S24Le, &f, &mut back);
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn floats_survive_bit_for_bit() {
        for bits in [0, 0x8000_0000, 1, 0x7F80_0000, 0x3F80_0000, 0xBF7F_FFFF, 0x0080_0000] {
            let f = f32::from_bits(bits);
            let mut out = [0.0];
            let mut back = [0; 4];
            decode_into(SampleFormat::F32Le, &f.to_le_bytes(), &mut out);
            encode_into(SampleFormat::F32Le, &out, &mut back);
            assert_eq!(u32::from_le_bytes(back), bits);
        }
    }

    #[test]
    fn encoding_clamps_beyond_full_scale() {
        let mut out = [0; 4];
        encode_into(SampleFormat::S16Le, &[2.0, -2.0], &mut out);
        assert_eq!(out, [0xFF, 0x7F, 0x00, 0x80]);
    }
}
