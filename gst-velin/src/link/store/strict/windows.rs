//! Windows: owners and access lists. The system's own accounts (SYSTEM, the administrators) can get
//! at every file whatever its list says, as root can on Unix, so they count as this user does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use windows_sys::Win32::Foundation::{GENERIC_ALL, GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_APPEND_DATA, FILE_DELETE_CHILD, FILE_FLAG_BACKUP_SEMANTICS, FILE_READ_DATA,
    FILE_WRITE_DATA, READ_CONTROL, WRITE_DAC, WRITE_OWNER,
};

use super::super::super::sys::access::{self, Access};
use super::{Guard, Right, UnsafePlace, parent};

const SYSTEM: &str = "S-1-5-18";
const ADMINISTRATORS: &str = "S-1-5-32-544";
const TRUSTED_INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
/// Stands for whoever owns a file; the owner is looked at.
const OWNER_RIGHTS: &str = "S-1-3-4";
/// Stands for nobody on the object itself.
const CREATOR_OWNER: &str = "S-1-3-0";
/// Sandboxed programs: these let in programs of accounts that are let in, and nobody else.
const SANDBOXES: [&str; 2] = ["S-1-15-2-", "S-1-15-3-"];

/// Whoever has one of these can get at the content, or change who can.
const READS: u32 = FILE_READ_DATA | GENERIC_READ | GENERIC_ALL | WRITE_DAC | WRITE_OWNER;
const CHANGES: u32 = FILE_WRITE_DATA
    | FILE_APPEND_DATA
    | DELETE
    | GENERIC_WRITE
    | GENERIC_ALL
    | WRITE_DAC
    | WRITE_OWNER;
/// Of a directory. Who can only add files to it cannot touch those that are there.
const EXCHANGES: u32 =
    FILE_DELETE_CHILD | DELETE | GENERIC_WRITE | GENERIC_ALL | WRITE_DAC | WRITE_OWNER;

pub(super) fn check_file(
    file: &File,
    path: &Path,
    guard: Guard,
) -> io::Result<Result<(), UnsafePlace>> {
    if guard == Guard::Elsewhere || !file.metadata()?.is_file() {
        return Ok(Ok(()));
    }
    let user = access::user()?;
    let limits: &[_] = match guard {
        Guard::Secret => &[(CHANGES, Right::Change), (READS, Right::Read)],
        _ => &[(CHANGES, Right::Change)],
    };
    Ok(judge(&access::of(file)?, path, &user, "F", limits))
}

/// Makes the directory and those above it that are missing, for this user only.
pub(super) fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_directories(above)?;
    }
    match access::create_directory(directory) {
        // Somebody was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        result => result,
    }
}

/// A file beside `path` under a name that nothing else has, for this user only.
pub(super) fn temporary(
    builder: &tempfile::Builder<'_, '_>,
    path: &Path,
    _replaces: bool,
) -> io::Result<tempfile::NamedTempFile> {
    builder.make_in(parent(path), access::create_file)
}

/// Puts a file in place of the one at `path`, even while other processes read that.
pub(super) fn put(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    fs::rename(file.into_temp_path(), path)
}

/// Windows has no way to ask for this, nor a need: the file system keeps a journal of names.
pub(super) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A path as the command prompt and PowerShell take it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || r"\/._-:".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("\"{text}\"") }
}

pub(super) fn check_directory(directory: &Path) -> io::Result<Result<(), UnsafePlace>> {
    let opened = OpenOptions::new()
        .access_mode(READ_CONTROL)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(directory)?;
    let user = access::user()?;
    let limits = [(EXCHANGES, Right::Change)];
    Ok(judge(&access::of(&opened)?, directory, &user, "(OI)(CI)F", &limits))
}

/// Whether `access` keeps everybody but `user` and the system from having the rights of `limits`.
/// `full` is what `icacls` calls all rights.
fn judge(
    access: &Access,
    path: &Path,
    user: &str,
    full: &str,
    limits: &[(u32, Right)],
) -> Result<(), UnsafePlace> {
    let owns = [user, SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER];
    if !owns.contains(&access.owner.as_str()) {
        return Err(UnsafePlace::ForeignOwner {
            path: path.to_owned(),
            owner: called(&access.owner),
            command: format!("icacls {} /setowner \"*{user}\"", quoted(path)),
        });
    }
    let refuse = |account: &str, right| {
        let grants: String = [user, SYSTEM, ADMINISTRATORS]
            .iter()
            .map(|account| format!(" \"*{account}:{full}\""))
            .collect();
        Err(UnsafePlace::Access {
            path: path.to_owned(),
            account: called(account),
            right,
            command: format!(
                "icacls {} /inheritance:r /remove:g \"*{account}\" /grant:r{grants}",
                quoted(path)
            ),
        })
    };
    let Some(allowed) = &access.allowed else {
        return refuse(EVERYONE, limits[0].1);
    };
    let ours = |account: &str| {
        owns.contains(&account)
            || [OWNER_RIGHTS, CREATOR_OWNER].contains(&account)
            || SANDBOXES.iter().any(|prefix| account.starts_with(prefix))
    };
    for entry in allowed.iter().filter(|entry| !ours(&entry.account)) {
        if let Some((_, right)) = limits.iter().find(|(rights, _)| entry.rights & rights != 0) {
            return refuse(&entry.account, *right);
        }
    }
    Ok(())
}

const EVERYONE: &str = "S-1-1-0";

/// The accounts that are most likely to be met, by name; the others by identifier.
fn called(account: &str) -> String {
    let name = match account {
        EVERYONE => "Everyone",
        "S-1-5-7" => "Anonymous",
        "S-1-5-11" => "Authenticated Users",
        "S-1-5-32-545" => "Users",
        "S-1-5-32-546" => "Guests",
        _ => return account.to_owned(),
    };
    format!("{name} ({account})")
}

