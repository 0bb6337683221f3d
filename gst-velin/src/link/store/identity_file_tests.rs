use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;

use super::*;

/// Cheap enough for tests; the format is the same.
const CHEAP: u8 = 4;

fn places(directory: &Path) -> Places {
    with_variables(&[("VELIN_CONFIG_DIR", directory)])
}

fn with_variables(variables: &[(&str, &Path)]) -> Places {
    Places::from_lookup(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, path)| path.as_os_str().into())
    })
}

fn default_in(directory: &Path) -> IdentityFile<'static> {
    IdentityFile { work_factor: CHEAP, ..IdentityFile::new(None).with_places(places(directory)) }
}

fn at(path: &Path) -> IdentityFile<'_> {
    IdentityFile {
        work_factor: CHEAP,
        ..IdentityFile::new(Some(path)).with_places(Places::default())
    }
}

fn private_file(path: &Path, content: &[u8]) {
    strict::replace(path, content).unwrap();
}

fn device(seed: u8) -> Identity {
    Identity::from_secret([seed; 32])
}

/// Runs a program that may be missing on this machine.
fn run(command: &mut Command) -> Option<Output> {
    match command.stderr(Stdio::piped()).stdout(Stdio::piped()).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(output)
        }
        Err(_) => {
            println!("skipped: {} is not installed", command.get_program().display());
            None
        }
    }
}

#[test]
fn the_first_use_makes_an_identity_and_the_next_ones_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("new/velin");
    let first = default_in(&home).load_or_create().unwrap();
    assert!(first.created);
    assert_eq!(first.path, home.join("identity.txt"));
    let again = default_in(&home).load_or_create().unwrap();
    assert!(!again.created);
    assert_eq!(again.identity.public(), first.identity.public());
    let other = default_in(&dir.path().join("other")).load_or_create().unwrap();
    assert_ne!(other.identity.public(), first.identity.public());
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1, "no temporary file is left");
}

#[cfg(unix)]
#[test]
fn directory_and_file_are_private_from_the_start() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("velin");
    let made = default_in(&home).load_or_create().unwrap();
    assert_eq!(fs::metadata(&home).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(&made.path).unwrap().mode() & 0o7777, 0o600);
}

#[cfg(unix)]
#[test]
fn an_identity_that_others_can_read_is_refused_with_the_command() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let made = default_in(dir.path()).load_or_create().unwrap();
    for mode in [0o666, 0o640, 0o604] {
        fs::set_permissions(&made.path, fs::Permissions::from_mode(mode)).unwrap();
        let text = default_in(dir.path()).load_or_create().unwrap_err().to_string();
        assert!(text.contains(&format!("chmod 600 {}", made.path.display())), "{text}");
    }
}

#[test]
fn loading_never_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = default_in(dir.path()).load().unwrap_err();
    assert!(matches!(error, IdentityFileError::Missing(_)), "{error}");
    assert!(error.to_string().contains("velin-pipe identity show"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn without_a_place_the_error_names_the_properties() {
    let error = IdentityFile::new(None).with_places(Places::default()).load_or_create();
    let text = error.unwrap_err().to_string();
    assert!(text.contains("identity-file") && text.contains("trust-file"), "{text}");
}

#[test]
fn a_place_that_cannot_be_written_gives_one_error_that_names_the_properties() {
    // A file where the directory should be stops root as well.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let text = default_in(&dir.path().join("file/velin")).load_or_create().unwrap_err().to_string();
    assert!(text.contains("identity-file"), "{text}");
    // And /proc is read-only for everybody.
    if cfg!(target_os = "linux") {
        let error = default_in(Path::new("/proc/velin")).load_or_create().unwrap_err();
        assert!(matches!(error, IdentityFileError::Create { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("identity-file") && text.contains("trust-file"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn an_unreadable_home_is_an_error_and_not_a_new_identity() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        println!("skipped: root reads everything");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    default_in(dir.path()).load_or_create().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o000)).unwrap();
    let result = default_in(dir.path()).load_or_create();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(result, Err(IdentityFileError::Read { .. })), "{result:?}");
}

#[test]
fn eight_racing_threads_end_with_one_identity() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("velin");
        let barrier = std::sync::Barrier::new(8);
        let made: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        default_in(&home).load_or_create().unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|one| one.identity.public() == made[0].identity.public()));
        assert_eq!(made.iter().filter(|one| one.created).count(), 1);
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
    }
}

