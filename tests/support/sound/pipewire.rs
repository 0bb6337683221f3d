//! A private PipeWire with its session manager and its PulseAudio face.

use std::io;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{LIMIT, SoundServer, all_there, load_null_sinks, wait_until_it_answers};
use crate::proc::{self, Process};

/// PipeWire, WirePlumber and pipewire-pulse on a message bus of their own, with two null sinks.
#[derive(Debug)]
pub struct PipeWireServer {
    // Ended in this order: clients before the daemon, the bus last.
    pulse: Process,
    manager: Process,
    daemon: Process,
    bus: Process,
    folder: TempDir,
}

impl PipeWireServer {
    /// Whether this machine has what it takes, or what it lacks.
    ///
    /// # Errors
    /// Names the missing programs.
    pub fn available() -> Result<(), String> {
        all_there(&[
            "dbus-daemon",
            "pipewire",
            "wireplumber",
            "pipewire-pulse",
            "pactl",
            "paplay",
            "parec",
            "pw-cli",
        ])
    }

    /// Starts the processes and returns when they answer.
    ///
    /// # Errors
    /// One of them does not start; the text carries its output.
    pub fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("velin-pw-")
            .tempdir()
            .map_err(|e| format!("no temporary folder: {e}"))?;
        let spawn =
            |command: Command| Process::spawn(proc::urgent(&command)).map_err(|e| e.to_string());

        let mut bus = command(folder.path(), "dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--nosyslog"])
            .arg(format!("--address=unix:path={}", folder.path().join("bus").display()));
        let bus = spawn(bus)?;
        wait_for_socket(&folder.path().join("bus"), &bus)?;

        let daemon = spawn(command(folder.path(), "pipewire"))?;
        wait_for_socket(&folder.path().join("pipewire-0"), &daemon)?;
        let manager = spawn(command(folder.path(), "wireplumber"))?;
        let pulse = spawn(command(folder.path(), "pipewire-pulse"))?;
        wait_for_socket(&folder.path().join("pulse/native"), &pulse)?;

        let mut server = Self { pulse, manager, daemon, bus, folder };
        let Self { pulse, manager, daemon, bus, folder } = &mut server;
        wait_until_it_answers(&Client(folder.path()), &mut [pulse, manager, daemon, bus])?;
        load_null_sinks(&server)?;
        server.wait_for_links()?;
        Ok(server)
    }

    /// What the processes have logged.
    #[must_use]
    pub fn log(&self) -> String {
        [&self.daemon, &self.manager, &self.pulse].map(Process::output).join("\n")
    }

    /// Starts `pw-play`, which speaks PipeWire's own protocol, into `sink`.
    ///
    /// # Errors
    /// pw-play cannot be started.
    pub fn play_natively(&self, sink: &str, file: &Path) -> io::Result<Process> {
        let mut command = self.command("pw-play");
        command.arg(format!("--target={sink}")).arg(file);
        Process::spawn(command)
    }

    /// WirePlumber takes over the new sinks a moment after they exist; a client that comes earlier is
    /// linked to nothing.
    fn wait_for_links(&self) -> Result<(), String> {
        let ready = proc::wait_until(LIMIT, || {
            self.pactl(&["info"]).is_ok_and(|info| info.contains(super::SENDER_SINK))
        });
        if ready { Ok(()) } else { Err(format!("no default sink:\n{}", self.log())) }
    }
}

impl SoundServer for PipeWireServer {
    fn environment(&self) -> Vec<(&'static str, String)> {
        Client(self.folder.path()).environment()
    }
}

struct Client<'a>(&'a Path);

impl SoundServer for Client<'_> {
    fn environment(&self) -> Vec<(&'static str, String)> {
        let folder = self.0.display();
        vec![
            ("HOME", folder.to_string()),
            ("XDG_RUNTIME_DIR", folder.to_string()),
            ("XDG_CONFIG_HOME", folder.to_string()),
            ("XDG_STATE_HOME", folder.to_string()),
            ("PIPEWIRE_RUNTIME_DIR", folder.to_string()),
            ("PIPEWIRE_REMOTE", "pipewire-0".into()),
            ("PULSE_SERVER", format!("unix:{folder}/pulse/native")),
            ("PULSE_RUNTIME_PATH", format!("{folder}/pulse")),
            ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={folder}/bus")),
        ]
    }
}

fn command(folder: &Path, program: &str) -> Command {
    let mut command = Client(folder).command(program);
    // Servers find their own sockets by the folder; a remote name is for clients.
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

fn wait_for_socket(path: &Path, process: &Process) -> Result<(), String> {
    if proc::wait_until(LIMIT, || path.exists()) {
        return Ok(());
    }
    Err(format!("{} never appeared:\n{}", path.display(), process.output()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_whole, play_and_record};
    use super::*;
    use crate::audio::{self, Clip};
    use crate::sound::{RECEIVER_MONITOR, RECEIVER_SINK};
    use std::time::Duration;

    #[test]
    fn pipewire_plays_into_its_null_sink_what_we_record_from_its_monitor() {
        if crate::skipped(PipeWireServer::available()) {
            return;
        }
        let server = PipeWireServer::start().unwrap();
        assert_whole(&play_and_record(&server));
    }

    #[test]
    fn a_native_pipewire_client_reaches_the_null_sink() {
        if crate::skipped(PipeWireServer::available()) {
            return;
        }
        let server = PipeWireServer::start().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (tune_file, heard_file) = (dir.path().join("tune.wav"), dir.path().join("heard.wav"));
        let tune = audio::melody(48_000, 2, Duration::from_secs(2));
        tune.write_16(&tune_file).unwrap();

        let mut recorder = server.record(RECEIVER_MONITOR, &heard_file).unwrap();
        let recording = || std::fs::metadata(&heard_file).is_ok_and(|m| m.len() > 4096);
        assert!(proc::wait_until(LIMIT, recording), "parec: {}", recorder.output());
        let mut player = server.play_natively(RECEIVER_SINK, &tune_file).unwrap();
        assert!(player.wait(LIMIT).unwrap().success(), "pw-play: {}", player.output());
        recorder.terminate();
        recorder.wait(LIMIT).unwrap();

        let result = audio::compare(&tune, &Clip::read(&heard_file).unwrap()).unwrap();
        assert!(result.correlation > 0.999, "{result}");
    }
}
