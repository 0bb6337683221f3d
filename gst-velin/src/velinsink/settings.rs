//! `velinsink`'s properties.

use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use velin_core::codec::opus;
use velin_core::units::BitRate;

use super::parcel::MAX_BUNDLE;
use crate::link_options::{LinkOptions, Mode, by_nick, nanos, nick, put};
use crate::uri::VelinUri;

/// How the samples are coded on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinCodec")]
pub enum Codec {
    /// As they are.
    #[enum_value(name = "PCM: the samples as they are", nick = "pcm")]
    Pcm,
    /// Compressed: a tenth of the bits.
    #[enum_value(name = "Opus: mono or stereo at 48 kHz, a tenth of the bits", nick = "opus")]
    Opus,
}

/// What Opus is to be good at, in `opusenc`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinAudioType")]
pub enum AudioType {
    /// Music and speech alike.
    #[enum_value(name = "Generic audio, looks 6.5 ms ahead", nick = "generic")]
    Generic,
    /// Speech.
    #[enum_value(name = "Voice, looks 6.5 ms ahead; best with 20 ms packets", nick = "voice")]
    Voice,
    /// Anything, at the least delay.
    #[enum_value(name = "Low delay, looks 2.5 ms ahead", nick = "restricted-lowdelay")]
    RestrictedLowdelay,
}

impl From<AudioType> for opus::AudioType {
    fn from(audio_type: AudioType) -> Self {
        match audio_type {
            AudioType::Generic => Self::Generic,
            AudioType::Voice => Self::Voice,
            AudioType::RestrictedLowdelay => Self::RestrictedLowDelay,
        }
    }
}

/// What is done about packets that receivers miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinSinkRepair")]
pub enum Repair {
    /// What each receiver asks for.
    #[enum_value(name = "Auto: what each receiver asks for", nick = "auto")]
    Auto,
    /// Nothing.
    #[enum_value(name = "Off: nothing is sent again", nick = "off")]
    Off,
}

/// The values of all writable properties.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) link: LinkOptions,
    pub(super) stream_name: Option<String>,
    pub(super) codec: Codec,
    pub(super) bit_rate: BitRate,
    pub(super) audio_type: AudioType,
    pub(super) dtx: bool,
    pub(super) bundle: u32,
    pub(super) packet_time: Duration,
    pub(super) repair: Repair,
    pub(super) mute: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            link: LinkOptions::new(Mode::Caller),
            stream_name: None,
            codec: Codec::Pcm,
            bit_rate: BitRate::DEFAULT,
            audio_type: AudioType::RestrictedLowdelay,
            dtx: false,
            bundle: 1,
            packet_time: Duration::from_micros(2500),
            repair: Repair::Auto,
            mute: false,
        }
    }
}

