//! A link that calls: connects, stays connected, and makes a new session before it gives up an old
//! one.

mod life;
mod session;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use velin_core::identity::{Identity, Name, PublicKey};
use velin_core::session::{Carrier, Route, SessionCounters};

use super::connect::{self, ConnectError};
use super::event::{CarrierReason, LinkEvent, PeerInfo};
use super::hub::Hub;
use super::registry::{self, Conflict, LinkKey, agree};
use super::runtime::{self, RuntimeError};
use super::trust::{Subscription, TrustSource};
use super::udp::{UdpPort, UdpShared};

/// UDP, TCP or neither, wherever to.
type Way = std::mem::Discriminant<Route>;

/// What a calling link is told at its start.
#[derive(Clone, Debug)]
pub struct CallerSettings {
    /// The link's name, if the user gave it one.
    pub link: Option<String>,
    /// Name or address of the listener.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Our own UDP port; 0 = any.
    pub audio_port: u16,
    /// Address of this machine to send from.
    pub bind: Option<IpAddr>,
    /// How packets travel.
    pub carrier: Carrier,
    /// The only key that may answer.
    pub peer: Option<PublicKey>,
    /// Largest UDP payload in bytes.
    pub mtu: u16,
    /// DSCP value of all packets; `None` = leave alone.
    pub dscp: Option<u8>,
    /// Whether to try again after a failure.
    pub auto_reconnect: bool,
    /// Our key.
    pub identity: Arc<Identity>,
    /// Whom we trust.
    pub trust: Arc<TrustSource>,
    /// Where the trust came from.
    pub trust_file: Option<String>,
    /// Program and version, told to the peer.
    pub agent: Option<Name>,
    /// What this device calls itself.
    pub name: Option<Name>,
}

impl CallerSettings {
    fn key(&self) -> LinkKey {
        match &self.link {
            Some(name) => LinkKey::Named(name.clone()),
            None => LinkKey::Call {
                host: self.host.to_ascii_lowercase(),
                port: self.port,
                identity: self.identity.public(),
            },
        }
    }

    /// The first property in which two elements contradict each other.
    fn agree(&self, other: &Self) -> Result<(), Conflict> {
        agree(&[
            ("host", self.host.eq_ignore_ascii_case(&other.host)),
            ("port", self.port == other.port),
            ("audio-port", self.audio_port == 0 || self.audio_port == other.audio_port),
            ("bind-address", self.bind == other.bind),
            ("carrier", self.carrier == other.carrier),
            ("peer", self.peer == other.peer),
            ("mtu", self.mtu == other.mtu),
            ("qos-dscp", self.dscp == other.dscp),
            ("auto-reconnect", self.auto_reconnect == other.auto_reconnect),
            ("identity-file", self.identity.public() == other.identity.public()),
            ("trust-file", self.trust_file == other.trust_file),
        ])
    }
}

/// A calling link, shared by all elements of the process that mean the same one. Ends, with a
/// goodbye, when the last of them lets go.
#[derive(Debug)]
pub struct Caller {
    shared: Arc<Shared>,
    _trust: Subscription,
}

struct Shared {
    settings: CallerSettings,
    hub: Arc<Hub>,
    /// Bound by the first session, kept for all: the port stays the same.
    udp: Mutex<Option<UdpPort>>,
    /// The way that elements were last told of: a new session may well go the same.
    told: Mutex<Option<(Way, CarrierReason)>>,
    wake: Arc<Notify>,
    stop: AtomicBool,
    sessions: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why an element has no calling link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It disagrees with the one it would share.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// No threads.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl Caller {
    /// The link for `settings`: a living one if the process has it, else a new one that connects
    /// as soon as something is attached. Never waits.
    pub fn shared(settings: CallerSettings) -> Result<Arc<Self>, CallError> {
        let runtime = runtime::handle()?;
        settings.trust.watch()?;
        let make = || Ok(Self::start(settings.clone(), &runtime));
        registry::share(settings.key(), make, |link: &Self| settings.agree(&link.shared.settings))
    }

    fn start(settings: CallerSettings, runtime: &tokio::runtime::Handle) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let attached = wake.clone();
        let shared = Arc::new(Shared {
            settings,
            hub: Hub::new(move || attached.notify_one()),
            udp: Mutex::default(),
            told: Mutex::default(),
            wake,
            stop: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
        });
        runtime.spawn(life::guarded(shared.clone()));
        let watcher = Arc::downgrade(&shared);
        let trust = shared.settings.trust.subscribe(move |news| {
            let Some(shared) = watcher.upgrade() else { return };
            let s = &shared.settings;
            shared.hub.on_trust(news, &*s.trust, s.identity.public(), s.peer);
        });
        Arc::new(Self { shared, _trust: trust })
    }

    /// What is attached to the link.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// How many sessions there were.
    pub fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// 1 while a session lives, else 0.
    pub fn peers(&self) -> u32 {
        u32::from(!self.shared.hub.sessions().is_empty())
    }

    /// Our UDP port; 0 = none.
    pub fn audio_port(&self) -> u16 {
        let udp = self.shared.udp.lock().unwrap_or_else(PoisonError::into_inner);
        udp.as_ref().map_or(0, |u| u.shared().local().port())
    }

    /// What the living sessions have counted, and datagrams that belong to none.
    pub fn counters(&self) -> (SessionCounters, u64) {
        let mut sum = SessionCounters::default();
        for connection in self.shared.hub.sessions() {
            sum += connection.with(|s| s.counters());
        }
        let udp = self.shared.udp.lock().unwrap_or_else(PoisonError::into_inner);
        (sum, udp.as_ref().map_or(0, |u| u.shared().unknown()))
    }

    /// Whether it has given up, or was let go.
    pub(in crate::link) fn is_over(&self) -> bool {
        self.shared.stopped()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn tell(&self, event: &LinkEvent) {
        self.hub.tell(event);
    }

    fn tell_way(&self, peer: PeerInfo, route: Route, why: CarrierReason) {
        let way = Some((std::mem::discriminant(&route), why));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *told, way) != way {
            drop(told);
            self.tell(&LinkEvent::Carried { peer, route, why });
        }
    }

    /// The last thing this link does. Whoever wants to try again makes a new one.
    fn give_up(&self, event: LinkEvent) {
        self.stop.store(true, Ordering::Release);
        self.hub.give_up(event);
    }

    fn address(&self) -> String {
        connect::display(&self.settings.host, self.settings.port)
    }

    fn udp(&self) -> Result<Option<Arc<UdpShared>>, ConnectError> {
        let settings = &self.settings;
        if settings.carrier == Carrier::Tcp {
            return Ok(None);
        }
        let mut udp = self.udp.lock().unwrap_or_else(PoisonError::into_inner);
        if udp.is_none() {
            let bound = match settings.bind {
                Some(ip) => UdpPort::bind((ip, settings.audio_port).into(), settings.dscp),
                None => UdpPort::bind_any(settings.audio_port, settings.dscp),
            };
            *udp = Some(bound.map_err(|e| ConnectError::UdpPort {
                port: settings.audio_port,
                detail: e.to_string(),
            })?);
        }
        Ok(udp.as_ref().map(|u| u.shared().clone()))
    }
}

/// Why media goes that way.
pub(in crate::link) fn reason(route: Route, carrier: Carrier) -> CarrierReason {
    match (route, carrier) {
        (_, Carrier::Tcp) => CarrierReason::Chosen,
        (Route::Datagram(_), _) => CarrierReason::UdpAnswers,
        (Route::Stream, _) => CarrierReason::UdpSilent,
        (Route::Held, _) => CarrierReason::PeerSilent,
    }
}
