//! An application that has sound of its own, and sends it to another machine as well.
//!
//! The application's pipeline is what it was: a source and an output of its own. Velin is one more
//! branch: `tee ! queue ! velinsink`. What happens on the link arrives on the bus.
//!
//! ```sh
//! cargo run --example sender -- --host 192.168.1.20 --port 49000
//! ```

use std::time::Duration;

use anyhow::{Context, bail};
use gst::prelude::*;

fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    gst::init()?;
    // The elements are part of this program: no plugin has to be installed. An application that is
    // not written in Rust uses the installed plugin instead and leaves this out.
    gstvelin::plugin_register_static()?;

    let (pipeline, tee) = application()?;
    let sink = gst::ElementFactory::make("velinsink")
        .property("host", &options.host)
        .property("port", options.port)
        .property("stream-name", "example")
        .build()?;
    add_branch(&pipeline, &tee, &sink)?;

    pipeline.set_state(gst::State::Playing)?;
    let result = watch(&pipeline, &sink, options.run_for);
    // Says goodbye to the receiver.
    pipeline.set_state(gst::State::Null)?;
    result
}

/// What the application did before it knew Velin: makes sound and plays it (here: nowhere).
fn application() -> anyhow::Result<(gst::Pipeline, gst::Element)> {
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("audiotestsrc")
        .property("is-live", true)
        .property("volume", 0.25)
        // 2.5 ms at 48 kHz: nobody can send a sample before its buffer is full.
        .property("samplesperbuffer", 120)
        .build()?;
    let caps = gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(48_000)
        .channels(2)
        .build();
    let filter = gst::ElementFactory::make("capsfilter").property("caps", caps).build()?;
    let tee = gst::ElementFactory::make("tee").build()?;
    let queue = gst::ElementFactory::make("queue").build()?;
    let output = gst::ElementFactory::make("fakesink").property("sync", true).build()?;
    pipeline.add_many([&source, &filter, &tee, &queue, &output])?;
    gst::Element::link_many([&source, &filter, &tee, &queue, &output])?;
    Ok((pipeline, tee))
}

/// One more branch. The queue keeps both outputs from waiting for each other.
fn add_branch(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    sink: &gst::Element,
) -> anyhow::Result<()> {
    let queue = gst::ElementFactory::make("queue").build()?;
    pipeline.add_many([&queue, sink])?;
    gst::Element::link_many([tee, &queue, sink])?;
    Ok(())
}

/// Looks at the bus until the time is up or something is wrong that only a human can put right.
fn watch(
    pipeline: &gst::Pipeline,
    sink: &gst::Element,
    run_for: Option<Duration>,
) -> anyhow::Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let end = run_for.map(|time| std::time::Instant::now() + time);
    loop {
        let left = end.map(|end| end.saturating_duration_since(std::time::Instant::now()));
        if left == Some(Duration::ZERO) {
            println!("sent: {}", sink.property::<gst::Structure>("stats"));
            return Ok(());
        }
        let wait = left.map(|left| gst::ClockTime::from_nseconds(left.as_nanos() as u64));
        let Some(message) = bus.timed_pop(wait) else { continue };
        match message.view() {
            // What the link says. The audio goes on meanwhile: while nobody is connected it is
            // dropped, and velinsink keeps calling.
            gst::MessageView::Element(message) => {
                if let Some(s) = message.structure().filter(|s| s.name().starts_with("velin/")) {
                    println!("{}: {}", s.name(), s.get::<&str>("address").unwrap_or_default());
                }
            }
            gst::MessageView::Progress(message) => {
                let (_, code, text) = message.get();
                println!("{code}: {text}");
            }
            // For instance: the receiver is gone for the moment.
            gst::MessageView::Warning(warning) => eprintln!("warning: {}", warning.error()),
            // For instance: the receiver does not trust this device. The text says what to do.
            gst::MessageView::Error(error) => bail!("{}", error.error()),
            gst::MessageView::Eos(_) => return Ok(()),
            // The pipeline's clock is gone, for instance with an unplugged device: choose anew.
            gst::MessageView::ClockLost(_) => {
                pipeline.set_state(gst::State::Paused)?;
                pipeline.set_state(gst::State::Playing)?;
            }
            gst::MessageView::Latency(_) => pipeline.recalculate_latency()?,
            _ => {}
        }
    }
}

struct Options {
    host: String,
    port: u32,
    run_for: Option<Duration>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self { host: "127.0.0.1".into(), port: 49_000, run_for: None };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "--host" => options.host = value()?,
                "--port" => options.port = value()?.parse().context("--port is a number")?,
                "--seconds" => {
                    let seconds = value()?.parse().context("--seconds is a number")?;
                    options.run_for = Some(Duration::from_secs(seconds));
                }
                _ => bail!("unknown option {name}; there are --host, --port and --seconds"),
            }
        }
        Ok(options)
    }
}
