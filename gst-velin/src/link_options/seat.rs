//! Where an element keeps its link: ports from NULL to NULL, all else from READY to READY.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use velin_core::identity::Identity;
use velin_core::session::SessionCounters;

use super::{LinkOptions, Mode};
use crate::link::{
    AdmissionCounters, BindError, Caller, CallerSettings, Link, Listener, ListenerSettings,
    OpenError, Opening, TrustSource,
};
use crate::options;

/// What an element has of its link before it has read any file.
#[derive(Default)]
pub(crate) struct Seat(Mutex<Option<Option<Arc<Listener>>>>);

impl Seat {
    /// On NULL→READY. In mode listener, takes the ports, so that a taken one fails at once.
    pub(crate) fn take(&self, options: &LinkOptions) -> Result<(), gst::ErrorMessage> {
        let bound = options.bind()?;
        *self.lock() = Some(bound);
        Ok(())
    }

    /// On READY→NULL.
    pub(crate) fn leave(&self) {
        // Taken out first: the ports are given back with no lock held.
        let bound = self.lock().take();
        drop(bound);
    }

    /// Whether the element has left NULL.
    pub(crate) fn is_taken(&self) -> bool {
        self.lock().is_some()
    }

    /// In mode listener, what has the ports.
    pub(crate) fn listener(&self) -> Option<Arc<Listener>> {
        self.lock().clone().flatten()
    }

