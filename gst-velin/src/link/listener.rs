//! A link that listens: any number of callers, each with a session of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener as StdTcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use velin_core::identity::{Identity, Name, PublicKey};
use velin_core::session::{Carrier, Ended, Event, Role, Session, SessionConfig, SessionCounters};
use velin_core::wire::{CloseCode, UdpEndpoint};

use super::DEFAULT_AUDIO_PORT;
use super::admission::{Admission, AdmissionCounters, Decision, Knock, Place};
use super::allow::AllowList;
use super::caller::reason;
use super::clock;
use super::connect::tune;
use super::connection::{Connection, Driver};
use super::entropy::OsEntropy;
use super::event::{LinkEvent, PeerInfo};
use super::exchange::Exchange;
use super::hub::Hub;
use super::registry::{self, Conflict, LinkKey};
use super::runtime::{self, RuntimeError};
use super::sys;
use super::trust::{Subscription, TrustSource};
use super::udp::{UdpPort, UdpShared, canonical};

/// After an error of `accept` (for instance too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        let same = [
            ("port", self.port == other.port),
            ("audio-port", self.audio_port.is_none() || self.audio_port == other.audio_port),
            ("bind-address", self.bind == other.bind),
            ("carrier", self.carrier == other.carrier),
            ("peer", self.peer == other.peer),
            ("allow", self.allow == other.allow),
            ("max-sessions", self.max_sessions == other.max_sessions),
            ("qos-dscp", self.dscp == other.dscp),
            ("mtu", self.mtu == other.mtu),
        ];
        match same.iter().find(|(_, same)| !same) {
            Some((property, _)) => Err(Conflict { property }),
            None => Ok(()),
        }
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
        let other = |_| BindError::Conflict(Conflict { property: "mode" });
        let (listener, new) = registry::listener(key, make, other)?;
        if !new {
            settings.agree(&listener.settings)?;
        }
        Ok(listener)
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
            let same = [
                ("identity-file", open.identity == identity.public()),
                ("trust-file", open.trust_file == trust_file),
            ];
            return match same.iter().find(|(_, same)| !same) {
                Some((property, _)) => Err(Conflict { property }.into()),
                None => {
                    open.holders += 1;
                    Ok(Opening(self.clone()))
                }
            };
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

struct Server {
    settings: ListenerSettings,
    udp: Option<Arc<UdpShared>>,
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    trust: Arc<TrustSource>,
    agent: Option<Name>,
}

impl Server {
    async fn run(self: Arc<Self>, tcp: TcpListener) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let sweep = lock(&self.shared.admission).next_sweep().map(clock::instant);
            let sweep = async {
                match sweep {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let accepted = tokio::select! {
                accepted = tcp.accept() => accepted,
                () = self.shared.wake.notified() => continue,
                () = sweep => {
                    let slow = lock(&self.shared.admission).sweep(clock::now());
                    slow.for_each(|task| task.abort());
                    continue;
                }
            };
            if self.shared.stop.load(Ordering::Acquire) {
                break;
            }
            let Ok((stream, from)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let now = clock::now();
            let (knock, decision) = {
                let mut admission = lock(&self.shared.admission);
                let knock = admission.knock(now, from.ip());
                let decision = admission.admit(now, &knock);
                (knock, decision)
            };
            if !matches!(decision, Decision::Refuse(_)) {
                let (own, handle) = tokio::sync::oneshot::channel();
                let server = self.clone();
                let task = tokio::spawn(async move {
                    if let Ok(task) = handle.await {
                        server.admit(stream, knock, decision, task).await;
                    }
                });
                let _ = own.send(task.abort_handle());
            }
        }
    }

    /// Waits for its turn if it has to, then serves. `task` ends all this.
    async fn admit(
        self: Arc<Self>,
        stream: TcpStream,
        knock: Knock,
        mut decision: Decision,
        task: AbortHandle,
    ) {
        loop {
            match decision {
                Decision::Enter(pass) => {
                    let (place, evicted) =
                        lock(&self.shared.admission).enter(clock::now(), pass, task);
                    evicted.iter().for_each(AbortHandle::abort);
                    return self.serve(stream, place).await;
                }
                Decision::Wait(time) => tokio::time::sleep(time).await,
                Decision::Refuse(_) => return,
            }
            if self.shared.stop.load(Ordering::Acquire) {
                return;
            }
            decision = lock(&self.shared.admission).admit(clock::now(), &knock);
        }
    }

    async fn serve(self: &Arc<Self>, tcp: TcpStream, place: Place) {
        let (Ok(local), Ok(remote)) = (tcp.local_addr(), tcp.peer_addr()) else {
            lock(&self.shared.admission).leave(place);
            return;
        };
        let (local, remote) = (canonical(local), canonical(remote));
        tune(&tcp, self.settings.dscp);
        self.trust.refreshed().await;
        let udp = self.udp.as_ref();
        let config = SessionConfig {
            identity: self.identity.clone(),
            trust: self.trust.clone(),
            expected_peer: self.settings.peer,
            accept_own_key: local.ip().is_loopback() && remote.ip().is_loopback(),
            agent: self.agent.clone(),
            name: None,
            carrier: self.settings.carrier,
            udp: udp.map(|u| UdpEndpoint { port: u.local().port(), mtu: self.settings.mtu }),
            peer_address: remote,
            mtu: usize::from(self.settings.mtu),
        };
        let guard = Registration {
            server: self,
            place,
            connection: Connection::register(udp, |index| {
                Session::listener(config, index, Box::new(OsEntropy), clock::now())
            }),
        };
        let mut driver = ListenerDriver { server: self.clone(), place, remote, exchange: None };
        let ended = guard.connection.run(tcp, &mut driver).await;
        driver.finish(&guard.connection, ended);
    }
}

/// Cleans up however the connection's task ends, an eviction included.
struct Registration<'a> {
    server: &'a Server,
    place: Place,
    connection: Arc<Connection>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.connection.unregister();
        lock(&self.server.shared.admission).leave(self.place);
        self.server.hub.leave(&self.connection);
        let counted = self.connection.with(|s| s.counters());
        *lock(&self.server.shared.past) += counted;
    }
}

