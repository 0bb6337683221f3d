//! Samples to Opus packets.

use std::fmt;

use opusic_c::{Application, Bitrate, Encoder, InbandFec, Signal};

use super::{AudioType, LookAhead, OpusError, OpusFormat, OpusFrameSize, is_pause, shape};
use crate::codec::StreamFormat;
use crate::units::{BitRate, Channels};

/// How much work the encoder puts into each block, 0 to 10. The highest costs 1 to 2 % of a core.
const COMPLEXITY: u8 = 10;
/// Louder input than this, ±18 dB full scale, is an accident.
const LOUDEST: f32 = 8.0;
/// Lost blocks beyond this share are no longer what in-band repair is tuned for.
const MOST_LOSS: f64 = 0.5;

/// How a stream is to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusSettings {
    /// One or two.
    pub channels: Channels,
    /// The duration of a block.
    pub size: OpusFrameSize,
    /// Constant: every block has this many bits, except in pauses.
    pub bit_rate: BitRate,
    /// What to be good at.
    pub audio_type: AudioType,
    /// Whether pauses are recognised, so that nothing need be sent in them.
    pub dtx: bool,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// So many bytes of sound.
    Sound(usize),
    /// So many bytes that say: nothing to hear. Only with `dtx`.
    Pause(usize),
}

/// One stream's encoder. Allocates only when made.
pub struct OpusEncoder {
    encoder: Encoder,
    settings: OpusSettings,
    format: StreamFormat,
    bit_rate: BitRate,
    /// Lost blocks that the encoder was told of, in percent.
    loss: u8,
}

impl OpusEncoder {
    /// An encoder at constant bit rate.
    ///
    /// # Errors
    /// [`OpusError::Format`] for more than two channels; [`OpusError::Internal`] if libopus has no
    /// memory.
    pub fn new(settings: OpusSettings) -> Result<Self, OpusError> {
        let look_ahead = LookAhead::USUAL;
        let format = OpusFormat { bit_rate: settings.bit_rate, look_ahead }
            .stream(settings.channels, settings.size)?;
        let (channels, _) = shape(&format)?;
        let application = match settings.audio_type {
            AudioType::Generic => Application::Audio,
            AudioType::Voice => Application::Voip,
            AudioType::RestrictedLowDelay => Application::LowDelay,
        };
        let mut encoder = Encoder::new(channels, opusic_c::SampleRate::Hz48000, application)?;
        encoder.set_vbr(false)?;
        encoder.set_complexity(COMPLEXITY)?;
        encoder.set_dtx(settings.dtx)?;
        if settings.audio_type == AudioType::Voice {
            encoder.set_signal(Signal::Voice)?;
            // It does nothing until losses are told, nor in blocks below 10 ms.
            encoder.set_inband_fec(InbandFec::Mode1)?;
        }
        let bit_rate = settings.bit_rate;
        encoder.set_bitrate(Bitrate::Value(bit_rate.bits_per_second()))?;
        let look_ahead = encoder.get_look_ahead()?;
        let look_ahead = LookAhead::new(look_ahead).ok_or(OpusError::Internal(0))?;
        let format =
            OpusFormat { bit_rate, look_ahead }.stream(settings.channels, settings.size)?;
        Ok(Self { encoder, settings, format, bit_rate, loss: 0 })
    }

    /// The stream's format, with the encoder's look-ahead.
    pub fn format(&self) -> &StreamFormat {
        &self.format
    }

    /// What it was made for.
    pub fn settings(&self) -> OpusSettings {
        self.settings
    }

    /// The bit rate now.
    pub fn bit_rate(&self) -> BitRate {
        self.bit_rate
    }

    /// Changes the bit rate from the next block on; at most to that of the settings.
    ///
    /// # Errors
    /// [`OpusError::Internal`], and the bit rate stays.
    pub fn set_bit_rate(&mut self, bit_rate: BitRate) -> Result<(), OpusError> {
        let bit_rate = bit_rate.min(self.settings.bit_rate);
        self.encoder.set_bitrate(Bitrate::Value(bit_rate.bits_per_second()))?;
        self.bit_rate = bit_rate;
        Ok(())
    }

    /// Tells which share of the blocks is lost on the way, 0 to 1: how much of a voice's bits goes
    /// into repeating the block before.
    ///
    /// # Errors
    /// [`OpusError::Internal`], and nothing changes.
    pub fn set_loss(&mut self, share: f64) -> Result<(), OpusError> {
        let percent = (share.clamp(0.0, MOST_LOSS) * 100.0).round() as u8;
        if percent != self.loss {
            self.encoder.set_packet_loss(percent)?;
            self.loss = percent;
        }
        Ok(())
    }

    /// Encodes one block, interleaved samples of exactly its duration, to the front of `out`, which
    /// needs [`block_bytes`](StreamFormat::block_bytes). What is not finite or beyond ±8 in
    /// `samples` is mended there first. Never allocates.
    ///
    /// # Errors
    /// [`OpusError::Format`] if `samples` is no block or `out` too small; [`OpusError::Internal`].
    pub fn encode(&mut self, samples: &mut [f32], out: &mut [u8]) -> Result<Encoded, OpusError> {
        let frames = self.format.frames_per_block as usize;
        let out = out.get_mut(..self.format.block_bytes()).ok_or(OpusError::Format)?;
        if samples.len() != frames * self.format.channels().get() {
            return Err(OpusError::Format);
        }
        for x in samples.iter_mut() {
            *x = if x.is_finite() { x.clamp(-LOUDEST, LOUDEST) } else { 0.0 };
        }
        let n = self.encoder.encode_float_to_slice(samples, out)?;
        let pause = self.settings.dtx && out.get(..n).is_some_and(is_pause);
        Ok(if pause { Encoded::Pause(n) } else { Encoded::Sound(n) })
    }

    /// Forgets all audio before: what comes next has nothing to do with it.
    ///
    /// # Errors
    /// [`OpusError::Internal`].
    pub fn reset(&mut self) -> Result<(), OpusError> {
        Ok(self.encoder.reset()?)
    }
}

impl fmt::Debug for OpusEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpusEncoder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
