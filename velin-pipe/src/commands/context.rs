//! What the commands about identity and trust share: their errors, and what they touch.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use gstvelin::link::store::{IdentityFileError, Places, TrustFileError};
use thiserror::Error;
use velin_core::identity::{
    AddPeerError, NameError, PeerHostError, RecipientError, UnknownGrant, WallTime,
};

use super::expiry::ExpiryError;

/// Why a command failed. The text says what to do next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The identity cannot be had.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The trusted peers cannot be read or written.
    #[error(transparent)]
    TrustFile(#[from] TrustFileError),
    /// The peer cannot be added.
    #[error(transparent)]
    AddPeer(#[from] AddPeerError),
    /// Not a recipient.
    #[error("RECIPIENT: {0}")]
    Recipient(#[from] RecipientError),
    /// Not a name.
    #[error("--name: {0}")]
    Name(#[from] NameError),
    /// Not a permission.
    #[error("--may: {0}")]
    Grant(#[from] UnknownGrant),
    /// Not a host.
    #[error("--host: {0}")]
    Host(#[from] PeerHostError),
    /// Not a time when trust ends.
    #[error("--expires: {0}")]
    Expiry(#[from] ExpiryError),
    /// The device itself.
    #[error(
        "this is the device's own key. One machine needs no set-up: its own key is accepted over \
         127.0.0.1, ::1 and localhost. For two machines, run `velin-pipe identity show` on the \
         other one and add what it prints; if that is this same key, the identity was copied, so \
         remove the copy there"
    )]
    OwnKey,
    /// Nobody is called so.
    #[error("no trusted device is called or has the key {0:?}; `velin-pipe trust list` shows them")]
    UnknownPeer(String),
    /// Standard output or error is gone.
    #[error("cannot write the output: {0}; check where it goes")]
    Output(#[from] io::Error),
}

/// What a command touches besides its arguments, so that tests can stand in for it.
pub(super) struct Surroundings<'a> {
    pub(super) places: Places,
    pub(super) now: WallTime,
    pub(super) out: &'a mut dyn Write,
    pub(super) err: &'a mut dyn Write,
}

impl Surroundings<'_> {
    /// Runs `command` with the process's own environment, clock and streams.
    pub(super) fn of_process<R>(command: impl FnOnce(&mut Surroundings<'_>) -> R) -> R {
        // A clock before 1970 is a clock that was never set.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        command(&mut Surroundings {
            places: Places::from_env(),
            now: WallTime::from_unix(since_epoch.as_secs()),
            out: &mut io::stdout().lock(),
            err: &mut io::stderr().lock(),
        })
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::path::Path;

    use super::*;

    /// 2026-11-20T08:40:00Z.
    pub(crate) const NOW: u64 = 1_795_164_000;

    /// What a command wrote, and whether it worked.
    pub(crate) struct Outcome {
        pub(crate) result: Result<(), CommandError>,
        pub(crate) out: String,
        pub(crate) err: String,
    }

    impl Outcome {
        /// Standard output of a command that must have worked.
        pub(crate) fn ok(self) -> String {
            self.result.unwrap();
            self.out
        }

        /// The text of the error that must have happened.
        pub(crate) fn error(self) -> String {
            self.result.unwrap_err().to_string()
        }
    }

    /// Runs a command in a configuration directory of its own.
    pub(crate) fn in_home(
        home: &Path,
        command: impl FnOnce(&mut Surroundings<'_>) -> Result<(), CommandError>,
    ) -> Outcome {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = command(&mut Surroundings {
            places: Places::from_lookup(|name| (name == "VELIN_CONFIG_DIR").then(|| home.into())),
            now: WallTime::from_unix(NOW),
            out: &mut out,
            err: &mut err,
        });
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { result, out: text(out), err: text(err) }
    }
}
