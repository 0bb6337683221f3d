//! Files that only their owner may touch: checks in the manner of OpenSSH's StrictModes, bounded
//! reads, writes that other processes see whole or not at all.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

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

/// Makes the directory of `path`, mode 0700, if it is missing, and checks it.
pub(super) fn prepare_directory(path: &Path) -> io::Result<Result<(), UnsafePlace>> {
    let directory = parent(path);
    if !directory.try_exists()? {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;
    }
    check_directories(path)
}

/// Writes a file that must not exist yet, mode 0600. `false`: it exists, and was left alone.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    match temporary(path, bytes, 0o600)?.persist_noclobber(path) {
        Ok(_) => sync_directory(path).map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Writes a file in place of the one that may be there, whose mode it keeps.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = mode_of(path).unwrap_or(0o600);
    temporary(path, bytes, mode)?.persist(path).map_err(|error| error.error)?;
    sync_directory(path)
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The directory a file stands in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// A whole, synced file beside `path` under a name that nothing else has (O_EXCL).
fn temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".velin-").tempfile_in(parent(path))?;
    set_mode(file.as_file(), mode)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(unix)]
mod system {
    use std::fs::{self, Metadata, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    const STICKY: u32 = 0o1000;

    pub(super) fn check_file(
        file: &File,
        path: &Path,
        guard: Guard,
    ) -> io::Result<Result<(), UnsafePlace>> {
        let metadata = file.metadata()?;
        // A pipe is nobody else's: it was handed over open, or its name has just been checked.
        if guard == Guard::Elsewhere || !metadata.is_file() {
            return Ok(Ok(()));
        }
        let mode = metadata.mode() & 0o7777;
        Ok(check_owner(&metadata, path).and_then(|()| {
            let path = path.to_owned();
            match guard {
                Guard::Secret if mode & 0o077 != 0 => Err(UnsafePlace::Readable { path, mode }),
                _ if mode & 0o022 != 0 => Err(UnsafePlace::Writable { path, mode }),
                _ => Ok(()),
            }
        }))
    }

    /// The directory of `path`, and of what it links to. Directories further up are not looked
    /// at: whoever exchanges this one cannot give the new one to this user or to root.
    pub(super) fn check_directories(path: &Path) -> io::Result<Result<(), UnsafePlace>> {
        if let Err(error) = check_directory(parent(path))? {
            return Ok(Err(error));
        }
        match fs::canonicalize(path) {
            Ok(target) => check_directory(parent(&target)),
            Err(_) => Ok(Ok(())),
        }
    }

    fn check_directory(directory: &Path) -> io::Result<Result<(), UnsafePlace>> {
        let metadata = fs::metadata(directory)?;
        let mode = metadata.mode() & 0o7777;
        Ok(check_owner(&metadata, directory).and_then(|()| {
            // In a sticky directory (/tmp) others can add files but not touch this one.
            if mode & 0o022 != 0 && mode & STICKY == 0 {
                return Err(UnsafePlace::Writable { path: directory.to_owned(), mode });
            }
            Ok(())
        }))
    }

    fn check_owner(metadata: &Metadata, path: &Path) -> Result<(), UnsafePlace> {
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner == 0 || owner == user {
            return Ok(());
        }
        Err(UnsafePlace::Owner { path: path.to_owned(), owner, user })
    }

    pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))
    }

    pub(super) fn mode_of(path: &Path) -> Option<u32> {
        Some(fs::metadata(path).ok()?.mode() & 0o777)
    }

    /// Makes a new name survive a power cut.
    pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
        File::open(parent(path))?.sync_all()
    }
}

/// Windows has access lists instead of modes: a user's `%APPDATA%` is closed to other users by
/// inheritance, and files made there inherit that. Checking the lists of files elsewhere follows.
#[cfg(not(unix))]
mod system {
    use super::*;

    pub(super) fn check_file(_: &File, _: &Path, _: Guard) -> io::Result<Result<(), UnsafePlace>> {
        Ok(Ok(()))
    }

    pub(super) fn check_directories(_: &Path) -> io::Result<Result<(), UnsafePlace>> {
        Ok(Ok(()))
    }

    pub(super) fn set_mode(_: &File, _: u32) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn mode_of(_: &Path) -> Option<u32> {
        None
    }

    pub(super) fn sync_directory(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

use system::{check_directories, check_file, mode_of, set_mode, sync_directory};

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path, guard: Guard) -> String {
        match read(path, guard, 100) {
            Err(ReadError::Unsafe(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn modes_that_let_others_in_are_refused_with_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's here");
        fs::write(&path, "x").unwrap();
        for (mode, guard, command) in [
            (0o640, Guard::Secret, "chmod 600 '"),
            (0o604, Guard::Secret, "chmod 600 '"),
            (0o666, Guard::Secret, "chmod 600 '"),
            (0o666, Guard::Unaltered, "chmod go-w '"),
            (0o620, Guard::Unaltered, "chmod go-w '"),
        ] {
            chmod(&path, mode);
            let text = refusal(&path, guard);
            assert!(text.contains(command) && text.contains(r"it'\''s here'"), "{mode:o}: {text}");
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
        }
        chmod(&path, 0o644);
        assert!(read(&path, Guard::Unaltered, 100).is_ok());
        chmod(&path, 0o440);
        assert!(read(&path, Guard::Elsewhere, 100).is_ok());
        chmod(&path, 0o600);
        assert!(read(&path, Guard::Secret, 100).is_ok());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_unless_sticky() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        chmod(&path, 0o600);
        chmod(dir.path(), 0o777);
        assert!(refusal(&path, Guard::Unaltered).contains("chmod go-w"));
        chmod(dir.path(), 0o1777);
        assert!(read(&path, Guard::Unaltered, 100).is_ok());
        // Through a link the target's directory counts as well.
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::rename(&path, open.join("file")).unwrap();
        chmod(&open, 0o777);
        std::os::unix::fs::symlink(open.join("file"), &path).unwrap();
        assert!(refusal(&path, Guard::Unaltered).contains("open"));
    }

    #[test]
    fn somebody_elses_file_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give a file away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        chmod(&path, 0o600);
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(refusal(&path, Guard::Secret).contains("belongs to user 12345"));
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_new_one_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"one").unwrap();
        assert_eq!(mode_of(&path), Some(0o600));
        chmod(&path, 0o644);
        replace(&path, b"two").unwrap();
        assert_eq!(mode_of(&path), Some(0o644));
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(!write_new(&path, b"three").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn reading_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, &[b'x'; 101]).unwrap();
        assert!(matches!(read(&path, Guard::Secret, 100), Err(ReadError::TooLarge)));
        assert_eq!(read(&path, Guard::Secret, 101).unwrap().len(), 101);
    }
}
