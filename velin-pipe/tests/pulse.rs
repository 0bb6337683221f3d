//! With a real PulseAudio, private to each test.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use velin_pipe::pipeline::{self, RunOptions};
use velin_pipe::plan::{Direction, Link, Make, Node, PipelinePlan, Plan, Property, PropertyValue};
use velin_pipe::preset::diagnostic::Sources;

use support::{Home, Run, SOON, text};

/// A server with two outputs that play to nobody.
struct Pulse {
    process: Child,
    home: Home,
}

impl Pulse {
    fn start() -> Self {
        let home = Home::new();
        let socket = home.path("native");
        let process = Command::new("pulseaudio")
            .args(["--daemonize=no", "--exit-idle-time=-1", "-n"])
            .arg("--load=module-null-sink sink_name=nowhere rate=48000")
            .arg("--load=module-null-sink sink_name=elsewhere rate=48000")
            .arg(format!(
                "--load=module-native-protocol-unix auth-anonymous=1 socket={}",
                socket.display()
            ))
            .env("HOME", home.path(""))
            .env("XDG_RUNTIME_DIR", home.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need the package pulseaudio");
        assert!(support::wait_until(SOON, || socket.exists()), "PulseAudio does not start");
        Self { process, home }
    }

    fn server(&self) -> String {
        format!("unix:{}", self.home.path("native").display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("PULSE_SERVER", self.server());
        command
    }

    /// Runs the program with `preset` for three seconds; exit code and everything that was said.
    fn run(&self, preset: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let preset = self.home.write("preset.toml", &format!("schema = 1\n{preset}"));
        let stats = self.path("stats.json");
        let mut command = self.command(&["run", text(&preset), "--duration", "3s"]);
        command.arg("--stats-json").arg(stats).envs(variables.iter().copied());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
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

#[test]
fn the_default_outputs_monitor_is_found_by_itself_and_named() {
    let pulse = Pulse::start();
    let preset = "[[capture]]\nkind = \"system\"\n[[send]]\nto = \"127.0.0.1:9\"\n";
    let (code, said) = pulse.run(preset, &[]);
    assert_eq!(code, Some(0), "{said}");
    let words =
        "capture0: playing from Monitor of Null Output (nowhere.monitor) on GstPulseSrcClock";
    assert!(said.contains(words), "{said}");
    let summary = summary(&pulse.path("stats.json"));
    let capture = &summary["pipelines"][0];
    assert_eq!(capture["clock"], "GstPulseSrcClock", "{summary}");
    assert_eq!(capture["device"], "Monitor of Null Output (nowhere.monitor)", "{summary}");
    assert!(capture["position-seconds"].as_f64().unwrap() > 0.5, "{summary}");
}

#[test]
fn the_environment_chooses_other_sources() {
    let pulse = Pulse::start();
    for (kind, variable) in [("system", "VELIN_LINUX_MONITOR"), ("mic", "VELIN_LINUX_MIC_SOURCE")] {
        let preset = format!("[[capture]]\nkind = \"{kind}\"\n[[send]]\nto = \"127.0.0.1:9\"\n");
        let (code, said) = pulse.run(&preset, &[(variable, "elsewhere.monitor")]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("(elsewhere.monitor) on GstPulseSrcClock"), "{said}");
    }
}

#[test]
fn what_one_output_plays_is_heard_on_another_without_a_gap() {
    let pulse = Pulse::start();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../presets");
    let (sent, heard) = (pulse.path("sent.json"), pulse.path("heard.json"));

    let play = shipped.join("play.toml");
    let mut command = pulse.command(&["run", text(&play), "--stats-json", text(&heard)]);
    command.args(["--set", "playback.0.device=elsewhere", "--set", "receive.bind=127.0.0.1"]);
    command.args(["--set", "receive.port=0", "--set", "receive.audio-port=0"]);
    let mut receiver = Run::of(command);

    let to = format!("send.to=127.0.0.1:{}", receiver.port());
    let desktop = shipped.join("send-desktop.toml");
    let mut command = pulse.command(&["run", text(&desktop), "--stats-json", text(&sent)]);
    let mut sender = Run::of({
        command.args(["--set", &to]);
        command
    });
    receiver.wait_for("stream added: desktop from age1…");
    // The length of the run is what is tested.
    std::thread::sleep(Duration::from_secs(10));
    for run in [&mut receiver, &mut sender] {
        run.signal("-INT");
        assert_eq!(run.ends_within(Duration::from_secs(3)), Some(0), "{}", run.said());
    }

    let (sent, heard) = (summary(&sent), summary(&heard));
    assert_eq!(sent["pipelines"][0]["clock"], "GstPulseSrcClock", "{sent}");
    assert!(sent["elements"][0]["stats"]["packets-sent"].as_u64() > Some(3000), "{sent}");
    assert_eq!(heard["pipelines"][0]["clock"], "GstPulseSinkClock", "{heard}");
    assert_eq!(heard["pipelines"][0]["device"], "Null Output (elsewhere)", "{heard}");
    assert_eq!(heard["warnings"], Value::Array(vec![]), "{heard}");
    let stats = &heard["elements"][0]["stats"];
    let count = |name: &str| stats[name].as_u64().unwrap();
    assert_eq!(count("lost"), 0, "{heard}");
    // A null sink that slept takes 1.5 s to begin.
    let frames = count("received") + count("concealed");
    assert!(frames > 8 * 48_000, "{heard}");
    // Where the machine itself stands still, as busy ones do, so does the sound: not for long.
    assert!(count("concealed") < frames / 10, "{heard}");
}

#[test]
fn a_device_that_is_not_there_is_named_with_those_that_are() {
    let pulse = Pulse::start();
    let (code, said) = pulse.run("[receive]\n[[playback]]\ndevice = \"nowhare\"\n", &[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("preset.toml:4:10: error: there is no device `nowhare`"), "{said}");
    assert!(said.contains("did you mean `nowhere`? Known here: "), "{said}");
    let preset =
        "[[capture]]\nkind = \"device\"\ndevice = \"USB\"\n[[send]]\nto = \"127.0.0.1:9\"\n";
    let (code, said) = pulse.run(preset, &[]);
    assert_eq!(code, Some(69), "{said}");
    let known = said.lines().find(|line| line.contains("known here: ")).unwrap_or_default();
    assert!(known.contains("nowhere.monitor") && known.contains("elsewhere.monitor"), "{said}");
}