impl Settings {
    /// Sets the property `name`. `false`: there is no such property, or the value does not fit.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "stream-name" => put(&mut self.stream_name, value),
            "codec" => put(&mut self.codec, value),
            "bitrate" => {
                let rate = value.get::<u32>().ok().and_then(BitRate::new);
                rate.map(|rate| self.bit_rate = rate).is_some()
            }
            "audio-type" => put(&mut self.audio_type, value),
            "dtx" => put(&mut self.dtx, value),
            "bundle" => put(&mut self.bundle, value),
            "packet-time" => {
                let time = value.get::<u64>().map(Duration::from_nanos);
                time.map(|t| self.packet_time = t).is_ok()
            }
            "repair" => put(&mut self.repair, value),
            "mute" => put(&mut self.mute, value),
            _ => self.link.set(name, value).unwrap_or(false),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "stream-name" => self.stream_name.to_value(),
            "codec" => self.codec.to_value(),
            "bitrate" => self.bit_rate.bits_per_second().to_value(),
            "audio-type" => self.audio_type.to_value(),
            "dtx" => self.dtx.to_value(),
            "bundle" => self.bundle.to_value(),
            "packet-time" => nanos(self.packet_time).to_value(),
            "repair" => self.repair.to_value(),
            "mute" => self.mute.to_value(),
            _ => return self.link.get(name),
        })
    }

    /// Takes host, port, stream and known keys over; gives the keys it does not know.
    pub(super) fn apply_uri(&mut self, uri: &VelinUri) -> Result<Vec<String>, String> {
        let mut new = self.clone();
        new.link.apply_uri(uri);
        new.stream_name = uri.stream.clone();
        let mut unknown = Vec::new();
        for (key, text) in &uri.query {
            let bad = || format!("{key}={text}: the value does not fit the property {key}");
            match key.as_str() {
                "packet-time" => {
                    let ns = text.parse().ok().filter(|v| PACKET_TIME_NS.contains(v));
                    new.packet_time = Duration::from_nanos(ns.ok_or_else(bad)?);
                }
                "codec" => new.codec = by_nick(text).ok_or_else(bad)?,
                "bitrate" => {
                    let rate = text.parse().ok().and_then(BitRate::new);
                    new.bit_rate = rate.ok_or_else(bad)?;
                }
                "audio-type" => new.audio_type = by_nick(text).ok_or_else(bad)?,
                "dtx" => new.dtx = text.parse().ok().ok_or_else(bad)?,
                "bundle" => {
                    let bundle = text.parse().ok().filter(|n| (1..=MAX_BUNDLE).contains(n));
                    new.bundle = bundle.ok_or_else(bad)?;
                }
                "repair" => new.repair = by_nick(text).ok_or_else(bad)?,
                _ if new.link.apply_key(key, text)? => {}
                _ => unknown.push(key.clone()),
            }
        }
        *self = new;
        Ok(unknown)
    }

    /// The URI that [`apply_uri`](Self::apply_uri) makes these settings from; what is at its
    /// default is left out.
    pub(super) fn to_uri(&self) -> VelinUri {
        let mut uri = self.link.to_uri();
        uri.stream = self.stream_name.clone();
        if self.packet_time != Self::default().packet_time {
            uri.query.push(("packet-time".into(), nanos(self.packet_time).to_string()));
        }
        let default = Self::default();
        if self.codec != default.codec {
            uri.query.push(("codec".into(), nick(self.codec)));
        }
        if self.bit_rate != default.bit_rate {
            uri.query.push(("bitrate".into(), self.bit_rate.bits_per_second().to_string()));
        }
        if self.audio_type != default.audio_type {
            uri.query.push(("audio-type".into(), nick(self.audio_type)));
        }
        if self.dtx != default.dtx {
            uri.query.push(("dtx".into(), self.dtx.to_string()));
        }
        if self.bundle != default.bundle {
            uri.query.push(("bundle".into(), self.bundle.to_string()));
        }
        if self.repair != default.repair {
            uri.query.push(("repair".into(), nick(self.repair)));
        }
        uri
    }

    /// The state in which the last of these properties takes a new value.
    pub(super) fn last_state(&self, name: &str) -> gst::State {
        match name {
            "mute" => gst::State::Playing,
            "stream-name" | "codec" | "bitrate" | "audio-type" | "dtx" | "bundle"
            | "packet-time" | "repair" => gst::State::Ready,
            _ => self.link.last_state(name),
        }
    }
}

