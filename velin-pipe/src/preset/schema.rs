//! The preset file, schema 1, as it is written.
//!
//! These types know spelling and types of values; whether the values make sense together is
//! decided in [`check`](super::check). Neither `flatten` nor untagged enums: both lose the spans.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::units::{Dscp, Format, Gain, Rate, TimeSpan};

/// Extra properties for the element that an entry makes: name → value, with their places.
pub type Properties = BTreeMap<Spanned<String>, Spanned<toml::Value>>;

/// A whole preset file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// The version of this shape; 1.
    pub schema: Spanned<i64>,
    /// One line that says who it is for.
    pub description: Option<String>,
    /// What is captured; each entry is a stream of its own.
    #[serde(default)]
    pub capture: Vec<Spanned<Capture>>,
    /// Where every captured stream goes.
    #[serde(default)]
    pub send: Vec<Spanned<Send>>,
    /// What is taken in.
    pub receive: Option<Spanned<Receive>>,
    /// Where received streams are heard; each entry is a pipeline of its own.
    #[serde(default)]
    pub playback: Vec<Spanned<Playback>>,
}

/// `[[capture]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Capture {
    /// What kind of source it is.
    pub kind: Spanned<CaptureKind>,
    /// The stream's name as receivers see it.
    pub name: Option<Spanned<String>>,
    /// Which device (`system`: the output whose sound is taken).
    pub device: Option<Spanned<String>>,
    /// The sound of a `test`.
    pub wave: Option<Spanned<Wave>>,
    /// The pitch of a `test` tone in hertz.
    pub frequency: Option<Spanned<f64>>,
    /// The `file`.
    pub path: Option<Spanned<PathBuf>>,
    /// Whether the `file` starts again at its end.
    #[serde(rename = "loop")]
    pub looped: Option<Spanned<bool>>,
    /// The fragment of a `launch`.
    pub launch: Option<Spanned<String>>,
    /// Gain before sending.
    pub volume: Option<Spanned<Gain>>,
    /// Send silence.
    pub mute: Option<Spanned<bool>>,
    /// Frames per second that are sent.
    pub rate: Option<Spanned<Rate>>,
    /// Channels that are sent.
    pub channels: Option<Spanned<i64>>,
    /// Sample format that is sent.
    pub format: Option<Spanned<Format>>,
    /// How much the device collects before it hands audio over.
    pub buffer: Option<Spanned<TimeSpan>>,
    /// Extra properties of the source element.
    #[serde(default)]
    pub properties: Properties,
}

/// The kinds of `[[capture]]`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureKind {
    /// What the machine plays: the default output's monitor.
    System,
    /// The default microphone, or a named one.
    Mic,
    /// Any input by its name.
    Device,
    /// A tone, ticks or noise; needs no hardware.
    Test,
    /// An audio file.
    File,
    /// Any fragment for `gst-launch-1.0` that ends in audio.
    Launch,
}

impl CaptureKind {
    /// The word in the preset.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Mic => "mic",
            Self::Device => "device",
            Self::Test => "test",
            Self::File => "file",
            Self::Launch => "launch",
        }
    }
}

/// The sounds of a `test` capture.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Wave {
    /// A sine.
    #[default]
    Tone,
    /// A short tone every second.
    Ticks,
    /// White noise.
    Noise,
    /// Nothing, but sent.
    Silence,
}

/// `[[send]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Send {
    /// A trusted peer's name, `host[:port]` or a `velin://` URI.
    pub to: Spanned<String>,
    /// How samples are coded.
    pub codec: Option<Spanned<Codec>>,
    /// The wished length of a packet.
    pub packet_time: Option<Spanned<TimeSpan>>,
    /// The only key that is accepted on the other side.
    pub peer: Option<Spanned<String>>,
    /// How packets are marked.
    pub qos: Option<Spanned<Dscp>>,
    /// How the link is carried.
    pub carrier: Option<Spanned<Carrier>>,
    /// The UDP port of this side; any free one when left out.
    pub audio_port: Option<Spanned<i64>>,
    /// The local address to send from.
    pub bind: Option<Spanned<String>>,
    /// The stream's name; with several captures each has its own `name` instead.
    pub stream: Option<Spanned<String>>,
    /// Extra properties of `velinsink`.
    #[serde(default)]
    pub properties: Properties,
}

