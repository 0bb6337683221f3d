//! With a real PulseAudio, private to each test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use velin_pipe::pipeline::{self, RunOptions};
use velin_pipe::plan::{Direction, Link, Make, Node, PipelinePlan, Plan, Property, PropertyValue};
use velin_pipe::preset::diagnostic::Sources;

/// A server with one output that plays to nobody.
struct Pulse {
    process: Child,
    dir: tempfile::TempDir,
}

impl Pulse {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("native");
        let process = Command::new("pulseaudio")
            .args(["--daemonize=no", "--exit-idle-time=-1", "-n"])
            .arg("--load=module-null-sink sink_name=nowhere")
            .arg(format!(
                "--load=module-native-protocol-unix auth-anonymous=1 socket={}",
                socket.display()
            ))
            .env("HOME", dir.path())
            .env("XDG_RUNTIME_DIR", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need the package pulseaudio");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "PulseAudio does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Self { process, dir }
    }

    fn server(&self) -> String {
        format!("unix:{}", self.dir.path().join("native").display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn summary(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_receiving_pipeline_runs_on_its_outputs_clock_even_when_the_output_offers_it_late() {
    let pulse = Pulse::start();
    let server = pulse.server();
    let node = |factory: &str, properties: &[(&str, &str)]| Node {
        name: factory.to_owned(),
        make: Make::Factory(factory.to_owned()),
        properties: properties
            .iter()
            .map(|(name, value)| Property {
                name: (*name).to_owned(),
                value: PropertyValue::Text((*value).to_owned()),
                span: None,
                name_span: None,
            })
            .collect(),
        span: None,
    };
    let link = |from: &str, to: &str| Link { from: from.to_owned(), to: to.to_owned() };
    // This source negotiates only when it plays: by then GStreamer has settled on its own clock.
    let plan = Plan {
        pipelines: vec![PipelinePlan {
            name: "playback0".to_owned(),
            direction: Direction::Receive,
            looped: false,
            nodes: vec![
                node("audiotestsrc", &[("is-live", "true")]),
                node("pulsesink", &[("server", &server), ("buffer-time", "40000")]),
            ],
            links: vec![link("audiotestsrc", "pulsesink")],
        }],
    };
    let stats = pulse.path("stats.json");
    let options = RunOptions {
        duration: Some(Duration::from_millis(1500)),
        stats_json: Some(stats.clone()),
        ..RunOptions::default()
    };
    pipeline::init().unwrap();
    pipeline::run(&plan, &Arc::new(Sources::default()), &options).unwrap();
    let summary = summary(&stats);
    assert_eq!(summary["pipelines"][0]["clock"], "GstPulseSinkClock", "{summary}");
    assert_eq!(summary["warnings"], Value::Array(vec![]), "{summary}");
}

/// Runs the program with `preset` for a while; exit code and everything that was said.
fn launched(pulse: &Pulse, preset: &str, stats: &Path) -> (Option<i32>, String) {
    let path = pulse.path("preset.toml");
    fs::write(&path, format!("schema = 1\n{preset}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_velin-pipe"))
        .args(["run", "--duration", "3s", "--stats-json"])
        .args([stats, &path])
        .env("PULSE_SERVER", pulse.server())
        .env("VELIN_CONFIG_DIR", pulse.path("config"))
        .env_remove("VELIN_LINUX_MONITOR")
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
#[ignore = "needs velinsink and velinsrc"]
fn the_default_outputs_monitor_is_found_by_itself() {
    let pulse = Pulse::start();
    let stats = pulse.path("stats.json");
    let preset = "[[capture]]\nkind = \"system\"\n[[send]]\nto = \"127.0.0.1:9\"\n";
    let (code, said) = launched(&pulse, preset, &stats);
    assert_eq!(code, Some(0), "{said}");
    let summary = summary(&stats);
    assert_eq!(summary["pipelines"][0]["clock"], "GstPulseSrcClock", "{summary}");
    assert!(summary["pipelines"][0]["position-seconds"].as_f64().unwrap() > 0.5, "{summary}");
}

#[test]
fn a_device_that_is_not_there_is_named_with_those_that_are() {
    let pulse = Pulse::start();
    let preset = "[receive]\n[[playback]]\ndevice = \"nowhare\"\n";
    let (code, said) = launched(&pulse, preset, &pulse.path("stats.json"));
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("preset.toml:4:10: error: there is no device `nowhare`"), "{said}");
    assert!(said.contains("did you mean `nowhere`?"), "{said}");
}
