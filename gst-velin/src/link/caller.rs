//! A link that calls: connects, keeps connected, offers the attached streams in every session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use velin_core::codec::StreamFormat;
use velin_core::identity::{Identity, Name, PublicKey};
use velin_core::session::{Ended, Event, Session, SessionConfig};
use velin_core::units::StreamId;
use velin_core::wire::{CloseCode, StreamUuid, UdpEndpoint};

use super::backoff::Backoff;
use super::clock;
use super::connect::{self, ConnectError};
use super::connection::{Connection, Driver};
use super::entropy::OsEntropy;
use super::event::{LinkEvent, Observer, PeerInfo};
use super::outlet::Outlet;
use super::runtime::{self, RuntimeError};
use super::trust::TrustSource;
use super::udp::{UdpPort, canonical};

/// After a listener had no room for a stream, it is offered again.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// What a calling link is told at its start.
#[derive(Clone, Debug)]
pub struct CallerSettings {
    /// Name or address of the listener.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Our own UDP port; 0 = any.
    pub audio_port: u16,
    /// Address of this machine to send from.
    pub bind: Option<IpAddr>,
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
    /// Where the trust came from: two links with different files are different links.
    pub trust_file: Option<String>,
    /// Program and version, told to the peer.
    pub agent: Option<Name>,
    /// What this device calls itself.
    pub name: Option<Name>,
}

/// A stream that a link offers.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// What the stream is called.
    pub name: Name,
    /// The stream's identity for as long as its timeline goes on.
    pub uuid: StreamUuid,
    /// What its blocks hold.
    pub format: StreamFormat,
}

/// A calling link, shared by all elements of the process that call the same place in the same way.
/// Ends, with a goodbye, when the last of them lets go.
#[derive(Debug)]
pub struct Caller {
    shared: Arc<Shared>,
}

/// What makes two links the same link: everything that the user can set. Elements whose settings
/// differ have links of their own, so that no setting is silently ignored.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    host: String,
    ports: (u16, u16),
    bind: Option<IpAddr>,
    peer: Option<PublicKey>,
    identity: PublicKey,
    trust_file: Option<String>,
    packets: (u16, Option<u8>),
    auto_reconnect: bool,
}

static CALLERS: LazyLock<Mutex<HashMap<Key, Weak<Caller>>>> = LazyLock::new(Mutex::default);

struct Shared {
    settings: CallerSettings,
    streams: Mutex<Streams>,
    wake: Arc<Notify>,
    stop: AtomicBool,
    sessions: AtomicU64,
}

#[derive(Default)]
struct Streams {
    attached: Vec<Arc<OutStream>>,
    /// Why the link gave up: whoever comes later must hear it, too.
    over: Option<LinkEvent>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Caller {
    /// The link for `settings`: a living one if the process has it, else a new one that starts
    /// to connect at once. Never waits.
    pub fn shared(settings: CallerSettings) -> Result<Arc<Self>, RuntimeError> {
        let runtime = runtime::handle()?;
        let s = &settings;
        let key = Key {
            host: s.host.clone(),
            ports: (s.port, s.audio_port),
            bind: s.bind,
            peer: s.peer,
            identity: s.identity.public(),
            trust_file: s.trust_file.clone(),
            packets: (s.mtu, s.dscp),
            auto_reconnect: s.auto_reconnect,
        };
        let mut callers = CALLERS.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|_, caller| caller.strong_count() > 0);
        if let Some(caller) = callers.get(&key).and_then(Weak::upgrade)
            && !caller.shared.stop.load(Ordering::Acquire)
        {
            return Ok(caller);
        }
        let shared = Arc::new(Shared {
            settings,
            streams: Mutex::default(),
            wake: Arc::new(Notify::new()),
            stop: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
        });
        runtime.spawn(guarded(shared.clone()));
        let caller = Arc::new(Self { shared });
        callers.insert(key, Arc::downgrade(&caller));
        Ok(caller)
    }

