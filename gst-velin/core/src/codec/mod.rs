//! What a block's payload is: PCM samples or an Opus packet.

mod layout;
pub mod opus;
mod pcm;

pub use layout::{ChannelMap, ChannelMapError, Position};
pub use opus::OpusFormat;
pub use pcm::{SampleFormat, decode_into, encode_into};

use std::time::Duration;

use crate::units::{Channels, SampleRate};

/// How the audio of a block becomes its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Interleaved samples as they are: every payload has the same length.
    Pcm(SampleFormat),
    /// One Opus packet: payloads vary.
    Opus(OpusFormat),
}

impl Coding {
    /// The name of the sample format, or of the codec.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcm(sample) => sample.name(),
            Self::Opus(_) => "opus",
        }
    }

    /// How a sample is stored; `None` if the payload holds none.
    pub const fn sample(self) -> Option<SampleFormat> {
        match self {
            Self::Pcm(sample) => Some(sample),
            Self::Opus(_) => None,
        }
    }
}

impl From<SampleFormat> for Coding {
    fn from(sample: SampleFormat) -> Self {
        Self::Pcm(sample)
    }
}

/// Everything that fixes the shape of a stream's blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFormat {
    /// What a payload is.
    pub coding: Coding,
    /// Frames per second.
    pub rate: SampleRate,
    /// Where each channel belongs, in order of interleaving.
    pub map: ChannelMap,
    /// Frames in every block of the stream.
    pub frames_per_block: u32,
}

impl StreamFormat {
    /// Number of interleaved channels.
    pub fn channels(&self) -> Channels {
        self.map.channels()
    }

    /// Bytes of one whole block: all of them with PCM, at most so many with Opus.
    pub fn block_bytes(&self) -> usize {
        match self.coding {
            Coding::Pcm(sample) => {
                sample.bytes() * self.channels().get() * self.frames_per_block as usize
            }
            Coding::Opus(opus) => opus.bit_rate.bytes_in(self.frames_per_block, self.rate),
        }
    }

    /// What the codec itself adds to the delay beside the block's duration: an encoder's look-ahead.
    pub fn codec_delay(&self) -> Duration {
        match self.coding {
            Coding::Pcm(_) => Duration::ZERO,
            Coding::Opus(opus) => opus.look_ahead.duration(),
        }
    }

    /// How long a block lasts: the packet time.
    pub fn block_duration(&self) -> Duration {
        self.rate.duration_of(u64::from(self.frames_per_block))
    }
}

/// Fewest frames in a block.
pub const MIN_BLOCK_FRAMES: u32 = 16;

/// Bytes that header, audio frame header and tag add to a block's payload.
pub const BLOCK_OVERHEAD: usize = 48;

/// The block rule: the largest `n` ≤ round(`wish` × rate) whose payload fits `mtu` − 48, never
/// fewer than 16 frames.
///
/// `mtu` is the largest UDP payload in bytes. Sixteen frames of the largest format (eight
/// channels of F32) are 512 bytes, so an `mtu` of 576 or more always holds a block.
pub fn block_frames(
    sample: SampleFormat,
    rate: SampleRate,
    channels: Channels,
    wish: Duration,
    mtu: usize,
) -> u32 {
    let frame = sample.bytes() * channels.get();
    let fits = mtu.saturating_sub(BLOCK_OVERHEAD) / frame;
    let wished = rate.frames_in(wish);
    u32::try_from(wished.min(fits as u64)).unwrap_or(u32::MAX).max(MIN_BLOCK_FRAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/protocol.md`, section 4.1.
    #[test]
    fn the_block_rule_gives_the_documented_sizes() {
        let ms = |x: f64| Duration::from_secs_f64(x / 1000.0);
        let rate = |hz| SampleRate::new(hz).unwrap();
        let ch = |n| Channels::new(n).unwrap();
        for (sample, hz, channels, wish, frames) in [
            (SampleFormat::S16Le, 48_000, 2, ms(1.0), 48),
            (SampleFormat::S16Le, 48_000, 2, ms(2.5), 120),
            (SampleFormat::S16Le, 48_000, 2, ms(5.0), 240),
            (SampleFormat::S24Le, 48_000, 2, ms(4.0), 192),
            (SampleFormat::S24Le, 48_000, 2, ms(20.0), 192),
            (SampleFormat::F32Le, 48_000, 2, ms(2.5), 120),
            (SampleFormat::S24Le, 96_000, 2, ms(2.5), 192),
            (SampleFormat::S16Le, 48_000, 6, ms(2.5), 96),
            (SampleFormat::S24Le, 48_000, 8, ms(1.0), 48),
            (SampleFormat::F32Le, 192_000, 8, ms(2.5), 36),
            (SampleFormat::S16Le, 44_100, 2, ms(2.5), 110),
            (SampleFormat::S16Le, 8_000, 1, ms(1.0), 16),
        ] {
            let n = block_frames(sample, rate(hz), ch(channels), wish, 1200);
            assert_eq!(n, frames, "{sample:?} {hz} Hz {channels} ch {wish:?}");
            let bytes = n as usize * sample.bytes() * channels as usize + BLOCK_OVERHEAD;
            assert!(bytes <= 1200, "{bytes} bytes");
        }
    }
}
