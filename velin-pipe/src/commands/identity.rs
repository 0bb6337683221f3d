//! `velin-pipe identity`: the device's own key.
//!
//! The recipient goes to standard output, everything for people to standard error.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gstvelin::link::store::IdentityFile;

use super::context::{CommandError, Surroundings};
use super::prompt;

/// Arguments of `velin-pipe identity`.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    #[command(subcommand)]
    command: IdentityCommand,
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Print this device's recipient (age1…), making the identity on first use
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Identity file in place of the default one; made encrypted if its name ends in .age
    #[arg(long, value_name = "FILE")]
    identity_file: Option<PathBuf>,
}

/// Runs `velin-pipe identity`.
pub fn run(args: &IdentityArgs) -> Result<(), CommandError> {
    Surroundings::of_process(|surroundings| run_in(args, surroundings))
}

fn run_in(args: &IdentityArgs, surroundings: &mut Surroundings<'_>) -> Result<(), CommandError> {
    match &args.command {
        IdentityCommand::Show(args) => show(args, surroundings),
    }
}

fn show(args: &ShowArgs, surroundings: &mut Surroundings<'_>) -> Result<(), CommandError> {
    let loaded = IdentityFile::new(args.identity_file.as_deref())
        .with_places(surroundings.places.clone())
        .with_ask(&mut prompt::ask)
        .load_or_create()?;
    let key = loaded.identity.public();
    let recipient = key.recipient();
    writeln!(surroundings.out, "{recipient}")?;
    let err = &mut *surroundings.err;
    if loaded.created {
        writeln!(err, "This is a new identity; keep a backup of its file.")?;
    }
    writeln!(err, "fingerprint  {}", key.fingerprint())?;
    writeln!(err, "hint         {}", key.fingerprint().hint())?;
    writeln!(err, "file         {}", loaded.path.display())?;
    writeln!(err, "On the other device: velin-pipe trust add {recipient} --name NAME")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::context::testing::{Outcome, in_home};
    use super::*;

    fn run(home: &std::path::Path, args: &[&str]) -> Outcome {
        let command = IdentityArgs::augment_args(Command::new("identity").no_binary_name(true));
        let matches = command.try_get_matches_from(args).unwrap();
        let args = IdentityArgs::from_arg_matches(&matches).unwrap();
        in_home(home, |surroundings| run_in(&args, surroundings))
    }

    #[test]
    fn the_first_line_is_the_recipient_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let first = run(dir.path(), &["show"]);
        assert!(first.err.contains("new identity"), "{}", first.err);
        assert!(first.err.contains("identity.txt"), "{}", first.err);
        let recipient = first.ok();
        assert!(recipient.starts_with("age1") && recipient.len() == 63, "{recipient}");
        let again = run(dir.path(), &["show"]);
        assert!(!again.err.contains("new identity"), "{}", again.err);
        assert_eq!(again.ok(), recipient);
    }

    #[test]
    fn neither_stream_holds_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let shown = run(dir.path(), &["show"]);
        assert!(!shown.err.contains("SECRET-KEY"));
        assert!(!shown.out.contains("SECRET-KEY"));
    }

    #[test]
    fn another_file_can_be_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.txt");
        run(dir.path(), &["show", "--identity-file", path.to_str().unwrap()]).ok();
        assert!(path.exists() && !dir.path().join("identity.txt").exists());
    }
}