const RACE_DIRECTORY: &str = "VELIN_TEST_RACE_DIRECTORY";

#[test]
fn eight_racing_processes_end_with_one_identity() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{}::racing_process", module_path!().split_once("::").unwrap().1);
    let children: Vec<_> = (0..8)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args([&name, "--exact", "--nocapture", "--test-threads=1"])
                .env(RACE_DIRECTORY, dir.path().join("velin"))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let recipients: Vec<_> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let at = text.find("made age1").unwrap_or_else(|| panic!("{text}")) + "made ".len();
            text[at..at + 62].to_owned()
        })
        .collect();
    assert!(recipients.iter().all(|one| *one == recipients[0]), "{recipients:?}");
}

/// What each process of the race does; nothing when it runs as a test of its own.
#[test]
fn racing_process() {
    let Some(directory) = std::env::var_os(RACE_DIRECTORY) else { return };
    let made = default_in(Path::new(&directory)).load_or_create().unwrap();
    println!("made {}", made.identity.public().recipient());
}

#[test]
fn the_services_credential_comes_first_and_may_have_any_mode() {
    let dir = tempfile::tempdir().unwrap();
    default_in(dir.path()).load_or_create().unwrap();
    let credential = dir.path().join("velin-identity");
    fs::write(&credential, &*file_text(&device(7))).unwrap();
    let places =
        with_variables(&[("VELIN_CONFIG_DIR", dir.path()), ("CREDENTIALS_DIRECTORY", dir.path())]);
    let loaded = IdentityFile::new(None).with_places(places).load_or_create().unwrap();
    assert_eq!(loaded.path, credential);
    assert_eq!(loaded.identity.public(), device(7).public());
}

#[test]
fn two_identities_are_refused_because_peers_trust_one() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["identity.txt", "identity.age"] {
        private_file(&dir.path().join(name), &file_text(&device(1)));
    }
    let error = default_in(dir.path()).load_or_create().unwrap_err();
    assert!(matches!(error, IdentityFileError::Two { .. }), "{error}");
}

#[test]
fn damaged_files_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.txt");
    for content in [&b""[..], b"# empty\n", b"AGE-SECRET-KEY-1QQQQ\n", b"\xff\xfe", b"age1x\n"] {
        private_file(&path, content);
        assert!(at(&path).load_or_create().is_err(), "{content:?}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    private_file(&path, &vec![b'#'; MAX_BYTES + 1]);
    assert!(matches!(at(&path).load(), Err(IdentityFileError::NotText(_))));
    assert!(matches!(at(dir.path()).load(), Err(IdentityFileError::Read { .. })));
}

#[test]
fn an_encrypted_identity_opens_with_the_passphrase_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("passphrase");
    private_file(&secret, b"correct horse\n");
    let places =
        || with_variables(&[("VELIN_CONFIG_DIR", dir.path()), ("VELIN_PASSPHRASE_FILE", &secret)]);
    let file =
        || IdentityFile { work_factor: CHEAP, ..IdentityFile::new(None).with_places(places()) };
    let made = file().load_or_create().unwrap();
    assert_eq!(made.path, dir.path().join("identity.age"));
    let stored = fs::read_to_string(&made.path).unwrap();
    assert!(stored.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{stored}");
    assert_eq!(file().load().unwrap().identity.public(), made.identity.public());

    let error = default_in(dir.path()).load().unwrap_err();
    assert!(matches!(error, IdentityFileError::Passphrase { .. }), "{error}");
    assert!(error.to_string().contains("VELIN_PASSPHRASE_FILE"), "{error}");
    private_file(&secret, b"wrong\n");
    let error = file().load().unwrap_err();
    let wrong =
        matches!(&error, IdentityFileError::Sealed { reason: SealedError::WrongPassphrase, .. });
    assert!(wrong && !error.to_string().contains("horse"), "{error}");
    private_file(&secret, b"\n");
    assert!(file().load().unwrap_err().to_string().contains("empty"));
}

#[test]
fn a_caller_can_ask_for_the_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.age");
    let mut asked = Vec::new();
    let mut ask = |purpose, _: &Path| {
        asked.push(purpose);
        Ok(Zeroizing::new("typed".to_owned()))
    };
    let made = at(&path).with_ask(&mut ask).load_or_create().unwrap();
    let read = at(&path).with_ask(&mut ask).load().unwrap();
    assert_eq!(read.identity.public(), made.identity.public());
    assert_eq!(asked, [Purpose::Create, Purpose::Unlock]);
}

