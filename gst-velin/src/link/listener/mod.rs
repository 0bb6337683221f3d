//! A link that listens: any number of callers, each with a session of its own.

mod bind;
mod server;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener as StdTcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use velin_core::identity::{Identity, Name, PublicKey};
use velin_core::session::{Carrier, SessionCounters};
use velin_core::wire::CloseCode;

use super::DEFAULT_AUDIO_PORT;
use super::admission::{Admission, AdmissionCounters};
use super::allow::AllowList;
use super::hub::Hub;
use super::registry::{self, Conflict, LinkKey, agree};
use super::runtime;
use super::trust::{Subscription, TrustSource};
use super::udp::UdpPort;
use bind::bind_tcp;
use server::Server;

pub use bind::{BindError, OpenError};

/// Where a listener listens.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The link's name, if the user gave it one.
    pub link: Option<String>,
    /// TCP port; 0 = any.
    pub port: u16,
    /// UDP port; 0 = any, `None` = [`DEFAULT_AUDIO_PORT`], or that of whom the link is shared with.
    pub audio_port: Option<u16>,
    /// One address of this machine; `None` = all, both families.
    pub bind: Option<IpAddr>,
    /// How packets travel. Without UDP on carrier `tcp`.
    pub carrier: Carrier,
    /// The only key that may call; `None` = whoever is trusted.
    pub peer: Option<PublicKey>,
    /// From where callers may come.
    pub allow: AllowList,
    /// Authenticated sessions at a time.
    pub max_sessions: usize,
    /// DSCP value of what we send; `None` = leave alone.
    pub dscp: Option<u8>,
    /// Largest UDP payload in bytes.
    pub mtu: u16,
}

impl ListenerSettings {
    fn key(&self) -> Option<LinkKey> {
        match &self.link {
            Some(name) => Some(LinkKey::Named(name.clone())),
            // Whoever takes any port wants one of its own.
            None if self.port == 0 => None,
            None => Some(LinkKey::Listen { bind: self.bind, port: self.port }),
        }
    }

    fn agree(&self, other: &Self) -> Result<(), Conflict> {
        agree(&[
            ("port", self.port == other.port),
            ("audio-port", self.audio_port.is_none() || self.audio_port == other.audio_port),
            ("bind-address", self.bind == other.bind),
            ("carrier", self.carrier == other.carrier),
            ("peer", self.peer == other.peer),
            ("allow", self.allow == other.allow),
            ("max-sessions", self.max_sessions == other.max_sessions),
            ("qos-dscp", self.dscp == other.dscp),
            ("mtu", self.mtu == other.mtu),
        ])
    }
}

/// Bound sockets, shared by the elements of this process that listen on the same port. It lets
/// callers in while somebody holds an [`Opening`], and gives the ports back on drop.
pub struct Listener {
    settings: ListenerSettings,
    tcp: StdTcpListener,
    udp: Option<UdpPort>,
    hub: Arc<Hub>,
    open: Mutex<Option<Open>>,
}

/// While somebody holds an [`Opening`].
struct Open {
    shared: Arc<Shared>,
    holders: usize,
    identity: PublicKey,
    trust_file: Option<String>,
    _trust: Subscription,
}

/// Keeps a listener open to callers. When the last one is dropped, everybody hears a goodbye and
/// nobody is let in until the next opening; the ports stay taken.
#[derive(Debug)]
pub struct Opening(Arc<Listener>);

impl Drop for Opening {
    fn drop(&mut self) {
        let over = {
            let mut open = lock(&self.0.open);
            if let Some(open) = &mut *open {
                open.holders -= 1;
            }
            open.take_if(|o| o.holders == 0)
        };
        if let Some(over) = over {
            self.0.end(&over.shared);
        }
    }
}

/// What everything of one opening has in common. Replaced by the next one, so that what still ends
/// cannot touch what comes after it.
struct Shared {
    stop: AtomicBool,
    /// Only the accepting task waits for it.
    wake: Notify,
    admission: Mutex<Admission<AbortHandle>>,
    sessions: AtomicUsize,
    refused: AtomicU64,
    /// Trusted callers that were one too many.
    busy: AtomicU64,
    /// What the sessions that are over had counted.
    past: Mutex<SessionCounters>,
}

impl Listener {
    /// The listener for `settings`: a living one if the process has it, else one that binds now.
    pub fn shared(settings: ListenerSettings) -> Result<Arc<Self>, BindError> {
        let Some(key) = settings.key() else { return Self::bind(settings) };
        let make = || Self::bind(settings.clone());
        registry::share(key, make, |link: &Self| settings.agree(&link.settings))
    }

