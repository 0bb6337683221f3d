//! Unix: owners and mode bits.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Guard, UnsafePlace, parent};

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

pub(super) fn check_directory(directory: &Path) -> io::Result<Result<(), UnsafePlace>> {
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

/// Makes the directory and those above it that are missing, for this user only.
pub(super) fn create_directories(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A file beside `path` under a name that nothing else has (O_EXCL), for this user only, or with
/// the mode of the one that it will replace.
pub(super) fn temporary(
    builder: &tempfile::Builder<'_, '_>,
    path: &Path,
    replaces: bool,
) -> io::Result<tempfile::NamedTempFile> {
    let mode = if replaces { mode_of(path) } else { None };
    let file = builder.tempfile_in(parent(path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode.unwrap_or(0o600)))?;
    Ok(file)
}

/// Puts a file in place of the one at `path`, if there is one.
pub(super) fn put(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn mode_of(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.mode() & 0o777)
}

/// Makes a new name survive a power cut.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
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

#[cfg(test)]
mod tests {
    use super::super::{ReadError, read, replace, write_new};
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
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
}
