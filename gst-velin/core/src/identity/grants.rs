//! What a trusted peer may do here. Directional, and nothing by default.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// One permission.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Grant {
    /// The peer's streams may play on this device.
    PlayToMe,
    /// The peer may ask for this device's captures, its microphone included.
    CaptureFromMe,
    /// The peer may play in a synchronised group with this device.
    JoinGroup,
}

impl Grant {
    /// Every permission, in the order of the specification.
    pub const ALL: [Self; 3] = [Self::PlayToMe, Self::CaptureFromMe, Self::JoinGroup];

    /// The word in trust files and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PlayToMe => "play-to-me",
            Self::CaptureFromMe => "capture-from-me",
            Self::JoinGroup => "join-group",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A word that names no permission.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{word:?} is no permission; write play-to-me, capture-from-me or join-group \
     (several with commas between)"
)]
pub struct UnknownGrant {
    /// The word, cut to 32 characters.
    pub word: String,
}

impl FromStr for Grant {
    type Err = UnknownGrant;

    fn from_str(word: &str) -> Result<Self, UnknownGrant> {
        Self::ALL
            .into_iter()
            .find(|grant| grant.word() == word)
            .ok_or_else(|| UnknownGrant { word: word.chars().take(32).collect() })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Grants(u8);

impl Grants {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Only [`Grant::PlayToMe`]: what `trust add` and a recipients file give.
    pub const PLAY_TO_ME: Self = Self(Grant::PlayToMe.bit());
    /// Everything: what the device's own key has on one machine.
    pub const ALL: Self =
        Self(Grant::PlayToMe.bit() | Grant::CaptureFromMe.bit() | Grant::JoinGroup.bit());

    /// Whether `grant` is in the set.
    pub const fn contains(self, grant: Grant) -> bool {
        self.0 & grant.bit() != 0
    }

    /// The set with `grant`.
    #[must_use]
    pub const fn with(self, grant: Grant) -> Self {
        Self(self.0 | grant.bit())
    }

    /// Whether nothing is permitted.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The permissions, in the order of [`Grant::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Grant> {
        Grant::ALL.into_iter().filter(move |grant| self.contains(*grant))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        grants.into_iter().fold(Self::NONE, Self::with)
    }
}

impl FromStr for Grants {
    type Err = UnknownGrant;

    /// Words with commas between, as on the command line.
    fn from_str(words: &str) -> Result<Self, UnknownGrant> {
        words.split(',').map(|word| word.trim().parse::<Grant>()).collect()
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("nothing");
        }
        f.pad(&self.iter().map(Grant::word).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Grants {
    /// As a list of words.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Grant::word))
    }
}

impl<'de> Deserialize<'de> for Grants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        words
            .iter()
            .map(|word| word.parse::<Grant>())
            .collect::<Result<_, _>>()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_by_default() {
        for grant in Grant::ALL {
            assert!(!Grants::default().contains(grant));
        }
    }

    #[test]
    fn each_grant_is_its_own() {
        for grant in Grant::ALL {
            let set = Grants::NONE.with(grant);
            assert_eq!(set.iter().collect::<Vec<_>>(), [grant]);
            assert_eq!(grant.word().parse(), Ok(set));
        }
        assert_eq!(Grants::ALL.iter().count(), Grant::ALL.len());
    }

    #[test]
    fn words_are_parsed_and_unknown_ones_named() {
        let both = "play-to-me, capture-from-me".parse::<Grants>().unwrap();
        assert_eq!(both.to_string(), "play-to-me,capture-from-me");
        assert_eq!("all".parse::<Grants>(), Err(UnknownGrant { word: "all".into() }));
        assert!("".parse::<Grants>().is_err());
        assert!("Play-To-Me".parse::<Grants>().is_err());
    }

    #[test]
    fn json_is_a_list_of_words() {
        let json = serde_json::to_string(&Grants::ALL).unwrap();
        assert_eq!(json, r#"["play-to-me","capture-from-me","join-group"]"#);
        assert_eq!(serde_json::from_str::<Grants>(&json).unwrap(), Grants::ALL);
        assert!(serde_json::from_str::<Grants>(r#"["root"]"#).is_err());
    }
}
