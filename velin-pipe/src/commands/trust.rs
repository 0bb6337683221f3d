//! `velin-pipe trust`: whom this device trusts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use gstvelin::link::store::{IdentityFile, trust_file};
use serde::Serialize;
use velin_core::identity::{
    Grants, Name, PeerHost, PublicKey, RecipientError, TrustBook, TrustedPeer, Via, WallTime,
};

use super::context::{CommandError, Surroundings};

/// Arguments of `velin-pipe trust`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// Trust file in place of the default one
    #[arg(long, value_name = "FILE", global = true)]
    trust_file: Option<PathBuf>,

    #[command(subcommand)]
    command: TrustCommand,
}

#[derive(Debug, Subcommand)]
enum TrustCommand {
    /// Trust the device with this recipient
    Add(AddArgs),
    /// Show the trusted devices
    List(ListArgs),
    /// Trust a device no more
    Remove(RemoveArgs),
}

// Recipients are parsed after the command line: its parser repeats bad values, and one of them may
// be a secret key that was pasted by mistake.
#[derive(Debug, Args)]
struct AddArgs {
    /// The other device's recipient (age1…), which `velin-pipe identity show` prints there
    recipient: String,
    /// What to call it here
    #[arg(long)]
    name: String,
    /// What it may do here, with commas between: play-to-me, capture-from-me, join-group
    /// [default: play-to-me]
    #[arg(long, value_name = "GRANTS")]
    may: Option<String>,
    /// Where it is found
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// Trust it for this many days only
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    expires_in_days: Option<u32>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// Its name here, or its recipient (age1…)
    #[arg(value_name = "NAME|RECIPIENT")]
    peer: String,
}

/// Runs `velin-pipe trust`.
pub fn run(args: &TrustArgs) -> Result<(), CommandError> {
    Surroundings::of_process(|surroundings| run_in(args, surroundings))
}

fn run_in(args: &TrustArgs, surroundings: &mut Surroundings<'_>) -> Result<(), CommandError> {
    let file = args.trust_file.as_deref();
    match &args.command {
        TrustCommand::Add(args) => add(args, file, surroundings),
        TrustCommand::List(args) => list(args, file, surroundings),
        TrustCommand::Remove(args) => remove(args, file, surroundings),
    }
}

fn add(
    args: &AddArgs,
    file: Option<&Path>,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), CommandError> {
    let key = args.recipient.trim().parse::<PublicKey>()?;
    let name = Name::normalized(&args.name)?;
    let now = surroundings.now;
    let day = Duration::from_secs(24 * 60 * 60);
    let may = args.may.as_deref().map(str::parse::<Grants>).transpose()?;
    let host = args.host.as_deref().map(str::parse::<PeerHost>).transpose()?;
    let expires = args.expires_in_days.map(|days| now + day * days);
    refuse_own_key(&key, surroundings)?;
    let (peer, changed) = trust_file::update_in(&surroundings.places, file, |book| {
        // The same device under the same name again: what is given changes, the rest stays.
        let known = book.entry(&key).filter(|known| known.name.as_ref() == Some(&name)).cloned();
        let changed = known.is_some();
        let mut peer = known.unwrap_or_else(|| TrustedPeer {
            key,
            name: Some(name.clone()),
            may: Grants::PLAY_TO_ME,
            via: Via::File,
            added: Some(now),
            host: None,
            expires: None,
        });
        peer.may = may.unwrap_or(peer.may);
        peer.host = host.or(peer.host);
        peer.expires = expires.or(peer.expires);
        if changed {
            book.update(peer.clone())?;
        } else {
            book.add(peer.clone())?;
        }
        Ok::<_, CommandError>((peer, changed))
    })?;
    let TrustedPeer { may, expires, .. } = peer;
    let verb = if changed { "Changed" } else { "Trusted" };
    let until = expires.map(|time| format!(" until {time}")).unwrap_or_default();
    writeln!(surroundings.err, "{verb}: \"{name}\" may {may}{until}.")?;
    writeln!(surroundings.err, "fingerprint  {}", key.fingerprint())?;
    Ok(())
}

/// Own key: it needs no entry, and an entry would hide that an identity was copied. An identity
/// that is missing or locked is not this command's business.
fn refuse_own_key(key: &PublicKey, surroundings: &Surroundings<'_>) -> Result<(), CommandError> {
    match IdentityFile::new(None).with_places(surroundings.places.clone()).load() {
        Ok(own) if own.identity.public() == *key => Err(CommandError::OwnKey),
        _ => Ok(()),
    }
}

