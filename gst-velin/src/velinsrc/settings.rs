//! `velinsrc`'s properties.

use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::glib::value::FromValue;
use gst::prelude::*;
use velin_core::playout::{MAX_FIXED_DELAY, PlayoutDelay};

use crate::link::{DEFAULT_AUDIO_PORT, DEFAULT_PORT};
use crate::options::{DEFAULT_DSCP, DEFAULT_MTU, MAX_MTU, MIN_MTU};
use crate::uri::{VelinUri, parse_dscp};

/// How the playout delay is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinProfile")]
pub enum Profile {
    /// Learned from the network, for sound without gaps.
    #[enum_value(name = "Music: as low as plays without gaps", nick = "music")]
    Music,
    /// Always the value of `latency`.
    #[enum_value(name = "Fixed: the value of latency", nick = "fixed")]
    Fixed,
}

/// What happens to a stream whose rate is not the output's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinDrift")]
pub enum Drift {
    /// It is resampled.
    #[enum_value(name = "Resample to the output's rate", nick = "resample")]
    Resample,
    /// Nothing: the samples come out as they went in, bit for bit. Needs one stream in the
    /// output's rate and channels.
    #[enum_value(name = "Off: bit-exact output of one stream", nick = "off")]
    Off,
}

/// What happens when the last sender is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinOnPeerLost")]
pub enum OnPeerLost {
    /// Play silence until somebody comes.
    #[enum_value(name = "Wait, playing silence", nick = "wait")]
    Wait,
    /// End of stream.
    #[enum_value(name = "End the stream", nick = "eos")]
    Eos,
    /// An error message.
    #[enum_value(name = "Post an error", nick = "error")]
    Error,
}

/// The values of all writable properties.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) port: u16,
    pub(super) audio_port: u16,
    pub(super) bind_address: Option<String>,
    pub(super) identity_file: Option<String>,
    pub(super) trust_file: Option<String>,
    pub(super) mtu: u32,
    pub(super) qos_dscp: i32,
    pub(super) profile: Profile,
    pub(super) latency: Duration,
    pub(super) drift: Drift,
    pub(super) output_period: Duration,
    pub(super) on_peer_lost: OnPeerLost,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: DEFAULT_PORT,
            audio_port: DEFAULT_AUDIO_PORT,
            bind_address: None,
            identity_file: None,
            trust_file: None,
            mtu: DEFAULT_MTU,
            qos_dscp: DEFAULT_DSCP,
            profile: Profile::Music,
            latency: Duration::from_millis(20),
            drift: Drift::Resample,
            output_period: Duration::from_millis(1),
            on_peer_lost: OnPeerLost::Wait,
        }
    }
}

