//! Whom this device trusts, and with what.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::grants::{Grants, UnknownGrant};
use super::host::{PeerHost, PeerHostError};
use super::key::PublicKey;
use super::name::{Name, NameError};
use super::recipient::RecipientError;
use super::wall_time::{WallTime, WallTimeError};
use super::{recipients_file, trust_toml};

/// How a key came to be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Via {
    /// Both people compared a short string.
    Sas,
    /// A one-time or site code.
    Code,
    /// Written into a file by hand, by `trust add` or by provisioning.
    #[default]
    File,
    /// From a sealed invitation.
    Bundle,
}

impl Via {
    const ALL: [Self; 4] = [Self::Sas, Self::Code, Self::File, Self::Bundle];

    /// The word in trust files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sas => "sas",
            Self::Code => "code",
            Self::File => "file",
            Self::Bundle => "bundle",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|via| via.word() == word)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One trusted key and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedPeer {
    /// Who it is.
    pub key: PublicKey,
    /// The local user's label. A recipients file has none.
    pub name: Option<Name>,
    /// What it may do here.
    pub may: Grants,
    /// How it came to be trusted.
    pub via: Via,
    /// Since when.
    pub added: Option<WallTime>,
    /// Where it is found.
    pub host: Option<PeerHost>,
    /// From when on it is trusted no more.
    pub expires: Option<WallTime>,
}

impl TrustedPeer {
    /// Whether the trust has run out at `now`.
    pub fn is_expired(&self, now: WallTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The name, else the recipient: what to call it in a message.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.key.recipient(), Name::to_string)
    }
}

/// The shape of the file a book was read from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum TrustFormat {
    /// `trust.toml`.
    #[default]
    Toml,
    /// An age recipients file: one `age1…` per line. It holds keys only, and other programs read
    /// it, so it is never rewritten.
    Recipients,
}

/// What the trust file says about a key at a given time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust<'a> {
    /// In the book and in force.
    Trusted(&'a TrustedPeer),
    /// In the book, but run out.
    Expired(&'a TrustedPeer),
    /// Not in the book.
    Unknown,
}

impl Trust<'_> {
    /// What the peer may do: nothing unless it is trusted now.
    pub fn grants(&self) -> Grants {
        match self {
            Self::Trusted(peer) => peer.may,
            Self::Expired(_) | Self::Unknown => Grants::NONE,
        }
    }
}

/// The trusted peers, in file order. No key and no name stands in it twice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrustBook {
    peers: Vec<TrustedPeer>,
    format: TrustFormat,
}

/// Why a text is no trust file. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseTrustError {
    /// More than [`TrustBook::MAX_BYTES`].
    #[error("it is larger than 1 MiB; split off what does not belong into it")]
    TooLarge,
    /// Not UTF-8.
    #[error("line {line}: not UTF-8 text; save the file as UTF-8")]
    NotText {
        /// Where.
        line: usize,
    },
    /// Not TOML, or keys and types that a trust file does not have.
    #[error("line {line}: {message}")]
    Toml {
        /// Where.
        line: usize,
        /// What the parser says, in one printable line.
        message: String,
    },
    /// A version this program does not know.
    #[error("line {line}: version {found} is newer than this program knows (1); update Velin")]
    Version {
        /// Where.
        line: usize,
        /// The version in the file.
        found: i64,
    },
    /// Not a device's recipient.
    #[error("line {line}: {reason}")]
    Recipient {
        /// Where.
        line: usize,
        /// Why.
        reason: RecipientError,
    },
    /// Not a name.
    #[error("line {line}: {reason}")]
    Name {
        /// Where.
        line: usize,
        /// Why.
        reason: NameError,
    },
    /// Not a permission.
    #[error("line {line}: {reason}")]
    Grant {
        /// Where.
        line: usize,
        /// Why.
        reason: UnknownGrant,
    },
    /// Not a way to come to trust.
    #[error("line {line}: via is sas, code, file or bundle")]
    Via {
        /// Where.
        line: usize,
    },
    /// Not a time.
    #[error("line {line}: {reason}")]
    Time {
        /// Where.
        line: usize,
        /// Why.
        reason: WallTimeError,
    },
    /// Not a host.
    #[error("line {line}: {reason}")]
    Host {
        /// Where.
        line: usize,
        /// Why.
        reason: PeerHostError,
    },
    /// A key that already stands further up.
    #[error("line {line}: the same key as in line {first}; remove one of them")]
    DuplicateKey {
        /// Where.
        line: usize,
        /// Where it stands first.
        first: usize,
    },
    /// A name that already stands further up.
    #[error("line {line}: the name \"{name}\" already stands in line {first}; rename one of them")]
    DuplicateName {
        /// Where.
        line: usize,
        /// Where it stands first.
        first: usize,
        /// The name.
        name: Name,
    },
}

/// Why a peer cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddPeerError {
    /// The key is in the book.
    #[error("this device is already trusted as \"{label}\"; remove that entry first to change it")]
    DuplicateKey {
        /// The entry's name, or its recipient.
        label: String,
    },
    /// The name belongs to another key.
    #[error(
        "the name \"{name}\" belongs to another device ({recipient}); choose another name, or \
         remove that entry first if the device has a new key"
    )]
    DuplicateName {
        /// The name.
        name: Name,
        /// Whose it is.
        recipient: String,
    },
}