struct ListenerDriver {
    server: Arc<Server>,
    place: Place,
    remote: SocketAddr,
    exchange: Option<Exchange>,
}

impl ListenerDriver {
    fn finish(self, connection: &Arc<Connection>, ended: Ended) {
        let shared = &self.server.shared;
        let Some(exchange) = self.exchange else {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            let expired = match &ended {
                Ended::UnknownPeer(key) => self.server.trust.expired(key),
                _ => None,
            };
            let event = LinkEvent::CallerRefused { address: self.remote, ended, expired };
            return self.server.hub.tell_first(&event);
        };
        shared.sessions.fetch_sub(1, Ordering::Relaxed);
        let peer = exchange.peer().clone();
        exchange.finish(connection, &ended);
        self.server.hub.tell(&LinkEvent::Left { peer, ended });
    }

    fn tell(&self, event: impl FnOnce(PeerInfo) -> LinkEvent) {
        if let Some(exchange) = &self.exchange {
            self.server.hub.tell(&event(exchange.peer().clone()));
        }
    }

    fn on_authenticated(&mut self, connection: &Arc<Connection>, key: PublicKey) {
        let shared = &self.server.shared;
        lock(&shared.admission).authenticated(clock::now(), self.place);
        let name = self.server.trust.name_of(&key);
        let peer = PeerInfo { key, name, address: self.remote };
        let hub = self.server.hub.clone();
        self.exchange = Some(Exchange::new(hub, Role::Listener, peer, connection));
        let before = shared.sessions.fetch_add(1, Ordering::Relaxed);
        if shared.stop.load(Ordering::Acquire) {
            connection.close(CloseCode::SHUTDOWN);
        } else if before >= self.server.settings.max_sessions {
            shared.busy.fetch_add(1, Ordering::Relaxed);
            connection.close(CloseCode::BUSY);
        }
    }
}

impl Driver for ListenerDriver {
    fn on_event(&mut self, connection: &Arc<Connection>, event: Event) {
        let event = match &mut self.exchange {
            Some(exchange) => exchange.on_event(connection, event),
            None => Some(event),
        };
        match event {
            Some(Event::Authenticated { peer, .. }) => self.on_authenticated(connection, peer),
            Some(Event::Open { name }) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.open(connection, name);
                }
                self.tell(LinkEvent::Connected);
            }
            Some(Event::RouteChanged(route)) => {
                let why = reason(route, self.server.settings.carrier);
                self.tell(|peer| LinkEvent::Carried { peer, route, why });
            }
            Some(Event::Stalled) => self.tell(LinkEvent::Stalled),
            Some(Event::Recovered(silence)) => self.tell(|p| LinkEvent::Recovered(p, silence)),
            // Its caller has made another one, and could not say so here.
            Some(Event::Lost(_)) if self.server.hub.is_superseded(connection) => {
                connection.close(CloseCode::SUPERSEDED);
            }
            _ => {}
        }
    }

    fn on_nudge(&mut self, connection: &Arc<Connection>) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.sync(connection);
        // A later session has everything that this one carried, and its caller cannot say so here.
        let hub = &self.server.hub;
        if !hub.plays_from(connection)
            && hub.is_superseded(connection)
            && connection.with(|s| s.is_detached())
        {
            connection.close(CloseCode::SUPERSEDED);
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    sys::prepare_listener(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(256)?;
    Ok(socket.into())
}

/// Why a listener has no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program has it.
    #[error(
        "{protocol} port {port} is already in use; stop the other program (another receiver?) or \
         choose another port with {property}="
    )]
    InUse {
        /// TCP or UDP.
        protocol: &'static str,
        /// The element's property.
        property: &'static str,
        /// The port.
        port: u16,
    },
    /// It disagrees with the listener it would share.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Not one of this machine's addresses.
    #[error("bind-address {address} is not an address of this machine; leave it out to use all")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Everything else.
    #[error("cannot bind {protocol} port {port}: {detail}; choose another with {property}=")]
    Other {
        /// TCP or UDP.
        protocol: &'static str,
        /// The element's property.
        property: &'static str,
        /// The port.
        port: u16,
        /// What the system said.
        detail: String,
    },
}

impl BindError {
    fn new(
        protocol: &'static str,
        property: &'static str,
        port: u16,
        bind: Option<IpAddr>,
        error: &io::Error,
    ) -> Self {
        match (error.kind(), bind) {
            (io::ErrorKind::AddrInUse, _) => Self::InUse { protocol, property, port },
            (io::ErrorKind::AddrNotAvailable, Some(address)) => Self::Address { address },
            _ => Self::Other { protocol, property, port, detail: error.to_string() },
        }
    }
}

/// Why a bound listener does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another element keeps it open with other files.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// No threads.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The system refused the socket.
    #[error("cannot listen: {0}; check the limit on open files")]
    Socket(#[from] io::Error),
}
