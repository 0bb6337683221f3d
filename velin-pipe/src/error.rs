//! What the launcher says when it stops, and the exit code that goes with it.
//!
//! Every text is two parts: what happened, then on the next line what to do.

use std::io;
use std::path::PathBuf;

use gstvelin::link::store::{IdentityFileError, TrustFileError};

use crate::commands::CommandError;
use crate::commands::simulate::SimulateError;
use crate::pipeline::BuildError;
use crate::preset::diagnostic::Diagnostics;
use crate::preset::load::LoadError;

/// Why the launcher stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The preset cannot be read or says something wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The preset names devices or peers that are not here.
    #[error(transparent)]
    NotHere(#[from] Diagnostics),
    /// The pipelines cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// GStreamer or the elements cannot be used at all.
    #[error("{message}\n{help}")]
    Unusable {
        /// What happened.
        message: String,
        /// What to do.
        help: String,
    },
    /// An element reported an error while running.
    #[error("{element}: {message}\n{help}")]
    Pipeline {
        /// The element's name in the plan.
        element: String,
        /// What it reported.
        message: String,
        /// What to do.
        help: String,
    },
    /// A device, a port or a peer is not there.
    #[error("{element}: {message}\n{help}")]
    Unavailable {
        /// The element's name in the plan.
        element: String,
        /// What it reported.
        message: String,
        /// What to do.
        help: String,
    },
    /// A file that should be played is not there.
    #[error("there is no file {}\ncheck `path` in the preset; it is relative to the current folder", path.display())]
    NoInput {
        /// Which file.
        path: PathBuf,
    },
    /// The peer refused us, or we do not trust it.
    #[error("{element}: {message}\n{help}")]
    Refused {
        /// The element's name in the plan.
        element: String,
        /// What it reported.
        message: String,
        /// What to do.
        help: String,
    },
    /// The identity, the trust file or a setting of the link cannot be used.
    #[error("{element}: {message}\n{help}")]
    Configuration {
        /// The element's name in the plan.
        element: String,
        /// What it reported.
        message: String,
        /// What to do.
        help: String,
    },
    /// A command about identity and trust failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A recorded network cannot be played.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    /// The trusted peers cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustFileError),
    /// A file of ours cannot be written.
    #[error("cannot write {}: {source}\ncheck that the folder is there and may be written", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Exit codes: documented, stable, tested. 0 is a clean end.
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// A pipeline failed while running.
    pub const PIPELINE: u8 = 1;
    /// The preset or another input is invalid (EX_DATAERR).
    pub const DATA: u8 = 65;
    /// The preset or another input is not there (EX_NOINPUT).
    pub const NO_INPUT: u8 = 66;
    /// An element, a device or a peer is not available (EX_UNAVAILABLE).
    pub const UNAVAILABLE: u8 = 69;
    /// Input or output failed (EX_IOERR).
    pub const IO: u8 = 74;
    /// The peer refused us, or is not trusted (EX_NOPERM).
    pub const NO_PERMISSION: u8 = 77;
    /// The identity, the trust file or another setting of the link is invalid (EX_CONFIG).
    pub const CONFIG: u8 = 78;
    /// A second signal cut the clean end short: 128 + SIGINT, as shells count.
    pub const INTERRUPTED: u8 = 130;
}

impl Error {
    /// The exit code that scripts and service managers see.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Load(LoadError::NotFound { .. }) | Self::NoInput { .. } => exit::NO_INPUT,
            Self::Load(LoadError::Invalid(_) | LoadError::TooLong { .. }) => exit::DATA,
            Self::Load(LoadError::Read { .. }) | Self::Write { .. } => exit::IO,
            Self::Build(BuildError::Invalid(_)) => exit::DATA,
            Self::Build(BuildError::Missing { .. })
            | Self::NotHere(_)
            | Self::Unusable { .. }
            | Self::Unavailable { .. } => exit::UNAVAILABLE,
            Self::Build(BuildError::Link { .. }) | Self::Pipeline { .. } => exit::PIPELINE,
            Self::Refused { .. } => exit::NO_PERMISSION,
            Self::Configuration { .. } => exit::CONFIG,
            Self::Trust(error) => trust_code(error),
            Self::Command(error) => command_code(error),
            Self::Simulate(error) => simulate_code(error),
        }
    }
}

fn command_code(error: &CommandError) -> u8 {
    match error {
        CommandError::Identity(IdentityFileError::Missing(_)) | CommandError::UnknownPeer(_) => {
            exit::NO_INPUT
        }
        CommandError::Identity(
            IdentityFileError::Read { .. } | IdentityFileError::Create { .. },
        )
        | CommandError::Output(_) => exit::IO,
        CommandError::Identity(_) => exit::CONFIG,
        CommandError::TrustFile(error) => trust_code(error),
        // The others are about what was written on the command line.
        _ => exit::USAGE,
    }
}

fn simulate_code(error: &SimulateError) -> u8 {
    match error {
        SimulateError::NotFound { .. } => exit::NO_INPUT,
        SimulateError::Read { .. } | SimulateError::Output(_) => exit::IO,
        SimulateError::Trace { .. } | SimulateError::Simulation { .. } => exit::DATA,
    }
}

fn trust_code(error: &TrustFileError) -> u8 {
    match error {
        TrustFileError::Missing(_) => exit::NO_INPUT,
        TrustFileError::Read { .. } | TrustFileError::Write { .. } => exit::IO,
        _ => exit::CONFIG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_happened_and_then_what_to_do() {
        let failed = |make: fn(String, String, String) -> Error| {
            make("capture0-source".into(), "no such device".into(), "plug it in".into())
        };
        let errors = [
            (failed(|element, message, help| Error::Pipeline { element, message, help }), 1),
            (failed(|element, message, help| Error::Unavailable { element, message, help }), 69),
            (failed(|element, message, help| Error::Refused { element, message, help }), 77),
            (failed(|element, message, help| Error::Configuration { element, message, help }), 78),
            (Error::NoInput { path: "x.wav".into() }, 66),
            (Error::Write { path: "x".into(), source: io::Error::other("full") }, 74),
            (Error::Load(LoadError::TooLong { path: "x".into() }), 65),
        ];
        for (error, code) in errors {
            assert_eq!(error.exit_code(), code, "{error}");
            assert_eq!(error.to_string().lines().count(), 2, "{error}");
        }
    }
}
