//! `velin-pipe trust`: whom this device trusts.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use gstvelin::link::store::{IdentityFile, trust_file};
use serde::Serialize;
use velin_core::identity::{
    Grants, Name, PeerHost, PublicKey, RecipientError, TrustBook, TrustedPeer, Via, WallTime,
};

use super::context::{CommandError, Surroundings};
use super::expiry::{Expiry, remaining};

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
    /// Trust no device any more
    Clear(ClearArgs),
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
    /// Trust it until then only: 30d, 12h or 2w from now, a date such as 2027-01-01, or never
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Trust it for this many days only
    #[arg(
        long,
        alias = "expires-in-days",
        conflicts_with = "expires",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    days: Option<u32>,
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

#[derive(Debug, Args)]
struct ClearArgs {
    /// Only those whose trust expired
    #[arg(long)]
    expired: bool,
    /// Really all of them
    #[arg(long, required_unless_present = "expired", conflicts_with = "expired")]
    yes: bool,
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
        TrustCommand::Clear(args) => clear(args, file, surroundings),
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
    let may = args.may.as_deref().map(str::parse::<Grants>).transpose()?;
    let host = args.host.as_deref().map(str::parse::<PeerHost>).transpose()?;
    let expiry = match &args.expires {
        Some(text) => Some(text.parse::<Expiry>()?),
        None => args.days.map(Expiry::days),
    };
    let expires = expiry.map(|expiry| expiry.resolve(now)).transpose()?;
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
        // Whoever trusts an expired device again does not mean that it stays expired.
        let kept = peer.expires.filter(|_| !peer.is_expired(now));
        peer.expires = expires.unwrap_or(kept);
        if changed {
            book.update(peer.clone())?;
        } else {
            book.add(peer.clone())?;
        }
        Ok::<_, CommandError>((peer, changed))
    })?;
    let TrustedPeer { may, expires, .. } = peer;
    let verb = if changed { "Changed" } else { "Trusted" };
    let until = expires.map(|time| format!(" until {time} ({})", remaining(time, now)));
    let until = until.unwrap_or_default();
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
    if book.peers().iter().any(|peer| peer.is_expired(surroundings.now)) {
        writeln!(
            surroundings.err,
            "A device whose trust expired is refused like a stranger; to renew it: \
             velin-pipe trust add age1… --name NAME --expires 30d"
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

fn clear(
    args: &ClearArgs,
    file: Option<&Path>,
    surroundings: &mut Surroundings<'_>,
) -> Result<(), CommandError> {
    let now = surroundings.now;
    let removed = trust_file::update_in(&surroundings.places, file, |book| {
        let goes = |peer: &&TrustedPeer| !args.expired || peer.is_expired(now);
        let keys: Vec<_> = book.peers().iter().filter(goes).map(|peer| peer.key).collect();
        let removed = keys.iter().filter_map(|key| book.remove(key)).collect::<Vec<_>>();
        Ok::<_, CommandError>(removed)
    })?;
    for peer in &removed {
        let recipient = peer.key.recipient();
        writeln!(surroundings.err, "No longer trusted: \"{}\" ({recipient}).", peer.label())?;
    }
    if removed.is_empty() {
        let none = if args.expired { "No trust has expired." } else { "No device was trusted." };
        writeln!(surroundings.err, "{none}")?;
    }
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
    #[serde(skip)]
    remaining: Option<String>,
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
            remaining: peer.expires.map(|time| remaining(time, now)),
        }
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        if let Some(host) = &self.host {
            notes += &format!("  at {host}");
        }
        match (&self.expires, &self.remaining) {
            (Some(since), _) if self.expired => notes += &format!("  expired on {since}"),
            (_, Some(remaining)) => notes += &format!("  expires {remaining}"),
            _ => {}
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
            "--days",
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
        assert!(table.contains("expires in 2 days"), "{table}");

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
        let never = error(&["add", &key, "--name", "a", "--expires", "30"]);
        assert!(never.starts_with("--expires:") && never.contains("30d"), "{never}");
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
        let listed = run(dir.path(), &["list"]);
        assert!(listed.err.contains("--expires 30d"), "{}", listed.err);
        assert!(listed.ok().contains("expired on 2020-01-01T00:00:00Z"));
        assert_eq!(json(dir.path())[0]["expired"], true);
    }

    #[test]
    fn trust_for_a_while_is_renewed_by_adding_the_device_again() {
        let dir = tempfile::tempdir().unwrap();
        let key = recipient(1);
        let add = |more: &[&str]| {
            let outcome = run(dir.path(), &[&["add", &key, "--name", "guest"], more].concat());
            let told = outcome.err.clone();
            outcome.ok();
            (told, json(dir.path())[0]["expires"].clone())
        };
        let (told, expires) = add(&["--expires", "30d"]);
        assert!(told.contains("until 2026-12-20T08:40:00Z (in 30 days)."), "{told}");
        assert_eq!(expires, "2026-12-20T08:40:00Z");
        assert!(run(dir.path(), &["list"]).ok().contains("expires in 30 days"));
        assert_eq!(add(&["--may", "join-group"]).1, expires, "what is not given stays");
        assert_eq!(add(&["--expires", "2027-01-01"]).1, "2027-01-01T00:00:00Z");
        assert_eq!(add(&["--expires-in-days", "1"]).1, "2026-11-21T08:40:00Z");
        assert_eq!(add(&["--expires", "never"]).1, serde_json::Value::Null);

        let path = dir.path().join("trust.toml");
        trust_file::update::<_, CommandError>(Some(&path), |book| {
            let expired = Some(WallTime::from_unix(1_000_000_000));
            let entry = book.peers()[0].clone();
            book.update(TrustedPeer { expires: expired, ..entry })?;
            Ok(())
        })
        .unwrap();
        assert!(run(dir.path(), &["list"]).ok().contains("expired on 2001-09-09T01:46:40Z"));
        assert_eq!(add(&[]).1, serde_json::Value::Null);
        assert_eq!(json(dir.path())[0]["expired"], false);
    }

    #[test]
    fn all_devices_or_the_expired_ones_can_be_removed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
            run(dir.path(), &["add", &recipient(seed), "--name", name, "--days", "1"]).ok();
        }
        let path = dir.path().join("trust.toml");
        trust_file::update::<_, CommandError>(Some(&path), |book| {
            let expired = Some(WallTime::from_unix(1_000_000_000));
            let entry = book.peers()[1].clone();
            book.update(TrustedPeer { expires: expired, ..entry })?;
            Ok(())
        })
        .unwrap();
        let told = run(dir.path(), &["clear", "--expired"]).err;
        assert!(told.contains("\"b\"") && told.lines().count() == 1, "{told}");
        assert!(run(dir.path(), &["clear", "--expired"]).err.contains("No trust has expired"));
        assert_eq!(json(dir.path()).as_array().unwrap().len(), 2);
        assert_eq!(run(dir.path(), &["clear", "--yes"]).err.lines().count(), 2);
        assert_eq!(json(dir.path()), serde_json::json!([]));
        assert!(run(dir.path(), &["clear", "--yes"]).err.contains("No device was trusted"));
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
