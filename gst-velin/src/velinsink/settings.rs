//! `velinsink`'s properties.

use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::glib::value::FromValue;
use gst::prelude::*;

use crate::link::DEFAULT_PORT;
use crate::options::{DEFAULT_DSCP, DEFAULT_MTU, MAX_MTU, MIN_MTU};
use crate::uri::{VelinUri, parse_dscp};

/// How the samples are coded on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinCodec")]
pub enum Codec {
    /// As they are.
    #[enum_value(name = "PCM: the samples as they are", nick = "pcm")]
    Pcm,
}

/// The values of all writable properties.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) audio_port: u16,
    pub(super) bind_address: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) identity_file: Option<String>,
    pub(super) trust_file: Option<String>,
    pub(super) auto_reconnect: bool,
    pub(super) mtu: u32,
    pub(super) qos_dscp: i32,
    pub(super) stream_name: Option<String>,
    pub(super) codec: Codec,
    pub(super) packet_time: Duration,
    pub(super) mute: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: DEFAULT_PORT,
            audio_port: 0,
            bind_address: None,
            peer: None,
            identity_file: None,
            trust_file: None,
            auto_reconnect: true,
            mtu: DEFAULT_MTU,
            qos_dscp: DEFAULT_DSCP,
            stream_name: None,
            codec: Codec::Pcm,
            packet_time: Duration::from_micros(2500),
            mute: false,
        }
    }
}

impl Settings {
    /// Sets the property `name`. `false`: there is no such property, or the value does not fit.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        fn put<T>(slot: &mut T, value: &glib::Value) -> bool
        where
            T: for<'a> FromValue<'a>,
        {
            value.get::<T>().map(|v| *slot = v).is_ok()
        }
        fn put_port(slot: &mut u16, value: &glib::Value) -> bool {
            let port = value.get::<u32>().ok().and_then(|v| u16::try_from(v).ok());
            port.map(|v| *slot = v).is_some()
        }
        match name {
            "host" => {
                let host = value.get::<Option<String>>();
                host.map(|h| self.host = h.unwrap_or_else(|| Self::default().host)).is_ok()
            }
            "port" => put_port(&mut self.port, value),
            "audio-port" => put_port(&mut self.audio_port, value),
            "bind-address" => put(&mut self.bind_address, value),
            "peer" => put(&mut self.peer, value),
            "identity-file" => put(&mut self.identity_file, value),
            "trust-file" => put(&mut self.trust_file, value),
            "auto-reconnect" => put(&mut self.auto_reconnect, value),
            "mtu" => put(&mut self.mtu, value),
            "qos-dscp" => put(&mut self.qos_dscp, value),
            "stream-name" => put(&mut self.stream_name, value),
            "codec" => put(&mut self.codec, value),
            "packet-time" => {
                let time = value.get::<u64>().map(Duration::from_nanos);
                time.map(|t| self.packet_time = t).is_ok()
            }
            "mute" => put(&mut self.mute, value),
            _ => false,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "host" => self.host.to_value(),
            "port" => u32::from(self.port).to_value(),
            "audio-port" => u32::from(self.audio_port).to_value(),
            "bind-address" => self.bind_address.to_value(),
            "peer" => self.peer.to_value(),
            "identity-file" => self.identity_file.to_value(),
            "trust-file" => self.trust_file.to_value(),
            "auto-reconnect" => self.auto_reconnect.to_value(),
            "mtu" => self.mtu.to_value(),
            "qos-dscp" => self.qos_dscp.to_value(),
            "stream-name" => self.stream_name.to_value(),
            "codec" => self.codec.to_value(),
            "packet-time" => nanos(self.packet_time).to_value(),
            "mute" => self.mute.to_value(),
            _ => return None,
        })
    }

    /// Takes host, port, stream and known keys over; gives the keys it does not know.
    pub(super) fn apply_uri(&mut self, uri: &VelinUri) -> Result<Vec<String>, String> {
        let defaults = Self::default();
        let mut new = self.clone();
        new.host = if uri.host.is_empty() { defaults.host } else { uri.host.clone() };
        new.port = uri.port.unwrap_or(defaults.port);
        new.stream_name = uri.stream.clone();
        let mut unknown = Vec::new();
        for (key, text) in &uri.query {
            let bad = || format!("{key}={text}: the value does not fit the property {key}");
            match key.as_str() {
                "peer" => new.peer = Some(text.clone()),
                "mtu" => {
                    let mtu = text.parse().ok().filter(|v| (MIN_MTU..=MAX_MTU).contains(v));
                    new.mtu = mtu.ok_or_else(bad)?;
                }
                "qos-dscp" => new.qos_dscp = parse_dscp(text).ok_or_else(bad)?,
                "packet-time" => {
                    let ns = text.parse().ok().filter(|v| PACKET_TIME_NS.contains(v));
                    new.packet_time = Duration::from_nanos(ns.ok_or_else(bad)?);
                }
                "auto-reconnect" => new.auto_reconnect = text.parse().map_err(|_| bad())?,
                "audio-port" => new.audio_port = text.parse().map_err(|_| bad())?,
                "codec" if text == "pcm" => new.codec = Codec::Pcm,
                "codec" => return Err(bad()),
                _ => unknown.push(key.clone()),
            }
        }
        *self = new;
        Ok(unknown)
    }

    /// The URI that [`apply_uri`](Self::apply_uri) makes these settings from; what is at its
    /// default is left out.
    pub(super) fn to_uri(&self) -> VelinUri {
        let defaults = Self::default();
        let mut query = Vec::new();
        let mut put = |key: &str, value: String| query.push((key.to_owned(), value));
        if let Some(peer) = &self.peer {
            put("peer", peer.clone());
        }
        if self.mtu != defaults.mtu {
            put("mtu", self.mtu.to_string());
        }
        if self.qos_dscp != defaults.qos_dscp {
            put("qos-dscp", self.qos_dscp.to_string());
        }
        if self.packet_time != defaults.packet_time {
            put("packet-time", nanos(self.packet_time).to_string());
        }
        if self.auto_reconnect != defaults.auto_reconnect {
            put("auto-reconnect", self.auto_reconnect.to_string());
        }
        if self.audio_port != defaults.audio_port {
            put("audio-port", self.audio_port.to_string());
        }
        VelinUri {
            host: self.host.clone(),
            port: Some(self.port),
            stream: self.stream_name.clone(),
            query,
        }
    }
}