impl Settings {
    /// The playout delay of new streams.
    pub(super) fn delay(&self) -> PlayoutDelay {
        match self.profile {
            Profile::Music => PlayoutDelay::Auto,
            Profile::Fixed => PlayoutDelay::Fixed(self.latency),
        }
    }

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
            "port" => put_port(&mut self.port, value),
            "audio-port" => put_port(&mut self.audio_port, value),
            "bind-address" => put(&mut self.bind_address, value),
            "identity-file" => put(&mut self.identity_file, value),
            "trust-file" => put(&mut self.trust_file, value),
            "mtu" => put(&mut self.mtu, value),
            "qos-dscp" => put(&mut self.qos_dscp, value),
            "profile" => put(&mut self.profile, value),
            "latency" => {
                let ms = value.get::<u32>().map(|ms| Duration::from_millis(ms.into()));
                ms.map(|v| self.latency = v).is_ok()
            }
            "drift" => put(&mut self.drift, value),
            "output-period" => {
                let ns = value.get::<u64>().map(Duration::from_nanos);
                ns.map(|v| self.output_period = v).is_ok()
            }
            "on-peer-lost" => put(&mut self.on_peer_lost, value),
            _ => false,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "port" => u32::from(self.port).to_value(),
            "audio-port" => u32::from(self.audio_port).to_value(),
            "bind-address" => self.bind_address.to_value(),
            "identity-file" => self.identity_file.to_value(),
            "trust-file" => self.trust_file.to_value(),
            "mtu" => self.mtu.to_value(),
            "qos-dscp" => self.qos_dscp.to_value(),
            "profile" => self.profile.to_value(),
            "latency" => millis(self.latency).to_value(),
            "drift" => self.drift.to_value(),
            "output-period" => nanos(self.output_period).to_value(),
            "on-peer-lost" => self.on_peer_lost.to_value(),
            _ => return None,
        })
    }

    /// Takes address, port and known keys over; gives the keys it does not know.
    pub(super) fn apply_uri(&mut self, uri: &VelinUri) -> Result<Vec<String>, String> {
        let defaults = Self::default();
        let mut new = self.clone();
        let anywhere = uri.host.is_empty() || uri.host == ANYWHERE;
        new.bind_address = (!anywhere).then(|| uri.host.clone());
        new.port = uri.port.unwrap_or(defaults.port);
        if uri.stream.is_some() {
            return Err("a stream cannot be chosen here yet; leave out the part after the /".into());
        }
        let mut unknown = Vec::new();
        for (key, text) in &uri.query {
            let bad = || format!("{key}={text}: the value does not fit the property {key}");
            match key.as_str() {
                "audio-port" => new.audio_port = text.parse().map_err(|_| bad())?,
                "qos-dscp" => new.qos_dscp = parse_dscp(text).ok_or_else(bad)?,
                "latency" => {
                    let ms = text.parse::<u32>().ok().filter(|v| *v <= millis(MAX_FIXED_DELAY));
                    new.latency = Duration::from_millis(ms.ok_or_else(bad)?.into());
                    new.profile = Profile::Fixed;
                }
                "drift" => {
                    new.drift = match text.as_str() {
                        "off" => Drift::Off,
                        "resample" => Drift::Resample,
                        _ => return Err(bad()),
                    }
                }
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
        if self.audio_port != defaults.audio_port {
            put("audio-port", self.audio_port.to_string());
        }
        if self.qos_dscp != defaults.qos_dscp {
            put("qos-dscp", self.qos_dscp.to_string());
        }
        if self.profile == Profile::Fixed {
            put("latency", millis(self.latency).to_string());
        }
        if self.drift == Drift::Off {
            put("drift", "off".into());
        }
        VelinUri {
            host: self.bind_address.clone().unwrap_or_else(|| ANYWHERE.into()),
            port: Some(self.port),
            stream: None,
            query,
        }
    }
}

/// What stands for "all addresses" in a URI, which needs a host before a port.
const ANYWHERE: &str = "::";

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let d = Settings::default();
    vec![
        glib::ParamSpecUInt::builder("port")
            .nick("Port")
            .blurb("TCP port to listen on (0 = any)")
            .maximum(65_535)
            .default_value(d.port.into())
            .build(),
        glib::ParamSpecUInt::builder("audio-port")
            .nick("Audio port")
            .blurb("UDP port to receive audio on (0 = any)")
            .maximum(65_535)
            .default_value(d.audio_port.into())
            .build(),
        glib::ParamSpecString::builder("bind-address")
            .nick("Bind address")
            .blurb("IP address of this machine to listen on (unset = all)")
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
        glib::ParamSpecUInt::builder("mtu")
            .nick("MTU")
            .blurb("Largest UDP payload to accept in an offer, in bytes")
            .minimum(MIN_MTU)
            .maximum(MAX_MTU)
            .default_value(d.mtu)
            .build(),
        glib::ParamSpecInt::builder("qos-dscp")
            .nick("QoS DSCP")
            .blurb("DSCP value of all packets (-1 = unmarked)")
            .minimum(-1)
            .maximum(63)
            .default_value(d.qos_dscp)
            .build(),
        glib::ParamSpecEnum::builder_with_default("profile", d.profile)
            .nick("Profile")
            .blurb("How the playout delay of new streams is chosen")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("latency")
            .nick("Latency")
            .blurb("Playout delay of new streams with profile=fixed, in milliseconds")
            .maximum(millis(MAX_FIXED_DELAY))
            .default_value(millis(d.latency))
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("drift", d.drift)
            .nick("Drift")
            .blurb("Whether streams are resampled to the output")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("output-period")
            .nick("Output period")
            .blurb("Duration of an output buffer, in nanoseconds")
            .minimum(250_000)
            .maximum(100_000_000)
            .default_value(nanos(d.output_period))
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("on-peer-lost", d.on_peer_lost)
            .nick("On peer lost")
            .blurb("What happens when the last sender is gone")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("uri")
            .nick("URI")
            .blurb("velin://address:port/, sets bind-address, port and more at once")
            .build(),
        glib::ParamSpecUInt::builder("current-port")
            .nick("Current port")
            .blurb("TCP port in use (0 = not listening)")
            .maximum(65_535)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("What was received, repaired, concealed and refused, and the playout delay")
            .read_only()
            .build(),
    ]
});

/// The last state in which a property takes a new value.
pub(super) fn last_state(name: &str) -> gst::State {
    match name {
        // The sockets are made on the way to READY.
        "port" | "audio-port" | "bind-address" | "mtu" | "qos-dscp" => gst::State::Null,
        "profile" | "latency" | "on-peer-lost" => gst::State::Playing,
        _ => gst::State::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_uri() {
        let s = Settings {
            bind_address: Some("::1".into()),
            port: 5000,
            audio_port: 5001,
            qos_dscp: 0,
            profile: Profile::Fixed,
            latency: Duration::from_millis(250),
            drift: Drift::Off,
            ..Settings::default()
        };
        let mut other = Settings::default();
        let uri = VelinUri::parse(&s.to_uri().to_text()).unwrap();
        assert_eq!(other.apply_uri(&uri), Ok(Vec::new()));
        assert_eq!(format!("{s:?}"), format!("{other:?}"));
    }

    #[test]
    fn the_defaults_have_a_uri_that_can_be_set() {
        let text = Settings::default().to_uri().to_text();
        assert_eq!(text, "velin://[::]:49000/");
        let mut s = Settings { port: 1, bind_address: Some("::1".into()), ..Settings::default() };
        assert_eq!(s.apply_uri(&VelinUri::parse(&text).unwrap()), Ok(Vec::new()));
        assert_eq!(format!("{s:?}"), format!("{:?}", Settings::default()));
    }

    #[test]
    fn a_bad_value_changes_nothing() {
        let mut s = Settings::default();
        for bad in [
            "velin:///?latency=-1",
            "velin:///?latency=99999",
            "velin:///?drift=fast",
            "velin:///x",
        ] {
            let uri = VelinUri::parse(bad).unwrap();
            assert!(s.apply_uri(&uri).is_err(), "{bad}");
        }
        assert_eq!(format!("{s:?}"), format!("{:?}", Settings::default()));
    }
}
