//! The link properties, which both elements have: their values, their specs, what they open.

mod pspecs;
mod seat;

use std::time::Duration;

use gst::glib;
use gst::glib::value::FromValue;
use gst::prelude::*;
use velin_core::session::Carrier as CoreCarrier;

use crate::link::{DEFAULT_AUDIO_PORT, DEFAULT_PORT};
use crate::options::{DEFAULT_DSCP, DEFAULT_MTU, MAX_MTU, MIN_MTU};
use crate::uri::{VelinUri, parse_dscp};

pub(crate) use seat::{OpenLink, Seat};

/// Sessions of a listener, at most.
const MAX_SESSIONS: u32 = 256;

/// Who makes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinMode")]
pub enum Mode {
    /// The element calls `host`.
    #[enum_value(name = "Caller: connects to host", nick = "caller")]
    Caller,
    /// The element waits for callers.
    #[enum_value(name = "Listener: waits for callers", nick = "listener")]
    Listener,
}

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstVelinCarrier")]
pub enum Carrier {
    /// Whatever works best.
    #[enum_value(name = "Auto: the best that works", nick = "auto")]
    Auto,
    /// Control by TCP, audio by UDP, or by TCP while UDP is blocked.
    #[enum_value(name = "LAN: audio by UDP, by TCP while UDP is blocked", nick = "lan")]
    Lan,
    /// Everything on one TCP connection.
    #[enum_value(name = "TCP: everything on one TCP connection", nick = "tcp")]
    Tcp,
}

impl Carrier {
    fn core(self) -> CoreCarrier {
        match self {
            Self::Auto | Self::Lan => CoreCarrier::Lan,
            Self::Tcp => CoreCarrier::Tcp,
        }
    }
}

