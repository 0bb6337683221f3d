//! An application that plays, or looks at, what other machines send.
//!
//! `velinsrc` is a live source like any other: it plays silence until somebody calls, mixes everybody
//! who does, and keeps time with the pipeline's clock. Who may call is in the trust file.
//!
//! ```sh
//! cargo run --example receiver                          # plays on the default output
//! cargo run --example receiver -- --meter --port 0      # only measures, on any free port
//! cargo run --example receiver -- --stream laptop::volume=0.5 --stream laptop::pan=-0.3
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use gst::prelude::*;

fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    gst::init()?;
    // See the sender's example.
    gstvelin::plugin_register_static()?;

    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("velinsrc")
        .property("port", options.port)
        .property("audio-port", options.audio_port)
        .property("bind-address", options.bind.as_deref())
        .build()?;
    place(&source, options.streams.clone());
    let peak = Arc::new(AtomicU32::new(0));
    let output = if options.meter { meter(peak.clone()) } else { player()? };
    pipeline.add_many([&source, &output])?;
    source.link(&output)?;

    pipeline.set_state(gst::State::Playing)?;
    println!("listening on port {}", source.property::<u32>("current-port"));
    let result = watch(&pipeline, &source, &peak, &options);
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Gives each stream its volume and place before its first sample is heard. While it plays,
/// `set_child_property` or the child itself turn them as well, from any thread.
fn place(source: &gst::Element, settings: Vec<Setting>) {
    source.connect("child-added", false, move |values| {
        // Called by a thread of the network: it must not wait for anything.
        let child = values[1].get::<gst::glib::Object>().ok()?;
        let name = values[2].get::<String>().ok()?;
        for Setting { stream, property, value } in &settings {
            match value {
                _ if *stream != name => {}
                Turn::To(value) => child.set_property(property, value),
                Turn::On(value) => child.set_property(property, value),
            }
        }
        None
    });
}

/// The default output of this machine.
fn player() -> anyhow::Result<gst::Element> {
    let bin = gst::parse::bin_from_description("audioconvert ! autoaudiosink", true)?;
    Ok(bin.upcast())
}

/// Takes the samples into the application's own hands; here it only looks for the loudest.
fn meter(peak: Arc<AtomicU32>) -> gst::Element {
    let caps = gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::F32le)
        .rate(48_000)
        .channels(2)
        .build();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
            let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            let loudest = map
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).abs())
                .fold(0.0, f32::max);
            // Bits of floats that are not negative sort as the floats do.
            peak.fetch_max(loudest.to_bits(), Ordering::Relaxed);
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    gst_app::AppSink::builder()
        .caps(&caps)
        .callbacks(callbacks)
        // Otherwise a sink asks for 20 ms of its own in every live pipeline.
        .processing_deadline(gst::ClockTime::ZERO)
        .build()
        .upcast()
}

/// Looks at the bus and prints a line every second, until the time is up.
fn watch(
    pipeline: &gst::Pipeline,
    source: &gst::Element,
    peak: &AtomicU32,
    options: &Options,
) -> anyhow::Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let end = options.run_for.map(|time| Instant::now() + time);
    let mut next_line = Instant::now() + Duration::from_secs(1);
    while end.is_none_or(|end| Instant::now() < end) {
        let wait = next_line.saturating_duration_since(Instant::now());
        let wait = gst::ClockTime::from_nseconds(wait.as_nanos() as u64);
        let Some(message) = bus.timed_pop(wait) else {
            line(source, options.meter.then(|| f32::from_bits(peak.swap(0, Ordering::Relaxed))));
            next_line += Duration::from_secs(1);
            continue;
        };
        match message.view() {
            // Who came, who went, who was refused.
            gst::MessageView::Element(message) => {
                if let Some(s) = message.structure().filter(|s| s.name().starts_with("velin/")) {
                    println!("{}: {}", s.name(), s.get::<&str>("address").unwrap_or_default());
                }
            }
            gst::MessageView::Warning(warning) => eprintln!("warning: {}", warning.error()),
            gst::MessageView::Error(error) => bail!("{}", error.error()),
            gst::MessageView::Eos(_) => return Ok(()),
            // The output's clock is gone, for instance with an unplugged device: choose anew.
            gst::MessageView::ClockLost(_) => {
                pipeline.set_state(gst::State::Paused)?;
                pipeline.set_state(gst::State::Playing)?;
            }
            gst::MessageView::Latency(_) => pipeline.recalculate_latency()?,
            _ => {}
        }
    }
    Ok(())
}

/// How the receiver fares. Frames: received + repaired + concealed + silence = played.
fn line(source: &gst::Element, peak: Option<f32>) {
    let stats = source.property::<gst::Structure>("stats");
    let count = |name: &str| stats.get::<u64>(name).unwrap_or_default();
    if let Some(peak) = peak {
        print!("level {:.1} dB, ", 20.0 * peak.max(1e-6).log10());
    }
    println!(
        "peers {}, delay {:.1} ms, received {}, repaired {}, concealed {}",
        stats.get::<u32>("peers").unwrap_or_default(),
        count("delay-us") as f64 / 1e3,
        count("received"),
        count("repaired"),
        count("concealed"),
    );
}

struct Options {
    port: u32,
    audio_port: u32,
    bind: Option<String>,
    meter: bool,
    run_for: Option<Duration>,
    streams: Vec<Setting>,
}

/// `STREAM::PROPERTY=VALUE`
#[derive(Clone)]
struct Setting {
    stream: String,
    property: String,
    value: Turn,
}

#[derive(Clone)]
enum Turn {
    To(f64),
    On(bool),
}

impl Setting {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (path, value) = text.split_once('=').context("--stream takes NAME::PROPERTY=VALUE")?;
        let (stream, property) = path.rsplit_once("::").context("a stream needs ::PROPERTY")?;
        let value = match property {
            "volume" | "pan" => Turn::To(value.parse().context("a number")?),
            "mute" | "solo" => Turn::On(value.parse().context("true or false")?),
            _ => bail!("a stream has volume, mute, pan and solo, not {property}"),
        };
        Ok(Self { stream: stream.into(), property: property.into(), value })
    }
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            port: 49_000,
            audio_port: 49_001,
            bind: None,
            meter: false,
            run_for: None,
            streams: Vec::new(),
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "--port" => options.port = value()?.parse().context("--port is a number")?,
                "--audio-port" => {
                    options.audio_port = value()?.parse().context("--audio-port is a number")?;
                }
                "--bind" => options.bind = Some(value()?),
                "--meter" => options.meter = true,
                "--stream" => options.streams.push(Setting::parse(&value()?)?),
                "--seconds" => {
                    let seconds = value()?.parse().context("--seconds is a number")?;
                    options.run_for = Some(Duration::from_secs(seconds));
                }
                _ => bail!(
                    "unknown option {name}; there are --port, --audio-port, --bind, --meter, --stream \
                     and --seconds"
                ),
            }
        }
        Ok(options)
    }
}