fn list(
    args: &ListArgs,
    file: Option<&Path>,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), CommandError> {
    let book = trust_file::load_from(&surroundings.places, file)?;
    let rows: Vec<_> = book.peers().iter().map(|peer| Row::new(peer, surroundings.now)).collect();
    if args.json {
        let json = serde_json::to_string_pretty(&rows).map_err(std::io::Error::from)?;
        writeln!(surroundings.out, "{json}")?;
        return Ok(());
    }
    if rows.is_empty() {
        writeln!(
            surroundings.err,
            "No device is trusted yet. Run `velin-pipe identity show` on the other one, and here: \
             velin-pipe trust add age1… --name NAME"
        )?;
    }
    for row in rows {
        let name = row.name.map_or("-", Name::as_str);
        writeln!(
            surroundings.out,
            "{name:16} {}  {:62}  {}{}",
            row.hint,
            row.recipient,
            row.may,
            row.notes()
        )?;
    }
    Ok(())
}

fn remove(
    args: &RemoveArgs,
    file: Option<&Path>,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), CommandError> {
    let wanted = args.peer.trim();
    // A secret key that was pasted by mistake must not come back in the message below.
    if wanted.parse::<PublicKey>() == Err(RecipientError::Secret) {
        return Err(RecipientError::Secret.into());
    }
    let removed = trust_file::update_in(&surroundings.places, file, |book| {
        find(book, wanted)
            .and_then(|key| book.remove(&key))
            .ok_or_else(|| CommandError::UnknownPeer(wanted.chars().take(80).collect()))
    })?;
    writeln!(
        surroundings.err,
        "No longer trusted: \"{}\" ({}).",
        removed.label(),
        removed.key.recipient()
    )?;
    Ok(())
}

fn find(book: &TrustBook, peer: &str) -> Option<PublicKey> {
    if let Ok(key) = peer.parse() {
        return Some(key);
    }
    let name = Name::normalized(peer).ok()?;
    book.by_name(name.as_str()).map(|known| known.key)
}

/// A peer as `trust list` shows it.
#[derive(Serialize)]
struct Row<'a> {
    name: Option<&'a Name>,
    recipient: String,
    fingerprint: String,
    hint: String,
    may: Grants,
    via: &'static str,
    added: Option<String>,
    host: Option<String>,
    expires: Option<String>,
    expired: bool,
}

impl<'a> Row<'a> {
    fn new(peer: &'a TrustedPeer, now: WallTime) -> Self {
        let fingerprint = peer.key.fingerprint();
        Self {
            name: peer.name.as_ref(),
            recipient: peer.key.recipient(),
            fingerprint: fingerprint.to_string(),
            hint: fingerprint.hint(),
            may: peer.may,
            via: peer.via.word(),
            added: peer.added.map(|time| time.to_string()),
            host: peer.host.as_ref().map(ToString::to_string),
            expires: peer.expires.map(|time| time.to_string()),
            expired: peer.is_expired(now),
        }
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        if let Some(host) = &self.host {
            notes += &format!("  at {host}");
        }
        if let Some(expires) = &self.expires {
            notes += &format!("  {} {expires}", if self.expired { "EXPIRED" } else { "until" });
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};
    use velin_core::identity::Identity;

    use super::super::context::testing::{Outcome, in_home};
    use super::*;

    fn run(home: &Path, args: &[&str]) -> Outcome {
        let command = TrustArgs::augment_args(Command::new("trust").no_binary_name(true));
        let matches = command.try_get_matches_from(args).unwrap();
        let args = TrustArgs::from_arg_matches(&matches).unwrap();
        in_home(home, |surroundings| run_in(&args, surroundings))
    }

    fn recipient(seed: u8) -> String {
        Identity::from_secret([seed; 32]).public().recipient()
    }

    fn json(home: &Path) -> serde_json::Value {
        serde_json::from_str(&run(home, &["list", "--json"]).ok()).unwrap()
    }

    #[test]
    fn what_is_added_is_listed_and_can_be_removed_by_name_or_key() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (recipient(1), recipient(2));
        run(dir.path(), &["add", &one, "--name", "desk"]).ok();
        let grants = "play-to-me,capture-from-me";
        let args = [
            "add",
            &two,
            "--name",
            "Küche",
            "--may",
            grants,
            "--host",
            "[::1]:49000",
            "--expires-in-days",
            "2",
        ];
        run(dir.path(), &args).ok();

        let listed = json(dir.path());
        assert_eq!(listed[0]["recipient"], one);
        assert_eq!(listed[0]["may"], serde_json::json!(["play-to-me"]));
        assert_eq!(listed[0]["added"], "2026-11-20T08:40:00Z");
        assert_eq!(listed[1]["may"], serde_json::json!(["play-to-me", "capture-from-me"]));
        assert_eq!(listed[1]["host"], "[::1]:49000");
        assert_eq!(listed[1]["expires"], "2026-11-22T08:40:00Z");
        assert_eq!(listed[1]["expired"], false);
        let table = run(dir.path(), &["list"]).ok();
        assert_eq!(table.lines().count(), 2);
        assert!(table.contains("desk") && table.contains(&two), "{table}");

        // Typed with a combining accent it is the same name.
        run(dir.path(), &["remove", "Ku\u{308}che"]).ok();
        run(dir.path(), &["remove", &one]).ok();
        assert_eq!(json(dir.path()), serde_json::json!([]));
        let nobody = run(dir.path(), &["list"]);
        assert!(nobody.err.contains("trust add"), "{}", nobody.err);
        assert_eq!(nobody.ok(), "");
        assert!(run(dir.path(), &["remove", "desk"]).error().contains("trust list"));
    }