impl TrustBook {
    /// The largest trust file that is read.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Reads a `trust.toml` or an age recipients file, whichever `text` is.
    pub fn parse(text: &str) -> Result<Self, ParseTrustError> {
        match TrustFormat::detect(text) {
            TrustFormat::Toml => Self::parse_toml(text),
            TrustFormat::Recipients => Self::parse_recipients(text),
        }
    }

    /// As [`TrustBook::parse`], from the bytes of a file.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, ParseTrustError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(ParseTrustError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|error| ParseTrustError::NotText {
            line: 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count(),
        })?;
        Self::parse(text)
    }

    /// Reads a `trust.toml`.
    pub fn parse_toml(text: &str) -> Result<Self, ParseTrustError> {
        let peers = trust_toml::parse(bounded(text)?)?;
        Ok(Self { peers, format: TrustFormat::Toml })
    }

    /// Reads an age recipients file. Every key in it gets [`Grants::PLAY_TO_ME`].
    pub fn parse_recipients(text: &str) -> Result<Self, ParseTrustError> {
        let peers = recipients_file::parse(bounded(text)?)?;
        Ok(Self { peers, format: TrustFormat::Recipients })
    }

    /// The `trust.toml` that holds this book. Comments of a file it was read from are not kept.
    pub fn to_toml(&self) -> String {
        trust_toml::write(&self.peers)
    }

    /// What it was read from.
    pub fn format(&self) -> TrustFormat {
        self.format
    }

    /// All entries, expired ones too, in file order.
    pub fn peers(&self) -> &[TrustedPeer] {
        &self.peers
    }

    /// What the book says about `key` at `now`.
    pub fn look_up(&self, key: &PublicKey, now: WallTime) -> Trust<'_> {
        match self.entry(key) {
            None => Trust::Unknown,
            Some(peer) if peer.is_expired(now) => Trust::Expired(peer),
            Some(peer) => Trust::Trusted(peer),
        }
    }

    /// The entry of `key`, expired or not.
    pub fn entry(&self, key: &PublicKey) -> Option<&TrustedPeer> {
        self.peers.iter().find(|peer| peer.key == *key)
    }

    /// The entry called `name`, expired or not.
    pub fn by_name(&self, name: &str) -> Option<&TrustedPeer> {
        self.peers.iter().find(|peer| peer.name.as_ref().is_some_and(|n| n.as_str() == name))
    }

    /// Adds a peer whose key and name are new.
    pub fn add(&mut self, peer: TrustedPeer) -> Result<(), AddPeerError> {
        if let Some(known) = self.entry(&peer.key) {
            return Err(AddPeerError::DuplicateKey { label: known.label() });
        }
        self.refuse_taken_name(&peer)?;
        self.peers.push(peer);
        Ok(())
    }

    /// Replaces the entry of the same key and returns the old one, or adds the peer.
    pub fn update(&mut self, peer: TrustedPeer) -> Result<Option<TrustedPeer>, AddPeerError> {
        self.refuse_taken_name(&peer)?;
        if let Some(known) = self.peers.iter_mut().find(|known| known.key == peer.key) {
            return Ok(Some(std::mem::replace(known, peer)));
        }
        self.peers.push(peer);
        Ok(None)
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &PublicKey) -> Option<TrustedPeer> {
        let at = self.peers.iter().position(|peer| peer.key == *key)?;
        Some(self.peers.remove(at))
    }

    fn refuse_taken_name(&self, peer: &TrustedPeer) -> Result<(), AddPeerError> {
        let Some(name) = &peer.name else { return Ok(()) };
        match self.by_name(name.as_str()) {
            Some(known) if known.key != peer.key => Err(AddPeerError::DuplicateName {
                name: name.clone(),
                recipient: known.key.recipient(),
            }),
            _ => Ok(()),
        }
    }
}

impl FromStr for TrustBook {
    type Err = ParseTrustError;

    fn from_str(text: &str) -> Result<Self, ParseTrustError> {
        Self::parse(text)
    }
}

impl TrustFormat {
    /// The first line that is neither blank nor comment decides: `[table]` and `key = value` are
    /// TOML, anything else is meant to be a recipient.
    fn detect(text: &str) -> Self {
        let first = text
            .trim_start_matches('\u{feff}')
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'));
        let Some(line) = first else { return Self::Toml };
        let is_key = |key: &str| !key.trim().contains(char::is_whitespace);
        if line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| is_key(key)) {
            Self::Toml
        } else {
            Self::Recipients
        }
    }
}

/// Refuses duplicates while a file is read, and remembers where each entry stood.
#[derive(Default)]
pub(super) struct Collector {
    peers: Vec<TrustedPeer>,
    keys: HashMap<PublicKey, usize>,
    names: HashMap<Name, usize>,
}

