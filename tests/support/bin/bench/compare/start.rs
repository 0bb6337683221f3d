//! Starting a peer, the sound card in front of it and the recorder behind it; and ending them.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Path as FilePath, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use velin::launch::Device;
use velin::net::Side;

use super::RATE;
use super::path::Path;
use super::peers::{Kind, Peer};
use super::probe::ROOM;
use super::process::Program;
use super::recording::{Capture, Recording};
use super::signal::Signal;
use crate::timer::{now, sleep_until};

/// What everything is started with.
pub(crate) struct Stage {
    pub(crate) path: Path,
    pub(crate) folder: PathBuf,
    /// The sender's user and the receiver's, who trust each other.
    pub(crate) users: [Device; 2],
}

/// A peer at work.
pub(crate) struct Running {
    pub(crate) sender: Program,
    pub(crate) receiver: Program,
    others: Vec<Program>,
    source: Source,
    sink: Sink,
    /// When the sender was started.
    pub(crate) spawned: u64,
    /// The sound was there at once, so that the time to the first sound means something.
    pub(crate) started_at_once: bool,
}

enum Source {
    /// The sender itself.
    Probe(Capture),
    Pipe(Writer),
    Jack(Program),
}

enum Sink {
    /// The receiver itself.
    Probe,
    Pipe(JoinHandle<Recording>),
    Jack(Program),
}

/// What a run leaves.
pub(crate) struct Left {
    pub(crate) capture: Capture,
    pub(crate) recording: Recording,
    /// When, delay, target (milliseconds) and drift (ppm), as the receiver saw them.
    pub(crate) told: Vec<(u64, f32, f32, f32)>,
}

/// For a receiver to listen.
const SETTLE: Duration = Duration::from_millis(500);
/// For a server that says nothing when it is ready.
const SERVER: Duration = Duration::from_millis(1_000);

impl Stage {
    /// Starts everything, the sound last; the source's clock runs fast by `ppm`.
    pub(crate) fn start(&self, peer: &Peer, ppm: f64) -> anyhow::Result<Running> {
        match &peer.kind {
            Kind::Pipelines { send, receive, chunk, velin } => {
                let signal = self.signal(peer);
                let signal = signal.to_str().context("a path in UTF-8")?;
                let receive = self.addressed(receive);
                let place = |side| {
                    move |mut command: Command| {
                        if *velin {
                            command.env("VELIN_CONFIG_DIR", self.users[side as usize].folder());
                        }
                        self.path.place(side, command)
                    }
                };
                let receiver =
                    Program::helper(&["receive", &receive], &self.folder, place(Side::B))?;
                anyhow::ensure!(receiver.hear()? == "playing");
                std::thread::sleep(SETTLE);
                let spawned = now();
                let (ppm_text, chunk) = (ppm.to_string(), chunk.to_string());
                let send = ["send", signal, &ppm_text, &chunk, &self.addressed(send)];
                let sender = Program::helper(&send, &self.folder, place(Side::A))?;
                let t0 = sender.hear()?.parse()?;
                Ok(Running {
                    sender,
                    receiver,
                    others: Vec::new(),
                    source: Source::Probe(Capture::steady(t0, ppm)),
                    sink: Sink::Probe,
                    spawned,
                    started_at_once: true,
                })
            }
            Kind::Snapcast { buffer_ms, chunk_ms } => {
                self.snapcast(peer, *buffer_ms, *chunk_ms, ppm)
            }
            Kind::JackTrip { period, queue, redundancy } => {
                self.jacktrip(peer, *period, *queue, *redundancy)
            }
        }
    }

