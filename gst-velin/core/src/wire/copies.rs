//! Which older blocks a packet holds once more.

use serde::{Deserialize, Serialize};

/// The distances of the copies that every packet holds beside its own block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub enum Copies {
    /// No copies.
    #[default]
    None,
    /// The block before.
    Next,
    /// The one before that.
    Second,
    /// That one, and the one two before it.
    SecondAndFourth,
}

impl Copies {
    /// How many blocks before a packet's own its copies are.
    pub const fn distances(self) -> &'static [u32] {
        match self {
            Self::None => &[],
            Self::Next => &[1],
            Self::Second => &[2],
            Self::SecondAndFourth => &[2, 4],
        }
    }

    /// The longest of them, 0 without copies.
    pub const fn longest(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Next => 1,
            Self::Second => 2,
            Self::SecondAndFourth => 4,
        }
    }
}

impl From<Copies> for Vec<u8> {
    fn from(copies: Copies) -> Self {
        copies.distances().iter().map(|d| *d as u8).collect()
    }
}

impl TryFrom<Vec<u8>> for Copies {
    type Error = UnknownCopies;

    fn try_from(distances: Vec<u8>) -> Result<Self, UnknownCopies> {
        let all = [Self::None, Self::Next, Self::Second, Self::SecondAndFourth];
        all.into_iter().find(|c| Vec::from(*c) == distances).ok_or(UnknownCopies)
    }
}

/// The vocabulary is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("copies are [], [1], [2] or [2,4]")]
pub struct UnknownCopies;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_closed() {
        for (copies, json) in [
            (Copies::None, "[]"),
            (Copies::Next, "[1]"),
            (Copies::Second, "[2]"),
            (Copies::SecondAndFourth, "[2,4]"),
        ] {
            assert_eq!(serde_json::to_string(&copies).unwrap(), json);
            assert_eq!(serde_json::from_str::<Copies>(json).unwrap(), copies);
            assert_eq!(copies.longest(), copies.distances().iter().copied().max().unwrap_or(0));
        }
        for bad in ["[0]", "[3]", "[4,2]", "[1,1]", "[2,4,6]", "[256]", "2"] {
            assert!(serde_json::from_str::<Copies>(bad).is_err(), "{bad}");
        }
    }
}
