//! Sound between this machine and a Windows one: the plugin and `velin-pipe` as they are built for
//! Windows, run by Wine with GStreamer's own Windows build.
//!
//! `scripts/windows.sh` builds all that and then runs this. Anywhere else these tests are skipped:
//! what a folder holds from an earlier build says nothing about this one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use velin::audio::Clip;
use velin::launch::{Device, PATIENT, RATE, Receiver, SOON, alone, first_sound, number_after};
use velin::proc::{self, Process, wait_until};

/// Ten periods in a block of ten milliseconds.
const TONE: f64 = 1000.0;
const LEVEL: f64 = 0.25;

/// Wine takes its time to start, the more so on a busy machine.
const START: Duration = Duration::from_secs(60);

/// What is looked at, after half a second for the link to settle.
const HEARD: usize = 3 * RATE as usize;
const SETTLING: usize = RATE as usize / 2;

#[test]
fn a_tone_from_windows_plays_here() {
    let Some(windows) = Windows::new() else { return };
    let _alone = alone();
    let device = Device::new().unwrap();
    windows.meet(&device);
    let receiver =
        Receiver::start(&device, "port=0 audio-port=0 bind-address=127.0.0.1", |c| c).unwrap();

    let sender = windows.launch(&format!("{} port={}", tone(), receiver.port()));
    let sender = Process::spawn(sender).unwrap();
    let heard = || receiver.heard();
    let clip = recorded(heard).unwrap_or_else(|| {
        panic!("no tone: {}\n{}", receiver.output(), sender.output());
    });
    is_the_tone(&clip);
}

#[test]
fn a_tone_from_here_plays_on_windows() {
    let Some(windows) = Windows::new() else { return };
    let _alone = alone();
    let device = Device::new().unwrap();
    windows.meet(&device);
    let file = windows.folder.path().join("heard.f32");
    let receiver = Process::spawn(windows.launch(&format!(
        "velinsrc {PATIENT} port=0 audio-port=0 bind-address=127.0.0.1 ! \
         audio/x-raw,format=F32LE,rate={RATE},channels=2 ! \
         filesink buffer-mode=unbuffered sync=false location={}",
        on_windows(&file)
    )))
    .unwrap();
    let line = receiver.wait_for_line("velin/listening", START).unwrap();
    let port: u16 = number_after(&line, "port=(uint)").expect(&line);

    let sender = Process::spawn(device.launch(&format!("{} port={port}", tone()))).unwrap();
    let clip = recorded(|| floats(&file)).unwrap_or_else(|| {
        panic!("no tone: {}\n{}", receiver.output(), sender.output());
    });
    is_the_tone(&clip);
}

/// A Windows machine: programs that Wine runs, and a user's configuration.
struct Windows {
    /// Runs a Windows program.
    run: PathBuf,
    /// GStreamer's programs.
    gstreamer: PathBuf,
    /// What was built here.
    built: PathBuf,
    folder: TempDir,
}

impl Windows {
    /// Nothing where the Windows half is not under test.
    fn new() -> Option<Self> {
        if env::var_os("VELIN_REQUIRE_WINDOWS").is_none() {
            println!("skipped: the Windows half is built and tested by scripts/windows.sh");
            return None;
        }
        let place = env::var_os("VELIN_WINDOWS_DIR").map(PathBuf::from);
        let place = place.expect("VELIN_WINDOWS_DIR: run this through scripts/windows.sh link");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let windows = Self {
            run: place.join("run"),
            gstreamer: place.join("gstreamer/bin"),
            built: root.join("target/windows/x86_64-pc-windows-gnu/windows"),
            folder: tempfile::Builder::new().prefix("velin-windows-").tempdir().unwrap(),
        };
        for needed in [&windows.run, &windows.built.join("velin-pipe.exe"), &windows.plugins()] {
            assert!(needed.exists(), "{} is missing: scripts/windows.sh", needed.display());
        }
        Some(windows)
    }

    /// Makes this machine and `device` trust each other, with the commands that people use.
    fn meet(&self, device: &Device) {
        let theirs = device.key().recipient();
        let shown = self.velin_pipe(&["identity", "show"]);
        let start = shown.find("age1").unwrap_or_else(|| panic!("no recipient: {shown}"));
        let ours = shown[start..start + 62].parse().unwrap();
        self.velin_pipe(&["trust", "add", &theirs, "--name", "linux"]);
        device.trust(ours, "windows");
    }

    fn velin_pipe(&self, arguments: &[&str]) -> String {
        let mut command = self.command(&self.built.join("velin-pipe.exe"));
        command.args(arguments);
        proc::run(command, START).unwrap()
    }

