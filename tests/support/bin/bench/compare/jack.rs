//! The sound card of programs that live in JACK: clients that play and record cycle by cycle.
//!
//! A cycle's frames count as captured during the period before the cycle begins, and as heard when
//! the cycle begins in which they come out. JACK's dummy driver keeps no even pace: every cycle is
//! stamped.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{bail, ensure};
use velin::proc::wait_until;

use super::RATE;
use super::libjack::{Client, Cycle};
use super::probe::{ROOM, say};
use super::recording::Recording;
use super::signal::Signal;
use crate::timer::now;

/// How long the other program may take to show its ports.
const SOON: Duration = Duration::from_secs(10);

/// Plays the signal to the two ports (comma between them) and says "playing". "finish FILE" makes it
/// write which frame it captured when, and say "done".
pub(crate) fn play(signal: Signal, to: &str) -> anyhow::Result<()> {
    let mut client = open("bench-play")?;
    client.output("out_1")?;
    client.output("out_2")?;
    let marks = Arc::new(Mutex::new(Vec::with_capacity(1 << 18)));
    client.activate(Player { signal, next: 0, marks: marks.clone() })?;
    for (own, other) in ["bench-play:out_1", "bench-play:out_2"].iter().zip(to.split(',')) {
        connect(&client, own, other, other)?;
    }
    say("playing")?;
    serve(|file| {
        let mut out = BufWriter::new(File::create(file)?);
        for (frame, at) in marks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(out, "{frame} {at}")?;
        }
        Ok(out.flush()?)
    })
}

/// Records the port and says "playing". "finish FILE" makes it write the recording and say "done".
pub(crate) fn record(from: &str) -> anyhow::Result<()> {
    let mut client = open("bench-record")?;
    client.input("in_1")?;
    let recording = Arc::new(Mutex::new(Recording::with_capacity(ROOM)));
    client.activate(Recorder(recording.clone()))?;
    connect(&client, from, "bench-record:in_1", from)?;
    say("playing")?;
    serve(|file| {
        let recording = recording.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(recording.write(BufWriter::new(File::create(file)?))?)
    })
}

struct Player {
    signal: Signal,
    next: u64,
    /// Read once, at the end: nobody else holds the lock before.
    marks: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Cycle for Player {
    fn cycle(&mut self, frames: usize, ports: &mut [&mut [f32]]) {
        let (began, frames) = (now(), frames as u64);
        for port in ports {
            for (n, out) in (self.next..).zip(port.iter_mut()) {
                *out = f32::from(self.signal.sample(n as i64)) / 32_768.0;
            }
        }
        let captured = began.saturating_sub(frames * 1_000_000_000 / RATE);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push((self.next, captured));
        self.next += frames;
    }
}

struct Recorder(Arc<Mutex<Recording>>);

impl Cycle for Recorder {
    fn cycle(&mut self, _: usize, ports: &mut [&mut [f32]]) {
        let began = now();
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recording.add_floats(began, ports[0]);
    }
}

fn open(name: &str) -> anyhow::Result<Client> {
    let mut client = Client::open(name);
    wait_until(SOON, || {
        if client.is_err() {
            std::thread::sleep(Duration::from_millis(100));
            client = Client::open(name);
        }
        client.is_ok()
    });
    let client = client?;
    ensure!(client.rate() == RATE, "JACK runs at another rate");
    Ok(client)
}

/// Connects two ports as soon as `awaited` is there and its owner is active.
fn connect(client: &Client, from: &str, to: &str, awaited: &str) -> anyhow::Result<()> {
    ensure!(wait_until(SOON, || client.has_port(awaited)), "JACK has no port {awaited}");
    let mut connected = client.connect(from, to);
    wait_until(SOON, || {
        if connected.is_err() {
            connected = client.connect(from, to);
        }
        connected.is_ok()
    });
    connected
}

fn serve(finish: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for command in std::io::stdin().lines() {
        let command = command?;
        let Some(("finish", file)) = command.split_once(' ') else { bail!("no such command") };
        finish(file)?;
        say("done")?;
    }
    Ok(())
}
