//! A private PulseAudio.

use std::process::Command;

use tempfile::TempDir;

use super::{SoundServer, all_there, load_null_sinks, wait_until_it_answers};
use crate::proc::{Process, urgent};

/// A PulseAudio daemon with two null sinks and nothing else.
#[derive(Debug)]
pub struct PulseServer {
    daemon: Process,
    // Below the process, which is to end first.
    folder: TempDir,
}

impl PulseServer {
    /// Whether this machine has what it takes, or what it lacks.
    ///
    /// # Errors
    /// Names the missing programs.
    pub fn available() -> Result<(), String> {
        all_there(&["pulseaudio", "pactl", "paplay", "parec"])
    }

    /// Starts the daemon and returns when it answers.
    ///
    /// # Errors
    /// It does not start; the text carries its output.
    pub fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("velin-pulse-")
            .tempdir()
            .map_err(|e| format!("no temporary folder: {e}"))?;
        let mut command = Command::new("pulseaudio");
        command
            .args(["-n", "--daemonize=no", "--system=no", "--use-pid-file=no"])
            .args(["--exit-idle-time=-1", "--realtime=no", "--high-priority=no"])
            .args(["--log-target=stderr", "--log-level=notice"])
            .arg("-L")
            .arg(format!(
                "module-native-protocol-unix auth-anonymous=1 socket={}",
                folder.path().join("native").display()
            ))
            .env("HOME", folder.path())
            .env("XDG_RUNTIME_DIR", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .env_remove("PULSE_SERVER")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .env_remove("DISPLAY");
        let daemon = Process::spawn(urgent(&command)).map_err(|e| e.to_string())?;
        let mut server = Self { daemon, folder };

        let Self { daemon, folder } = &mut server;
        wait_until_it_answers(&Client(folder), &mut [daemon])?;
        load_null_sinks(&server)?;
        Ok(server)
    }

    /// What the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.output()
    }
}

impl SoundServer for PulseServer {
    fn environment(&self) -> Vec<(&'static str, String)> {
        Client(&self.folder).environment()
    }
}

struct Client<'a>(&'a TempDir);

impl SoundServer for Client<'_> {
    fn environment(&self) -> Vec<(&'static str, String)> {
        let folder = self.0.path().display();
        vec![
            ("PULSE_SERVER", format!("unix:{folder}/native")),
            ("PULSE_RUNTIME_PATH", folder.to_string()),
            ("PULSE_STATE_PATH", folder.to_string()),
            ("PULSE_COOKIE", format!("{folder}/cookie")),
            ("XDG_RUNTIME_DIR", folder.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_whole, play_and_record};
    use super::super::{RECEIVER_SINK, SENDER_SINK};
    use super::*;

    #[test]
    fn pulseaudio_plays_into_its_null_sink_what_we_record_from_its_monitor() {
        if crate::skipped(PulseServer::available()) {
            return;
        }
        let server = PulseServer::start().unwrap();
        let sinks = server.pactl(&["list", "short", "sinks"]).unwrap();
        assert!(sinks.contains(SENDER_SINK) && sinks.contains(RECEIVER_SINK), "{sinks}");
        assert_whole(&play_and_record(&server));
    }

    #[test]
    fn two_servers_do_not_meet() {
        if crate::skipped(PulseServer::available()) {
            return;
        }
        let (one, other) = (PulseServer::start().unwrap(), PulseServer::start().unwrap());
        one.pactl(&["set-sink-mute", SENDER_SINK, "1"]).unwrap();
        assert!(one.pactl(&["get-sink-mute", SENDER_SINK]).unwrap().contains("yes"));
        assert!(other.pactl(&["get-sink-mute", SENDER_SINK]).unwrap().contains("no"));
    }
}
