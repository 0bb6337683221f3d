//! Files that only their owner may touch: checks in the manner of OpenSSH's StrictModes, bounded
//! reads, writes that other processes see whole or not at all.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub(in crate::link) use system::quoted;
use system::{check_directory, check_file};

/// A file or directory that other users could have changed or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnsafePlace {
    /// Neither this user's nor root's.
    #[error(
        "{path} belongs to user {owner}, so it may not be yours; run the command as that user, or: \
         sudo chown {user} {quoted}",
        path = path.display(), quoted = quoted(path)
    )]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
        /// This user's id.
        user: u32,
    },
    /// Group or others may read a secret.
    #[error(
        "{path} can be read by other users (mode {mode:04o}); run: chmod 600 {quoted}",
        path = path.display(), quoted = quoted(path)
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// Group or others may write.
    #[error(
        "{path} can be changed by other users (mode {mode:04o}); run: chmod go-w {quoted}",
        path = path.display(), quoted = quoted(path)
    )]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// On Windows: the owner is neither this user nor the system.
    #[error(
        "{path} belongs to the account {owner}, so it may not be yours; use it as that account, or, \
         as an administrator, run: {command}",
        path = path.display()
    )]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner, by name or identifier.
        owner: String,
        /// What makes this user the owner.
        command: String,
    },
    /// On Windows: the access list lets in somebody else than this user and the system.
    #[error("{path} can be {right} by {account}; run: {command}", path = path.display())]
    Access {
        /// The file or directory.
        path: PathBuf,
        /// The account, by name or identifier.
        account: String,
        /// What it may do.
        right: Right,
        /// What shuts it out.
        command: String,
    },
}

/// What somebody else may do with a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Right {
    /// Read it.
    Read,
    /// Change it, or who may change it.
    Change,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Change => "changed",
        })
    }
}

/// What must hold for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Others may neither read nor write it: secrets.
    Secret,
    /// Others may not write it: trust.
    Unaltered,
    /// Somebody else answers for it: the service manager for its credentials.
    Elsewhere,
}

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Unsafe(UnsafePlace),
    TooLarge,
}

/// Reads at most `max` bytes of a guarded file. Wiped on drop.
pub(super) fn read(path: &Path, guard: Guard, max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let file = File::open(path).map_err(ReadError::Io)?;
    // The checks are about the opened file, which nobody can exchange any more.
    check_file(&file, path, guard).map_err(ReadError::Io)?.map_err(ReadError::Unsafe)?;
    if guard != Guard::Elsewhere {
        check_directories(path).map_err(ReadError::Io)?.map_err(ReadError::Unsafe)?;
    }
    // Room for everything at once: growing would leave copies that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() > max { Err(ReadError::TooLarge) } else { Ok(bytes) }
}

/// The directory of `path`, and of what it links to. Directories further up are not looked at: whoever
/// exchanges this one cannot give the new one to this user or to the system.
fn check_directories(path: &Path) -> io::Result<Result<(), UnsafePlace>> {
    if let Err(error) = check_directory(parent(path))? {
        return Ok(Err(error));
    }
    match fs::canonicalize(path) {
        Ok(target) => check_directory(parent(&target)),
        Err(_) => Ok(Ok(())),
    }
}

/// Makes the directory of `path`, for this user only, if it is missing, and checks it.
pub(super) fn prepare_directory(path: &Path) -> io::Result<Result<(), UnsafePlace>> {
    let directory = parent(path);
    if !directory.try_exists()? {
        system::create_directories(directory)?;
    }
    check_directories(path)
}

/// Writes a file that must not exist yet, for this user only. `false`: it exists, and was left
/// alone.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    match temporary(path, bytes, false)?.persist_noclobber(path) {
        Ok(_) => system::sync_directory(path).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Writes a file in place of the one that may be there, whose mode it keeps where there are modes.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    system::put(temporary(path, bytes, true)?, path)?;
    system::sync_directory(path)
}

/// The directory a file stands in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// A whole, synced file beside `path`.
fn temporary(path: &Path, bytes: &[u8], replaces: bool) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let mut file = system::temporary(builder.prefix(".velin-"), path, replaces)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, &[b'x'; 101]).unwrap();
        assert!(matches!(read(&path, Guard::Secret, 100), Err(ReadError::TooLarge)));
        assert_eq!(read(&path, Guard::Secret, 101).unwrap().len(), 101);
    }
}
