//! Added latency: for each sample, from the moment it was nominally captured to the moment the
//! receiver hands out the buffer that holds it.
//!
//! A thread plays the sound card: every 2.5 ms it hands over a chunk the moment its last sample was
//! "recorded". So the floor of every figure here is one chunk, 2.5 ms.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use gst::prelude::*;

use crate::code;
use crate::stats::Values;
use crate::timer::{Hiccups, cpu, now, sleep_until};

/// Frames in a chunk, and how long it lasts.
const CHUNK: u64 = 120;
pub(crate) const CHUNK_NS: u64 = 2_500_000;
const RATE: u64 = 48_000;
/// Bytes of a frame at the receiver: two channels of F32.
const FRAME: usize = 8;

const OUTPUT: &str = "audio/x-raw,format=F32LE,rate=48000,channels=2";
const RTP: &str =
    "application/x-rtp,media=audio,clock-rate=48000,encoding-name=L16,channels=2,payload=96";

/// Measures each line for a while and prints the table.
pub(crate) fn run(short: bool, ours: bool, peers: bool) -> anyhow::Result<()> {
    let (warm, measure) = if short { (3, 5) } else { (10, 20) };
    println!("### Added latency\n");
    println!(
        "Loopback, both ends in one process, S16LE stereo 48 kHz, {measure} s after {warm} s. \
         Milliseconds. `timer`: how late a thread that only sleeps woke up in the same run.\n"
    );
    println!(
        "| receiver | median | p99 | max | frames out of order or not original | processor, s/min \
         | timer median / p99 / max |"
    );
    println!("|---|---|---|---|---|---|---|");
    let lines: Vec<Line> = [
        ours.then_some(vec![
            Line::velin("velinsrc (default)", "", false),
            Line::velin("velinsrc profile=low", "profile=low", false),
            Line::velin("velinsrc profile=fixed latency=6", "profile=fixed latency=6", false),
            Line::velin("velinsrc profile=fixed latency=20", "profile=fixed latency=20", false),
            Line::velin("velinsrc (default), through a synchronising sink", "", true),
        ]),
        peers.then_some(vec![Line::rtp(2), Line::rtp(5), Line::rtp(20), Line::rtp(200)]),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .collect();
    for line in lines {
        line.measure(warm, measure).with_context(|| line.name.clone())?;
    }
    println!();
    Ok(())
}

/// One row of the table.
struct Line {
    name: String,
    kind: Kind,
}

enum Kind {
    Velin { properties: &'static str, sync: bool },
    Rtp { ms: u32 },
}

impl Line {
    fn velin(name: &str, properties: &'static str, sync: bool) -> Self {
        Self { name: name.to_owned(), kind: Kind::Velin { properties, sync } }
    }

    fn rtp(ms: u32) -> Self {
        Self {
            name: format!("rtpjitterbuffer latency={ms} (L16, in the clear)"),
            kind: Kind::Rtp { ms },
        }
    }

    fn measure(&self, warm: u64, measure: u64) -> anyhow::Result<()> {
        let meter = Arc::new(Mutex::new(Meter::default()));
        let gauge = meter.clone();
        let on_buffer: OnBuffer = Arc::new(move |at, samples: &[u8]| {
            gauge.lock().unwrap_or_else(PoisonError::into_inner).add(at, samples);
        });
        let device = Device::new()?;
        let (receiver, sender) = match &self.kind {
            Kind::Velin { properties, sync } => {
                let receiver = listen(&device, properties, *sync, on_buffer)?;
                let (port, own) = (receiver.port, &device.properties);
                (receiver, format!("velinsink host=127.0.0.1 port={port} {own}"))
            }
            Kind::Rtp { ms } => {
                let receiver = listen_rtp(*ms, on_buffer)?;
                let port = receiver.port;
                let sink = format!("udpsink host=127.0.0.1 port={port} sync=false async=false");
                (receiver, format!("audioconvert ! rtpL16pay pt=96 ! {sink}"))
            }
        };
        let mut feeder = Feeder::start(&sender)?;
        std::thread::sleep(Duration::from_secs(warm));
        let t0 = feeder.t0;
        meter.lock().unwrap_or_else(PoisonError::into_inner).arm(t0, measure);
        let (hiccups, used) = (Hiccups::start(), cpu());
        std::thread::sleep(Duration::from_secs(measure));
        let used = cpu() - used;
        let timer = hiccups.finish();
        let meter = std::mem::take(&mut *meter.lock().unwrap_or_else(PoisonError::into_inner));
        feeder.stop()?;
        receiver.pipeline.set_state(gst::State::Null)?;

        let expected = measure * RATE;
        anyhow::ensure!(
            meter.latencies.len() as u64 > expected / 2,
            "only {} of {expected} frames arrived",
            meter.latencies.len()
        );
        let odd = meter.odd;
        let s = meter.latencies.summary();
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {odd} | {:.2} | {:.2} / {:.2} / {:.2} |",
            self.name,
            s.median,
            s.p99,
            s.max,
            used as f64 / 1e9 * 60.0 / measure as f64,
            timer.median,
            timer.p99,
            timer.max,
        );
        Ok(())
    }
}

/// What arrives, measured while armed.
#[derive(Default)]
struct Meter {
    t0: Option<u64>,
    latencies: Values,
    last: Option<f64>,
    /// Frames that are no frame of the source, or not the one after the one before.
    odd: u64,
}

impl Meter {
    fn arm(&mut self, t0: u64, seconds: u64) {
        *self = Self {
            t0: Some(t0),
            latencies: Values::with_capacity((seconds * RATE * 11 / 10) as usize),
            ..Self::default()
        };
    }

    fn add(&mut self, at: u64, samples: &[u8]) {
        let Some(t0) = self.t0 else { return };
        for frame in samples.chunks_exact(FRAME) {
            // An invented frame may look like a valid one, two in a row will not.
            let n = code::place(frame).map(|place| {
                // Of all turns the one that was captured last.
                let latest = at.saturating_sub(t0) as f64 / 1e9 * RATE as f64;
                latest - (latest - place).rem_euclid(code::TURN)
            });
            // 16 bits know a frame's place to about a fifth of a frame.
            let step = n.zip(self.last).map(|(n, last)| n - last);
            let follows = step.is_some_and(|step| (0.4..1.6).contains(&step));
            let is_first = std::mem::replace(&mut self.last, n).is_none() && n.is_some();
            if let (Some(n), true) = (n, follows) {
                let captured = t0 as f64 + n * 1e9 / RATE as f64;
                self.latencies.push((at as f64 - captured) as f32 / 1e6);
            } else if !is_first || self.odd > 0 {
                self.odd += 1;
            }
        }
    }
}

/// Called with the time and the samples of every buffer that comes out.
pub(crate) type OnBuffer = Arc<dyn Fn(u64, &[u8]) + Send + Sync>;

/// A playing receiver.
pub(crate) struct Receiving {
    pub(crate) pipeline: gst::Pipeline,
    pub(crate) port: u32,
}

/// A `velinsrc` on free ports of the loopback.
pub(crate) fn listen(
    device: &Device,
    properties: &str,
    sync: bool,
    on_buffer: OnBuffer,
) -> anyhow::Result<Receiving> {
    let pipeline = receiver(
        &format!(
            "velinsrc name=in port=0 audio-port=0 bind-address=127.0.0.1 {properties} {} ! {OUTPUT}",
            device.properties
        ),
        sync,
        on_buffer,
    )?;
    pipeline.set_state(gst::State::Playing)?;
    let port = pipeline.by_name("in").context("velinsrc")?.property("current-port");
    Ok(Receiving { pipeline, port })
}

/// A stock RTP receiver. Its jitter buffer only says how long to wait: the sink does the waiting.
fn listen_rtp(ms: u32, on_buffer: OnBuffer) -> anyhow::Result<Receiving> {
    let pipeline = receiver(
        &format!(
            "udpsrc name=in address=127.0.0.1 port=0 caps=\"{RTP}\" \
             ! rtpjitterbuffer latency={ms} do-lost=true ! rtpL16depay ! audioconvert ! {OUTPUT}"
        ),
        true,
        on_buffer,
    )?;
    pipeline.set_state(gst::State::Playing)?;
    let port = pipeline.by_name("in").context("udpsrc")?.property::<i32>("port");
    Ok(Receiving { pipeline, port: u32::try_from(port)? })
}

fn receiver(source: &str, sync: bool, on_buffer: OnBuffer) -> anyhow::Result<gst::Pipeline> {
    // Without the property a sink adds 20 ms of its own to every live pipeline.
    let pipeline = gst::parse::launch(&format!(
        "{source} ! appsink name=out sync={sync} processing-deadline=1000000"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow::anyhow!("not a pipeline"))?;
    let out = pipeline
        .by_name("out")
        .and_then(|e| e.downcast::<gst_app::AppSink>().ok())
        .context("appsink")?;
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let at = now();
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(map) = sample.buffer().and_then(|b| b.map_readable().ok()) {
                on_buffer(at, &map);
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    out.set_callbacks(callbacks);
    Ok(pipeline)
}

/// A device of its own, which may talk to itself over the loopback.
pub(crate) struct Device {
    /// For both elements.
    pub(crate) properties: String,
    _folder: tempfile::TempDir,
}

impl Device {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let trust = folder.path().join("trust.toml");
        std::fs::write(&trust, "version = 1\n")?;
        let identity = folder.path().join("identity.txt");
        let properties =
            format!("identity-file={} trust-file={}", identity.display(), trust.display());
        Ok(Self { properties, _folder: folder })
    }
}

/// A sound card with an element behind it.
pub(crate) struct Feeder {
    pipeline: gst::Pipeline,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// When the "recording" of frame 0 began.
    pub(crate) t0: u64,
}

impl Feeder {
    /// Sends to `sink`, from now on.
    pub(crate) fn start(sink: &str) -> anyhow::Result<Self> {
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=card is-live=true format=time max-bytes=0 \
             caps=audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved ! {sink}"
        ))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow::anyhow!("not a pipeline"))?;
        let card = pipeline
            .by_name("card")
            .and_then(|e| e.downcast::<gst_app::AppSrc>().ok())
            .context("appsrc")?;
        let clock = gst::SystemClock::obtain();
        pipeline.use_clock(Some(&clock));
        pipeline.set_state(gst::State::Playing)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let t0 = now();
        let playing = pipeline.clone();
        let thread = std::thread::spawn(move || {
            for k in 0.. {
                sleep_until(t0 + (k + 1) * CHUNK_NS);
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let samples: Vec<u8> =
                    (k * CHUNK..(k + 1) * CHUNK).flat_map(code::encode).collect();
                let mut buffer = gst::Buffer::from_mut_slice(samples);
                if let (Some(buffer), Some(base)) = (buffer.get_mut(), playing.base_time()) {
                    let captured = gst::ClockTime::from_nseconds(t0 + k * CHUNK_NS);
                    buffer.set_pts(captured.saturating_sub(base));
                    buffer.set_duration(gst::ClockTime::from_nseconds(CHUNK_NS));
                }
                if card.push_buffer(buffer).is_err() {
                    return;
                }
            }
        });
        Ok(Self { pipeline, stop, thread: Some(thread), t0 })
    }

    /// Ends it, with a goodbye.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.pipeline.set_state(gst::State::Null)?;
        Ok(())
    }
}