    /// Offers a stream in this session and every later one, until it is closed.
    pub fn attach(&self, spec: StreamSpec, observer: Observer) -> Arc<OutStream> {
        let stream = Arc::new(OutStream {
            spec,
            observer,
            outlet: ArcSwapOption::empty(),
            closed: AtomicBool::new(false),
            wake: self.shared.wake.clone(),
        });
        let over = {
            let mut streams = self.shared.lock_streams();
            streams.attached.push(stream.clone());
            streams.over.clone()
        };
        self.shared.wake.notify_one();
        if let (Some(event), Ok(runtime)) = (over, runtime::handle()) {
            // On a network thread, as ever: the caller may hold locks.
            let observer = stream.observer.clone();
            runtime.spawn(async move { observer(event) });
        }
        stream
    }

    /// How many sessions there were.
    pub fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::Relaxed)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

/// One attached stream.
pub struct OutStream {
    spec: StreamSpec,
    observer: Observer,
    outlet: ArcSwapOption<Outlet>,
    closed: AtomicBool,
    wake: Arc<Notify>,
}

impl OutStream {
    /// The way out, while a peer takes the stream.
    pub fn outlet(&self) -> Option<Arc<Outlet>> {
        self.outlet.load_full()
    }

    /// The same, borrowed: for the streaming thread.
    pub fn with_outlet<R>(&self, f: impl FnOnce(&Outlet) -> R) -> Option<R> {
        self.outlet.load().as_deref().map(f)
    }

    /// Takes the stream off the link.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.outlet.store(None);
        self.wake.notify_one();
    }
}

impl std::fmt::Debug for OutStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutStream").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock_streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Tells every attached element, with no lock held.
    fn tell(&self, event: &LinkEvent) {
        let streams = self.lock_streams().attached.clone();
        for stream in streams {
            if !stream.closed.load(Ordering::Acquire) {
                (stream.observer)(event.clone());
            }
        }
    }

    /// The last thing this link does. Whoever wants to try again makes a new one.
    fn give_up(&self, event: LinkEvent) {
        self.stop.store(true, Ordering::Release);
        // Under the lock: a stream is either attached now and told below, or told when it comes.
        self.lock_streams().over = Some(event.clone());
        self.tell(&event);
    }

    fn address(&self) -> String {
        connect::display(&self.settings.host, self.settings.port)
    }
}

/// A panic in our own code must not leave elements waiting in silence.
async fn guarded(shared: Arc<Shared>) {
    if let Err(e) = tokio::spawn(run(shared.clone())).await {
        let detail = format!("an internal error ({e}); please report it");
        let error = ConnectError::Other { to: shared.address(), detail };
        shared.give_up(LinkEvent::ConnectFailed { error, retry_in: None });
    }
}

/// The life of a link: connect, serve, wait, again.
async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    // Nothing to offer, nothing to do: the first stream starts the first attempt.
    while shared.lock_streams().attached.is_empty() {
        if shared.stopped() {
            return;
        }
        shared.wake.notified().await;
    }
    while !shared.stopped() {
        shared.tell(&LinkEvent::Connecting { to: shared.address() });
        let started = Instant::now();
        let (event, retry_in) = match attempt(&shared).await {
            Attempt::Stopped => return,
            Attempt::Failed(error) => {
                let retry_in = shared.settings.auto_reconnect.then(|| backoff.next());
                (LinkEvent::ConnectFailed { error, retry_in }, retry_in)
            }
            Attempt::Refused(ended) => (LinkEvent::Refused { ended, to: shared.address() }, None),
            Attempt::Ended { peer, ended } => {
                backoff.was_up(started.elapsed());
                let retry_in = shared.settings.auto_reconnect.then(|| backoff.next());
                (LinkEvent::Lost { peer, ended, retry_in }, retry_in)
            }
        };
        let Some(wait) = retry_in else { return shared.give_up(event) };
        shared.tell(&event);
        let until = tokio::time::Instant::now() + wait;
        while !shared.stopped() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = shared.wake.notified() => {}
            }
        }
    }
}

