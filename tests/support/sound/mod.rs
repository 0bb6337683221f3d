//! Private sound servers for tests: a real PulseAudio and a real PipeWire, each with two null sinks at
//! 48 kHz, on sockets of their own in a temporary folder. They touch neither the user's session nor
//! each other, and end with the test.

mod pipewire;
mod pulse;

pub use pipewire::PipeWireServer;
pub use pulse::PulseServer;

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::proc::{self, Process};

/// The null sink a sending machine would capture: its monitor is [`SENDER_MONITOR`].
pub const SENDER_SINK: &str = "velin_sender";
/// What is played into [`SENDER_SINK`].
pub const SENDER_MONITOR: &str = "velin_sender.monitor";
/// The null sink a receiving machine would play to: its monitor is [`RECEIVER_MONITOR`].
pub const RECEIVER_SINK: &str = "velin_receiver";
/// What is played into [`RECEIVER_SINK`].
pub const RECEIVER_MONITOR: &str = "velin_receiver.monitor";

/// What both servers have in common: they speak PulseAudio's protocol.
pub trait SoundServer {
    /// The environment that makes a client use this server and no other.
    fn environment(&self) -> Vec<(&'static str, String)>;

    /// `program` with this server's [`environment`](Self::environment).
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// Runs pactl and returns what it prints.
    ///
    /// # Errors
    /// pactl fails; the text carries its output.
    fn pactl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command("pactl");
        command.args(arguments);
        proc::run(command, LIMIT)
    }

    /// Starts to play a WAV file into `sink`; the process ends with the file.
    ///
    /// # Errors
    /// paplay cannot be started.
    fn play(&self, sink: &str, file: &Path) -> io::Result<Process> {
        let mut command = self.command("paplay");
        command.arg(format!("--device={sink}")).arg("--latency-msec=50").arg(file);
        Process::spawn(proc::urgent(&command))
    }

    /// Starts to record `source` to a WAV file (48 kHz, two channels, 16 bits) until the process is
    /// terminated.
    ///
    /// # Errors
    /// parec cannot be started.
    fn record(&self, source: &str, file: &Path) -> io::Result<Process> {
        let mut command = self.command("parec");
        command
            .arg(format!("--device={source}"))
            .args(["--file-format=wav", "--rate=48000", "--channels=2", "--format=s16le"])
            .arg("--latency-msec=20")
            .arg(file);
        Process::spawn(proc::urgent(&command))
    }
}

/// How long a server may take to answer: a loaded machine is slow, a broken one is slower.
const LIMIT: Duration = Duration::from_secs(20);

fn load_null_sinks(server: &impl SoundServer) -> Result<(), String> {
    for sink in [SENDER_SINK, RECEIVER_SINK] {
        server.pactl(&[
            "load-module",
            "module-null-sink",
            &format!("sink_name={sink}"),
            "rate=48000",
            "channels=2",
            "channel_map=front-left,front-right",
        ])?;
    }
    // A desktop's default sink is where applications play: here the sender's.
    server.pactl(&["set-default-sink", SENDER_SINK]).map(drop)
}

/// Waits until the server answers, and fails early when a process of it has ended.
fn wait_until_it_answers(
    server: &impl SoundServer,
    processes: &mut [&mut Process],
) -> Result<(), String> {
    let mut last = String::new();
    let mut dead = None;
    proc::wait_until(LIMIT, || {
        dead = processes.iter_mut().find_map(|p| (!p.is_running()).then(|| p.output()));
        if dead.is_some() {
            return true;
        }
        match server.pactl(&["info"]) {
            Ok(_) => last.clear(),
            Err(error) => last = error,
        }
        last.is_empty()
    });
    match dead {
        Some(output) => Err(format!("the sound server ended at once:\n{output}")),
        None if last.is_empty() => Ok(()),
        None => Err(format!("the sound server does not answer: {last}")),
    }
}

fn has_program(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn all_there(programs: &[&str]) -> Result<(), String> {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| !has_program(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("not installed: {} (scripts/setup.sh test installs them)", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{self, Clip, Comparison};

    /// Plays a tune into a null sink and compares what its monitor records.
    pub(super) fn play_and_record(server: &impl SoundServer) -> Comparison {
        let dir = tempfile::tempdir().unwrap();
        let (tune_file, heard_file) = (dir.path().join("tune.wav"), dir.path().join("heard.wav"));
        let tune = audio::melody(48_000, 2, Duration::from_secs(3));
        tune.write_16(&tune_file).unwrap();

        let mut recorder = server.record(SENDER_MONITOR, &heard_file).unwrap();
        let recording = || std::fs::metadata(&heard_file).is_ok_and(|m| m.len() > 4096);
        assert!(proc::wait_until(LIMIT, recording), "parec: {}", recorder.output());
        let mut player = server.play(SENDER_SINK, &tune_file).unwrap();
        let status = player.wait(LIMIT).unwrap();
        assert!(status.success(), "paplay: {}", player.output());
        recorder.terminate();
        recorder.wait(LIMIT).unwrap();
        audio::compare(&tune, &Clip::read(&heard_file).unwrap()).unwrap()
    }

    pub(super) fn assert_whole(result: &Comparison) {
        assert!(result.correlation > 0.999, "{result}");
        assert_eq!(result.gaps, [], "{result}");
        assert!(result.level_db.abs() < 0.1, "{result}");
        assert!(result.lost_at_start.as_millis() < 20, "{result}");
        assert!(result.lost_at_end.as_millis() < 20, "{result}");
    }
}
