//! Which streams are asked for, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::{Name, NameError};

/// A pattern for stream names: `*` stands for any run of characters, none included, `?` for
/// exactly one, everything else for itself. As long, and of the same characters, as a [`Name`].
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NameGlob(Name);

impl NameGlob {
    /// Takes `text` as it is, or says why not.
    ///
    /// # Errors
    /// What a [`Name`] may not be, a pattern may not be either.
    pub fn new(text: &str) -> Result<Self, NameError> {
        Name::new(text).map(Self)
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether `name` fits, case and all.
    ///
    /// At most 64 steps for each character of `name`, whatever the pattern: only the last `*` is
    /// ever tried again.
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut rest) = (self.as_str().chars(), name.chars());
        // Where to go on if what follows the last star does not fit here.
        let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
        loop {
            let mut after = pattern.clone();
            match (after.next(), rest.clone().next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    retry = Some((after.clone(), rest.clone()));
                    pattern = after;
                    continue;
                }
                (Some(p), Some(c)) if p == '?' || p == c => {
                    pattern = after;
                    rest.next();
                    continue;
                }
                _ => {}
            }
            // The star takes one character more.
            let Some((star, from)) = &mut retry else { return false };
            if from.next().is_none() {
                return false;
            }
            (pattern, rest) = (star.clone(), from.clone());
        }
    }
}

impl From<Name> for NameGlob {
    /// `*` and `?` in the name become wildcards.
    fn from(name: Name) -> Self {
        Self(name)
    }
}

impl FromStr for NameGlob {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> NameGlob {
        text.parse().unwrap()
    }

    #[test]
    fn stars_and_question_marks_stand_for_what_they_should() {
        for (pattern, fits, does_not) in [
            ("desktop", &["desktop"][..], &["desk", "desktops", "Desktop", ""][..]),
            ("desk*", &["desk", "desktop"], &["a desk", "des"]),
            ("*top", &["top", "desktop", "toptop"], &["tops"]),
            ("*", &["", "anything at all", "居間"], &[]),
            ("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["acb", "ab", "bc"]),
            ("?", &["x", "居"], &["", "xy"]),
            ("居?", &["居間"], &["居", "居間間"]),
            ("?*?", &["xy", "xyz"], &["x", ""]),
            ("**", &["", "x"], &[]),
        ] {
            for name in fits {
                assert!(glob(pattern).matches(name), "{pattern} {name}");
            }
            for name in does_not {
                assert!(!glob(pattern).matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_more_than_its_share_of_time() {
        let pattern = glob(&format!("{}b", "a*".repeat(31)));
        let name = "a".repeat(1 << 20);
        assert!(!pattern.matches(&name));
    }

    #[test]
    fn what_no_name_may_be_no_pattern_may_be() {
        for text in ["", " *", "*\u{1b}", "*\u{202e}", &"*".repeat(65)] {
            assert!(text.parse::<NameGlob>().is_err(), "{text:?}");
            let json = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<NameGlob>(&json).is_err(), "{text:?}");
        }
        let json = serde_json::to_string(&glob("desk*")).unwrap();
        assert_eq!((json.as_str(), glob("desk*").to_string().as_str()), (r#""desk*""#, "desk*"));
    }

    fn slowly(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', p @ ..], n) => slowly(p, n) || !n.is_empty() && slowly(pattern, &n[1..]),
            (['?', p @ ..], [_, n @ ..]) => slowly(p, n),
            ([c, p @ ..], [d, n @ ..]) => c == d && slowly(p, n),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in "[ab*?]{1,8}", name in "[ab]{0,10}") {
            let (p, n): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(glob(&pattern).matches(&name), slowly(&p, &n));
        }
    }
}
