//! Which streams an element plays: name patterns, as in `desktop*, laptop/mic, !phone`.

use std::fmt;
use std::str::FromStr;

use velin_core::identity::{Name, NameError};
use velin_core::wire::NameGlob;

/// Patterns in one list, at most.
const MAX_PATTERNS: usize = 16;

/// A list of patterns. A stream is taken if one of the plain patterns fits and none of those after
/// a `!`; without plain patterns all fit.
///
/// `name` fits the stream of that name and all streams of the sender of that name;
/// `sender/name` fits that one stream. `*` stands for any run of characters, `?` for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFilter {
    text: String,
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Either(NameGlob),
    Both { sender: NameGlob, stream: NameGlob },
}

impl StreamFilter {
    /// Whether the stream called `stream` of the peer called `sender` is to be played.
    pub fn takes(&self, sender: Option<&Name>, stream: &Name) -> bool {
        let fits = |pattern: &Pattern| pattern.fits(sender, stream);
        (self.wanted.is_empty() || self.wanted.iter().any(fits)) && !self.unwanted.iter().any(fits)
    }

    /// What to ask the peer called `sender` for, so that it offers every stream this takes.
    pub(crate) fn asks(&self, sender: Option<&Name>) -> Vec<NameGlob> {
        let mut asks = Vec::new();
        let mut add = |glob: NameGlob| {
            if !asks.contains(&glob) {
                asks.push(glob);
            }
        };
        let any = || NameGlob::new("*").ok();
        if self.wanted.is_empty() {
            any().map(&mut add);
        }
        for pattern in &self.wanted {
            match pattern {
                Pattern::Either(name) if sender.is_some_and(|s| name.matches(s.as_str())) => {
                    any().map(&mut add);
                }
                Pattern::Either(name) => add(name.clone()),
                Pattern::Both { sender: who, stream }
                    if sender.is_some_and(|s| who.matches(s.as_str())) =>
                {
                    add(stream.clone());
                }
                Pattern::Both { .. } => {}
            }
        }
        asks
    }
}

impl Pattern {
    fn fits(&self, sender: Option<&Name>, stream: &Name) -> bool {
        let is = |glob: &NameGlob| sender.is_some_and(|s| glob.matches(s.as_str()));
        match self {
            Self::Either(name) => name.matches(stream.as_str()) || is(name),
            Self::Both { sender, stream: glob } => is(sender) && glob.matches(stream.as_str()),
        }
    }
}

impl FromStr for StreamFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self { text: text.to_owned(), ..Self::default() };
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (list, pattern) = match item.strip_prefix('!') {
                Some(rest) => (&mut filter.unwanted, rest.trim()),
                None => (&mut filter.wanted, item),
            };
            let glob = |part: &str| {
                NameGlob::new(part.trim())
                    .map_err(|error| FilterError::Pattern { item: item.to_owned(), error })
            };
            list.push(match pattern.split_once('/') {
                Some((sender, stream)) => {
                    Pattern::Both { sender: glob(sender)?, stream: glob(stream)? }
                }
                None => Pattern::Either(glob(pattern)?),
            });
        }
        if filter.wanted.len() + filter.unwanted.len() > MAX_PATTERNS {
            return Err(FilterError::TooMany);
        }
        Ok(filter)
    }
}

impl fmt::Display for StreamFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// One of the patterns.
    #[error(
        "streams: {item:?}: {error}; write names with a comma between them, as in \
         \"desktop*,laptop/mic,!phone\""
    )]
    Pattern {
        /// The pattern.
        item: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// Too long a list.
    #[error("streams: more than {MAX_PATTERNS} patterns; use * to say more with fewer")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(filter: &str, sender: &str, stream: &str) -> bool {
        let name = |text: &str| Name::new(text).unwrap();
        filter.parse::<StreamFilter>().unwrap().takes(Some(&name(sender)), &name(stream))
    }

    #[test]
    fn nothing_said_takes_everything() {
        assert!(takes("", "laptop", "mic"));
        assert!(takes(" , ", "laptop", "mic"));
        assert!(takes("*", "laptop", "mic"));
    }

    #[test]
    fn a_name_is_a_streams_or_a_senders() {
        assert!(takes("mic", "laptop", "mic"));
        assert!(takes("laptop", "laptop", "mic"));
        assert!(takes("lap*", "laptop", "mic"));
        assert!(!takes("desk?op", "laptop", "mic"));
        assert!(takes("laptop/mic", "laptop", "mic"));
        assert!(!takes("laptop/mic", "laptop", "desktop"));
        assert!(!takes("laptop/mic", "phone", "mic"));
    }

    #[test]
    fn an_exclamation_mark_leaves_out() {
        assert!(!takes("*,!laptop", "laptop", "mic"));
        assert!(takes("*, !laptop", "phone", "mic"));
        assert!(!takes("!laptop/m*", "laptop", "mic"));
        assert!(takes("!laptop/m*", "laptop", "desktop"));
    }

    #[test]
    fn a_peer_is_asked_for_what_may_fit() {
        let asks = |filter: &str, sender: &str| {
            let sender = Name::new(sender).unwrap();
            let filter: StreamFilter = filter.parse().unwrap();
            filter.asks(Some(&sender)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(asks("", "laptop"), ["*"]);
        assert_eq!(asks("!x", "laptop"), ["*"]);
        assert_eq!(asks("mic,desk*,mic", "laptop"), ["mic", "desk*"]);
        assert_eq!(asks("laptop,mic", "laptop"), ["*", "mic"]);
        assert_eq!(asks("laptop/mic,phone/mic", "phone"), ["mic"]);
        assert!(asks("laptop/mic", "phone").is_empty());
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_an_example() {
        let error = "a\u{7}b".parse::<StreamFilter>().unwrap_err().to_string();
        assert!(error.contains("desktop*"), "{error}");
        assert!("!".parse::<StreamFilter>().is_err());
        assert!(["a,"; 20].concat().parse::<StreamFilter>().is_err());
    }
}
