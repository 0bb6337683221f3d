//! A link that listens: any number of callers, each with a session of its own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
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
use super::trust::TrustSource;
use super::udp::{UdpPort, canonical};

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

/// Bound sockets; after [`start`](Self::start), a listening link. Ends, with goodbyes, on drop.
pub struct Listener {
    settings: ListenerSettings,
    tcp: StdTcpListener,
    udp: Arc<UdpPort>,
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    wake: Notify,
    door: Mutex<Door<AbortHandle>>,
    sessions: AtomicUsize,
    connections: Mutex<Vec<Arc<Connection>>>,
    refused: AtomicU64,
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
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            wake: Notify::new(),
            door: Mutex::new(Door::new()),
            sessions: AtomicUsize::new(0),
            connections: Mutex::default(),
            refused: AtomicU64::new(0),
        });
        Ok(Self { settings, tcp, udp: Arc::new(udp), shared })
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
            udp: self.udp.clone(),
            shared: self.shared.clone(),
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

    /// Authenticated sessions now.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// What the living sessions counted, added up, and datagrams that belong to none.
    pub fn counters(&self) -> (SessionCounters, u64) {
        let connections =
            self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sum = SessionCounters::default();
        for connection in connections {
            sum += connection.with(|s| s.counters());
        }
        (sum, self.udp.shared().unknown())
    }

    /// Callers turned away, and strangers that made room for others.
    pub fn refused(&self) -> (u64, u64) {
        let evicted = self.shared.door.lock().unwrap_or_else(PoisonError::into_inner).evicted();
        (self.shared.refused.load(Ordering::Relaxed), evicted)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Everybody who waits, and the next who comes to wait.
        self.shared.wake.notify_waiters();
        self.shared.wake.notify_one();
        let connections = std::mem::take(
            &mut *self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner),
        );
        for connection in connections {
            connection.close(CloseCode::SHUTDOWN);
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("settings", &self.settings).finish_non_exhaustive()
    }
}

struct Server {
    settings: ListenerSettings,
    udp: Arc<UdpPort>,
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
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let server = self.clone();
            // The place must exist before the task can leave it.
            let mut door = self.shared.door.lock().unwrap_or_else(PoisonError::into_inner);
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
        let (Ok(local), Ok(remote)) = (tcp.local_addr(), tcp.peer_addr()) else { return };
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
            udp: Some(UdpEndpoint {
                port: self.udp.shared().local().port(),
                mtu: self.settings.mtu,
            }),
            peer_address: remote,
            mtu: usize::from(self.settings.mtu),
        };
        let guard = Registration {
            server: self,
            place,
            connection: self.udp.shared().register(|index| {
                let session = Session::listener(config, index, Box::new(OsEntropy), clock::now());
                Arc::new(Connection::new(index, session, self.udp.shared().clone()))
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

    fn lock_connections(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut door = self.server.shared.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.leave(self.place);
        drop(door);
        self.server.lock_connections().retain(|c| !Arc::ptr_eq(c, &self.connection));
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
        let resumable = !matches!(&ended, Ended::ByPeer(_) | Ended::ByUs(_));
        for (id, key) in self.keys.drain() {
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
        match self.server.acceptor.offered(peer, offer) {
            Verdict::Accept { format, receiver } => {
                self.keys.insert(id, StreamKey { peer: peer.key, uuid: offer.uuid });
                connection.accept(id, format, receiver);
            }
            Verdict::Refuse(code) => connection.with(|s| s.remove_stream(id, code)),
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
                let mut door =
                    self.server.shared.door.lock().unwrap_or_else(PoisonError::into_inner);
                door.leave(self.place);
                drop(door);
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
                if let (Some(key), Some(receiver)) =
                    (self.keys.remove(&id), connection.take_receiver(id))
                {
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

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // On Unix this only skips the wait after a restart; on Windows it would share the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
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
