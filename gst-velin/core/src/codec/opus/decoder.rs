//! Opus packets to samples, and something for those that are missing.

use std::fmt;

use opusic_c::Decoder;

use super::{OpusError, packet_frames, shape};
use crate::codec::StreamFormat;

/// Beyond ±80 dB full scale a sample is an accident.
const SANE: f32 = 10_000.0;
/// Configurations from here on (the TOC's upper five bits) are CELT alone, which has no in-band repair
/// (RFC 6716, table 2).
const FIRST_CELT: u8 = 16;

/// One stream's decoder. Its state follows the order of the calls: every block is to be decoded,
/// or made up, once and in order. Allocates only when made.
pub struct OpusDecoder {
    decoder: Decoder,
    frames: u32,
    samples: usize,
}

impl OpusDecoder {
    /// A decoder for the blocks of `format`.
    ///
    /// # Errors
    /// [`OpusError::Format`] if that is no shape of an Opus stream; [`OpusError::Internal`] if libopus
    /// has no memory.
    pub fn new(format: &StreamFormat) -> Result<Self, OpusError> {
        let (channels, size) = shape(format)?;
        let decoder = Decoder::new(channels, opusic_c::SampleRate::Hz48000)?;
        let samples = size.frames() as usize * format.channels().get();
        Ok(Self { decoder, frames: size.frames(), samples })
    }

    /// Samples of a block, all channels counted: the length of every `out` here.
    pub fn block_samples(&self) -> usize {
        self.samples
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// [`OpusError::Packet`] if the payload is no packet of the stream's duration, and then nothing
    /// has happened to the decoder's state; [`OpusError::Format`] if `out` is no block.
    pub fn decode(&mut self, payload: &[u8], out: &mut [f32]) -> Result<(), OpusError> {
        if packet_frames(payload) != Some(self.frames) {
            return Err(OpusError::Packet);
        }
        self.run(payload, false, out)
    }

    /// Makes up a block that is missing: from what `next`, the block after it, says about it if it
    /// says anything, otherwise from what was heard before.
    ///
    /// # Errors
    /// [`OpusError::Format`] if `out` is no block; [`OpusError::Internal`].
    pub fn conceal(&mut self, next: Option<&[u8]>, out: &mut [f32]) -> Result<(), OpusError> {
        let repairs =
            |next: &&[u8]| packet_frames(next) == Some(self.frames) && next[0] >> 3 < FIRST_CELT;
        match next.filter(repairs) {
            // Nonsense says nothing, whatever its header promised.
            Some(next) => self.run(next, true, out).or_else(|_| self.run(&[], false, out)),
            None => self.run(&[], false, out),
        }
    }

    /// Forgets all audio before.
    pub fn reset(&mut self) {
        // It fails only for a decoder that does not exist.
        let _ = self.decoder.reset();
    }

    fn run(&mut self, payload: &[u8], repair: bool, out: &mut [f32]) -> Result<(), OpusError> {
        if out.len() != self.samples {
            return Err(OpusError::Format);
        }
        let frames = self.decoder.decode_float_to_slice(payload, out, repair)?;
        let filled = frames * self.samples / self.frames as usize;
        out[filled.min(self.samples)..].fill(0.0);
        for x in out {
            *x = if x.is_finite() { x.clamp(-SANE, SANE) } else { 0.0 };
        }
        Ok(())
    }
}

impl fmt::Debug for OpusDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpusDecoder").field("frames", &self.frames).finish_non_exhaustive()
    }
}
