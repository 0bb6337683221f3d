//! The file of trusted peers: `trust.toml`, or an age recipients file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use velin_core::identity::{ParseTrustError, TrustBook, TrustFormat};

use super::places::{NoHome, Places};
use super::strict::{self, Guard, ReadError, UnsafePlace};

/// Why the trusted peers cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrustFileError {
    /// No configuration directory.
    #[error(transparent)]
    NoHome(#[from] NoHome),
    /// A file that was named is not there.
    #[error(
        "there is no trust file {path}; check the property trust-file (--trust-file), or make the \
         file with: velin-pipe trust add age1… --name NAME --trust-file {quoted}",
        path = .0.display(), quoted = strict::quoted(.0)
    )]
    Missing(PathBuf),
    /// It cannot be read.
    #[error(
        "cannot read the trust file {path}: {source}; make it readable for this user, or set the \
         property trust-file (--trust-file)",
        path = path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "cannot write the trust file {path}: {source}; make its directory writable, or set the \
         property trust-file (--trust-file) or VELIN_CONFIG_DIR",
        path = path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could have changed it.
    #[error("the trust file is not safe: {0}")]
    Unsafe(#[source] UnsafePlace),
    /// Its content is wrong.
    #[error("{path}, {reason}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: ParseTrustError,
    },
    /// A recipients file belongs to other programs too and has no place for names.
    #[error(
        "{path} is an age recipients file, which is changed by hand: one age1… per line; for names \
         and permissions use a trust.toml (--trust-file, or leave it out)",
        path = .0.display()
    )]
    Recipients(PathBuf),
    /// It would become too large to be read again.
    #[error("{path} would become larger than 1 MiB; remove peers first", path = .0.display())]
    Full(PathBuf),
}

/// Reads the trusted peers from `path`, which must exist, or from the default place, where no file
/// means that nobody is trusted.
pub fn load(path: Option<&Path>) -> Result<TrustBook, TrustFileError> {
    load_from(&Places::from_env(), path)
}

/// As [`load`], with other places than the environment's.
pub fn load_from(places: &Places, path: Option<&Path>) -> Result<TrustBook, TrustFileError> {
    match path {
        Some(path) => read(path)?.ok_or_else(|| TrustFileError::Missing(path.to_owned())),
        None => Ok(read(&places.trust_file()?)?.unwrap_or_default()),
    }
}

/// Reads, changes and writes the trusted peers while no other process does. The file is made if it
/// is missing. Nothing is written when `change` fails.
pub fn update<R, E: From<TrustFileError>>(
    path: Option<&Path>,
    change: impl FnOnce(&mut TrustBook) -> Result<R, E>,
) -> Result<R, E> {
    update_in(&Places::from_env(), path, change)
}

/// As [`update`], with other places than the environment's.
pub fn update_in<R, E: From<TrustFileError>>(
    places: &Places,
    path: Option<&Path>,
    change: impl FnOnce(&mut TrustBook) -> Result<R, E>,
) -> Result<R, E> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => places.trust_file().map_err(TrustFileError::from)?,
    };
    // A link stays a link: the file behind it is replaced.
    let path = fs::canonicalize(&path).unwrap_or(path);
    let failed = |source| TrustFileError::Write { path: path.clone(), source };
    strict::prepare_directory(&path).map_err(failed)?.map_err(TrustFileError::Unsafe)?;
    let _lock = lock(&path).map_err(failed)?;
    let mut book = read(&path)?.unwrap_or_default();
    if book.format() == TrustFormat::Recipients {
        return Err(TrustFileError::Recipients(path).into());
    }
    let result = change(&mut book)?;
    let text = book.to_toml();
    if text.len() > TrustBook::MAX_BYTES {
        return Err(TrustFileError::Full(path).into());
    }
    strict::replace(&path, text.as_bytes()).map_err(failed)?;
    Ok(result)
}

fn read(path: &Path) -> Result<Option<TrustBook>, TrustFileError> {
    let bytes = match strict::read(path, Guard::Unaltered, TrustBook::MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(ReadError::Io(source)) => {
            return Err(TrustFileError::Read { path: path.to_owned(), source });
        }
        Err(ReadError::Unsafe(place)) => return Err(TrustFileError::Unsafe(place)),
        Err(ReadError::TooLarge) => {
            let reason = ParseTrustError::TooLarge;
            return Err(TrustFileError::Content { path: path.to_owned(), reason });
        }
    };
    TrustBook::parse_bytes(&bytes)
        .map(Some)
        .map_err(|reason| TrustFileError::Content { path: path.to_owned(), reason })
}

/// Holds an advisory lock until it is dropped. It is on a file of its own, because the trust file
/// is another one after each change.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path.with_file_name(name))?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
#[path = "trust_file_tests.rs"]
mod tests;
