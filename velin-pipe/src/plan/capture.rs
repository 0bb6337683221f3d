//! `[[capture]]` → a pipeline from a source to one `velinsink` for every `[[send]]`.

use std::path::Path;

use super::build::{caps, extra_properties};
use super::surroundings::{DeviceClass, SoundSystem, Surroundings};
use super::{Direction, Make, Node, PipelinePlan, link};
use crate::preset::diagnostic::Diagnostic;
use crate::preset::model::{Capture, CaptureSource, FormatWish, Send};
use crate::preset::schema::Wave;
use crate::preset::units::{Gain, TimeSpan};

/// What a device collects before it hands audio over, in µs, where the preset says nothing. A
/// sound server rounds it up to what it can do.
const CAPTURE_LATENCY_US: i64 = 5_000;
/// What a device holds, in µs. PulseAudio's default of 200 ms would be hidden latency.
const CAPTURE_BUFFER_US: i64 = 20_000;
/// The most that waits between the capture thread and sending, in ns: room for a hiccup of the
/// machine. What is older is dropped, because a capture must never wait.
const QUEUE_NS: i64 = 100_000_000;
/// As above in buffers, for sources whose buffers carry no time.
const QUEUE_BUFFERS: i64 = 200;
/// What a device stream carries unless the preset says otherwise: what sound servers run at.
const DEVICE_CAPS: &str = "audio/x-raw,format=S16LE,rate=48000,channels=2";

pub(super) fn pipeline(
    index: usize,
    capture: &Capture,
    sends: &[Send],
    surroundings: &Surroundings,
) -> Result<PipelinePlan, Diagnostic> {
    let name = format!("capture{index}");
    let mut plan = PipelinePlan::new(name.clone(), Direction::Send);
    source(&mut plan, &name, capture, surroundings)?;
    plan.chain(Node::new(format!("{name}-convert"), "audioconvert"));
    plan.chain(Node::new(format!("{name}-resample"), "audioresample"));
    if let Some(caps) = stream_caps(capture) {
        plan.chain(Node::new(format!("{name}-caps"), "capsfilter").with("caps", caps));
    }
    if let Some(volume) = capture.volume.as_ref().filter(|v| *v.get_ref() != Gain::UNITY) {
        let mut node = Node::new(format!("{name}-volume"), "volume").at(&capture.span);
        node.set("volume", volume.get_ref().0, Some(volume.span()));
        plan.chain(node);
    }
    // `level` cannot read packed 24-bit samples, and a conversion for its sake would not be exact.
    if !is_packed_24(&capture.wish) {
        plan.chain(link::level(&name));
    }
    match sends {
        [send] => plan.chain(link::sink(&name, 0, capture, send, surroundings)?),
        _ => {
            let tee = format!("{name}-tee");
            // Receivers come and go; a capture with nobody listening goes on.
            plan.chain(Node::new(tee.clone(), "tee").with("allow-not-linked", true));
            for (number, send) in sends.iter().enumerate() {
                plan.branch(&tee, queue(format!("{name}-queue{number}")));
                plan.chain(link::sink(&name, number, capture, send, surroundings)?);
            }
        }
    }
    Ok(plan)
}

fn source(
    plan: &mut PipelinePlan,
    name: &str,
    capture: &Capture,
    surroundings: &Surroundings,
) -> Result<(), Diagnostic> {
    let source_name = format!("{name}-source");
    let mut node = match &capture.source {
        CaptureSource::System { device } => {
            let node = device_source(source_name, capture, surroundings.sound);
            match surroundings.sound {
                SoundSystem::Pulse => {
                    let monitor = match (&surroundings.monitor_override, device) {
                        (Some(source), _) => source.clone(),
                        (None, Some(sink)) => monitor_of(surroundings, sink)?,
                        // The sound server knows its default output's monitor by this name, and
                        // PipeWire in PulseAudio's place does too.
                        (None, None) => "@DEFAULT_MONITOR@".to_owned(),
                    };
                    node.with("device", monitor)
                }
                SoundSystem::Wasapi => {
                    let node = node.with("loopback", true);
                    match device {
                        Some(device) => {
                            node.with("device", surroundings.device(device, DeviceClass::Sink)?)
                        }
                        None => node,
                    }
                }
                SoundSystem::Auto => {
                    let message =
                        "what the machine plays cannot be captured without a sound server";
                    return Err(Diagnostic::at(capture.span.clone(), message)
                        .help("start PulseAudio or PipeWire, or capture kind = \"mic\""));
                }
            }
        }
        CaptureSource::Mic { device } => {
            let node = device_source(source_name, capture, surroundings.sound);
            match (&surroundings.mic_override, device) {
                (Some(source), _) if surroundings.sound == SoundSystem::Pulse => {
                    node.with("device", source.clone())
                }
                (_, Some(device)) => {
                    node.with("device", surroundings.device(device, DeviceClass::Source)?)
                }
                (_, None) => node,
            }
        }
        CaptureSource::Device { device } => device_source(source_name, capture, surroundings.sound)
            .with("device", surroundings.device(device, DeviceClass::Source)?),
        CaptureSource::Test { wave, frequency } => {
            let mut node = test_source(source_name, *wave, capture);
            if let Some(frequency) = frequency {
                node.set("freq", *frequency.get_ref(), Some(frequency.span()));
            }
            node
        }
        CaptureSource::File { path, looped } => {
            plan.looped = *looped;
            let mut node = Node::new(source_name, "filesrc");
            let text = path.get_ref().display().to_string();
            node.set("location", text, Some(path.span()));
            node
        }
        CaptureSource::Launch { fragment } => Node {
            name: source_name,
            make: Make::Fragment { text: fragment.get_ref().clone(), span: fragment.span() },
            properties: Vec::new(),
            span: None,
        },
    };
    extra_properties(&mut node, &capture.properties);
    plan.chain(node.at(&capture.span));

    match &capture.source {
        CaptureSource::File { path, .. } => {
            let decoder = if is_wav(path.get_ref()) { "wavparse" } else { "decodebin" };
            plan.chain(Node::new(format!("{name}-decode"), decoder));
        }
        CaptureSource::Test { .. } => {}
        // A device's thread must not wait for a network's; a fragment may hold a device.
        _ => plan.chain(queue(format!("{name}-queue"))),
    }
    Ok(())
}