    /// `gst-launch-1.0.exe`, printing all messages, with `pipeline` split at blanks.
    fn launch(&self, pipeline: &str) -> Command {
        let mut command = self.command(&self.gstreamer.join("gst-launch-1.0.exe"));
        command.arg("-m").args(pipeline.split_whitespace());
        command
            .env("GST_PLUGIN_PATH", on_windows(&self.plugins()))
            .env("VELIN_WINDOWS_REGISTRY", on_windows(&self.built.join("registry.bin")));
        command
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.run);
        command.arg(program).env("VELIN_CONFIG_DIR", on_windows(&self.folder.path().join("velin")));
        // The Linux half's plugin is none of Wine's business.
        command.env_remove("GST_PLUGIN_PATH").env_remove("G_DEBUG");
        command
    }

    fn plugins(&self) -> PathBuf {
        self.built.join("gst-plugins")
    }
}

/// A path of this machine as Wine's programs see it. With slashes, which Windows takes as well and
/// launch lines do not take for something else.
fn on_windows(path: &Path) -> String {
    format!("Z:{}", path.display())
}

fn tone() -> String {
    format!(
        "audiotestsrc is-live=true samplesperbuffer=240 freq={TONE} volume={LEVEL} ! \
         audio/x-raw,format=S16LE,rate={RATE},channels=2 ! velinsink host=127.0.0.1"
    )
}

/// What `heard` gives once there is enough of it, from its first sound on.
fn recorded(heard: impl Fn() -> Clip) -> Option<Clip> {
    let mut found = None;
    wait_until(START + SOON, || {
        let clip = heard();
        let first = first_sound(&clip, 0).map(|at| at + SETTLING);
        let whole = first.filter(|at| clip.samples.len() >= 2 * (at + HEARD));
        found = whole
            .map(|at| Clip { samples: clip.samples[2 * at..2 * (at + HEARD)].to_vec(), ..clip });
        // A look takes long where much was recorded.
        std::thread::sleep(Duration::from_millis(50));
        found.is_some()
    });
    found
}

/// Pitch, level and continuity, in blocks of ten milliseconds of the left channel. A block with a
/// gap, a click or a jump in it is not a pure tone. A few may be: this machine is busy.
fn is_the_tone(clip: &Clip) {
    let blocks: Vec<Block> = clip.samples.chunks_exact(2 * 480).map(Block::of).collect();
    let right = |block: &&Block| (block.level - LEVEL).abs() < 0.02 && block.rest < 0.02;
    let good = blocks.iter().filter(right).count();
    println!("{good} of {} blocks are as they should be", blocks.len());
    assert!(good * 100 >= blocks.len() * 95, "{good} of {}", blocks.len());

    // How the phase moves from block to block tells the pitch; drift correction moves it a little.
    let turns = blocks.windows(2).filter(|pair| pair.iter().all(|b| right(&b)));
    let mut turns: Vec<f64> = turns
        .map(|pair| {
            let turn = (pair[1].phase - pair[0].phase) / std::f64::consts::TAU;
            turn - turn.round()
        })
        .collect();
    turns.sort_by(f64::total_cmp);
    let pitch = TONE + turns[turns.len() / 2] * f64::from(RATE) / 480.0;
    println!("pitch {pitch:.2} Hz");
    assert!((pitch - TONE).abs() < 1.0, "{pitch} Hz");
}

/// Ten milliseconds: the tone in it, and the amplitude of what is not the tone.
struct Block {
    level: f64,
    phase: f64,
    rest: f64,
}

impl Block {
    fn of(stereo: &[f32]) -> Self {
        let left = || stereo.iter().step_by(2).map(|s| f64::from(*s)).enumerate();
        let frames = (stereo.len() / 2) as f64;
        let angle = |i: usize| std::f64::consts::TAU * TONE * i as f64 / f64::from(RATE);
        let (mut re, mut im) = (0.0, 0.0);
        for (i, sample) in left() {
            re += 2.0 / frames * sample * angle(i).cos();
            im += 2.0 / frames * sample * angle(i).sin();
        }
        let rest: f64 =
            left().map(|(i, s)| (s - re * angle(i).cos() - im * angle(i).sin()).powi(2)).sum();
        Self { level: re.hypot(im), phase: re.atan2(im), rest: (2.0 * rest / frames).sqrt() }
    }
}

fn floats(file: &Path) -> Clip {
    let bytes = fs::read(file).unwrap_or_default();
    let samples = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut samples: Vec<f32> = samples.collect();
    samples.truncate(samples.len() / 2 * 2);
    Clip { rate: RATE, channels: 2, samples }
}
