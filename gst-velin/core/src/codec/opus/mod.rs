//! Opus (RFC 6716) in blocks of one packet each.
//!
//! An encoder looks ahead: what a decoder gives first was never captured. How many frames that is
//! stands in the stream's format, so that a receiver knows when a frame was captured.

mod decoder;
mod encoder;
mod rate;

pub use decoder::OpusDecoder;
pub use encoder::{Encoded, OpusEncoder, OpusSettings};
pub use rate::LossAdaptation;

use std::time::Duration;

use super::{BLOCK_OVERHEAD, ChannelMap, Coding, StreamFormat};
use crate::units::{BitRate, Channels, SampleRate};

/// The rate that Opus streams have here. Opus codes less bandwidth where the bit rate asks for it.
pub const OPUS_RATE: SampleRate = SampleRate::HZ_48000;

/// Least bytes of a block that are worth a packet: with fewer, libopus gives up coding sound.
const MIN_BLOCK_BYTES: u32 = 5;

/// What fixes an Opus stream's shape beside rate, channels and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusFormat {
    /// The highest bit rate that the stream's blocks will have.
    pub bit_rate: BitRate,
    /// Frames by which the decoded audio lags behind the frame numbers of the blocks.
    pub look_ahead: LookAhead,
}

/// How far an encoder looks ahead, in frames at 48 kHz: 0 to 960.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookAhead(u16);

impl LookAhead {
    /// What libopus needs for `voice` and `generic` (6.5 ms); RFC 7845, section 5.1, gives the same.
    pub const USUAL: Self = Self(312);
    /// The most that is believed.
    pub const MAX: u32 = 960;

    /// `None` beyond [`MAX`](Self::MAX).
    pub const fn new(frames: u32) -> Option<Self> {
        if frames <= Self::MAX { Some(Self(frames as u16)) } else { None }
    }

    /// Frames.
    pub const fn frames(self) -> u32 {
        self.0 as u32
    }

    /// How long that is.
    pub const fn duration(self) -> Duration {
        OPUS_RATE.duration_of(self.0 as u64)
    }
}

/// How much audio a block holds: one of the six durations of RFC 6716, section 2.1.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpusFrameSize {
    /// 2.5 ms.
    Ms2_5,
    /// 5 ms.
    Ms5,
    /// 10 ms.
    Ms10,
    /// 20 ms.
    Ms20,
    /// 40 ms.
    Ms40,
    /// 60 ms.
    Ms60,
}

impl OpusFrameSize {
    /// All, shortest first.
    pub const ALL: [Self; 6] =
        [Self::Ms2_5, Self::Ms5, Self::Ms10, Self::Ms20, Self::Ms40, Self::Ms60];

    /// Frames at 48 kHz.
    pub const fn frames(self) -> u32 {
        match self {
            Self::Ms2_5 => 120,
            Self::Ms5 => 240,
            Self::Ms10 => 480,
            Self::Ms20 => 960,
            Self::Ms40 => 1920,
            Self::Ms60 => 2880,
        }
    }

    /// The inverse of [`frames`](Self::frames).
    pub fn from_frames(frames: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.frames() == frames)
    }

    /// The longest that lasts no longer than `wish`; the shortest there is for less.
    pub fn at_most(wish: Duration) -> Self {
        let frames = OPUS_RATE.frames_in(wish);
        let fits = |size: &Self| u64::from(size.frames()) <= frames;
        Self::ALL.into_iter().rev().find(fits).unwrap_or(Self::Ms2_5)
    }

    /// `wish`, or the nearest bit rate at which a block of this duration has enough bytes to hold
    /// sound and few enough to fit a packet of `mtu` bytes.
    pub fn bit_rate(self, wish: BitRate, mtu: usize) -> BitRate {
        let blocks = 8 * OPUS_RATE.hz() / self.frames();
        let fits = u32::try_from(mtu.saturating_sub(BLOCK_OVERHEAD)).unwrap_or(u32::MAX);
        let bits = wish
            .bits_per_second()
            // An offer tells whole kbit/s, rounded up.
            .min(fits.saturating_mul(blocks) / 1000 * 1000)
            .clamp((MIN_BLOCK_BYTES * blocks).max(BitRate::MIN), BitRate::MAX);
        BitRate::new(bits).unwrap_or(wish)
    }
}

