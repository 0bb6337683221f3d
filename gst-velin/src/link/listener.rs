//! A link that listens: any number of callers, each with a session of its own.

use std::collections::HashMap;
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
use velin_core::playout::ReceiverHalf;
use velin_core::session::{Ended, Event, Session, SessionConfig, SessionCounters};
use velin_core::units::StreamId;
use velin_core::wire::{CloseCode, StreamOffer, StreamUuid, UdpEndpoint};

use super::admission::{Door, Place};
use super::clock;
use super::connect::tune;
use super::connection::{Connection, Driver};
use super::entropy::OsEntropy;
use super::event::{LinkEvent, Observer, PeerInfo};
use super::runtime::{self, RuntimeError};
use super::sys;
use super::trust::TrustSource;
use super::udp::{UdpPort, UdpShared, canonical};

/// Authenticated sessions at a time.
const MAX_SESSIONS: usize = 256;

/// After an error of `accept` (for instance too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a listener listens.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// TCP port; 0 = any.
    pub port: u16,
    /// UDP port; 0 = any.
    pub audio_port: u16,
    /// One address of this machine; `None` = all, both families.
    pub bind: Option<IpAddr>,
    /// DSCP value of what we send; `None` = leave alone.
    pub dscp: Option<u8>,
    /// Largest UDP payload in bytes.
    pub mtu: u16,
}

/// What names a stream across sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Who sends it.
    pub peer: PublicKey,
    /// Which timeline.
    pub uuid: StreamUuid,
}

/// What becomes of an offer.
#[derive(Debug)]
// Moved once per stream: boxing the half would only cost.
#[allow(clippy::large_enum_variant)]
pub enum Verdict {
    /// Play it.
    Accept {
        /// Which of the offer's formats.
        format: u8,
        /// Where its blocks go.
        receiver: ReceiverHalf,
    },
    /// Do not.
    Refuse(CloseCode),
}

/// Decides about offered streams. Called on network threads with no lock held; must not wait.
pub trait Acceptor: Send + Sync {
    /// A trusted peer offers a stream.
    fn offered(&self, peer: &PeerInfo, offer: &StreamOffer) -> Verdict;

    /// A stream is over. `resumable`: its sender did not say goodbye and may come back with it.
    fn ended(&self, key: StreamKey, receiver: ReceiverHalf, resumable: bool);
}

/// Bound sockets; between [`start`](Self::start) and [`stop`](Self::stop), a listening link. Ends,
/// with goodbyes, on drop, and has given its ports back then.
pub struct Listener {
    settings: ListenerSettings,
    tcp: StdTcpListener,
    udp: UdpPort,
    /// Replaced by every stop, so that what still ends cannot touch what comes after it.
    shared: Mutex<Arc<Shared>>,
}

/// What everything between a start and a stop has in common.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Only the accepting task waits for it.
    wake: Notify,
    door: Mutex<Door<AbortHandle>>,
    sessions: AtomicUsize,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Through which session each stream comes.
    streams: Mutex<HashMap<StreamKey, (Arc<Connection>, StreamId)>>,
    refused: AtomicU64,
    /// What the sessions that are over had counted.
    past: Mutex<SessionCounters>,
}

impl Listener {
    /// Binds both ports.
    pub fn bind(settings: ListenerSettings) -> Result<Self, BindError> {
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
        let udp = match settings.bind {
            Some(ip) => UdpPort::bind((ip, settings.audio_port).into(), settings.dscp),
            None => UdpPort::bind_any(settings.audio_port, settings.dscp),
        }
        .map_err(|e| BindError::new("UDP", "audio-port", settings.audio_port, settings.bind, &e))?;
        Ok(Self { settings, tcp, udp, shared: Mutex::default() })
    }

    /// The TCP port in use.
    pub fn port(&self) -> u16 {
        self.tcp.local_addr().map_or(0, |a| a.port())
    }

    /// The UDP port in use.
    pub fn audio_port(&self) -> u16 {
        self.udp.shared().local().port()
    }

    /// Starts to accept callers.
    pub fn start(
        &self,
        identity: Arc<Identity>,
        trust: Arc<TrustSource>,
        agent: Option<Name>,
        acceptor: Arc<dyn Acceptor>,
        observer: Observer,
    ) -> Result<(), StartError> {
        let runtime = runtime::handle()?;
        let tcp = self.tcp.try_clone()?;
        let server = Arc::new(Server {
            settings: self.settings.clone(),
            udp: self.udp.shared().clone(),
            shared: self.shared(),
            identity,
            trust,
            agent,
            acceptor,
            observer,
        });
        let _entered = runtime.enter();
        let tcp = TcpListener::from_std(tcp)?;
        runtime.spawn(server.run(tcp));
        Ok(())
    }

