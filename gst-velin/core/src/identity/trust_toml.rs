//! The text of `trust.toml`.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use toml::{Spanned, Value};

use super::grants::{Grant, Grants};
use super::key::PublicKey;
use super::name::Name;
use super::trust::{Collector, ParseTrustError, TrustedPeer, Via};
use super::wall_time::{WallTime, WallTimeError};

/// The version this program reads and writes.
const VERSION: i64 = 1;

const HEADER: &str = "\
# Devices this one trusts. `velin-pipe trust list` shows them; `trust add` and `trust remove` change
# them and write this file anew.
";

/// Reads the entries. An empty text has none and needs no version.
pub(super) fn parse(text: &str) -> Result<Vec<TrustedPeer>, ParseTrustError> {
    let at = |span: Range<usize>| line_at(text, span.start);
    let file: FileIn = toml::from_str(text).map_err(|error| ParseTrustError::Toml {
        line: at(error.span().unwrap_or_default()),
        message: printable(error.message()),
    })?;
    match file.version {
        Some(version) if *version.get_ref() != VERSION => {
            return Err(ParseTrustError::Version {
                line: at(version.span()),
                found: version.into_inner(),
            });
        }
        None if !file.peer.is_empty() => {
            let message = "version = 1 is missing; write it into the first line".to_owned();
            return Err(ParseTrustError::Toml { line: 1, message });
        }
        _ => {}
    }
    let mut collector = Collector::default();
    for entry in file.peer {
        let key_line = at(entry.recipient.span());
        let name_line = entry.name.as_ref().map_or(key_line, |name| at(name.span()));
        let peer = entry.into_peer(at)?;
        collector.push(peer, key_line, name_line)?;
    }
    Ok(collector.finish())
}

/// Writes the entries.
pub(super) fn write(peers: &[TrustedPeer]) -> String {
    let file = FileOut { version: VERSION, peer: peers.iter().map(PeerOut::from).collect() };
    let body = toml::to_string(&file).expect("strings and lists of strings are valid TOML");
    format!("{HEADER}{body}")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIn {
    version: Option<Spanned<i64>>,
    #[serde(default)]
    peer: Vec<PeerIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerIn {
    recipient: Spanned<String>,
    name: Option<Spanned<String>>,
    may: Vec<Spanned<String>>,
    via: Option<Spanned<String>>,
    added: Option<Spanned<Value>>,
    host: Option<Spanned<String>>,
    expires: Option<Spanned<Value>>,
}

impl PeerIn {
    fn into_peer(self, at: impl Fn(Range<usize>) -> usize) -> Result<TrustedPeer, ParseTrustError> {
        let key = self.recipient.get_ref().parse::<PublicKey>().map_err(|reason| {
            ParseTrustError::Recipient { line: at(self.recipient.span()), reason }
        })?;
        let name = self
            .name
            .map(|name| {
                let line = at(name.span());
                Name::new(name.get_ref()).map_err(|reason| ParseTrustError::Name { line, reason })
            })
            .transpose()?;
        let may = self
            .may
            .iter()
            .map(|word| {
                let line = at(word.span());
                let grant = word.get_ref().parse::<Grant>();
                grant.map_err(|reason| ParseTrustError::Grant { line, reason })
            })
            .collect::<Result<Grants, _>>()?;
        let via = self
            .via
            .map(|via| {
                let line = at(via.span());
                Via::from_word(via.get_ref()).ok_or(ParseTrustError::Via { line })
            })
            .transpose()?
            .unwrap_or_default();
        let host = self
            .host
            .map(|host| {
                let line = at(host.span());
                host.get_ref().parse().map_err(|reason| ParseTrustError::Host { line, reason })
            })
            .transpose()?;
        let time = |value: Spanned<Value>| {
            let line = at(value.span());
            match value.get_ref() {
                Value::String(text) => text.parse(),
                Value::Datetime(datetime) => WallTime::from_datetime(datetime),
                _ => Err(WallTimeError),
            }
            .map_err(|reason| ParseTrustError::Time { line, reason })
        };
        let added = self.added.map(time).transpose()?;
        let expires = self.expires.map(time).transpose()?;
        Ok(TrustedPeer { key, name, may, via, added, host, expires })
    }
}

#[derive(Serialize)]
struct FileOut<'a> {
    version: i64,
    peer: Vec<PeerOut<'a>>,
}

#[derive(Serialize)]
struct PeerOut<'a> {
    recipient: String,
    name: Option<&'a Name>,
    may: Grants,
    via: &'static str,
    added: Option<String>,
    host: Option<String>,
    expires: Option<String>,
}

impl<'a> From<&'a TrustedPeer> for PeerOut<'a> {
    fn from(peer: &'a TrustedPeer) -> Self {
        Self {
            recipient: peer.key.recipient(),
            name: peer.name.as_ref(),
            may: peer.may,
            via: peer.via.word(),
            added: peer.added.map(|time| time.to_string()),
            host: peer.host.as_ref().map(ToString::to_string),
            expires: peer.expires.map(|time| time.to_string()),
        }
    }
}