fn device_source(name: String, capture: &Capture, sound: SoundSystem) -> Node {
    match sound {
        SoundSystem::Pulse => {
            let (latency, buffer) = match &capture.buffer {
                Some(buffer) => (buffer.get_ref().as_micros(), buffer.get_ref().as_micros() * 4),
                None => (CAPTURE_LATENCY_US, CAPTURE_BUFFER_US),
            };
            let span = capture.buffer.as_ref().map(toml::Spanned::span);
            let mut node = Node::new(name, "pulsesrc")
                .with("client-name", "Velin")
                .with("provide-clock", true);
            node.set("buffer-time", buffer, span.clone());
            node.set("latency-time", latency, span);
            node
        }
        SoundSystem::Wasapi => Node::new(name, "wasapi2src").with("low-latency", true),
        SoundSystem::Auto => Node::new(name, "autoaudiosrc"),
    }
}

fn test_source(name: String, wave: Wave, capture: &Capture) -> Node {
    let wave = match wave {
        Wave::Tone => "sine",
        Wave::Ticks => "ticks",
        Wave::Noise => "white-noise",
        Wave::Silence => "silence",
    };
    let rate = capture.wish.rate.as_ref().map_or(48_000, |rate| rate.get_ref().0.hz());
    let buffer = capture
        .buffer
        .as_ref()
        .map_or(CAPTURE_LATENCY_US, |buffer| TimeSpan::as_micros(*buffer.get_ref()));
    let frames = (buffer * i64::from(rate) / 1_000_000).max(1);
    Node::new(name, "audiotestsrc")
        .with("is-live", true)
        .with("wave", wave)
        // Loud enough to see, quiet enough for a headphone.
        .with("volume", 0.25)
        .with("samplesperbuffer", frames)
}

/// The monitor of the output that people call `sink`.
fn monitor_of(
    surroundings: &Surroundings,
    sink: &toml::Spanned<String>,
) -> Result<String, Diagnostic> {
    if sink.get_ref().ends_with(".monitor") {
        return Ok(sink.get_ref().clone());
    }
    Ok(format!("{}.monitor", surroundings.device(sink, DeviceClass::Sink)?))
}

fn queue(name: String) -> Node {
    Node::new(name, "queue")
        .with("max-size-time", QUEUE_NS)
        .with("max-size-buffers", QUEUE_BUFFERS)
        .with("max-size-bytes", 0)
        .with("leaky", "downstream")
}

/// What is sent. A device and a test have a default; a file and a fragment stay what they are.
fn stream_caps(capture: &Capture) -> Option<String> {
    let wish = &capture.wish;
    let made_here =
        !matches!(capture.source, CaptureSource::File { .. } | CaptureSource::Launch { .. });
    if !made_here {
        return caps(wish);
    }
    let Some(wished) = caps(wish) else { return Some(DEVICE_CAPS.to_owned()) };
    // What is left open by the wish keeps its default.
    let open = DEVICE_CAPS.split(',').skip(1).filter(|field| {
        let key = field.split_once('=').map_or(*field, |(key, _)| key);
        !wished.contains(&format!(",{key}="))
    });
    Some(open.fold(wished.clone(), |caps, field| format!("{caps},{field}")))
}

fn is_packed_24(wish: &FormatWish) -> bool {
    wish.format.as_ref().is_some_and(|format| format.get_ref().0.name() == "S24LE")
}

fn is_wav(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav"))
}