    /// Says goodbye to everybody and lets nobody in until the next start. The ports stay taken.
    pub fn stop(&self) {
        let shared = std::mem::take(&mut *self.lock_shared());
        shared.end();
    }

    /// Authenticated sessions now.
    pub fn sessions(&self) -> usize {
        self.shared().sessions.load(Ordering::Relaxed)
    }

    /// What all sessions counted, added up, and datagrams that belong to none.
    pub fn counters(&self) -> (SessionCounters, u64) {
        let connections = lock(&self.shared().connections).clone();
        let mut sum = *lock(&self.shared().past);
        for connection in connections {
            sum += connection.with(|s| s.counters());
        }
        (sum, self.udp.shared().unknown())
    }

    /// Callers turned away, and strangers that made room for others.
    pub fn refused(&self) -> (u64, u64) {
        let shared = self.shared();
        let evicted = lock(&shared.door).evicted();
        (shared.refused.load(Ordering::Relaxed), evicted)
    }

    fn shared(&self) -> Arc<Shared> {
        self.lock_shared().clone()
    }

    fn lock_shared(&self) -> MutexGuard<'_, Arc<Shared>> {
        lock(&self.shared)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
        // The accepting task lets go of its handle a moment later; the port is free now.
        let _ = SockRef::from(&self.tcp).shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn end(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake.notify_one();
        let strangers = lock(&self.door).clear();
        strangers.for_each(|task| task.abort());
        let connections = std::mem::take(&mut *lock(&self.connections));
        for connection in connections {
            connection.close(CloseCode::SHUTDOWN);
        }
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
    udp: Arc<UdpShared>,
    shared: Arc<Shared>,
    identity: Arc<Identity>,
    trust: Arc<TrustSource>,
    agent: Option<Name>,
    acceptor: Arc<dyn Acceptor>,
    observer: Observer,
}

impl Server {
    async fn run(self: Arc<Self>, tcp: TcpListener) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let accepted = tokio::select! {
                accepted = tcp.accept() => accepted,
                () = self.shared.wake.notified() => continue,
            };
            if self.shared.stop.load(Ordering::Acquire) {
                break;
            }
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let server = self.clone();
            // The place must exist before the task can leave it.
            let mut door = lock(&self.shared.door);
            let (start, started) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async move {
                if let Ok(place) = started.await {
                    server.serve(stream, place).await;
                }
            });
            let (place, evicted) = door.enter(task.abort_handle());
            drop(door);
            if let Some(evicted) = evicted {
                evicted.abort();
            }
            let _ = start.send(place);
        }
    }

    async fn serve(self: &Arc<Self>, tcp: TcpStream, place: Place) {
        let (Ok(local), Ok(remote)) = (tcp.local_addr(), tcp.peer_addr()) else {
            lock(&self.shared.door).leave(place);
            return;
        };
        let (local, remote) = (canonical(local), canonical(remote));
        tune(&tcp, self.settings.dscp);
        if let Err(e) = self.trust.refresh() {
            (self.observer)(LinkEvent::TrustUnreadable(e.to_string()));
        }
        let config = SessionConfig {
            identity: self.identity.clone(),
            trust: self.trust.clone(),
            expected_peer: None,
            accept_own_key: local.ip().is_loopback() && remote.ip().is_loopback(),
            agent: self.agent.clone(),
            name: None,
            udp: Some(UdpEndpoint { port: self.udp.local().port(), mtu: self.settings.mtu }),
            peer_address: remote,
            mtu: usize::from(self.settings.mtu),
        };
        let guard = Registration {
            server: self,
            place,
            connection: self.udp.register(|index| {
                let session = Session::listener(config, index, Box::new(OsEntropy), clock::now());
                Arc::new(Connection::new(index, session, self.udp.clone()))
            }),
        };
        let mut driver = ListenerDriver {
            server: self.clone(),
            place,
            peer: None,
            remote,
            keys: HashMap::new(),
            counted: false,
        };
        let never = Notify::new();
        let ended = guard.connection.run(tcp, &never, &mut driver).await;
        driver.finish(&guard.connection, ended);
    }

    fn lock_connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        lock(&self.shared.connections)
    }

    fn lock_streams(&self) -> MutexGuard<'_, HashMap<StreamKey, (Arc<Connection>, StreamId)>> {
        lock(&self.shared.streams)
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
        lock(&self.server.shared.door).leave(self.place);
        self.server.lock_streams().retain(|_, (c, _)| !Arc::ptr_eq(c, &self.connection));
        self.server.lock_connections().retain(|c| !Arc::ptr_eq(c, &self.connection));
        let counted = self.connection.with(|s| s.counters());
        *lock(&self.server.shared.past) += counted;
    }
}

struct ListenerDriver {
    server: Arc<Server>,
    place: Place,
    peer: Option<PeerInfo>,
    remote: SocketAddr,
    keys: HashMap<StreamId, StreamKey>,
    counted: bool,
}