    fn snapcast(
        &self,
        peer: &Peer,
        buffer_ms: u32,
        chunk_ms: u32,
        ppm: f64,
    ) -> anyhow::Result<Running> {
        let fifo = self.folder.join(format!("snapcast-{}", now()));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let configuration = self.folder.join("snapserver.conf");
        let (folder, source) = (self.folder.display(), fifo.display());
        fs::write(
            &configuration,
            format!(
                "[server]\ndatadir = {folder}\n[http]\nenabled = false\n[tcp]\nenabled = false\n\
                 [stream]\nsource = pipe://{source}?name=bench&sampleformat=48000:16:2&codec=pcm\
                 &chunk_ms={chunk_ms}\nbuffer = {buffer_ms}\n[logging]\nsink = stderr\n"
            ),
        )?;
        let spawned = now();
        let mut server = Command::new("snapserver");
        server.arg("-c").arg(&configuration);
        let sender = Program::quiet("snapserver", self.path.place(Side::A, server), &self.folder)?;
        std::thread::sleep(SERVER);
        // Open at both ends, so that this waits for nobody.
        let pipe = OpenOptions::new().read(true).write(true).open(&fifo)?;
        let mut client = Command::new("snapclient");
        let host = self.path.address(Side::A).to_string();
        client.args(["-h", &host, "--player", "file:filename=stdout", "--logsink", "stderr"]);
        client.args(["--hostID", "bench"]);
        let client = self.path.place(Side::B, client);
        let (receiver, sound) = Program::sounding("snapclient", client, &self.folder)?;
        let sink = Sink::Pipe(record(sound)?);
        std::thread::sleep(SERVER);
        let source = Source::Pipe(Writer::start(Signal::read(&self.signal(peer))?, pipe, ppm)?);
        let (others, started_at_once) = (Vec::new(), false);
        Ok(Running { sender, receiver, others, source, sink, spawned, started_at_once })
    }

    fn jacktrip(
        &self,
        peer: &Peer,
        period: u32,
        queue: u32,
        redundancy: u32,
    ) -> anyhow::Result<Running> {
        let names = ["a", "b"].map(|side| format!("velin-{}-{side}", std::process::id()));
        // A program in JACK's world, at that side.
        let there = |side: Side, mut command: Command| {
            command
                .env("JACK_DEFAULT_SERVER", &names[side as usize])
                .env("JACK_NO_START_SERVER", "1")
                .env("JACK_NO_AUDIO_RESERVATION", "1")
                .env("QT_QPA_PLATFORM", "offscreen");
            self.path.place(side, command)
        };
        let mut others = Vec::new();
        for side in [Side::A, Side::B] {
            let mut jackd = Command::new("jackd");
            let urgent = if self.path.can_be_bad() { "-R" } else { "-r" };
            jackd.args([urgent, "-n", &names[side as usize], "-d", "dummy"]);
            jackd.args(["-r", &RATE.to_string(), "-p", &period.to_string()]);
            others.push(Program::quiet("jackd", there(side, jackd), &self.folder)?);
        }
        std::thread::sleep(SERVER);
        let jacktrip = |arguments: &[&str]| {
            let mut command = Command::new("jacktrip");
            command.args(arguments);
            command.args([
                "-n",
                "2",
                "-q",
                &queue.to_string(),
                "-r",
                &redundancy.to_string(),
                "-D",
            ]);
            command
        };
        let listening = there(Side::B, jacktrip(&["-s"]));
        let receiver = Program::quiet("jacktrip", listening, &self.folder)?;
        std::thread::sleep(SERVER);
        let spawned = now();
        let host = self.path.address(Side::B).to_string();
        let calling = there(Side::A, jacktrip(&["-J", "JackTrip", "-c", &host]));
        let sender = Program::quiet("jacktrip", calling, &self.folder)?;
        let signal = self.signal(peer);
        let signal = signal.to_str().context("a path in UTF-8")?;
        let play = ["jack-play", signal, "JackTrip:send_1,JackTrip:send_2"];
        let player = Program::helper(&play, &self.folder, |c| there(Side::A, c))?;
        let record = ["jack-record", "JackTrip:receive_1"];
        let recorder = Program::helper(&record, &self.folder, |c| there(Side::B, c))?;
        for helper in [&player, &recorder] {
            anyhow::ensure!(helper.hear()? == "playing");
        }
        Ok(Running {
            sender,
            receiver,
            others,
            source: Source::Jack(player),
            sink: Sink::Jack(recorder),
            spawned,
            started_at_once: false,
        })
    }

    /// The file that the peer's signal is in.
    pub(crate) fn signal(&self, peer: &Peer) -> PathBuf {
        self.folder.join(format!("{}.s16", peer.band.name()))
    }