/// 0.1 to 100 ms; what does not fit a packet is cut down by the block rule.
const PACKET_TIME_NS: std::ops::RangeInclusive<u64> = 100_000..=100_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Properties that keep their value while the element runs.
pub(super) fn is_fixed_while_running(name: &str) -> bool {
    name != "mute"
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let d = Settings::default();
    vec![
        glib::ParamSpecString::builder("host")
            .nick("Host")
            .blurb("Name or address of the receiver")
            .default_value(d.host.as_str())
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("port")
            .nick("Port")
            .blurb("TCP port of the receiver")
            .minimum(1)
            .maximum(65_535)
            .default_value(d.port.into())
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("audio-port")
            .nick("Audio port")
            .blurb("UDP port of this machine (0 = any)")
            .maximum(65_535)
            .default_value(d.audio_port.into())
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("bind-address")
            .nick("Bind address")
            .blurb("IP address of this machine to send from (unset = the system chooses)")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("peer")
            .nick("Peer")
            .blurb("The only device that may answer, as age1… (unset = any in the trust file)")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("identity-file")
            .nick("Identity file")
            .blurb("File of this device's key, made on first use (unset = the user's)")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("trust-file")
            .nick("Trust file")
            .blurb("trust.toml or age recipients file of trusted devices (unset = the user's)")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("auto-reconnect")
            .nick("Auto reconnect")
            .blurb("Try again when the connection fails or ends")
            .default_value(d.auto_reconnect)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("mtu")
            .nick("MTU")
            .blurb("Largest UDP payload in bytes")
            .minimum(MIN_MTU)
            .maximum(MAX_MTU)
            .default_value(d.mtu)
            .mutable_ready()
            .build(),
        glib::ParamSpecInt::builder("qos-dscp")
            .nick("QoS DSCP")
            .blurb("DSCP value of all packets (-1 = unmarked)")
            .minimum(-1)
            .maximum(63)
            .default_value(d.qos_dscp)
            .mutable_ready()
            .build(),
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
        glib::ParamSpecUInt64::builder("packet-time")
            .nick("Packet time")
            .blurb("Wished duration of the audio in a packet, in nanoseconds")
            .minimum(*PACKET_TIME_NS.start())
            .maximum(*PACKET_TIME_NS.end())
            .default_value(nanos(d.packet_time))
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
            .blurb("UDP port in use (0 = not connected)")
            .maximum(65_535)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("What was sent and what was dropped")
            .read_only()
            .build(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_uri() {
        let mut s = Settings {
            host: "fe80::1".into(),
            port: 5000,
            stream_name: Some("my mic".into()),
            mtu: 1000,
            qos_dscp: -1,
            packet_time: Duration::from_millis(5),
            auto_reconnect: false,
            audio_port: 7,
            peer: Some("age1x".into()),
            ..Settings::default()
        };
        let uri = s.to_uri();
        let mut other = Settings::default();
        assert_eq!(other.apply_uri(&VelinUri::parse(&uri.to_text()).unwrap()), Ok(Vec::new()));
        s.mute = false;
        assert_eq!(format!("{s:?}"), format!("{other:?}"));
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
        assert_eq!(s.qos_dscp, 46);
    }
}