/// 0.1 to 100 ms; what does not fit a packet is cut down by the block rule.
const PACKET_TIME_NS: std::ops::RangeInclusive<u64> = 100_000..=100_000_000;

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let d = Settings::default();
    let mut pspecs = LinkOptions::pspecs(Mode::Caller);
    pspecs.extend([
        glib::ParamSpecString::builder("stream-name")
            .nick("Stream name")
            .blurb("What the receiver shows for this stream (unset = the element's name)")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("codec", d.codec)
            .nick("Codec")
            .blurb("How the samples are coded on the way")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("bitrate")
            .nick("Bit rate")
            .blurb("Of codec=opus, constant, in bits per second; less while much is lost")
            .minimum(BitRate::MIN)
            .maximum(BitRate::MAX)
            .default_value(d.bit_rate.bits_per_second())
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("audio-type", d.audio_type)
            .nick("Audio type")
            .blurb("What codec=opus is to be good at")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("dtx")
            .nick("Discontinuous transmission")
            .blurb("Send hardly anything in pauses, with codec=opus: who listens in can tell them")
            .default_value(d.dtx)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("bundle")
            .nick("Bundle")
            .blurb("How many blocks of packet-time leave together in one packet, if they fit")
            .minimum(1)
            .maximum(MAX_BUNDLE)
            .default_value(d.bundle)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("packet-time")
            .nick("Packet time")
            .blurb("Wished duration of a block of audio, in nanoseconds")
            .minimum(*PACKET_TIME_NS.start())
            .maximum(*PACKET_TIME_NS.end())
            .default_value(nanos(d.packet_time))
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("repair", d.repair)
            .nick("Repair")
            .blurb("Whether packets that receivers miss are sent again")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("mute")
            .nick("Mute")
            .blurb("Send silence; the stream goes on")
            .default_value(d.mute)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("uri")
            .nick("URI")
            .blurb("velin://host:port/stream, sets host, port, stream-name and more at once")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("current-port")
            .nick("Current port")
            .blurb("TCP port in use to listen, else UDP port (0 = not connected)")
            .maximum(65_535)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("What was sent and what was dropped")
            .read_only()
            .build(),
    ]);
    pspecs
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_options::Carrier;

    #[test]
    fn settings_survive_their_uri() {
        let mut s = Settings {
            stream_name: Some("my mic".into()),
            packet_time: Duration::from_millis(5),
            repair: Repair::Off,
            codec: Codec::Opus,
            bit_rate: BitRate::new(32_000).unwrap(),
            audio_type: AudioType::Voice,
            dtx: true,
            bundle: 3,
            ..Settings::default()
        };
        s.link.host = "fe80::1".into();
        s.link.port = 5000;
        s.link.mtu = 1000;
        s.link.qos_dscp = -1;
        s.link.auto_reconnect = false;
        s.link.audio_port = Some(7);
        s.link.peer = Some("age1x".into());
        s.link.carrier = Carrier::Tcp;
        let uri = s.to_uri();
        let mut other = Settings::default();
        assert_eq!(other.apply_uri(&VelinUri::parse(&uri.to_text()).unwrap()), Ok(Vec::new()));
        s.mute = false;
        assert_eq!(format!("{s:?}"), format!("{other:?}"));
    }

    #[test]
    fn a_listener_has_a_uri_of_its_own() {
        let text = "velin://192.168.1.5:5000/mic?mode=listener&allow=10.0.0.0%2F8&max-sessions=3";
        let mut s = Settings::default();
        assert_eq!(s.apply_uri(&VelinUri::parse(text).unwrap()), Ok(Vec::new()));
        assert_eq!(s.link.bind_address.as_deref(), Some("192.168.1.5"));
        assert_eq!(s.to_uri().to_text(), text);
    }

    #[test]
    fn a_bad_value_changes_nothing_and_an_unknown_key_is_told() {
        let mut s = Settings::default();
        let before = format!("{s:?}");
        let bad = VelinUri::parse("velin://x/?mtu=10").unwrap();
        assert!(s.apply_uri(&bad).unwrap_err().contains("mtu=10"));
        assert_eq!(format!("{s:?}"), before);
        let odd = VelinUri::parse("velin://x/?colour=red&qos-dscp=voip").unwrap();
        assert_eq!(s.apply_uri(&odd), Ok(vec!["colour".to_owned()]));
        assert_eq!(s.link.qos_dscp, 46);
    }
}