    fn addressed(&self, line: &str) -> String {
        let address = |side| self.path.address(side).to_string();
        line.replace("{A}", &address(Side::A)).replace("{B}", &address(Side::B))
    }
}

impl Running {
    /// An error if somebody has ended by now.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let mut all = [&mut self.sender, &mut self.receiver].into_iter().chain(&mut self.others);
        all.try_for_each(Program::check)
    }

    /// Ends it.
    pub(crate) fn finish(self, folder: &FilePath) -> anyhow::Result<Left> {
        let Self { mut sender, mut receiver, others, source, sink, .. } = self;
        let file = folder.join(format!("heard-{}", now()));
        let mut told = Vec::new();
        let recording = match sink {
            Sink::Probe => {
                told = finish(&mut receiver, &file)?;
                Recording::read(BufReader::new(File::open(&file)?))?
            }
            Sink::Jack(mut recorder) => {
                finish(&mut recorder, &file)?;
                Recording::read(BufReader::new(File::open(&file)?))?
            }
            Sink::Pipe(thread) => {
                drop(receiver);
                thread.join().map_err(|_| anyhow!("the recorder failed"))?
            }
        };
        let capture = match source {
            Source::Probe(capture) => capture,
            Source::Pipe(writer) => writer.stop(),
            Source::Jack(mut player) => {
                finish(&mut player, &file)?;
                let marks = fs::read_to_string(&file)?;
                let mark = |line: &str| -> anyhow::Result<(u64, u64)> {
                    let (frame, at) = line.split_once(' ').context("two numbers")?;
                    Ok((frame.parse()?, at.parse()?))
                };
                let marks = marks.lines().map(mark).collect::<Result<_, _>>()?;
                Capture { marks, rate: RATE as f64 }
            }
        };
        // With its goodbye before anything else ends.
        sender.check().ok();
        drop((sender, others));
        let _ = fs::remove_file(&file);
        let told = told.iter().filter_map(|line| {
            let mut words = line.split(' ');
            let at = words.next()?.parse().ok()?;
            let mut next = || words.next()?.parse::<f32>().ok();
            Some((at, next()? / 1e3, next()? / 1e3, next()?))
        });
        Ok(Left { capture, recording, told: told.collect() })
    }
}

/// Makes a helper write what it has, and gives what it says.
fn finish(helper: &mut Program, file: &FilePath) -> anyhow::Result<Vec<String>> {
    helper.say(&format!("finish {}", file.display()))?;
    let mut told = Vec::new();
    loop {
        match helper.hear()? {
            done if done == "done" => return Ok(told),
            line => told.push(line),
        }
    }
}

/// A sound card that writes to a pipe, in chunks of 2.5 ms.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    capture: Capture,
}

impl Writer {
    fn start(signal: Signal, mut pipe: File, ppm: f64) -> anyhow::Result<Self> {
        const CHUNK: u64 = 120;
        let stop = Arc::new(AtomicBool::new(false));
        let capture = Capture::steady(now(), ppm);
        let (stopped, pace) = (stop.clone(), capture.clone());
        let write = move || {
            for first in (0_u64..).step_by(CHUNK as usize) {
                sleep_until(pace.at((first + CHUNK) as i64) as u64);
                let written = pipe.write_all(&signal.interleaved(first, CHUNK));
                if written.is_err() || stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("card".into()).spawn(write)?;
        Ok(Self { stop, thread, capture })
    }

    fn stop(self) -> Capture {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.capture
    }
}

/// Stamps what comes out of a pipe until it ends.
fn record(mut sound: ChildStdout) -> anyhow::Result<JoinHandle<Recording>> {
    let read = move || {
        let mut recording = Recording::with_capacity(ROOM);
        let mut buffer = vec![0; 1 << 16];
        let mut rest = 0;
        while let Ok(length @ 1..) = sound.read(&mut buffer[rest..]) {
            let at = now();
            let whole = (rest + length) / 4 * 4;
            recording.add(at, &buffer[..whole]);
            buffer.copy_within(whole..rest + length, 0);
            rest = rest + length - whole;
        }
        recording
    };
    Ok(std::thread::Builder::new().name("recorder".into()).spawn(read)?)
}