/// How samples are coded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// As they are.
    Pcm,
    /// With a tenth of the bits.
    Opus,
}

/// How a link is carried.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Carrier {
    /// `lan` first, then `tunnel`.
    Auto,
    /// Control on TCP, media on UDP.
    Lan,
    /// Everything on one UDP flow.
    Tunnel,
    /// Everything on one TCP connection.
    Tcp,
}

impl Carrier {
    /// The property value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Lan => "lan",
            Self::Tunnel => "tunnel",
            Self::Tcp => "tcp",
        }
    }
}

/// `[receive]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Receive {
    /// The TCP port that senders call.
    pub port: Option<Spanned<i64>>,
    /// The UDP port that media comes to.
    pub audio_port: Option<Spanned<i64>>,
    /// The local address to listen on.
    pub bind: Option<Spanned<String>>,
    /// The only key that may send.
    pub peer: Option<Spanned<String>>,
    /// How the link is carried.
    pub carrier: Option<Spanned<Carrier>>,
    /// How packets are marked.
    pub qos: Option<Spanned<Dscp>>,
    /// A fixed playout delay; leave it out to let it follow the network.
    pub latency: Option<Spanned<TimeSpan>>,
    /// What the playout delay is chosen for.
    pub profile: Option<Spanned<Profile>>,
    /// What happens to the difference between the two clocks.
    pub drift: Option<Spanned<Drift>>,
    /// Which streams: names, `*`, `!name`.
    pub streams: Option<Spanned<Vec<String>>>,
    /// How often audio is handed over.
    pub output_period: Option<Spanned<TimeSpan>>,
    /// What happens when the last sender leaves.
    pub on_peer_lost: Option<Spanned<OnPeerLost>>,
    /// Frames per second that come out.
    pub rate: Option<Spanned<Rate>>,
    /// Channels that come out.
    pub channels: Option<Spanned<i64>>,
    /// Sample format that comes out.
    pub format: Option<Spanned<Format>>,
    /// Extra properties of `velinsrc`.
    #[serde(default)]
    pub properties: Properties,
}

/// What the playout delay is chosen for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// As little delay as the network allows.
    Low,
    /// No audible gap, little delay.
    Music,
    /// Fluent speech over bad networks.
    Voice,
    /// `latency`, whatever happens.
    Fixed,
}

impl Profile {
    /// The property value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Music => "music",
            Self::Voice => "voice",
            Self::Fixed => "fixed",
        }
    }
}

/// What happens to the difference between the sender's and the output's clock.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// It is resampled away.
    Resample,
    /// Nothing; samples stay as they are.
    Off,
    /// The output follows the sender's clock.
    Source,
}

impl Drift {
    /// The property value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resample => "resample",
            Self::Off => "off",
            Self::Source => "source",
        }
    }
}

/// What happens when the last sender leaves.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum OnPeerLost {
    /// Silence until somebody returns.
    Wait,
    /// The end.
    Eos,
    /// An error.
    Error,
}

impl OnPeerLost {
    /// The property value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Eos => "eos",
            Self::Error => "error",
        }
    }
}

/// `[[playback]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Playback {
    /// Where to; a device when left out.
    pub kind: Option<Spanned<PlaybackKind>>,
    /// Which output; the default one when left out.
    pub device: Option<Spanned<String>>,
    /// The WAV file to write.
    pub path: Option<Spanned<PathBuf>>,
    /// Which streams, instead of those of `[receive]`.
    pub streams: Option<Spanned<Vec<String>>>,
    /// Gain of everything that is heard here.
    pub volume: Option<Spanned<Gain>>,
    /// Play silence.
    pub mute: Option<Spanned<bool>>,
    /// How much the device holds.
    pub buffer: Option<Spanned<TimeSpan>>,
    /// Extra properties of the sink element.
    #[serde(default)]
    pub properties: Properties,
}

/// The kinds of `[[playback]]`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PlaybackKind {
    /// An output device.
    #[default]
    Device,
    /// A WAV file.
    File,
    /// Nowhere, in real time: for tests and measurements.
    None,
}

impl PlaybackKind {
    /// The word in the preset.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::File => "file",
            Self::None => "none",
        }
    }
}
