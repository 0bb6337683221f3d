//! The passphrase of an encrypted identity, and where it comes from.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::places::PassphraseSource;
use super::strict::{self, Guard, ReadError, UnsafePlace};

/// Longer ones are a mistaken file.
const MAX_BYTES: usize = 4096;

/// A passphrase. Not empty, never printed, wiped on drop.
pub struct Passphrase(Zeroizing<String>);

/// What a passphrase is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// To open an identity that exists.
    Unlock,
    /// To encrypt a new one: let the user type it twice.
    Create,
}

/// Why there is no usable passphrase.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// Nothing provides one.
    #[error(
        "a passphrase is needed; name a file with it in VELIN_PASSPHRASE_FILE, or give a service \
         the credential velin-passphrase (systemd LoadCredential=)"
    )]
    Missing,
    /// Nothing in it.
    #[error("the passphrase is empty; give it at least one character")]
    Empty,
    /// Asking failed.
    #[error("cannot ask for the passphrase: {0}; name a file with it in VELIN_PASSPHRASE_FILE")]
    Ask(#[source] io::Error),
    /// The file cannot be read.
    #[error("cannot read the passphrase from {path}: {source}; check VELIN_PASSPHRASE_FILE", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("the passphrase is not secret: {0}")]
    Unsafe(UnsafePlace),
    /// Too long, or not UTF-8.
    #[error("{path} holds no passphrase: at most 4096 bytes of UTF-8 text are allowed", path = .0.display())]
    NotText(PathBuf),
}

impl Passphrase {
    /// Takes a text that is not empty.
    pub fn new(text: Zeroizing<String>) -> Result<Self, PassphraseError> {
        if text.is_empty() { Err(PassphraseError::Empty) } else { Ok(Self(text)) }
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The content of a file without its last line end.
    pub(super) fn read(source: &PassphraseSource) -> Result<Self, PassphraseError> {
        let (path, guard): (&Path, _) = match source {
            PassphraseSource::File(path) => (path, Guard::Secret),
            PassphraseSource::Credential(path) => (path, Guard::Elsewhere),
        };
        let bytes = strict::read(path, guard, MAX_BYTES).map_err(|error| match error {
            ReadError::Io(source) => PassphraseError::Read { path: path.to_owned(), source },
            ReadError::Unsafe(place) => PassphraseError::Unsafe(place),
            ReadError::TooLarge => PassphraseError::NotText(path.to_owned()),
        })?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| PassphraseError::NotText(path.to_owned()))?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        Self::new(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}