    #[test]
    fn adding_the_same_device_again_changes_what_is_given_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let key = recipient(1);
        run(dir.path(), &["add", &key, "--name", "desk"]).ok();
        run(dir.path(), &["add", &key, "--name", "desk", "--may", "join-group"]).ok();
        let again = run(dir.path(), &["add", &key, "--name", "desk", "--host", "desk.local"]);
        assert!(again.err.starts_with("Changed: \"desk\" may join-group."), "{}", again.err);
        again.ok();
        assert_eq!(json(dir.path())[0]["may"], serde_json::json!(["join-group"]));
        assert_eq!(json(dir.path())[0]["host"], "desk.local");
        assert!(run(dir.path(), &["add", &recipient(1), "--name", "b"]).error().contains("desk"));
        let changed_key = run(dir.path(), &["add", &recipient(2), "--name", "desk"]).error();
        assert!(changed_key.contains("another device"), "{changed_key}");
        assert_eq!(json(dir.path()).as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_own_key_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let places = gstvelin::link::store::Places::from_lookup(|name| {
            (name == "VELIN_CONFIG_DIR").then(|| dir.path().into())
        });
        let own = IdentityFile::new(None).with_places(places).load_or_create().unwrap();
        let own = own.identity.public().recipient();
        let text = run(dir.path(), &["add", &own, "--name", "me"]).error();
        assert!(text.contains("own key") && text.contains("localhost"), "{text}");
        assert!(!dir.path().join("trust.toml").exists());
    }

    #[test]
    fn a_pasted_secret_key_is_refused_without_repeating_it() {
        let dir = tempfile::tempdir().unwrap();
        let secret = Identity::from_secret([1; 32]).to_secret_text();
        for args in [&["add", &secret, "--name", "x"][..], &["remove", &secret]] {
            let outcome = run(dir.path(), args);
            let told = format!("{}{}{}", outcome.out, outcome.err, outcome.result.unwrap_err());
            assert!(told.contains("secret key"), "{told}");
            assert!(!told.contains(&secret[20..40]), "{told}");
        }
    }

    #[test]
    fn bad_values_name_their_option() {
        let dir = tempfile::tempdir().unwrap();
        let key = recipient(1);
        let error = |args: &[&str]| run(dir.path(), args).error();
        assert!(error(&["add", &key, "--name", "a\u{1b}b"]).starts_with("--name:"));
        assert!(error(&["add", &key, "--name", "a", "--may", "all"]).starts_with("--may:"));
        assert!(error(&["add", &key, "--name", "a", "--host", "a b"]).starts_with("--host:"));
        assert!(error(&["add", &key[..61], "--name", "a"]).contains("62 characters"));
    }

    #[test]
    fn expired_trust_is_listed_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.toml");
        let text = format!(
            "version = 1\n[[peer]]\nrecipient = \"{}\"\nmay = []\nexpires = 2020-01-01T00:00:00Z\n",
            recipient(1)
        );
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Whatever the umask is.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert!(run(dir.path(), &["list"]).ok().contains("EXPIRED"));
        assert_eq!(json(dir.path())[0]["expired"], true);
    }

    #[test]
    fn another_file_can_be_named_before_or_after_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.toml");
        let path = path.to_str().unwrap();
        run(dir.path(), &["add", &recipient(1), "--name", "a", "--trust-file", path]).ok();
        assert!(run(dir.path(), &["--trust-file", path, "list"]).ok().contains(&recipient(1)));
        assert!(!dir.path().join("trust.toml").exists());
    }
}
