//! The command line, as data.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::identity::IdentityArgs;
use crate::commands::trust::TrustArgs;
use crate::preset::units::TimeSpan;

const EXIT_CODES: &str = "\
Exit codes:
  0    finished, or stopped by a signal after a clean end
  1    a pipeline failed while running
  2    the command line is wrong
  65   the preset or another input is invalid
  66   the preset or another input file is not there
  69   an element, a device or a peer is not available
  74   input or output failed
  77   the peer refused, or is not trusted
  78   the identity, the trust file or a setting of the link is invalid
  130  a second signal cut the clean end short";

/// Encrypted live audio between machines, from presets.
#[derive(Debug, Parser)]
#[command(
    name = "velin-pipe",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a preset until it ends or Ctrl-C.
    Run(Run),
    /// Say what is wrong with presets, without a sound.
    Check(Check),
    /// This device's own key.
    Identity(IdentityArgs),
    /// Whom this device trusts.
    Trust(TrustArgs),
    /// How a recorded network would have been played.
    Simulate(Simulate),
    /// Print the versions, and which copy of the elements is in use.
    Version,
}

/// `velin-pipe run`.
#[derive(Debug, Args)]
pub struct Run {
    /// A file, or the name of a preset in the search path.
    pub preset: String,
    /// End by itself after this long, such as 10s or 5m.
    #[arg(long, value_name = "TIME")]
    pub duration: Option<TimeSpan>,
    /// Write a summary with all statistics to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub stats_json: Option<PathBuf>,
    /// How often level, delay and counters are shown: by default twice a second on a terminal,
    /// every 10s elsewhere.
    #[arg(long, value_name = "TIME")]
    pub status: Option<TimeSpan>,
    /// Change a value of the preset, such as send.to=kitchen; may be repeated, the last one wins.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// `velin-pipe check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Files, or names of presets in the search path.
    #[arg(required = true)]
    pub presets: Vec<String>,
    /// Change a value of every preset first, as with `run`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// `velin-pipe simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// A recording made with `velinsrc trace-file=TRACE`: lines of arrival,media time in ns.
    pub trace: PathBuf,
    /// How the playout delay is chosen.
    #[arg(long, value_enum, default_value_t = Profile::Music)]
    pub profile: Profile,
    /// The playout delay with `--profile fixed`, such as 40ms.
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    pub latency: TimeSpan,
    /// How long a packet's sound lasts, where the recording does not tell it.
    #[arg(long, value_name = "TIME")]
    pub packet_time: Option<TimeSpan>,
    /// What is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How the playout delay is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// As low as most packets allow.
    Low,
    /// Hardly ever a gap.
    Music,
    /// Between the two.
    Voice,
    /// Always `--latency`.
    Fixed,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Figures and a plot for people.
    Text,
    /// One JSON object with the figures of each second.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_on_the_command_line_need_their_unit() {
        let parsed =
            |time: &str| Cli::try_parse_from(["velin-pipe", "run", "p", "--duration", time]);
        assert!(parsed("10s").is_ok());
        let refused = parsed("10").unwrap_err().to_string();
        assert!(refused.contains("`10` has no unit"), "{refused}");
    }
}
