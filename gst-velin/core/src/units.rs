//! Newtypes for the quantities that must not be confused.

use std::fmt;
use std::time::Duration;

/// A position in a stream's own frames (one frame = one sample per channel) since stream start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FrameIndex(pub u64);

/// A block's number since stream start. Blocks are what a packet carries; see `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockIndex(pub u32);

/// A stream's number within a session. Odd: opened by the initiator; even: by the responder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u16);

impl StreamId {
    /// The reliable control stream.
    pub const CONTROL: Self = Self(0);
    /// Path probes and clock exchange.
    pub const PATH: Self = Self(0xFFFF);

    /// Whether the id may carry media.
    pub const fn is_media(self) -> bool {
        self.0 != Self::CONTROL.0 && self.0 != Self::PATH.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// Frames per second, 8 000 to 192 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleRate(u32);

impl SampleRate {
    /// 48 kHz, the default everywhere.
    pub const HZ_48000: Self = Self(48_000);
    /// Lowest rate carried.
    pub const MIN: u32 = 8_000;
    /// Highest rate carried.
    pub const MAX: u32 = 192_000;

    /// `None` outside 8–192 kHz.
    pub const fn new(hz: u32) -> Option<Self> {
        if hz >= Self::MIN && hz <= Self::MAX { Some(Self(hz)) } else { None }
    }

    /// Frames per second.
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// How long `frames` last, rounded down to a nanosecond.
    pub const fn duration_of(self, frames: u64) -> Duration {
        let ns = frames as u128 * 1_000_000_000 / self.0 as u128;
        Duration::from_nanos(ns as u64)
    }

    /// How many whole frames fit into `time`, rounded to the nearest.
    pub const fn frames_in(self, time: Duration) -> u64 {
        ((time.as_nanos() * self.0 as u128 + 500_000_000) / 1_000_000_000) as u64
    }
}

/// A number of channels, 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channels(u8);

impl Channels {
    /// One channel.
    pub const MONO: Self = Self(1);
    /// Two channels.
    pub const STEREO: Self = Self(2);
    /// The most one stream carries.
    pub const MAX: u8 = 8;

    /// `None` outside 1–8.
    pub const fn new(n: u8) -> Option<Self> {
        if n >= 1 && n <= Self::MAX { Some(Self(n)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// Bits per second of coded audio, 6 000 to 510 000: what Opus is made for (RFC 6716, section 2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitRate(u32);

impl BitRate {
    /// 128 kbit/s, the default.
    pub const DEFAULT: Self = Self(128_000);
    /// The least, in bits per second.
    pub const MIN: u32 = 6_000;
    /// The most, in bits per second.
    pub const MAX: u32 = 510_000;

    /// `None` outside 6–510 kbit/s.
    pub const fn new(bits_per_second: u32) -> Option<Self> {
        if bits_per_second >= Self::MIN && bits_per_second <= Self::MAX {
            Some(Self(bits_per_second))
        } else {
            None
        }
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u32 {
        self.0
    }

    /// Bytes that `frames` at `rate` take, rounded up.
    pub const fn bytes_in(self, frames: u32, rate: SampleRate) -> usize {
        (self.0 as u64 * frames as u64).div_ceil(8 * rate.hz() as u64) as usize
    }
}

/// Parts per million, a clock's rate error.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Default)]
pub struct Ppm(pub f64);