/// How one attempt ended.
enum Attempt {
    Stopped,
    Failed(ConnectError),
    Refused(Ended),
    Ended { peer: PeerInfo, ended: Ended },
}

async fn attempt(shared: &Arc<Shared>) -> Attempt {
    let settings = &shared.settings;
    let connecting = connect::connect(&settings.host, settings.port, settings.bind, settings.dscp);
    let tcp = tokio::select! {
        result = connecting => match result {
            Ok(tcp) => tcp,
            Err(e) => return Attempt::Failed(e),
        },
        () = stopped(shared) => return Attempt::Stopped,
    };
    if let Err(e) = settings.trust.refresh() {
        shared.tell(&LinkEvent::TrustUnreadable(e.to_string()));
    }
    match serve(shared, tcp).await {
        Ok(attempt) => attempt,
        Err(e) => {
            Attempt::Failed(ConnectError::Other { to: shared.address(), detail: e.to_string() })
        }
    }
}

async fn stopped(shared: &Shared) {
    while !shared.stopped() {
        shared.wake.notified().await;
    }
}

async fn serve(shared: &Arc<Shared>, tcp: TcpStream) -> std::io::Result<Attempt> {
    let settings = &shared.settings;
    let local = canonical(tcp.local_addr()?);
    let remote = canonical(tcp.peer_addr()?);
    let udp = match settings.bind {
        Some(ip) => UdpPort::bind((ip, settings.audio_port).into(), settings.dscp),
        None => UdpPort::bind_any(settings.audio_port, settings.dscp),
    };
    let udp = match udp {
        Ok(udp) => udp,
        Err(e) => {
            let error = ConnectError::UdpPort { port: settings.audio_port, detail: e.to_string() };
            return Ok(Attempt::Failed(error));
        }
    };
    let one_machine = local.ip().is_loopback() && remote.ip().is_loopback();
    let config = SessionConfig {
        identity: settings.identity.clone(),
        trust: settings.trust.clone(),
        expected_peer: settings.peer,
        accept_own_key: one_machine && connect::names_this_machine(&settings.host),
        agent: settings.agent.clone(),
        name: settings.name.clone(),
        udp: Some(UdpEndpoint { port: udp.shared().local().port(), mtu: settings.mtu }),
        peer_address: remote,
        mtu: usize::from(settings.mtu),
    };
    let connection = udp.shared().register(|index| {
        let session = Session::caller(config, index, Box::new(OsEntropy), clock::now());
        Arc::new(Connection::new(index, session, udp.shared().clone()))
    });
    connection.with(|_| ());
    let mut driver = CallerDriver {
        shared: shared.clone(),
        ids: HashMap::new(),
        peer: None,
        remote,
        authenticated: false,
    };
    let ended = connection.run(tcp, &shared.wake, &mut driver).await;
    for stream in driver.ids.values() {
        stream.outlet.store(None);
    }
    if shared.stopped() {
        return Ok(Attempt::Stopped);
    }
    if is_final(&ended) {
        return Ok(Attempt::Refused(ended));
    }
    Ok(match driver.peer {
        Some(peer) => Attempt::Ended { peer, ended },
        None => Attempt::Failed(ConnectError::Other {
            to: shared.address(),
            detail: format!("{ended}; is this a Velin receiver?"),
        }),
    })
}

/// Whether trying again is useless before somebody changes something.
fn is_final(ended: &Ended) -> bool {
    match ended {
        Ended::ByPeer(reason) => matches!(
            reason.code,
            CloseCode::UNTRUSTED
                | CloseCode::IDENTITY_MISMATCH
                | CloseCode::VERSION
                | CloseCode::DOWNGRADE
                | CloseCode::PERMISSION
                | CloseCode::SELF
        ),
        Ended::UnknownPeer(_)
        | Ended::IdentityMismatch { .. }
        | Ended::OwnKey
        | Ended::Version { .. }
        | Ended::Downgrade => true,
        _ => false,
    }
}

