//! A preset that makes sense: what [`check`](super::check) turns a [`File`](super::schema::File)
//! into. Values keep their places, because an element may still refuse them.

use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;

use super::diagnostic::{Sources, Span};
use super::schema::{Carrier, Codec, Drift, OnPeerLost, Profile, Properties, Wave};
use super::units::{Dscp, Format, Gain, Rate, TimeSpan};

/// What a preset asks for.
#[derive(Clone, Debug)]
pub struct Preset {
    /// One line that says who it is for.
    pub description: Option<String>,
    /// Streams to send; empty unless there is a target.
    pub captures: Vec<Capture>,
    /// Where they go; empty unless something is captured.
    pub sends: Vec<Send>,
    /// What is taken in; present exactly when there is a playback.
    pub receive: Option<Receive>,
    /// Where it is heard.
    pub playbacks: Vec<Playback>,
    /// The texts that all places point into.
    pub sources: Arc<Sources>,
}

/// One captured stream.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Where the audio comes from.
    pub source: CaptureSource,
    /// The stream's name.
    pub name: Spanned<String>,
    /// Gain before sending.
    pub volume: Option<Spanned<Gain>>,
    /// Send silence.
    pub mute: Option<Spanned<bool>>,
    /// What is sent.
    pub wish: FormatWish,
    /// How much the source collects before it hands audio over.
    pub buffer: Option<Spanned<TimeSpan>>,
    /// Extra properties of the source element.
    pub properties: Properties,
    /// The entry.
    pub span: Span,
}

/// Where captured audio comes from.
#[derive(Clone, Debug)]
pub enum CaptureSource {
    /// What an output plays; the default one if none is named.
    System {
        /// The output.
        device: Option<Spanned<String>>,
    },
    /// A microphone; the default one if none is named.
    Mic {
        /// The input.
        device: Option<Spanned<String>>,
    },
    /// Any input.
    Device {
        /// The input.
        device: Spanned<String>,
    },
    /// A made-up sound.
    Test {
        /// Which one.
        wave: Wave,
        /// Its pitch in hertz.
        frequency: Option<Spanned<f64>>,
    },
    /// An audio file.
    File {
        /// Which one.
        path: Spanned<PathBuf>,
        /// Whether it starts again at its end.
        looped: bool,
    },
    /// A fragment for GStreamer's own parser.
    Launch {
        /// The text.
        fragment: Spanned<String>,
    },
}

/// What samples should be like; the element decides where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct FormatWish {
    /// Frames per second.
    pub rate: Option<Spanned<Rate>>,
    /// 1 to 8.
    pub channels: Option<Spanned<u8>>,
    /// Sample format.
    pub format: Option<Spanned<Format>>,
}

/// One target.
#[derive(Clone, Debug)]
pub struct Send {
    /// Who.
    pub to: Target,
    /// Where that was written.
    pub to_span: Span,
    /// How samples are coded.
    pub codec: Option<Spanned<Codec>>,
    /// The wished length of a packet.
    pub packet_time: Option<Spanned<TimeSpan>>,
    /// The only key that is accepted.
    pub peer: Option<Spanned<String>>,
    /// How packets are marked.
    pub qos: Option<Spanned<Dscp>>,
    /// How the link is carried.
    pub carrier: Option<Spanned<Carrier>>,
    /// This side's UDP port.
    pub audio_port: Option<Spanned<u16>>,
    /// The local address.
    pub bind: Option<Spanned<String>>,
    /// The stream's name, where there is one capture.
    pub stream: Option<Spanned<String>>,
    /// Extra properties of `velinsink`.
    pub properties: Properties,
    /// The entry.
    pub span: Span,
}

/// Whom a `[[send]]` goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host name or address, or the name of a trusted peer: the planner looks that up.
    Host {
        /// Without brackets.
        host: String,
        /// The other side's control port.
        port: Option<u16>,
    },
    /// A `velin://` URI, taken apart by the element itself.
    Uri(String),
}

/// What is taken in. Fields as in [`schema::Receive`](super::schema::Receive).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the schema documents every field")]
pub struct Receive {
    pub port: Option<Spanned<u16>>,
    pub audio_port: Option<Spanned<u16>>,
    pub bind: Option<Spanned<String>>,
    pub peer: Option<Spanned<String>>,
    pub carrier: Option<Spanned<Carrier>>,
    pub qos: Option<Spanned<Dscp>>,
    pub latency: Option<Spanned<TimeSpan>>,
    pub profile: Option<Spanned<Profile>>,
    pub drift: Option<Spanned<Drift>>,
    pub streams: Option<Spanned<Vec<String>>>,
    pub output_period: Option<Spanned<TimeSpan>>,
    pub on_peer_lost: Option<Spanned<OnPeerLost>>,
    pub wish: FormatWish,
    pub properties: Properties,
    pub span: Span,
}

/// One place where received streams are heard.
#[derive(Clone, Debug)]
pub struct Playback {
    /// Where to.
    pub sink: PlaybackSink,
    /// Which streams; those of `[receive]` if nothing is said.
    pub streams: Option<Spanned<Vec<String>>>,
    /// Gain of everything.
    pub volume: Option<Spanned<Gain>>,
    /// Play silence.
    pub mute: Option<Spanned<bool>>,
    /// Extra properties of the sink element.
    pub properties: Properties,
    /// The entry.
    pub span: Span,
}

/// Where received audio goes.
#[derive(Clone, Debug)]
pub enum PlaybackSink {
    /// An output; the default one if none is named.
    Device {
        /// The output.
        device: Option<Spanned<String>>,
        /// How much it holds.
        buffer: Option<Spanned<TimeSpan>>,
    },
    /// A WAV file.
    File {
        /// Which one; it is replaced.
        path: Spanned<PathBuf>,
    },
    /// Nowhere, in real time.
    None,
}
