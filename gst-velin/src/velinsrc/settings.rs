//! `velinsrc`'s properties.

use std::sync::LazyLock;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use velin_core::playout::{self, MAX_FIXED_DELAY, PlayoutDelay, RepairWish};

use crate::link::{FilterError, StreamFilter};
use crate::link_options::{LinkOptions, Mode, by_nick, nanos, nick, put};
use crate::uri::VelinUri;

/// How the playout delay is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinProfile")]
pub enum Profile {
    /// Learned from the network, as little as most packets allow.
    #[enum_value(name = "Low: as little as most packets allow", nick = "low")]
    Low,
    /// Learned from the network, for sound without gaps.
    #[enum_value(name = "Music: as low as plays without gaps", nick = "music")]
    Music,
    /// Learned from the network, between the two.
    #[enum_value(name = "Voice: between low and music", nick = "voice")]
    Voice,
    /// Always the value of `latency`.
    #[enum_value(name = "Fixed: the value of latency", nick = "fixed")]
    Fixed,
}

/// What becomes of the difference between the sender's clock and the output's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinDrift")]
pub enum Drift {
    /// Resampling follows it.
    #[enum_value(name = "Resample to the output's clock and rate", nick = "resample")]
    Resample,
    /// It is played in its own rate, and the output follows the sender's clock: for files.
    #[enum_value(name = "Source: the output follows the sender's clock", nick = "source")]
    Source,
    /// Nothing: the samples come out as they went in, bit for bit. Needs one stream in the
    /// output's rate and channels.
    #[enum_value(name = "Off: bit-exact output of one stream", nick = "off")]
    Off,
}

/// How lost packets are repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinRepair")]
pub enum Repair {
    /// Whatever fits loss, round-trip time and delay.
    #[enum_value(name = "Auto: whatever fits the network", nick = "auto")]
    Auto,
    /// The sender is asked for them again.
    #[enum_value(name = "Nack: ask for lost packets again", nick = "nack")]
    Nack,
    /// Every packet holds older audio once more.
    #[enum_value(name = "Copy: older audio once more in later packets", nick = "copy")]
    Copy,
    /// Not at all.
    #[enum_value(name = "Off: conceal what is lost", nick = "off")]
    Off,
}

impl Repair {
    /// As the core names it.
    pub(super) fn wish(self) -> RepairWish {
        match self {
            Self::Auto => RepairWish::Auto,
            Self::Nack => RepairWish::Nack,
            Self::Copy => RepairWish::Copy,
            Self::Off => RepairWish::Off,
        }
    }
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
    pub(super) link: LinkOptions,
    pub(super) streams: Option<String>,
    pub(super) profile: Profile,
    pub(super) latency: Duration,
    pub(super) drift: Drift,
    pub(super) repair: Repair,
    pub(super) output_period: Duration,
    pub(super) on_peer_lost: OnPeerLost,
    pub(super) trace_file: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            link: LinkOptions::new(Mode::Listener),
            streams: None,
            profile: Profile::Music,
            latency: Duration::from_millis(20),
            drift: Drift::Resample,
            repair: Repair::Auto,
            output_period: Duration::from_millis(1),
            on_peer_lost: OnPeerLost::Wait,
            trace_file: None,
        }
    }
}

impl Settings {
    /// The playout delay of new streams.
    pub(super) fn delay(&self) -> PlayoutDelay {
        match self.profile {
            Profile::Low => PlayoutDelay::Adaptive(playout::Profile::Low),
            Profile::Music => PlayoutDelay::Adaptive(playout::Profile::Music),
            Profile::Voice => PlayoutDelay::Adaptive(playout::Profile::Voice),
            Profile::Fixed => PlayoutDelay::Fixed(self.latency),
        }
    }

