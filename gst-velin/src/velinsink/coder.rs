//! From a block of the input's samples to its payload.

use velin_core::codec::opus::{
    Encoded, OPUS_RATE, OpusEncoder, OpusError, OpusFrameSize, OpusSettings,
};
use velin_core::codec::{StreamFormat, block_frames, decode_into};
use velin_core::units::Channels;

use super::settings::{Codec, Settings};
use crate::format::PcmFormat;

/// Blocks of silence that are encoded before the encoder rests, in frames: what it looked ahead has
/// left it then, and the decoder has let it fade.
const FLUSH_FRAMES: u32 = 960;

/// What a block came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coded {
    /// So many bytes.
    Bytes(usize),
    /// So many bytes, and nothing to hear in them, nor until more comes.
    Pause(usize),
    /// Silence, without bytes.
    Silence,
}

/// Makes payloads. Owned by the streaming thread; allocates only when made.
#[derive(Debug)]
pub(super) enum Coder {
    /// Samples as they are.
    Pcm,
    /// One Opus packet for each block.
    Opus {
        encoder: Box<OpusEncoder>,
        /// Frames of silence since the last sound.
        silent: u32,
    },
}

impl Coder {
    /// What the settings ask for, for input in `pcm`; with the format of the stream it makes.
    pub(super) fn new(
        settings: &Settings,
        pcm: PcmFormat,
    ) -> Result<(Self, StreamFormat), OpusError> {
        let (mtu, wish) = (settings.link.mtu as usize, settings.packet_time);
        if settings.codec == Codec::Pcm {
            let frames_per_block =
                block_frames(pcm.sample, pcm.rate, pcm.map.channels(), wish, mtu);
            let coding = pcm.sample.into();
            let format = StreamFormat { coding, rate: pcm.rate, map: pcm.map, frames_per_block };
            return Ok((Self::Pcm, format));
        }
        if pcm.rate != OPUS_RATE || pcm.map.channels() > Channels::STEREO {
            return Err(OpusError::Format);
        }
        let size = OpusFrameSize::at_most(wish);
        let encoder = OpusEncoder::new(OpusSettings {
            channels: pcm.map.channels(),
            size,
            bit_rate: size.bit_rate(settings.bit_rate, mtu),
            audio_type: settings.audio_type.into(),
            dtx: settings.dtx,
        })?;
        let format = encoder.format().clone();
        Ok((Self::Opus { encoder: Box::new(encoder), silent: FLUSH_FRAMES }, format))
    }

    /// Makes the payload of `block`, samples of `pcm`, at the front of `out`. `samples` is room for
    /// the block as floats. `is_silent`: all of it is.
    pub(super) fn code(
        &mut self,
        pcm: PcmFormat,
        block: &[u8],
        is_silent: bool,
        samples: &mut [f32],
        out: &mut [u8],
    ) -> Result<Coded, OpusError> {
        match self {
            Self::Pcm if is_silent => Ok(Coded::Silence),
            Self::Pcm => {
                out[..block.len()].copy_from_slice(block);
                Ok(Coded::Bytes(block.len()))
            }
            Self::Opus { encoder, silent } => {
                let frames = encoder.format().frames_per_block;
                *silent = if is_silent { silent.saturating_add(frames) } else { 0 };
                // With DTX the encoder itself says when to rest.
                if *silent > FLUSH_FRAMES.max(frames) && !encoder.settings().dtx {
                    return Ok(Coded::Silence);
                }
                let n = if is_silent { 0 } else { decode_into(pcm.sample, block, samples) };
                samples[n..].fill(0.0);
                Ok(match encoder.encode(samples, out)? {
                    Encoded::Sound(n) => Coded::Bytes(n),
                    Encoded::Pause(n) => Coded::Pause(n),
                })
            }
        }
    }

    /// The encoder whose bit rate may change.
    pub(super) fn encoder(&mut self) -> Option<&mut OpusEncoder> {
        match self {
            Self::Pcm => None,
            Self::Opus { encoder, .. } => Some(encoder),
        }
    }
}