/// What the encoder is to be good at; the names are those of GStreamer's `opusenc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudioType {
    /// Music and speech alike, looking 6.5 ms ahead.
    Generic,
    /// Speech, looking 6.5 ms ahead; from 10 ms blocks on with in-band repair of lost blocks.
    Voice,
    /// Anything, looking only 2.5 ms ahead.
    #[default]
    RestrictedLowDelay,
}

/// What libopus, or a payload, does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpusError {
    /// Not one of the shapes an Opus stream has here.
    #[error(
        "Opus streams have 48000 Hz, one or two channels and blocks of 2.5, 5, 10, 20, 40 or 60 ms; \
         convert the audio, or send it as PCM"
    )]
    Format,
    /// A payload that is no Opus packet of the stream's duration.
    #[error("a block is no Opus packet of the stream's duration; the block is concealed")]
    Packet,
    /// libopus refuses a call that should always be possible.
    #[error("libopus reports an internal error ({0}); start the stream anew")]
    Internal(i32),
}

impl From<opusic_c::ErrorCode> for OpusError {
    fn from(code: opusic_c::ErrorCode) -> Self {
        match code {
            opusic_c::ErrorCode::InvalidPacket | opusic_c::ErrorCode::BufferTooSmall => {
                Self::Packet
            }
            other => Self::Internal(other as i32),
        }
    }
}

impl OpusFormat {
    /// The whole format of a stream of `channels` (one or two) in blocks of `size`.
    ///
    /// # Errors
    /// [`OpusError::Format`] for more channels.
    pub fn stream(
        self,
        channels: Channels,
        size: OpusFrameSize,
    ) -> Result<StreamFormat, OpusError> {
        let map = match channels {
            Channels::MONO => ChannelMap::mono(),
            Channels::STEREO => ChannelMap::stereo(),
            _ => return Err(OpusError::Format),
        };
        let (coding, frames_per_block) = (Coding::Opus(self), size.frames());
        Ok(StreamFormat { coding, rate: OPUS_RATE, map, frames_per_block })
    }
}

/// The frames in an Opus packet at 48 kHz; `None` if it is no packet.
pub fn packet_frames(payload: &[u8]) -> Option<u32> {
    if payload.is_empty() {
        return None;
    }
    let frames = opusic_c::utils::get_nb_samples(payload, opusic_c::SampleRate::Hz48000).ok()?;
    u32::try_from(frames).ok()
}

/// Whether a packet holds no sound: the encoder's discontinuous transmission begins, or goes on, and
/// nothing needs to come until there is something to hear (RFC 6716, section 2.1.9).
pub fn is_pause(payload: &[u8]) -> bool {
    (1..=2).contains(&payload.len())
}

/// Channels and duration of an Opus stream's blocks, checked.
fn shape(format: &StreamFormat) -> Result<(opusic_c::Channels, OpusFrameSize), OpusError> {
    let channels = match format.channels() {
        Channels::MONO => opusic_c::Channels::Mono,
        Channels::STEREO => opusic_c::Channels::Stereo,
        _ => return Err(OpusError::Format),
    };
    let size = OpusFrameSize::from_frames(format.frames_per_block);
    match (format.rate, size) {
        (OPUS_RATE, Some(size)) => Ok((channels, size)),
        _ => Err(OpusError::Format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_becomes_the_next_legal_duration_at_or_below_it() {
        let us = Duration::from_micros;
        for (wish, frames) in [
            (us(100), 120),
            (us(2_500), 120),
            (us(4_900), 120),
            (us(5_000), 240),
            (us(19_000), 480),
            (us(20_000), 960),
            (us(59_900), 1920),
            (us(100_000), 2880),
        ] {
            assert_eq!(OpusFrameSize::at_most(wish).frames(), frames, "{wish:?}");
        }
    }

    #[test]
    fn a_bit_rate_never_makes_a_block_too_large_or_too_small() {
        for size in OpusFrameSize::ALL {
            for bits in [6_000, 32_000, 128_000, 510_000] {
                let rate = size.bit_rate(BitRate::new(bits).unwrap(), 1200);
                let bytes = rate.bytes_in(size.frames(), OPUS_RATE);
                assert!((5..=1152).contains(&bytes), "{size:?} {bits}: {bytes}");
            }
        }
        let wish = BitRate::new(32_000).unwrap();
        assert_eq!(OpusFrameSize::Ms20.bit_rate(wish, 1200), wish);
    }
}
