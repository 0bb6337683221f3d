//! The device's identity: a standard age identity file, plain or encrypted to a passphrase.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use velin_core::identity::{Identity, IdentityTextError};
use zeroize::Zeroizing;

use super::passphrase::{Passphrase, PassphraseError, Purpose};
use super::places::{NoHome, Places};
use super::sealed::{self, Sealed, SealedError, WORK_FACTOR};
use super::strict::{self, Guard, ReadError, UnsafePlace};

/// The largest identity file that is read, before and after decrypting.
const MAX_BYTES: usize = 64 << 10;

/// Reads the identity from `path`, or from where [`Places`] says.
pub fn load(path: Option<&Path>) -> Result<Identity, IdentityFileError> {
    IdentityFile::new(path).load().map(|loaded| loaded.identity)
}

/// As [`load`], but makes the identity on first use. Processes that race end with the same one.
pub fn load_or_create(path: Option<&Path>) -> Result<Identity, IdentityFileError> {
    IdentityFile::new(path).load_or_create().map(|loaded| loaded.identity)
}

/// An identity, and where it is kept.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadedIdentity {
    /// The key.
    pub identity: Identity,
    /// Its file.
    pub path: PathBuf,
    /// Whether it was made just now.
    pub created: bool,
}

/// Asks the user for a passphrase.
pub type Ask<'a> = &'a mut dyn FnMut(Purpose, &Path) -> io::Result<Zeroizing<String>>;

/// How to get at the identity.
pub struct IdentityFile<'a> {
    explicit: Option<&'a Path>,
    places: Places,
    ask: Option<Ask<'a>>,
    work_factor: u8,
}

/// Why there is no identity.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityFileError {
    /// No configuration directory.
    #[error(transparent)]
    NoHome(#[from] NoHome),
    /// No such file.
    #[error(
        "there is no device identity at {path}; `velin-pipe identity show` makes one",
        path = .0.display()
    )]
    Missing(PathBuf),
    /// Two files, and no way to know which one peers trust.
    #[error(
        "there are two device identities, {plain} and {sealed}; remove one: the plain one after \
         encrypting it, or the other if it is stale",
        plain = plain.display(), sealed = sealed.display()
    )]
    Two {
        /// `identity.txt`.
        plain: PathBuf,
        /// `identity.age`.
        sealed: PathBuf,
    },
    /// The file or its directory cannot be read.
    #[error(
        "cannot read the device identity {path}: {source}; make it readable for this user, or set \
         the property identity-file (--identity-file)",
        path = path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be made.
    #[error(
        "cannot make a device identity at {path}: {source}; make the directory writable, or set \
         the properties identity-file and trust-file or VELIN_CONFIG_DIR to a place that is",
        path = path.display()
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could have read or changed it.
    #[error("the device identity is not safe: {0}")]
    Unsafe(#[source] UnsafePlace),
    /// Larger than any identity, or not text.
    #[error(
        "{path} is no identity file: it is larger than 64 KiB or not text; check the path",
        path = .0.display()
    )]
    NotText(PathBuf),
    /// Its lines are not those of an identity.
    #[error("{path} is no usable identity file: {reason}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: IdentityTextError,
    },
    /// It is encrypted, and there is no passphrase.
    #[error("the device identity {path} is encrypted: {reason}", path = path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: PassphraseError,
    },
    /// It is encrypted and does not open.
    #[error("cannot open the encrypted device identity {path}: {reason}", path = path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: SealedError,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random numbers for a device identity ({0}); try again later")]
    Random(String),
}

impl<'a> IdentityFile<'a> {
    /// At `path`, or where the environment says.
    pub fn new(path: Option<&'a Path>) -> Self {
        Self { explicit: path, places: Places::from_env(), ask: None, work_factor: WORK_FACTOR }
    }

    /// Uses these places in place of the environment's.
    #[must_use]
    pub fn with_places(mut self, places: Places) -> Self {
        self.places = places;
        self
    }

    /// Asks for a passphrase when no file provides it.
    #[must_use]
    pub fn with_ask(mut self, ask: Ask<'a>) -> Self {
        self.ask = Some(ask);
        self
    }

    /// Reads it.
    pub fn load(mut self) -> Result<LoadedIdentity, IdentityFileError> {
        match self.locate()? {
            Located::Present { path, guard } => self.read(path, guard),
            Located::Absent { path } => Err(IdentityFileError::Missing(path)),
        }
    }

    /// Reads it, or makes it. It is made encrypted if its name ends in `.age`, or if a file with a
    /// passphrase is configured and no path is given.
    pub fn load_or_create(mut self) -> Result<LoadedIdentity, IdentityFileError> {
        match self.locate()? {
            Located::Present { path, guard } => self.read(path, guard),
            Located::Absent { path } => self.create(path),
        }
    }

