use std::ffi::OsString;
use std::thread;

use velin_core::identity::{Grants, Identity, TrustedPeer, Via};

use super::*;

fn peer(seed: u8) -> TrustedPeer {
    TrustedPeer {
        key: Identity::from_secret([seed; 32]).public(),
        name: Some(format!("peer {seed}").parse().unwrap()),
        may: Grants::PLAY_TO_ME,
        via: Via::File,
        added: None,
        host: None,
        expires: None,
    }
}

fn add(path: &Path, seed: u8) -> Result<(), TrustFileError> {
    update(Some(path), |book| {
        book.add(peer(seed)).unwrap();
        Ok(())
    })
}

#[test]
fn nobody_is_trusted_without_a_file_but_a_named_file_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places::from_lookup(|name| {
        (name == "VELIN_CONFIG_DIR").then(|| OsString::from(dir.path()))
    });
    assert!(load_from(&places, None).unwrap().peers().is_empty());
    let error = load(Some(&dir.path().join("trust.toml"))).unwrap_err();
    assert!(matches!(error, TrustFileError::Missing(_)));
    assert!(error.to_string().contains("velin-pipe trust add"), "{error}");
    assert!(matches!(load_from(&Places::default(), None), Err(TrustFileError::NoHome(_))));
}

#[test]
fn changes_are_written_and_failed_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/velin/trust.toml");
    add(&path, 1).unwrap();
    add(&path, 2).unwrap();
    assert_eq!(load(Some(&path)).unwrap().peers(), [peer(1), peer(2)]);
    let refused: Result<(), _> = update(Some(&path), |book| {
        book.remove(&peer(1).key);
        Err(TrustFileError::Full("changed my mind".into()))
    });
    assert!(refused.is_err());
    assert_eq!(load(Some(&path)).unwrap().peers().len(), 2);
}

#[test]
fn racing_changes_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.toml");
    thread::scope(|scope| {
        for seed in 0..16 {
            let path = &path;
            scope.spawn(move || add(path, seed).unwrap());
        }
    });
    assert_eq!(load(Some(&path)).unwrap().peers().len(), 16);
}

#[test]
fn a_recipients_file_is_read_but_never_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipients.txt");
    let text = format!("# the house\n{}\n", peer(1).key.recipient());
    strict::replace(&path, text.as_bytes()).unwrap();
    let book = load(Some(&path)).unwrap();
    assert_eq!(book.peers()[0].may, Grants::PLAY_TO_ME);
    assert!(matches!(add(&path, 2), Err(TrustFileError::Recipients(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn errors_name_the_file_and_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.toml");
    strict::replace(&path, b"version = 1\n[[peer]]\nname = 7\n").unwrap();
    let text = load(Some(&path)).unwrap_err().to_string();
    assert!(text.contains("trust.toml, line 3:"), "{text}");
    strict::replace(&path, &vec![b'#'; TrustBook::MAX_BYTES + 1]).unwrap();
    assert!(load(Some(&path)).unwrap_err().to_string().contains("1 MiB"));
}

#[test]
fn a_book_that_could_not_be_read_again_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.toml");
    let filled: Result<(), TrustFileError> = update(Some(&path), |book| {
        for number in 0..9000u32 {
            let mut key = [9; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            let key = Identity::from_secret(key).public();
            // `update` would do, but looking for duplicates 9000 times takes long.
            book.add(TrustedPeer { key, name: None, ..peer(1) }).unwrap();
        }
        Ok(())
    });
    assert!(matches!(filled, Err(TrustFileError::Full(_))), "{filled:?}");
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn a_file_or_directory_that_others_can_write_is_refused_with_the_command() {
    use std::os::unix::fs::PermissionsExt;
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.toml");
    add(&path, 1).unwrap();
    for mode in [0o666, 0o620] {
        chmod(&path, mode);
        let text = load(Some(&path)).unwrap_err().to_string();
        assert!(text.contains(&format!("chmod go-w {}", path.display())), "{text}");
        assert!(matches!(add(&path, 2), Err(TrustFileError::Unsafe(_))));
    }
    chmod(&path, 0o644);
    assert_eq!(load(Some(&path)).unwrap().peers().len(), 1);
    chmod(dir.path(), 0o777);
    let text = load(Some(&path)).unwrap_err().to_string();
    assert!(text.contains(&format!("chmod go-w {}", dir.path().display())), "{text}");
    chmod(dir.path(), 0o700);
}

#[cfg(unix)]
#[test]
fn a_link_to_the_trust_file_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real.toml"), dir.path().join("trust.toml"));
    add(&real, 1).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    add(&link, 2).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(load(Some(&real)).unwrap().peers().len(), 2);
}
