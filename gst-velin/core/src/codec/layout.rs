//! Channel positions.

use std::fmt;

use crate::units::Channels;

/// Where a channel's loudspeaker stands, or `None` for an unpositioned channel.
///
/// A closed list: peers name positions, our code maps them to GStreamer's. Nothing a peer sends
/// is ever parsed by GStreamer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Position {
    Mono,
    FrontLeft,
    FrontRight,
    FrontCenter,
    Lfe1,
    RearLeft,
    RearRight,
    RearCenter,
    SideLeft,
    SideRight,
    FrontLeftOfCenter,
    FrontRightOfCenter,
    /// Not bound to a loudspeaker.
    None,
}

const NAMES: [(Position, &str); 13] = [
    (Position::Mono, "M"),
    (Position::FrontLeft, "FL"),
    (Position::FrontRight, "FR"),
    (Position::FrontCenter, "FC"),
    (Position::Lfe1, "LFE"),
    (Position::RearLeft, "RL"),
    (Position::RearRight, "RR"),
    (Position::RearCenter, "RC"),
    (Position::SideLeft, "SL"),
    (Position::SideRight, "SR"),
    (Position::FrontLeftOfCenter, "FLC"),
    (Position::FrontRightOfCenter, "FRC"),
    (Position::None, "-"),
];

impl Position {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(p, _)| *p == self).map_or("-", |(_, n)| n)
    }

    /// The inverse of [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(p, _)| *p)
    }
}

/// One to eight channel positions, in order of interleaving: either all unpositioned, or each
/// position at most once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelMap {
    positions: [Position; Channels::MAX as usize],
    channels: Channels,
}

impl ChannelMap {
    /// One centred channel.
    pub fn mono() -> Self {
        Self::fixed(Channels::MONO, &[Position::Mono])
    }

    /// Left and right.
    pub fn stereo() -> Self {
        Self::fixed(Channels::STEREO, &[Position::FrontLeft, Position::FrontRight])
    }

    /// `channels` without positions.
    pub fn unpositioned(channels: Channels) -> Self {
        Self { positions: [Position::None; Channels::MAX as usize], channels }
    }

    /// Checks count and uniqueness.
    pub fn new(positions: &[Position]) -> Result<Self, ChannelMapError> {
        let channels = u8::try_from(positions.len())
            .ok()
            .and_then(Channels::new)
            .ok_or(ChannelMapError::Count(positions.len()))?;
        let unpositioned = positions.iter().filter(|p| **p == Position::None).count();
        if unpositioned == positions.len() {
            return Ok(Self::unpositioned(channels));
        }
        if unpositioned > 0 {
            return Err(ChannelMapError::Mixed);
        }
        for (i, p) in positions.iter().enumerate() {
            if positions[..i].contains(p) {
                return Err(ChannelMapError::Twice(*p));
            }
            if *p == Position::Mono && positions.len() > 1 {
                return Err(ChannelMapError::MonoAmongOthers);
            }
        }
        Ok(Self::fixed(channels, positions))
    }

    /// How many channels.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// The positions in order.
    pub fn positions(&self) -> &[Position] {
        &self.positions[..self.channels.get()]
    }

    /// Whether the channels have no loudspeakers.
    pub fn is_unpositioned(&self) -> bool {
        self.positions()[0] == Position::None
    }

    fn fixed(channels: Channels, given: &[Position]) -> Self {
        let mut positions = [Position::None; Channels::MAX as usize];
        positions[..given.len()].copy_from_slice(given);
        Self { positions, channels }
    }
}

impl fmt::Debug for ChannelMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.positions().iter().map(|p| p.name())).finish()
    }
}

/// Why a list of positions is no channel map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelMapError {
    /// Outside 1–8 channels.
    #[error("{0} channels; a stream carries 1 to 8")]
    Count(usize),
    /// Positioned and unpositioned channels in one map.
    #[error("positioned and unpositioned channels cannot be mixed")]
    Mixed,
    /// "Mono" is only for one channel.
    #[error("the position M is for one channel alone")]
    MonoAmongOthers,
    /// The same loudspeaker twice.
    #[error("the position {} stands twice", .0.name())]
    Twice(Position),
}