/// The values of the link properties.
#[derive(Clone, Debug)]
pub(crate) struct LinkOptions {
    default_mode: Mode,
    pub(crate) mode: Mode,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None`: what suits the mode.
    pub(crate) audio_port: Option<u16>,
    pub(crate) bind_address: Option<String>,
    pub(crate) carrier: Carrier,
    pub(crate) link: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) identity_file: Option<String>,
    pub(crate) trust_file: Option<String>,
    pub(crate) allow: Option<String>,
    pub(crate) max_sessions: u32,
    pub(crate) auto_reconnect: bool,
    pub(crate) mtu: u32,
    pub(crate) qos_dscp: i32,
}

/// The value of an enum property that is called `nick`.
pub(crate) fn by_nick<T>(nick: &str) -> Option<T>
where
    T: StaticType + for<'a> FromValue<'a>,
{
    glib::EnumClass::with_type(T::static_type())?.to_value_by_nick(nick)?.get().ok()
}

/// What a value of an enum property is called.
pub(crate) fn nick(value: impl Into<glib::Value>) -> String {
    let value = value.into();
    glib::EnumValue::from_value(&value).map_or_else(String::new, |(_, v)| v.nick().to_owned())
}

/// Puts `value` into `slot` if it is of its type.
pub(crate) fn put<T>(slot: &mut T, value: &glib::Value) -> bool
where
    T: for<'a> FromValue<'a>,
{
    value.get::<T>().map(|v| *slot = v).is_ok()
}

impl LinkOptions {
    /// The defaults of an element that is `mode` by default.
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            default_mode: mode,
            mode,
            host: "127.0.0.1".into(),
            port: DEFAULT_PORT,
            audio_port: None,
            bind_address: None,
            carrier: Carrier::Auto,
            link: None,
            peer: None,
            identity_file: None,
            trust_file: None,
            allow: None,
            max_sessions: MAX_SESSIONS,
            auto_reconnect: true,
            mtu: DEFAULT_MTU,
            qos_dscp: DEFAULT_DSCP,
        }
    }

    /// The UDP port to bind: a listener's is known to firewalls, a caller's can be any.
    fn audio_port(&self) -> u16 {
        self.audio_port.unwrap_or(match self.mode {
            Mode::Caller => 0,
            Mode::Listener => DEFAULT_AUDIO_PORT,
        })
    }

    /// Sets the property `name`. `None`: there is none of that name; `Some(false)`: the value does
    /// not fit.
    pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> Option<bool> {
        let as_port = || value.get::<u32>().ok().and_then(|v| u16::try_from(v).ok());
        Some(match name {
            "mode" => put(&mut self.mode, value),
            "host" => {
                let host = value.get::<Option<String>>();
                host.map(|h| self.host = h.unwrap_or_else(|| "127.0.0.1".into())).is_ok()
            }
            "port" => as_port().map(|v| self.port = v).is_some(),
            "audio-port" => as_port().map(|v| self.audio_port = Some(v)).is_some(),
            "bind-address" => put(&mut self.bind_address, value),
            "carrier" => put(&mut self.carrier, value),
            "link" => put(&mut self.link, value),
            "peer" => put(&mut self.peer, value),
            "identity-file" => put(&mut self.identity_file, value),
            "trust-file" => put(&mut self.trust_file, value),
            "allow" => put(&mut self.allow, value),
            "max-sessions" => put(&mut self.max_sessions, value),
            "auto-reconnect" => put(&mut self.auto_reconnect, value),
            "mtu" => put(&mut self.mtu, value),
            "qos-dscp" => put(&mut self.qos_dscp, value),
            _ => return None,
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "mode" => self.mode.to_value(),
            "host" => self.host.to_value(),
            "port" => u32::from(self.port).to_value(),
            "audio-port" => u32::from(self.audio_port()).to_value(),
            "bind-address" => self.bind_address.to_value(),
            "carrier" => self.carrier.to_value(),
            "link" => self.link.to_value(),
            "peer" => self.peer.to_value(),
            "identity-file" => self.identity_file.to_value(),
            "trust-file" => self.trust_file.to_value(),
            "allow" => self.allow.to_value(),
            "max-sessions" => self.max_sessions.to_value(),
            "auto-reconnect" => self.auto_reconnect.to_value(),
            "mtu" => self.mtu.to_value(),
            "qos-dscp" => self.qos_dscp.to_value(),
            _ => return None,
        })
    }

    /// The state in which the last of these properties takes a new value: what a listener needs is
    /// taken on its way to READY.
    pub(crate) fn last_state(&self, name: &str) -> gst::State {
        match (name, self.mode) {
            ("mode" | "allow" | "max-sessions", _) => gst::State::Null,
            ("identity-file" | "trust-file", _) => gst::State::Ready,
            (_, Mode::Listener) => gst::State::Null,
            (_, Mode::Caller) => gst::State::Ready,
        }
    }

    /// Takes host and port of a URI over: of the peer, or our own to listen on.
    pub(crate) fn apply_uri(&mut self, uri: &VelinUri) {
        let defaults = Self::new(self.default_mode);
        let mode = uri.query.iter().find(|(key, _)| key == "mode").map(|(_, mode)| mode.as_str());
        self.mode = match mode {
            Some("caller") => Mode::Caller,
            Some("listener") => Mode::Listener,
            _ => self.default_mode,
        };
        self.port = uri.port.unwrap_or(defaults.port);
        match self.mode {
            Mode::Caller => {
                self.host = if uri.host.is_empty() { defaults.host } else { uri.host.clone() };
            }
            Mode::Listener => {
                let anywhere = uri.host.is_empty() || uri.host == ANYWHERE;
                self.bind_address = (!anywhere).then(|| uri.host.clone());
            }
        }
    }

    /// Takes over a key of a URI's query; gives whether it is one of ours.
    pub(crate) fn apply_key(&mut self, key: &str, text: &str) -> Result<bool, String> {
        let bad = || format!("{key}={text}: the value does not fit the property {key}");
        match key {
            "mode" if matches!(text, "caller" | "listener") => {}
            "mode" => return Err(bad()),
            "audio-port" => self.audio_port = Some(text.parse().map_err(|_| bad())?),
            "carrier" => self.carrier = by_nick(text).ok_or_else(bad)?,
            "link" => self.link = Some(text.to_owned()),
            "peer" => self.peer = Some(text.to_owned()),
            "allow" => self.allow = Some(text.to_owned()),
            "max-sessions" => {
                let n = text.parse().ok().filter(|n| (1..=MAX_SESSIONS).contains(n));
                self.max_sessions = n.ok_or_else(bad)?;
            }
            "auto-reconnect" => self.auto_reconnect = text.parse().map_err(|_| bad())?,
            "mtu" => {
                let mtu = text.parse().ok().filter(|v| (MIN_MTU..=MAX_MTU).contains(v));
                self.mtu = mtu.ok_or_else(bad)?;
            }
            "qos-dscp" => self.qos_dscp = parse_dscp(text).ok_or_else(bad)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Host, port and query that the other two make these values from; what is at its default is
    /// left out.
    pub(crate) fn to_uri(&self) -> VelinUri {
        let d = Self::new(self.default_mode);
        let mut query = Vec::new();
        let mut put = |key: &str, value: Option<String>| {
            query.extend(value.map(|value| (key.to_owned(), value)));
        };
        let mode = match self.mode {
            Mode::Caller => "caller",
            Mode::Listener => "listener",
        };
        put("mode", (self.mode != d.mode).then(|| mode.to_owned()));
        put("peer", self.peer.clone());
        put("carrier", (self.carrier != d.carrier).then(|| nick(self.carrier)));
        put("link", self.link.clone());
        put("allow", self.allow.clone());
        let sessions = self.max_sessions;
        put("max-sessions", (sessions != d.max_sessions).then(|| sessions.to_string()));
        put("mtu", (self.mtu != d.mtu).then(|| self.mtu.to_string()));
        put("qos-dscp", (self.qos_dscp != d.qos_dscp).then(|| self.qos_dscp.to_string()));
        let again = self.auto_reconnect;
        put("auto-reconnect", (again != d.auto_reconnect).then(|| again.to_string()));
        put("audio-port", self.audio_port.map(|port| port.to_string()));
        let host = match self.mode {
            Mode::Caller => self.host.clone(),
            Mode::Listener => self.bind_address.clone().unwrap_or_else(|| ANYWHERE.into()),
        };
        VelinUri { host, port: Some(self.port), stream: None, query }
    }
}

/// What stands for "all addresses" in a URI, which needs a host before a port.
const ANYWHERE: &str = "::";

/// A duration as a `GstClockTime` property has it.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