    /// On READY→PAUSED: reads the files and has the link ready. Touches no network by itself.
    pub(crate) fn open(&self, options: &LinkOptions) -> Result<OpenLink, gst::ErrorMessage> {
        options.open(self.listener())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Option<Arc<Listener>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkOptions {
    /// In mode listener, takes the ports, so that a taken one fails at once.
    fn bind(&self) -> Result<Option<Arc<Listener>>, gst::ErrorMessage> {
        if self.mode == Mode::Caller {
            return Ok(None);
        }
        let listener = Listener::shared(ListenerSettings {
            link: self.link.clone(),
            port: self.port,
            audio_port: self.audio_port,
            bind: options::bind_address(self.bind_address.as_deref()).map_err(wrong)?,
            carrier: self.carrier.core(),
            peer: options::peer(self.peer.as_deref()).map_err(wrong)?,
            allow: self.allow.as_deref().unwrap_or_default().parse().map_err(wrong)?,
            max_sessions: self.max_sessions as usize,
            dscp: options::dscp(self.qos_dscp),
            mtu: u16::try_from(self.mtu).unwrap_or(u16::MAX),
        });
        listener.map(Some).map_err(|e| match e {
            BindError::Conflict(e) => wrong(e),
            e => gst::error_msg!(gst::ResourceError::Busy, ("{}", e)),
        })
    }

    /// Reads the files and has the link ready. Touches no network by itself.
    fn open(&self, bound: Option<Arc<Listener>>) -> Result<OpenLink, gst::ErrorMessage> {
        let bind = options::bind_address(self.bind_address.as_deref()).map_err(wrong)?;
        let peer = options::peer(self.peer.as_deref()).map_err(wrong)?;
        let (identity, trust) =
            options::open_files(self.identity_file.as_deref(), self.trust_file.as_deref())
                .map_err(|e| gst::error_msg!(gst::ResourceError::OpenRead, ("{}", e)))?;
        let link = match bound {
            Some(listener) => Link::Listener(listener),
            None if self.port == 0 => return Err(wrong("port=0 cannot be called; say which")),
            None => Link::Caller(
                Caller::shared(CallerSettings {
                    link: self.link.clone(),
                    host: self.host.clone(),
                    port: self.port,
                    audio_port: self.audio_port(),
                    bind,
                    carrier: self.carrier.core(),
                    peer,
                    mtu: u16::try_from(self.mtu).unwrap_or(u16::MAX),
                    dscp: options::dscp(self.qos_dscp),
                    auto_reconnect: self.auto_reconnect,
                    identity: identity.clone(),
                    trust: trust.clone(),
                    trust_file: self.trust_file.clone(),
                    agent: options::agent(),
                    name: None,
                })
                .map_err(wrong)?,
            ),
        };
        let trust_file = self.trust_file.clone();
        Ok(OpenLink { link, identity, trust, trust_file, opening: Mutex::default() })
    }
}

fn wrong(e: impl std::fmt::Display) -> gst::ErrorMessage {
    gst::error_msg!(gst::ResourceError::Settings, ("{}", e))
}

/// A link with the files it needs, from READY→PAUSED to PAUSED→READY.
pub(crate) struct OpenLink {
    pub(crate) link: Link,
    pub(crate) identity: Arc<Identity>,
    trust: Arc<TrustSource>,
    trust_file: Option<String>,
    opening: Mutex<Option<Opening>>,
}

impl OpenLink {
    /// Lets callers in, if the link listens.
    pub(crate) fn let_in(&self) -> Result<(), OpenError> {
        let Link::Listener(listener) = &self.link else { return Ok(()) };
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if opening.is_none() {
            *opening = Some(listener.open(
                self.identity.clone(),
                self.trust.clone(),
                self.trust_file.clone(),
                options::agent(),
            )?);
        }
        Ok(())
    }

    /// Sessions of a listener now; how many a caller has had.
    pub(crate) fn sessions(&self) -> u64 {
        match &self.link {
            Link::Caller(caller) => caller.sessions(),
            Link::Listener(listener) => listener.sessions() as u64,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        match &self.link {
            Link::Caller(_) => Mode::Caller,
            Link::Listener(_) => Mode::Listener,
        }
    }
}

/// What a link has counted.
#[derive(Default)]
pub(crate) struct Figures {
    /// Authenticated sessions now.
    pub(crate) peers: u32,
    /// The UDP port in use; 0 = none.
    pub(crate) audio_port: u16,
    /// Callers that failed the handshake.
    pub(crate) refused: u64,
    /// Trusted callers that were more than `max-sessions`.
    pub(crate) busy: u64,
    /// Callers that have not authenticated yet.
    pub(crate) at_door: u32,
    /// What became of callers before they did.
    pub(crate) door: AdmissionCounters,
    /// Datagrams that belong to no session.
    pub(crate) unknown: u64,
    pub(crate) counters: SessionCounters,
}

impl Figures {
    /// What became of callers, and of packets, as both elements show it.
    pub(crate) fn put(&self, builder: gst::structure::Builder) -> gst::structure::Builder {
        let (door, packets) = (&self.door, &self.counters);
        builder
            .field("callers-waiting", self.at_door)
            .field("callers-refused", self.refused)
            .field("callers-busy", self.busy)
            .field("callers-evicted", door.evicted_full + door.evicted_source)
            .field("callers-limited", door.refused_source + door.refused_global)
            .field("callers-delayed", door.waited_source + door.waited_global)
            .field("callers-not-allowed", door.not_allowed)
            .field("packets-received", packets.received)
            .field("bytes-received", packets.received_bytes)
            .field("packets-forged", packets.forged)
            .field("packets-replayed", packets.replayed)
            .field("packets-wrong-epoch", packets.wrong_epoch)
            .field("packets-unknown-stream", packets.unknown_stream)
            .field("packets-malformed", packets.malformed)
            .field("packets-unknown", self.unknown)
            .field("pings-unanswered", packets.unanswered_pings)
            .field("addresses-unproved", packets.unproved_addresses)
    }
}

impl OpenLink {
    /// What the link has counted so far.
    pub(crate) fn figures(&self) -> Figures {
        match &self.link {
            Link::Caller(caller) => {
                let (counters, unknown) = caller.counters();
                Figures {
                    peers: caller.peers(),
                    audio_port: caller.audio_port(),
                    unknown,
                    counters,
                    ..Figures::default()
                }
            }
            Link::Listener(listener) => {
                let (counters, unknown) = listener.counters();
                let (at_door, door) = listener.door();
                Figures {
                    peers: listener.sessions() as u32,
                    audio_port: listener.audio_port(),
                    refused: listener.refused(),
                    busy: listener.busy(),
                    at_door: at_door as u32,
                    door,
                    unknown,
                    counters,
                }
            }
        }
    }
}
