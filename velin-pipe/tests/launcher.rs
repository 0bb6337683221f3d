//! The program itself, from outside: what it runs, how it ends.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A sender and a receiver on free ports, without any device.
const LOOPBACK: &str = r#"
schema = 1
description = "loopback"
[[capture]]
kind = "test"
[[send]]
to = "127.0.0.1:${PORT}"
audio-port = ${AUDIO_PORT}
[receive]
bind = "127.0.0.1"
port = ${PORT}
audio-port = ${AUDIO_PORT}
[[playback]]
kind = "none"
"#;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The loopback preset on ports that were free a moment ago.
    fn loopback(&self) -> PathBuf {
        let port = || {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap().port().to_string()
        };
        let text = LOOPBACK.replace("${PORT}", &port()).replace("${AUDIO_PORT}", &port());
        let path = self.path("loopback.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_velin-pipe"));
        command
            .args(arguments)
            .env("VELIN_CONFIG_DIR", self.path("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Exit code and everything that was printed.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits for the child to end, but not for ever.
fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("still running after {limit:?}");
}

/// Waits for the first line on stderr: the signals are watched by then.
fn wait_until_started(child: &mut Child) {
    let stderr = child.stderr.as_mut().unwrap();
    let mut byte = [0];
    while stderr.read(&mut byte).unwrap() == 1 && byte != *b"\n" {}
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn what_is_missing_has_its_own_exit_code() {
    let home = Home::new();
    assert_eq!(home.run(&["run", "nosuch"]).0, Some(66));
    let preset = home.path("p.toml");
    let file = "schema = 1\n[[capture]]\nkind = \"file\"\npath = \"/nosuch.wav\"\n\
                [[send]]\nto = \"127.0.0.1\"\n";
    fs::write(&preset, file).unwrap();
    let (code, said) = home.run(&["run", text(&preset)]);
    assert_eq!(code, Some(66), "{said}");
    assert!(said.starts_with("there is no file /nosuch.wav\ncheck `path`"), "{said}");
}

#[test]
fn a_damaged_trust_file_is_named_and_nothing_runs() {
    let home = Home::new();
    fs::create_dir(home.path("config")).unwrap();
    fs::write(home.path("config/trust.toml"), "nonsense").unwrap();
    let (code, said) = home.run(&["check", text(&home.loopback())]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("trust.toml"), "{said}");
}

#[test]
fn version_names_the_copy_of_the_elements_that_is_used() {
    let (code, said) = Home::new().run(&["version"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("GStreamer 1."), "{said}");
    assert!(said.contains("\nelements: "), "{said}");
}

#[test]
#[ignore = "needs velinsink and velinsrc"]
fn every_shipped_preset_is_right() {
    let presets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../presets");
    let mut count = 0;
    for entry in fs::read_dir(presets).unwrap() {
        let path = entry.unwrap().path();
        let (code, said) = Home::new().run(&["check", text(&path)]);
        assert_eq!(code, Some(0), "{said}");
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
#[ignore = "needs velinsink and velinsrc"]
fn a_run_ends_when_its_time_is_up_and_leaves_a_summary() {
    let home = Home::new();
    let stats = home.path("stats.json");
    let preset = home.loopback();
    let arguments = ["run", text(&preset), "--duration", "1500ms", "--stats-json", text(&stats)];
    let (code, said) = home.run(&arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("loopback\n"), "{said}");
    assert!(!said.contains('\x1b'), "control characters without a terminal: {said}");
    let summary: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
    assert_eq!(summary["errors"], Value::Array(vec![]), "{summary}");
    let factories: Vec<_> = summary["elements"].as_array().unwrap().iter().collect();
    assert_eq!(factories[0]["factory"], "velinsrc");
    assert_eq!(factories[1]["factory"], "velinsink");
}

#[test]
#[ignore = "needs velinsink and velinsrc"]
fn a_signal_ends_a_run_cleanly_within_two_seconds() {
    for name in ["-INT", "-TERM"] {
        let home = Home::new();
        let stats = home.path("stats.json");
        let preset = home.loopback();
        let mut child =
            home.command(&["run", text(&preset), "--stats-json", text(&stats)]).spawn().unwrap();
        wait_until_started(&mut child);
        signal(&child, name);
        assert_eq!(wait(&mut child, Duration::from_secs(3)), Some(0), "{name}");
        assert!(stats.exists(), "{name}");
    }
}

#[test]
#[ignore = "needs velinsink and velinsrc"]
fn what_was_received_is_a_finished_wav_file_after_a_signal() {
    let home = Home::new();
    let wav = home.path("received.wav");
    let preset = home.loopback();
    let playback = format!("playback=[{{kind=\"file\", path=\"{}\"}}]", text(&wav));
    let mut child = home.command(&["run", text(&preset), "--set", &playback]).spawn().unwrap();
    wait_until_started(&mut child);
    // The file grows as soon as something plays.
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::metadata(&wav).map_or(0, |file| file.len()) < 100_000 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "-INT");
    assert_eq!(wait(&mut child, Duration::from_secs(3)), Some(0));
    let bytes = fs::read(&wav).unwrap();
    let riff = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    assert_eq!(riff as usize + 8, bytes.len(), "the header was not finished");
}

#[test]
#[ignore = "needs velinsink and velinsrc"]
fn a_value_that_velinsink_refuses_points_at_the_preset() {
    let home = Home::new();
    let preset = home.loopback();
    let set = "send.0.properties={ packet-tiem = 1 }";
    let (code, said) = home.run(&["check", text(&preset), "--set", set]);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains(":1:21: error: velinsink has no property `packet-tiem`"), "{said}");
    assert!(said.contains("did you mean `packet-time`?"), "{said}");
}

#[test]
#[ignore = "needs velinsink and velinsrc"]
fn what_will_not_end_is_cut_off_after_two_seconds_and_a_second_signal_cuts_it_off_at_once() {
    // A closed valve lets no end through; without a meter nobody knows that nothing came.
    let stuck = "schema = 1\n[[capture]]\nkind = \"launch\"\nformat = \"S24LE\"\n\
                 launch = \"audiotestsrc is-live=true ! valve drop=true\"\n\
                 [[send]]\nto = \"127.0.0.1:9\"\n";
    let home = Home::new();
    let preset = home.path("stuck.toml");
    fs::write(&preset, stuck).unwrap();
    for (signals, limit, code) in [(1, 3500, 0), (2, 1500, 130)] {
        let mut child = home.command(&["run", text(&preset)]).spawn().unwrap();
        wait_until_started(&mut child);
        // Long enough for the pipeline to be past its start.
        thread::sleep(Duration::from_millis(300));
        for _ in 0..signals {
            signal(&child, "-INT");
            thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(wait(&mut child, Duration::from_millis(limit)), Some(code));
    }
}