struct CallerDriver {
    shared: Arc<Shared>,
    ids: HashMap<StreamId, Arc<OutStream>>,
    peer: Option<PeerInfo>,
    remote: std::net::SocketAddr,
    authenticated: bool,
}

impl CallerDriver {
    /// Offers what is new, takes back what is closed.
    fn sync(&mut self, connection: &Arc<Connection>) {
        if !self.authenticated {
            return;
        }
        self.ids.retain(|id, stream| {
            let closed = stream.closed.load(Ordering::Acquire);
            if closed {
                connection.with(|s| s.remove_stream(*id, CloseCode::OK));
            }
            !closed
        });
        let mut streams = self.shared.lock_streams();
        streams.attached.retain(|s| !s.closed.load(Ordering::Acquire));
        let missing: Vec<_> = streams
            .attached
            .iter()
            .filter(|s| !self.ids.values().any(|known| Arc::ptr_eq(known, s)))
            .cloned()
            .collect();
        drop(streams);
        for stream in missing {
            let StreamSpec { name, uuid, format } = stream.spec.clone();
            let opened = connection.with(|s| s.open_stream(name, uuid, vec![format]));
            match opened {
                Ok(id) => {
                    self.ids.insert(id, stream);
                }
                Err(e) => self.refuse(
                    &stream,
                    velin_core::wire::CloseReason::new(CloseCode::STREAM_LIMIT, &e.to_string()),
                ),
            }
        }
    }

    fn refuse(&self, stream: &OutStream, reason: velin_core::wire::CloseReason) {
        if let Some(peer) = &self.peer {
            (stream.observer)(LinkEvent::StreamRefused { peer: peer.clone(), reason });
        }
    }

    fn tell(&self, event: impl FnOnce(PeerInfo) -> LinkEvent) {
        if let Some(peer) = &self.peer {
            self.shared.tell(&event(peer.clone()));
        }
    }
}

impl Driver for CallerDriver {
    fn on_event(&mut self, connection: &Arc<Connection>, event: Event) {
        match event {
            Event::Authenticated { peer, .. } => {
                let name = self.shared.settings.trust.name_of(&peer);
                self.peer = Some(PeerInfo { key: peer, name, address: self.remote });
                self.authenticated = true;
                self.sync(connection);
            }
            Event::Open { name } => {
                self.shared.sessions.fetch_add(1, Ordering::Relaxed);
                if let Some(peer) = &mut self.peer {
                    peer.name = peer.name.take().or(name);
                }
                self.tell(LinkEvent::Connected);
            }
            Event::StreamAccepted { id, .. } => {
                let (Some(stream), Some(outlet)) = (self.ids.get(&id), connection.outlet(id))
                else {
                    return;
                };
                stream.outlet.store(Some(Arc::new(outlet)));
                (stream.observer)(LinkEvent::Streaming);
            }
            Event::StreamRemoved { id, reason } => {
                let Some(stream) = self.ids.get(&id) else { return };
                stream.outlet.store(None);
                let busy = reason.code == CloseCode::BUSY;
                self.refuse(stream, reason);
                // Otherwise it stays in `ids`, so that it is not offered again in this session.
                if busy {
                    self.ids.remove(&id);
                    let wake = self.shared.wake.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(BUSY_PAUSE).await;
                        wake.notify_one();
                    });
                }
            }
            Event::RouteChanged(route) => self.shared.tell(&LinkEvent::RouteChanged(route)),
            Event::Stalled => self.tell(LinkEvent::Stalled),
            Event::Recovered(silence) => self.tell(|p| LinkEvent::Recovered(p, silence)),
            // A listener that plays its own streams to a caller comes with velinsrc mode=caller.
            Event::StreamOffered(offer) => {
                connection.with(|s| s.remove_stream(StreamId(offer.id), CloseCode::PERMISSION));
            }
            _ => {}
        }
    }

    fn on_wake(&mut self, connection: &Arc<Connection>) {
        if self.shared.stopped() {
            connection.close(CloseCode::SHUTDOWN);
            return;
        }
        self.sync(connection);
    }
}
