//! This program as a helper of itself: a sound card with a pipeline behind it, and a pipeline that is
//! listened to. Every GStreamer peer and Velin run in these.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use gst::prelude::*;

use super::recording::{Capture, Recording};
use super::signal::Signal;
use super::{cable, jack};
use crate::timer::{now, sleep_until};

/// Argument that makes this program a helper.
pub(crate) const ARGUMENT: &str = "--probe";

/// Seconds of sound that a recording has room for from the start.
pub(crate) const ROOM: u64 = 120;

/// What a helper does. Each ends with its standard input.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    match *arguments {
        ["cable", a, b] => cable::run([a, b]),
        ["send", signal, ppm, chunk, line] => {
            send(&Signal::read(Path::new(signal))?, ppm.parse()?, chunk.parse()?, line)
        }
        ["receive", line] => receive(line),
        ["jack-play", signal, to] => jack::play(Signal::read(Path::new(signal))?, to),
        ["jack-record", from] => jack::record(from),
        _ => bail!("no such helper"),
    }
}

/// Says a line to whoever started this helper.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Plays the signal into `line` in chunks of so many frames, each handed over when its last frame is
/// "recorded" by a clock that runs fast by `ppm`. Says when the first one was.
fn send(signal: &Signal, ppm: f64, chunk: u64, line: &str) -> anyhow::Result<()> {
    let pipeline = play(&format!(
        "appsrc name=card is-live=true format=time max-bytes=0 \
         caps=audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved ! {line}"
    ))?;
    let card = pipeline.by_name("card").and_then(|e| e.downcast::<gst_app::AppSrc>().ok());
    let card = card.context("appsrc")?;
    let base = pipeline.base_time().context("a playing pipeline has a base time")?;
    let t0 = now();
    say(&t0.to_string())?;
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let stopped = stop.clone();
        let player = move || {
            let capture = Capture::steady(t0, ppm);
            let at = |frame: u64| capture.at(frame as i64) as u64;
            for first in (0_u64..).step_by(chunk as usize) {
                let next = first + chunk;
                sleep_until(at(next));
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut buffer = gst::Buffer::from_mut_slice(signal.interleaved(first, chunk));
                if let Some(buffer) = buffer.get_mut() {
                    let captured = gst::ClockTime::from_nseconds(at(first));
                    buffer.set_pts(captured.saturating_sub(base));
                    buffer.set_duration(gst::ClockTime::from_nseconds(at(next) - at(first)));
                }
                if card.push_buffer(buffer).is_err() {
                    return;
                }
            }
        };
        let name = format!("{}card", super::process::OWN_THREAD);
        std::thread::Builder::new().name(name).spawn_scoped(scope, player)?;
        std::io::stdin().lines().for_each(drop);
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    })?;
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}

/// Records what comes out of `line`, which ends in an `appsink` called `out`. "finish FILE" makes it
/// write the recording, say what an element called `link` told of its buffer meanwhile, and "done".
fn receive(line: &str) -> anyhow::Result<()> {
    let recording = Arc::new(Mutex::new(Recording::with_capacity(ROOM)));
    let pipeline = parse(line)?;
    let out = pipeline.by_name("out").and_then(|e| e.downcast::<gst_app::AppSink>().ok());
    let recorder = recording.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let at = now();
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(map) = sample.buffer().and_then(|b| b.map_readable().ok()) {
                recorder.lock().unwrap_or_else(PoisonError::into_inner).add(at, &map);
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    out.context("appsink")?.set_callbacks(callbacks);
    start(&pipeline)?;
    say("playing")?;

    let told = Arc::new(Mutex::new(Vec::new()));
    if let Some(link) = pipeline.by_name("link") {
        let told = told.clone();
        let watch = move || loop {
            std::thread::sleep(Duration::from_millis(200));
            let line = told_by(&link);
            told.lock().unwrap_or_else(PoisonError::into_inner).extend(line);
        };
        let name = format!("{}watch", super::process::OWN_THREAD);
        std::thread::Builder::new().name(name).spawn(watch)?;
    }
    for command in std::io::stdin().lines() {
        let command = command?;
        let Some(("finish", file)) = command.split_once(' ') else { bail!("no such command") };
        let recording =
            std::mem::take(&mut *recording.lock().unwrap_or_else(PoisonError::into_inner));
        recording.write(BufWriter::new(File::create(file)?))?;
        let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
        told.iter().try_for_each(|line| say(line))?;
        say("done")?;
    }
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}

/// Now, and the delay, its target (microseconds) and the drift (ppm) of the only stream.
fn told_by(link: &gst::Element) -> Option<String> {
    let stats = link.property::<gst::Structure>("stats");
    let streams = stats.get::<gst::List>("streams").ok()?;
    let stream = streams.first()?.get::<gst::Structure>().ok()?;
    let micros = |name| {
        let value = stream.value(name).ok()?.transform::<u64>().ok()?;
        value.get::<u64>().ok()
    };
    let drift = stream.get::<f64>("drift-ppm").ok()?;
    Some(format!("{} {} {} {drift}", now(), micros("delay-us")?, micros("target-us")?))
}

fn play(line: &str) -> anyhow::Result<gst::Pipeline> {
    let pipeline = parse(line)?;
    start(&pipeline)?;
    Ok(pipeline)
}

fn parse(line: &str) -> anyhow::Result<gst::Pipeline> {
    let pipeline = gst::parse::launch(line)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow::anyhow!("not a pipeline"))?;
    // The same clock for all, and the one that the stamps are of.
    pipeline.use_clock(Some(&gst::SystemClock::obtain()));
    Ok(pipeline)
}

/// Plays; what goes wrong later goes to the log.
fn start(pipeline: &gst::Pipeline) -> anyhow::Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    bus.set_sync_handler(|_, message| {
        if let gst::MessageView::Error(e) = message.view() {
            eprintln!("{} ({:?})", e.error(), e.debug());
        }
        gst::BusSyncReply::Drop
    });
    pipeline.set_state(gst::State::Playing)?;
    Ok(())
}