    fn locate(&self) -> Result<Located, IdentityFileError> {
        let exists = |path: &Path| {
            path.try_exists()
                .map_err(|source| IdentityFileError::Read { path: path.to_owned(), source })
        };
        if let Some(path) = self.explicit.map(Path::to_owned) {
            return Ok(match exists(&path)? {
                true => Located::Present { path, guard: Guard::Secret },
                false => Located::Absent { path },
            });
        }
        if let Some(path) = self.places.credential_identity() {
            return Ok(Located::Present { path, guard: Guard::Elsewhere });
        }
        let directory = self.places.config_dir()?;
        let (plain, sealed) = (directory.join("identity.txt"), directory.join("identity.age"));
        match (exists(&plain)?, exists(&sealed)?) {
            (true, true) => Err(IdentityFileError::Two { plain, sealed }),
            (true, false) => Ok(Located::Present { path: plain, guard: Guard::Secret }),
            (false, true) => Ok(Located::Present { path: sealed, guard: Guard::Secret }),
            (false, false) => {
                let encrypt = self.places.passphrase_source().is_some();
                Ok(Located::Absent { path: if encrypt { sealed } else { plain } })
            }
        }
    }

    fn read(&mut self, path: PathBuf, guard: Guard) -> Result<LoadedIdentity, IdentityFileError> {
        let bytes = match strict::read(&path, guard, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(ReadError::Io(source)) => return Err(IdentityFileError::Read { path, source }),
            Err(ReadError::Unsafe(place)) => return Err(IdentityFileError::Unsafe(place)),
            Err(ReadError::TooLarge) => return Err(IdentityFileError::NotText(path)),
        };
        let plain = if sealed::is_sealed(&bytes) {
            let failed = |reason| IdentityFileError::Sealed { path: path.clone(), reason };
            let file = Sealed::parse(&bytes).map_err(failed)?;
            let passphrase = self.passphrase(Purpose::Unlock, &path)?;
            file.open(&passphrase, MAX_BYTES).map_err(failed)?
        } else {
            bytes
        };
        let Ok(text) = std::str::from_utf8(&plain) else {
            return Err(IdentityFileError::NotText(path));
        };
        match Identity::from_file_text(text) {
            Ok(identity) => Ok(LoadedIdentity { identity, path, created: false }),
            Err(reason) => Err(IdentityFileError::Content { path, reason }),
        }
    }

    fn create(&mut self, path: PathBuf) -> Result<LoadedIdentity, IdentityFileError> {
        let failed = |source| IdentityFileError::Create { path: path.clone(), source };
        strict::prepare_directory(&path).map_err(failed)?.map_err(IdentityFileError::Unsafe)?;
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(|e| IdentityFileError::Random(e.to_string()))?;
        let identity = Identity::from_secret(*secret);
        let mut bytes = file_text(&identity);
        if path.extension().is_some_and(|extension| extension == "age") {
            let passphrase = self.passphrase(Purpose::Create, &path)?;
            bytes = sealed::seal(&bytes, &passphrase, self.work_factor)
                .map(Zeroizing::new)
                .map_err(|reason| IdentityFileError::Sealed { path: path.clone(), reason })?;
        }
        if strict::write_new(&path, &bytes).map_err(failed)? {
            return Ok(LoadedIdentity { identity, path, created: true });
        }
        // Another process was faster: its identity is the device's.
        self.read(path, Guard::Secret)
    }

    fn passphrase(
        &mut self,
        purpose: Purpose,
        path: &Path,
    ) -> Result<Passphrase, IdentityFileError> {
        let passphrase = match (self.places.passphrase_source(), &mut self.ask) {
            (Some(source), _) => Passphrase::read(&source),
            (None, Some(ask)) => {
                ask(purpose, path).map_err(PassphraseError::Ask).and_then(Passphrase::new)
            }
            (None, None) => Err(PassphraseError::Missing),
        };
        passphrase.map_err(|reason| IdentityFileError::Passphrase { path: path.to_owned(), reason })
    }
}

enum Located {
    Present { path: PathBuf, guard: Guard },
    Absent { path: PathBuf },
}

/// The file as `age-keygen` lays it out.
fn file_text(identity: &Identity) -> Zeroizing<Vec<u8>> {
    let head = format!(
        "# The identity of this Velin device. Keep it secret, and keep a backup.\n\
         # public key: {}\n",
        identity.public().recipient()
    );
    let secret = identity.to_secret_text();
    let mut text = Zeroizing::new(Vec::with_capacity(head.len() + secret.len() + 1));
    text.extend_from_slice(head.as_bytes());
    text.extend_from_slice(secret.as_bytes());
    text.push(b'\n');
    text
}

#[cfg(test)]
#[path = "identity_file_tests.rs"]
mod tests;