    /// Sets the property `name`. `false`: there is no such property, or the value does not fit.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "streams" => put(&mut self.streams, value),
            "profile" => put(&mut self.profile, value),
            "latency" => {
                let ms = value.get::<u32>().map(|ms| Duration::from_millis(ms.into()));
                ms.map(|v| self.latency = v).is_ok()
            }
            "drift" => put(&mut self.drift, value),
            "repair" => put(&mut self.repair, value),
            "output-period" => {
                let ns = value.get::<u64>().map(Duration::from_nanos);
                ns.map(|v| self.output_period = v).is_ok()
            }
            "on-peer-lost" => put(&mut self.on_peer_lost, value),
            "trace-file" => put(&mut self.trace_file, value),
            _ => self.link.set(name, value).unwrap_or(false),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "streams" => self.streams.to_value(),
            "profile" => self.profile.to_value(),
            "latency" => millis(self.latency).to_value(),
            "drift" => self.drift.to_value(),
            "repair" => self.repair.to_value(),
            "output-period" => nanos(self.output_period).to_value(),
            "on-peer-lost" => self.on_peer_lost.to_value(),
            "trace-file" => self.trace_file.to_value(),
            _ => return self.link.get(name),
        })
    }

    /// Takes address, port and known keys over; gives the keys it does not know.
    pub(super) fn apply_uri(&mut self, uri: &VelinUri) -> Result<Vec<String>, String> {
        let mut new = self.clone();
        new.link.apply_uri(uri);
        new.streams = uri.stream.clone();
        let mut unknown = Vec::new();
        for (key, text) in &uri.query {
            let bad = || format!("{key}={text}: the value does not fit the property {key}");
            match key.as_str() {
                "latency" => {
                    let ms = text.parse::<u32>().ok().filter(|v| *v <= millis(MAX_FIXED_DELAY));
                    new.latency = Duration::from_millis(ms.ok_or_else(bad)?.into());
                    new.profile = Profile::Fixed;
                }
                "profile" => new.profile = by_nick(text).ok_or_else(bad)?,
                "drift" => new.drift = by_nick(text).ok_or_else(bad)?,
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
        uri.stream = self.streams.clone();
        let mut put = |key: &str, value: String| uri.query.push((key.to_owned(), value));
        let d = Self::default();
        if self.profile == Profile::Fixed {
            put("latency", millis(self.latency).to_string());
        } else if self.profile != d.profile {
            put("profile", nick(self.profile));
        }
        if self.drift != d.drift {
            put("drift", nick(self.drift));
        }
        if self.repair != d.repair {
            put("repair", nick(self.repair));
        }
        uri
    }

    /// The state in which the last of these properties takes a new value.
    pub(super) fn last_state(&self, name: &str) -> gst::State {
        match name {
            "profile" | "latency" | "repair" | "on-peer-lost" => gst::State::Playing,
            "streams" | "drift" | "output-period" | "trace-file" => gst::State::Ready,
            _ => self.link.last_state(name),
        }
    }

    /// Which streams to play.
    pub(super) fn filter(&self) -> Result<StreamFilter, FilterError> {
        self.streams.as_deref().unwrap_or_default().parse()
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let d = Settings::default();
    let mut pspecs = LinkOptions::pspecs(Mode::Listener);
    pspecs.extend([
        glib::ParamSpecString::builder("streams")
            .nick("Streams")
            .blurb("Names of streams or senders to play, as in \"desktop*,!phone\" (unset = all)")
            .mutable_ready()
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
            .blurb("What becomes of the difference between the sender's clock and the output's")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("repair", d.repair)
            .nick("Repair")
            .blurb("How lost packets of new streams are repaired")
            .mutable_playing()
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
        glib::ParamSpecString::builder("trace-file")
            .nick("Trace file")
            .blurb("File to record the arrivals of the first stream in, for velin-pipe simulate")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("uri")
            .nick("URI")
            .blurb("velin://address:port/streams, sets bind-address, port and more at once")
            .build(),
        glib::ParamSpecUInt::builder("current-port")
            .nick("Current port")
            .blurb("TCP port in use to listen (0 = not listening)")
            .maximum(65_535)
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("What was received, repaired, concealed and refused, and the playout delay")
            .read_only()
            .build(),
    ]);
    pspecs
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_their_uri() {
        let mut s = Settings {
            streams: Some("desktop*,!phone".into()),
            profile: Profile::Fixed,
            latency: Duration::from_millis(250),
            drift: Drift::Off,
            repair: Repair::Copy,
            ..Settings::default()
        };
        s.link.bind_address = Some("::1".into());
        s.link.port = 5000;
        s.link.audio_port = Some(5001);
        s.link.qos_dscp = 0;
        let mut other = Settings::default();
        let uri = VelinUri::parse(&s.to_uri().to_text()).unwrap();
        assert_eq!(other.apply_uri(&uri), Ok(Vec::new()));
        assert_eq!(format!("{s:?}"), format!("{other:?}"));
    }

    #[test]
    fn the_defaults_have_a_uri_that_can_be_set() {
        let text = Settings::default().to_uri().to_text();
        assert_eq!(text, "velin://[::]:49000/");
        let mut s = Settings::default();
        s.link.port = 1;
        s.link.bind_address = Some("::1".into());
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
            "velin:///?repair=duct-tape",
            "velin:///?mode=both",
            "velin:///?carrier=pigeon",
        ] {
            let uri = VelinUri::parse(bad).unwrap();
            assert!(s.apply_uri(&uri).is_err(), "{bad}");
        }
        assert_eq!(format!("{s:?}"), format!("{:?}", Settings::default()));
    }
}