/// The line, from 1, in which byte `offset` stands.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// A parser's message may quote the file: one line, nothing that moves a terminal's cursor.
fn printable(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::grants::UnknownGrant;
    use super::super::key::Identity;
    use super::super::trust::TrustBook;
    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = r#"version = 1
[[peer]]
recipient = "age1vjcsrvwshedgwp9aq78e39gqrlqrar5lj530rzxaz2xes3k5s3nqxdc696"
name = "living-room"            # local label, chosen by the local user
may = ["play-to-me"]            # also: "capture-from-me", "join-group"
via = "sas"                     # sas | code | file | bundle
added = "2026-11-20T08:40:00Z"
host = "192.168.1.5:49000"        # optional: where the name is found
expires = "2027-01-01T00:00:00Z"  # optional
"#;

    fn error_of(text: &str) -> ParseTrustError {
        TrustBook::parse_toml(text).unwrap_err()
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let book = TrustBook::parse(EXAMPLE).unwrap();
        let [peer] = book.peers() else { panic!("{book:?}") };
        let secret = std::array::from_fn(|i| 0x41 + i as u8);
        assert_eq!(peer.key, Identity::from_secret(secret).public());
        assert_eq!(peer.label(), "living-room");
        assert_eq!((peer.may, peer.via), (Grants::PLAY_TO_ME, Via::Sas));
        assert_eq!(peer.added.unwrap().to_string(), "2026-11-20T08:40:00Z");
        assert_eq!(peer.expires.unwrap().to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(peer.host.as_ref().unwrap().to_string(), "192.168.1.5:49000");
        assert_eq!(TrustBook::parse(&book.to_toml()).unwrap(), book);
    }

    #[test]
    fn toml_times_need_no_quotes() {
        let text = EXAMPLE.replace("\"2027-01-01T00:00:00Z\"", "2027-01-01T00:00:00Z");
        assert_ne!(text, EXAMPLE);
        assert_eq!(TrustBook::parse(&text), TrustBook::parse(EXAMPLE));
    }

    #[test]
    fn every_error_names_its_line() {
        let with = |from: &str, to: &str| error_of(&EXAMPLE.replacen(from, to, 1));
        assert!(matches!(with("1vjcs", "1vjct"), ParseTrustError::Recipient { line: 3, .. }));
        assert!(matches!(with("living-room", "a\\u001b"), ParseTrustError::Name { line: 4, .. }));
        let reason = UnknownGrant { word: "play".into() };
        assert_eq!(with("play-to-me", "play"), ParseTrustError::Grant { line: 5, reason });
        assert_eq!(with("\"sas\"", "\"luck\""), ParseTrustError::Via { line: 6 });
        assert!(matches!(with("2026", "1926"), ParseTrustError::Time { line: 7, .. }));
        assert!(matches!(
            with("\"2026-11-20T08:40:00Z\"", "7"),
            ParseTrustError::Time { line: 7, .. }
        ));
        assert!(matches!(with("49000", "490000"), ParseTrustError::Host { line: 8, .. }));
        assert_eq!(with("= 1", "= 2"), ParseTrustError::Version { line: 1, found: 2 });
        assert!(matches!(with("may =", "mai ="), ParseTrustError::Toml { line: 5, .. }));
        assert!(matches!(with("may =", "# may ="), ParseTrustError::Toml { line: 2, .. }));
        assert!(matches!(with("version", "# version"), ParseTrustError::Toml { line: 1, .. }));
    }

    #[test]
    fn duplicates_name_both_lines() {
        let entry = &EXAMPLE["version = 1\n".len()..];
        let twice = format!("{EXAMPLE}{entry}");
        assert_eq!(error_of(&twice), ParseTrustError::DuplicateKey { line: 11, first: 3 });
        let other = Identity::from_secret([9; 32]).public().recipient();
        let twice = format!(
            "{EXAMPLE}{}",
            entry.replace("age1vjcsrvwshedgwp9aq78e39gqrlqrar5lj530rzxaz2xes3k5s3nqxdc696", &other)
        );
        let name = "living-room".parse().unwrap();
        assert_eq!(error_of(&twice), ParseTrustError::DuplicateName { line: 12, first: 4, name });
    }

    #[test]
    fn unknown_keys_and_escapes_in_them_never_reach_a_terminal_raw() {
        let text = error_of("version = 1\n\"\\u001b[2J\" = 1\n").to_string();
        assert!(text.starts_with("line 2:"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn deep_nesting_is_refused_without_overflow() {
        for open in ["[", "{a="] {
            let text = format!("version = {}", open.repeat(300_000 / open.len()));
            assert!(matches!(error_of(&text), ParseTrustError::Toml { .. }));
        }
    }

    fn any_peer() -> impl Strategy<Value = TrustedPeer> {
        let time =
            || proptest::option::of((0..=WallTime::MAX.as_unix()).prop_map(WallTime::from_unix));
        let name = proptest::option::of("[\\PC]{1,16}");
        (any::<[u8; 32]>(), name, 0..8u8, time(), time(), any::<Option<u16>>()).prop_map(
            |(secret, name, may, added, expires, port)| TrustedPeer {
                key: Identity::from_secret(secret).public(),
                name: name.and_then(|name| Name::normalized(&name).ok()),
                may: Grant::ALL.into_iter().filter(|g| may >> *g as u8 & 1 == 1).collect(),
                via: Via::Code,
                added,
                host: port.filter(|p| *p > 0).map(|p| format!("[::1]:{p}").parse().unwrap()),
                expires,
            },
        )
    }

    proptest! {
        #[test]
        fn every_book_survives_the_round_trip(peers in proptest::collection::vec(any_peer(), 0..6)) {
            let mut book = TrustBook::default();
            for peer in peers {
                let _ = book.add(peer);
            }
            prop_assert_eq!(TrustBook::parse(&book.to_toml()), Ok(book));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = TrustBook::parse_bytes(&bytes);
        }

        #[test]
        fn no_change_of_a_good_file_panics(at in 0..EXAMPLE.len(), with in "(?s).{0,3}") {
            let mut text = EXAMPLE.to_owned();
            text.replace_range(at..=at, &with);
            let _ = TrustBook::parse(&text);
        }
    }
}