impl Collector {
    /// Takes the next entry, whose key and name stand in these lines.
    pub(super) fn push(
        &mut self,
        peer: TrustedPeer,
        key_line: usize,
        name_line: usize,
    ) -> Result<(), ParseTrustError> {
        if let Some(first) = self.keys.insert(peer.key, key_line) {
            return Err(ParseTrustError::DuplicateKey { line: key_line, first });
        }
        if let Some(name) = &peer.name
            && let Some(first) = self.names.insert(name.clone(), name_line)
        {
            let name = name.clone();
            return Err(ParseTrustError::DuplicateName { line: name_line, first, name });
        }
        self.peers.push(peer);
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<TrustedPeer> {
        self.peers
    }
}

fn bounded(text: &str) -> Result<&str, ParseTrustError> {
    if text.len() > TrustBook::MAX_BYTES {
        return Err(ParseTrustError::TooLarge);
    }
    Ok(text.trim_start_matches('\u{feff}'))
}

#[cfg(test)]
mod tests {
    use super::super::grants::Grant;
    use super::super::key::Identity;
    use super::*;

    fn peer(seed: u8, name: &str) -> TrustedPeer {
        TrustedPeer {
            key: Identity::from_secret([seed; 32]).public(),
            name: (!name.is_empty()).then(|| name.parse().unwrap()),
            may: Grants::PLAY_TO_ME,
            via: Via::File,
            added: None,
            host: None,
            expires: None,
        }
    }

    #[test]
    fn an_unknown_key_may_do_nothing() {
        let mut book = TrustBook::default();
        book.add(peer(1, "desk")).unwrap();
        let stranger = Identity::from_secret([2; 32]).public();
        assert_eq!(book.look_up(&stranger, WallTime::EPOCH), Trust::Unknown);
        assert!(book.look_up(&stranger, WallTime::EPOCH).grants().is_empty());
        let known = book.look_up(&peer(1, "").key, WallTime::EPOCH);
        assert!(known.grants().contains(Grant::PlayToMe));
        assert!(!known.grants().contains(Grant::CaptureFromMe));
    }

    #[test]
    fn trust_ends_at_the_second_it_expires() {
        let mut book = TrustBook::default();
        let guest = TrustedPeer { expires: Some(WallTime::from_unix(100)), ..peer(1, "guest") };
        book.add(guest.clone()).unwrap();
        assert_eq!(book.look_up(&guest.key, WallTime::from_unix(99)), Trust::Trusted(&guest));
        let late = book.look_up(&guest.key, WallTime::from_unix(100));
        assert_eq!(late, Trust::Expired(&guest));
        assert!(late.grants().is_empty());
        assert_eq!(book.by_name("guest"), Some(&guest));
    }

    #[test]
    fn a_known_name_with_a_new_key_is_never_merged() {
        let mut book = TrustBook::default();
        book.add(peer(1, "desk")).unwrap();
        let error = book.add(peer(2, "desk")).unwrap_err();
        assert!(matches!(error, AddPeerError::DuplicateName { .. }), "{error}");
        assert!(matches!(book.update(peer(2, "desk")), Err(AddPeerError::DuplicateName { .. })));
        assert!(matches!(book.add(peer(1, "other")), Err(AddPeerError::DuplicateKey { .. })));
        assert_eq!(book.peers(), [peer(1, "desk")]);
        assert_eq!(book.update(peer(1, "other")), Ok(Some(peer(1, "desk"))));
        assert_eq!(book.remove(&peer(1, "").key), Some(peer(1, "other")));
        assert!(book.peers().is_empty());
    }

    #[test]
    fn the_kind_of_file_is_recognised() {
        let recipient = peer(1, "").key.recipient();
        for (text, format) in [
            (String::new(), TrustFormat::Toml),
            ("# nothing yet\n".into(), TrustFormat::Toml),
            ("\u{feff}version = 1\n".into(), TrustFormat::Toml),
            ("# mine\nversion=1".into(), TrustFormat::Toml),
            (format!("# mine\r\n\r\n{recipient}\r\n"), TrustFormat::Recipients),
            (format!("\u{feff}{recipient}"), TrustFormat::Recipients),
        ] {
            assert_eq!(TrustBook::parse(&text).unwrap().format(), format, "{text:?}");
        }
        for text in ["aeg1typo", "ssh-ed25519 AAAA==", "AGE-SECRET-KEY-1QQQQ"] {
            let error = TrustBook::parse(text).unwrap_err();
            assert!(matches!(error, ParseTrustError::Recipient { line: 1, .. }), "{error:?}");
        }
    }

    #[test]
    fn oversized_and_binary_files_are_refused_before_parsing() {
        let huge = vec![b'#'; TrustBook::MAX_BYTES + 1];
        assert_eq!(TrustBook::parse_bytes(&huge), Err(ParseTrustError::TooLarge));
        let text = String::from_utf8(huge).unwrap();
        assert_eq!(TrustBook::parse(&text), Err(ParseTrustError::TooLarge));
        assert_eq!(
            TrustBook::parse_bytes(b"# ok\n\xff\xfe"),
            Err(ParseTrustError::NotText { line: 2 })
        );
    }
}