#[test]
fn binary_files_of_the_age_crate_open_and_the_passphrase_is_not_asked_for_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.age");
    let mut recipient = age::scrypt::Recipient::new("p".to_owned().into());
    recipient.set_work_factor(CHEAP);
    private_file(&path, &age::encrypt(&recipient, &file_text(&device(3))).unwrap());
    let mut ask = |_, _: &Path| Ok(Zeroizing::new("p".to_owned()));
    let loaded = at(&path).with_ask(&mut ask).load().unwrap();
    assert_eq!(loaded.identity.public(), device(3).public());

    let key = age::x25519::Identity::generate().to_public();
    private_file(&path, &age::encrypt(&key, &file_text(&device(3))).unwrap());
    let mut never = |_, _: &Path| panic!("asked for a passphrase that cannot help");
    let error = at(&path).with_ask(&mut never).load().unwrap_err();
    assert!(matches!(error, IdentityFileError::Sealed { .. }), "{error}");
}

#[test]
fn the_age_crate_reads_our_strings_as_we_do() {
    for seed in [1, 0x7f, 0xff] {
        let ours = device(seed);
        let theirs: age::x25519::Identity = ours.to_secret_text().parse().unwrap();
        assert_eq!(theirs.to_public().to_string(), ours.public().recipient());
    }
}

#[test]
fn a_key_made_by_age_keygen_loads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.txt");
    let Some(_) = run(Command::new("age-keygen").arg("-o").arg(&path)) else { return };
    let loaded = at(&path).load().unwrap();
    let Some(output) = run(Command::new("age-keygen").arg("-y").arg(&path)) else { return };
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(loaded.identity.public().recipient(), theirs.trim());
}

#[test]
fn our_identity_opens_what_age_encrypts_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let made = default_in(dir.path()).load_or_create().unwrap();
    let (plain, sealed) = (dir.path().join("plain"), dir.path().join("sealed"));
    fs::write(&plain, "hello").unwrap();
    let recipient = made.identity.public().recipient();
    let Some(_) = run(Command::new("age").args(["-r", &recipient, "-o"]).args([&sealed, &plain]))
    else {
        return;
    };
    let output = run(Command::new("age").arg("-d").arg("-i").args([&made.path, &sealed]));
    assert_eq!(output.unwrap().stdout, b"hello");
}

#[test]
fn errors_and_debug_output_never_hold_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.txt");
    let made = at(&path).load_or_create().unwrap();
    let secret = made.identity.to_secret_text();
    assert!(!format!("{made:?}").contains(&secret[20..40]));
    for damage in [secret[..70].to_owned(), format!("{}\n{}\n", &*secret, &*secret)] {
        private_file(&path, damage.as_bytes());
        let error = at(&path).load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret[20..40]), "{error:?}");
    }
}
