//! Names of peers and streams: bounded, normalised, safe to print.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The name of a peer, a stream or a group: 1 to 64 bytes of UTF-8 in NFC, without control,
/// bidirectional, zero-width or other invisible characters and without outer or unusual spaces.
///
/// A peer may send anything; what became a `Name` can be printed to a terminal, logged and
/// compared. Deserializing rejects everything else.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(Box<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// No character at all.
    #[error("a name is empty; give it at least one character")]
    Empty,
    /// More than 64 bytes of UTF-8.
    #[error("a name is {found} bytes long, {} are allowed; shorten it", Name::MAX_BYTES)]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Control, bidirectional, invisible or space characters that change how text is shown.
    #[error("a name holds the character U+{:04X}, which does not show; leave it out", u32::from(*.0))]
    Character(char),
    /// Begins or ends with a space.
    #[error("a name begins or ends with a space; leave it out")]
    OuterSpace,
    /// Not in Unicode normalization form C.
    #[error("a name is not in Unicode normalization form C; type it anew")]
    NotNormalized,
}

impl Name {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Takes `text` as it is, or says why not. For everything that arrives from elsewhere.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // Before anything that walks the text, so that its cost is bounded.
        if text.len() > Self::MAX_BYTES {
            return Err(NameError::TooLong { found: text.len() });
        }
        if let Some(bad) = text.chars().find(|c| is_unprintable(*c)) {
            return Err(NameError::Character(bad));
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(NameError::OuterSpace);
        }
        if !is_nfc(text) {
            return Err(NameError::NotNormalized);
        }
        Ok(Self(text.into()))
    }

    /// Trims and normalises `text` first. For what the local user types.
    pub fn normalized(text: &str) -> Result<Self, NameError> {
        Self::new(&text.trim().nfc().collect::<String>())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// Characters that move the cursor, reorder text, or do not show at all: categories Cc, Cf, Zl, Zp,
/// every space but U+0020, the default-ignorable code points and the noncharacters of Unicode 16.
fn is_unprintable(c: char) -> bool {
    if c.is_control() || (c.is_whitespace() && c != ' ') {
        return true;
    }
    matches!(u32::from(c),
        0x00AD | 0x034F | 0x061C | 0x06DD | 0x070F | 0x08E2 | 0x180B..=0x180F | 0x2800 | 0x3164
        | 0xFEFF | 0xFFA0 | 0x110BD | 0x110CD
        | 0x0600..=0x0605 | 0x0890..=0x0891 | 0x115F..=0x1160 | 0x17B4..=0x17B5
        | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F
        | 0xFDD0..=0xFDEF | 0xFE00..=0xFE0F | 0xFFF0..=0xFFFB
        | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
        || u32::from(c) & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_of_the_world_pass() {
        for text in ["living-room", "Küche", "居間", "غرفة", "Łódź 2", "🎧 desk", "a", "Bob's TV"]
        {
            assert_eq!(Name::new(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn characters_that_do_not_show_are_refused() {
        for c in "\0\u{1b}\n\t\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{202e}\u{2028}\
                  \u{2060}\u{2066}\u{2069}\u{feff}\u{3164}\u{a0}\u{3000}\u{fe0f}\u{e0041}\u{ffff}"
            .chars()
        {
            let text = format!("a{c}b");
            assert_eq!(Name::new(&text), Err(NameError::Character(c)), "U+{:04X}", u32::from(c));
            assert!(Name::new(&text).unwrap_err().to_string().is_ascii());
        }
    }

    #[test]
    fn length_counts_bytes() {
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert!(Name::new(&"é".repeat(32)).is_ok());
        assert_eq!(Name::new(&"é".repeat(33)), Err(NameError::TooLong { found: 66 }));
    }

    #[test]
    fn only_normal_form_c_arrives_and_typed_text_is_brought_into_it() {
        assert_eq!(Name::new("Ku\u{308}che"), Err(NameError::NotNormalized));
        assert_eq!(Name::normalized(" Ku\u{308}che\n").unwrap().as_str(), "Küche");
        assert_eq!(Name::new(" a"), Err(NameError::OuterSpace));
    }

    #[test]
    fn deserializing_refuses_what_new_refuses() {
        assert_eq!(serde_json::from_str::<Name>(r#""desk""#).unwrap().as_str(), "desk");
        assert_eq!(serde_json::from_str::<Name>(r#""d\u00e9""#).unwrap().as_str(), "dé");
        for text in [r#""""#, r#""\u001b[2J""#, r#""a\u202eb""#, "7"] {
            assert!(serde_json::from_str::<Name>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_passes_stays_itself(text in "(?s).{0,70}") {
            if let Ok(name) = Name::new(&text) {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(Name::normalized(&text), Ok(name));
            }
        }
    }
}