impl ListenerDriver {
    fn finish(mut self, connection: &Arc<Connection>, ended: Ended) {
        if std::mem::take(&mut self.counted) {
            self.server.shared.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        let resumable = may_come_back(&ended);
        let keys = std::mem::take(&mut self.keys);
        for (id, key) in keys {
            self.forget(connection, id, key);
            if let Some(receiver) = connection.take_receiver(id) {
                self.server.acceptor.ended(key, receiver, resumable);
            }
        }
        let event = match self.peer.take() {
            Some(peer) => LinkEvent::Lost { peer, ended, retry_in: None },
            None => {
                self.server.shared.refused.fetch_add(1, Ordering::Relaxed);
                LinkEvent::CallerRefused { address: self.remote, ended }
            }
        };
        (self.server.observer)(event);
    }

    fn on_offer(&mut self, connection: &Arc<Connection>, offer: &StreamOffer) {
        let id = StreamId(offer.id);
        let Some(peer) = &self.peer else { return };
        let key = StreamKey { peer: peer.key, uuid: offer.uuid };
        self.take_over(connection, key);
        match self.server.acceptor.offered(peer, offer) {
            Verdict::Accept { format, receiver } => {
                self.keys.insert(id, key);
                self.server.lock_streams().insert(key, (connection.clone(), id));
                connection.accept(id, format, receiver);
            }
            Verdict::Refuse(code) => connection.with(|s| s.remove_stream(id, code)),
        }
    }

    /// The same stream again, though the session it came through last has not ended: its sender
    /// found that one dead before we did. Nobody else has the key to offer it.
    fn take_over(&self, connection: &Arc<Connection>, key: StreamKey) {
        let old = self.server.lock_streams().remove(&key);
        let Some((old, id)) = old else { return };
        if let Some(receiver) = old.take_receiver(id) {
            self.server.acceptor.ended(key, receiver, true);
        }
        if Arc::ptr_eq(&old, connection) {
            old.with(|s| s.remove_stream(id, CloseCode::SUPERSEDED));
        } else {
            old.close(CloseCode::SUPERSEDED);
        }
    }

    fn forget(&self, connection: &Arc<Connection>, id: StreamId, key: StreamKey) {
        let mut streams = self.server.lock_streams();
        if streams.get(&key).is_some_and(|(c, i)| Arc::ptr_eq(c, connection) && *i == id) {
            streams.remove(&key);
        }
    }

    fn tell(&self, event: impl FnOnce(PeerInfo) -> LinkEvent) {
        if let Some(peer) = &self.peer {
            (self.server.observer)(event(peer.clone()));
        }
    }
}

impl Driver for ListenerDriver {
    fn on_event(&mut self, connection: &Arc<Connection>, event: Event) {
        match event {
            Event::Authenticated { peer, .. } => {
                lock(&self.server.shared.door).leave(self.place);
                let name = self.server.trust.name_of(&peer);
                self.peer = Some(PeerInfo { key: peer, name, address: self.remote });
                self.counted = true;
                let before = self.server.shared.sessions.fetch_add(1, Ordering::Relaxed);
                self.server.lock_connections().push(connection.clone());
                if self.server.shared.stop.load(Ordering::Acquire) {
                    connection.close(CloseCode::SHUTDOWN);
                } else if before >= MAX_SESSIONS {
                    connection.close(CloseCode::BUSY);
                }
            }
            Event::Open { name } => {
                if let Some(peer) = &mut self.peer {
                    peer.name = peer.name.take().or(name);
                }
                self.tell(LinkEvent::Connected);
            }
            Event::StreamOffered(offer) => self.on_offer(connection, &offer),
            Event::StreamRemoved { id, .. } => {
                let Some(key) = self.keys.remove(&id) else { return };
                self.forget(connection, id, key);
                if let Some(receiver) = connection.take_receiver(id) {
                    self.server.acceptor.ended(key, receiver, false);
                }
            }
            Event::RouteChanged(route) => (self.server.observer)(LinkEvent::RouteChanged(route)),
            Event::Stalled => self.tell(LinkEvent::Stalled),
            Event::Recovered(silence) => self.tell(|p| LinkEvent::Recovered(p, silence)),
            _ => {}
        }
    }

    fn on_wake(&mut self, _: &Arc<Connection>) {}
}

/// Whether the streams of a session that ended like this may be offered again in another.
fn may_come_back(ended: &Ended) -> bool {
    match ended {
        Ended::ByUs(reason) | Ended::ByPeer(reason) => {
            !matches!(reason.code, CloseCode::OK | CloseCode::SHUTDOWN)
        }
        _ => true,
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

/// Why a bound listener does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No threads.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The system refused the socket.
    #[error("cannot listen: {0}; check the limit on open files")]
    Socket(#[from] io::Error),
}