    fn bind(settings: ListenerSettings) -> Result<Arc<Self>, BindError> {
        let tcp = match settings.bind {
            Some(ip) => bind_tcp((ip, settings.port).into()),
            None => bind_tcp((Ipv6Addr::UNSPECIFIED, settings.port).into()).or_else(|e| {
                if e.kind() == io::ErrorKind::AddrInUse {
                    return Err(e);
                }
                bind_tcp((Ipv4Addr::UNSPECIFIED, settings.port).into())
            }),
        }
        .map_err(|e| BindError::new("TCP", "port", settings.port, settings.bind, &e))?;
        let port = settings.audio_port.unwrap_or(DEFAULT_AUDIO_PORT);
        let bind_udp = || match settings.bind {
            Some(ip) => UdpPort::bind((ip, port).into(), settings.dscp),
            None => UdpPort::bind_any(port, settings.dscp),
        };
        let udp = match settings.carrier {
            Carrier::Tcp => None,
            Carrier::Lan => Some(
                bind_udp()
                    .map_err(|e| BindError::new("UDP", "audio-port", port, settings.bind, &e))?,
            ),
        };
        Ok(Arc::new(Self { settings, tcp, udp, hub: Hub::new(|| {}), open: Mutex::default() }))
    }

    /// The TCP port in use.
    pub fn port(&self) -> u16 {
        self.tcp.local_addr().map_or(0, |a| a.port())
    }

    /// The UDP port in use; 0 = none.
    pub fn audio_port(&self) -> u16 {
        self.udp.as_ref().map_or(0, |u| u.shared().local().port())
    }

    /// Lets callers in. Somebody who does so already must mean the same device and the same trust.
    pub fn open(
        self: &Arc<Self>,
        identity: Arc<Identity>,
        trust: Arc<TrustSource>,
        trust_file: Option<String>,
        agent: Option<Name>,
    ) -> Result<Opening, OpenError> {
        let runtime = runtime::handle()?;
        let mut open = lock(&self.open);
        if let Some(open) = &mut *open {
            agree(&[
                ("identity-file", open.identity == identity.public()),
                ("trust-file", open.trust_file == trust_file),
            ])?;
            open.holders += 1;
            return Ok(Opening(self.clone()));
        }
        let tcp = self.tcp.try_clone()?;
        trust.watch()?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            wake: Notify::new(),
            admission: Mutex::new(Admission::new(self.settings.allow.clone())),
            sessions: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            past: Mutex::default(),
        });
        let (watched, hub) = (Arc::downgrade(&trust), Arc::downgrade(&self.hub));
        let own = identity.public();
        let subscription = trust.subscribe(move |news| {
            if let (Some(trust), Some(hub)) = (watched.upgrade(), hub.upgrade()) {
                hub.on_trust(news, &*trust, own, None);
            }
        });
        let public = identity.public();
        let server = Arc::new(Server {
            settings: self.settings.clone(),
            udp: self.udp.as_ref().map(|u| u.shared().clone()),
            shared: shared.clone(),
            hub: self.hub.clone(),
            identity,
            trust,
            agent,
        });
        let _entered = runtime.enter();
        let tcp = TcpListener::from_std(tcp)?;
        runtime.spawn(server.run(tcp));
        *open =
            Some(Open { shared, holders: 1, identity: public, trust_file, _trust: subscription });
        Ok(Opening(self.clone()))
    }

    /// What is attached to the link.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Says goodbye to everybody and lets nobody in.
    fn end(&self, shared: &Shared) {
        shared.stop.store(true, Ordering::Release);
        shared.wake.notify_one();
        let strangers = lock(&shared.admission).clear();
        strangers.for_each(|task| task.abort());
        for connection in self.hub.sessions() {
            connection.close(CloseCode::SHUTDOWN);
        }
    }

    /// Authenticated sessions now.
    pub fn sessions(&self) -> usize {
        self.opening().map_or(0, |s| s.sessions.load(Ordering::Relaxed))
    }

    /// What all sessions counted, added up, and datagrams that belong to none.
    pub fn counters(&self) -> (SessionCounters, u64) {
        let mut sum = self.opening().map_or_else(Default::default, |s| *lock(&s.past));
        for connection in self.hub.sessions() {
            sum += connection.with(|s| s.counters());
        }
        (sum, self.udp.as_ref().map_or(0, |u| u.shared().unknown()))
    }

    /// Callers that failed the handshake.
    pub(crate) fn refused(&self) -> u64 {
        self.opening().map_or(0, |s| s.refused.load(Ordering::Relaxed))
    }

    /// Trusted callers that were more than `max_sessions`.
    pub(crate) fn busy(&self) -> u64 {
        self.opening().map_or(0, |s| s.busy.load(Ordering::Relaxed))
    }

    /// Callers that have not authenticated yet, and what became of others.
    pub(crate) fn door(&self) -> (usize, AdmissionCounters) {
        let Some(shared) = self.opening() else { return Default::default() };
        let admission = lock(&shared.admission);
        (admission.at_door(), admission.counters())
    }

    fn opening(&self) -> Option<Arc<Shared>> {
        lock(&self.open).as_ref().map(|o| o.shared.clone())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The accepting task lets go of its handle a moment later; the port is free now.
        let _ = SockRef::from(&self.tcp).shutdown(Shutdown::Both);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("settings", &self.settings).finish_non_exhaustive()
    }
}