#[cfg(test)]
mod tests {
    use super::super::{ReadError, read, replace, write_new};
    use super::access::Allowed;
    use super::*;

    const ME: &str = "S-1-5-21-1-2-3-1001";
    const OTHER: &str = "S-1-5-21-1-2-3-1002";

    fn access(owner: &str, allowed: &[(&str, u32)]) -> Access {
        let entry = |&(account, rights): &(&str, u32)| Allowed { account: account.into(), rights };
        Access { owner: owner.into(), allowed: Some(allowed.iter().map(entry).collect()) }
    }

    fn judged(access: &Access, guard: Guard) -> Result<(), String> {
        let limits: &[_] = match guard {
            Guard::Secret => &[(CHANGES, Right::Change), (READS, Right::Read)],
            _ => &[(CHANGES, Right::Change)],
        };
        let path = Path::new(r"C:\Users\me too\identity.txt");
        judge(access, path, ME, "F", limits).map_err(|error| error.to_string())
    }

    #[test]
    fn this_user_and_the_system_may_do_everything() {
        let all = [ME, SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER, OWNER_RIGHTS, CREATOR_OWNER]
            .map(|account| (account, u32::MAX));
        for owner in [ME, SYSTEM, ADMINISTRATORS] {
            assert_eq!(judged(&access(owner, &all), Guard::Secret), Ok(()));
        }
    }

    #[test]
    fn somebody_elses_rights_are_refused_with_the_command() {
        for account in [OTHER, EVERYONE, "S-1-5-11", "S-1-5-32-545"] {
            let reads = access(ME, &[(ME, u32::MAX), (account, FILE_READ_DATA)]);
            assert_eq!(judged(&reads, Guard::Unaltered), Ok(()));
            let text = judged(&reads, Guard::Secret).unwrap_err();
            assert!(text.contains("can be read by"), "{text}");
            let command = format!(
                r#"icacls "C:\Users\me too\identity.txt" /inheritance:r /remove:g "*{account}" /grant:r "*{ME}:F" "*S-1-5-18:F""#
            );
            assert!(text.contains(&command), "{text}");
            for right in [FILE_WRITE_DATA, FILE_APPEND_DATA, DELETE, WRITE_DAC, WRITE_OWNER] {
                let changes = access(ME, &[(account, right)]);
                let text = judged(&changes, Guard::Unaltered).unwrap_err();
                assert!(text.contains("can be changed by"), "{text}");
            }
        }
    }

    #[test]
    fn a_missing_list_lets_everybody_in_and_an_empty_one_nobody() {
        let open = Access { owner: ME.into(), allowed: None };
        assert!(judged(&open, Guard::Unaltered).unwrap_err().contains("Everyone"));
        assert_eq!(judged(&access(ME, &[]), Guard::Secret), Ok(()));
    }

    #[test]
    fn a_foreign_owner_is_refused_with_the_command() {
        let text = judged(&access(OTHER, &[(ME, u32::MAX)]), Guard::Unaltered).unwrap_err();
        assert!(text.contains(OTHER) && text.contains(&format!("/setowner \"*{ME}\"")), "{text}");
    }

    #[test]
    fn new_files_and_directories_are_this_users_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("velin").join("file");
        create_directories(parent(&path)).unwrap();
        create_directories(parent(&path)).unwrap();
        assert!(write_new(&path, b"one").unwrap());
        assert!(!write_new(&path, b"two").unwrap());
        assert_eq!(*read(&path, Guard::Secret, 10).unwrap(), b"one");
        replace(&path, b"two").unwrap();
        assert_eq!(*read(&path, Guard::Secret, 10).unwrap(), b"two");
        assert_eq!(fs::read_dir(parent(&path)).unwrap().count(), 1, "no temporary file is left");
        let user = access::user().unwrap();
        let access = access::of(&File::open(&path).unwrap()).unwrap();
        assert!([user.as_str(), ADMINISTRATORS].contains(&access.owner.as_str()), "{access:?}");
    }

    #[test]
    fn lists_that_let_others_in_are_refused_on_the_disk_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("velin").join("file");
        create_directories(parent(&path)).unwrap();
        write_new(&path, b"x").unwrap();
        let own = format!("(A;;FA;;;SY)(A;;FA;;;{})", access::user().unwrap());
        let refusal = |guard| match read(&path, guard, 10) {
            Err(ReadError::Unsafe(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };

        access::set(&path, &format!("D:P{own}(A;;FR;;;WD)")).unwrap();
        assert!(refusal(Guard::Secret).contains("read by Everyone"), "{}", refusal(Guard::Secret));
        assert!(read(&path, Guard::Unaltered, 10).is_ok());
        access::set(&path, &format!("D:P{own}(A;;FRFW;;;WD)")).unwrap();
        assert!(refusal(Guard::Unaltered).contains("changed by Everyone"));
        access::set(&path, &format!("D:P{own}")).unwrap();
        assert!(read(&path, Guard::Secret, 10).is_ok());

        access::set(parent(&path), &format!("D:P{own}(A;;FA;;;WD)")).unwrap();
        let text = refusal(Guard::Unaltered);
        assert!(text.contains("Everyone") && text.contains("(OI)(CI)F"), "{text}");
    }

    #[test]
    fn paths_are_quoted_for_windows_shells() {
        assert_eq!(quoted(Path::new(r"C:\a\b.txt")), r"C:\a\b.txt");
        assert_eq!(quoted(Path::new(r"C:\a b\c")), r#""C:\a b\c""#);
    }
}
