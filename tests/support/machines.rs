//! Two machines that are set up: each with a user of its own who trusts the other.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::audio::Clip;
use crate::launch::{Device, Receiver, sending};
use crate::net::{Namespaces, Side};
use crate::proc::Process;

/// The sender's machine A and the receiver's machine B.
#[derive(Debug)]
pub struct Machines {
    /// The wire between them.
    pub net: Namespaces,
    /// The sender's user.
    pub a: Device,
    /// The receiver's user.
    pub b: Device,
}

impl Machines {
    /// Two machines that do not know each other.
    ///
    /// # Errors
    /// They cannot be made; the text says why.
    pub fn strangers() -> Result<Self, String> {
        let device = || Device::new().map_err(|e| e.to_string());
        Ok(Self { net: Namespaces::new()?, a: device()?, b: device()? })
    }

    /// Two machines that trust each other, as "laptop" (A) and "living-room" (B).
    ///
    /// # Errors
    /// They cannot be made; the text says why.
    pub fn friends() -> Result<Self, String> {
        let machines = Self::strangers()?;
        machines.a.trust(machines.b.key(), "living-room");
        machines.b.trust(machines.a.key(), "laptop");
        Ok(machines)
    }

    /// A receiver on B's default ports that records.
    ///
    /// # Errors
    /// It does not listen; the text carries what it printed.
    pub fn receiver(&self) -> Result<Receiver, String> {
        Receiver::start(&self.b, "", |command| self.on(Side::B, &command))
    }

    /// A sender on A that plays the WAV file `wav` through a `velinsink` with `properties`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn sender(&self, wav: &Path, properties: &str) -> Result<Process, String> {
        let command = self.a.launch(&sending(wav, properties));
        Process::spawn(self.on(Side::A, &command)).map_err(|e| e.to_string())
    }

    /// `command` on one of the machines.
    #[must_use]
    pub fn on(&self, side: Side, command: &Command) -> Command {
        self.net.exec(side, command)
    }

    /// Writes `clip` to a WAV file for the sender.
    ///
    /// # Panics
    /// The file cannot be written.
    #[must_use]
    pub fn wav(&self, clip: &Clip) -> PathBuf {
        let wav = self.a.folder().join("played.wav");
        clip.write_16(&wav).expect("the folder is ours");
        wav
    }
}
