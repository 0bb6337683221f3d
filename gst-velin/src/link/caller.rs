//! A link that calls: connects, stays connected, and makes a new session before it gives up an old
//! one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use velin_core::identity::{Identity, Name, PublicKey};
use velin_core::session::{
    Carrier, Ended, Event, Role, Route, Session, SessionConfig, SessionCounters,
};
use velin_core::wire::{CloseCode, UdpEndpoint};

use super::backoff::Backoff;
use super::clock;
use super::connect::{self, ConnectError};
use super::connection::{Connection, Driver};
use super::entropy::OsEntropy;
use super::event::{CarrierReason, LinkEvent, PeerInfo};
use super::exchange::Exchange;
use super::hub::Hub;
use super::registry::{self, Conflict, LinkKey};
use super::runtime::{self, RuntimeError};
use super::trust::{Subscription, TrustSource};
use super::udp::{UdpPort, UdpShared, canonical};

/// A session that another one replaced is closed after this long: by then the new one carries all.
const OVERLAP: Duration = Duration::from_secs(1);

/// UDP has this long to answer before the user hears that it does not.
const UDP_PATIENCE: Duration = Duration::from_secs(1);

/// A caller that plays waits this long for a stream before it says that there is none.
const STREAM_PATIENCE: Duration = Duration::from_secs(2);

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
        let same = [
            ("host", self.host.eq_ignore_ascii_case(&other.host)),
            ("port", self.port == other.port),
            ("audio-port", self.audio_port == other.audio_port),
            ("bind-address", self.bind == other.bind),
            ("carrier", self.carrier == other.carrier),
            ("peer", self.peer == other.peer),
            ("mtu", self.mtu == other.mtu),
            ("qos-dscp", self.dscp == other.dscp),
            ("auto-reconnect", self.auto_reconnect == other.auto_reconnect),
            ("identity-file", self.identity.public() == other.identity.public()),
            ("trust-file", self.trust_file == other.trust_file),
        ];
        match same.iter().find(|(_, same)| !same) {
            Some((property, _)) => Err(Conflict { property }),
            None => Ok(()),
        }
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
        let make = || Ok::<_, CallError>(Self::start(settings.clone(), &runtime));
        let other = |_| CallError::Conflict(Conflict { property: "mode" });
        let (caller, new) = registry::caller(settings.key(), make, other)?;
        if !new {
            settings.agree(&caller.shared.settings)?;
        }
        Ok(caller)
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
        runtime.spawn(guarded(shared.clone()));
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
    pub(super) fn is_over(&self) -> bool {
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

/// A panic in our own code must not leave elements waiting in silence.
async fn guarded(shared: Arc<Shared>) {
    if let Err(e) = tokio::spawn(Life::new(shared.clone()).run()).await {
        shared.give_up(LinkEvent::ConnectFailed { error: internal(&shared, &e), retry_in: None });
    }
}

fn internal(shared: &Shared, e: &tokio::task::JoinError) -> ConnectError {
    let detail = format!("an internal error ({e}); please report it");
    ConnectError::Other { to: shared.address(), detail }
}

/// Numbers the sessions of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nth(u64);

/// What the task of a session tells the life of its link.
enum Report {
    /// The peer proved itself; the session can be closed.
    Begun(Nth, Arc<Connection>),
    /// Both sides accepted each other.
    Open(Nth, PeerInfo),
    /// A new session should take this one's place.
    Shaky(Nth),
    /// It is fine again.
    Steady(Nth),
    /// It is over.
    Over(Nth, Outcome),
}

/// How a session, or the attempt at one, ended.
enum Outcome {
    Failed(ConnectError),
    /// Something took our call and then said nothing.
    Hung(ConnectError),
    Refused(Ended),
    Ended {
        peer: PeerInfo,
        ended: Ended,
    },
}

/// The life of a link.
struct Life {
    shared: Arc<Shared>,
    backoff: Backoff,
    reports: mpsc::UnboundedReceiver<Report>,
    tell: mpsc::UnboundedSender<Report>,
    /// How many attempts there were.
    count: u64,
    /// The attempt under way, and what ends it.
    attempt: Option<(Nth, tokio::task::AbortHandle)>,
    /// When the next attempt may start.
    next: tokio::time::Instant,
    /// The session in use.
    current: Option<Current>,
    /// Every session that can be closed.
    living: Vec<(Nth, Arc<Connection>)>,
}

struct Current {
    nth: Nth,
    since: tokio::time::Instant,
    shaky: bool,
}

impl Life {
    fn new(shared: Arc<Shared>) -> Self {
        let (tell, reports) = mpsc::unbounded_channel();
        Self {
            shared,
            backoff: Backoff::default(),
            reports,
            tell,
            count: 0,
            attempt: None,
            next: tokio::time::Instant::now(),
            current: None,
            living: Vec::new(),
        }
    }

    async fn run(mut self) {
        let wake = self.shared.wake.clone();
        while !self.shared.stopped() {
            let wanted = self.wants_a_session();
            if wanted && self.next <= tokio::time::Instant::now() {
                self.start();
                continue;
            }
            tokio::select! {
                Some(report) = self.reports.recv() => self.on_report(report),
                () = tokio::time::sleep_until(self.next), if wanted => {}
                () = wake.notified() => {}
            }
        }
        if let Some((_, task)) = self.attempt.take() {
            // Once its session has begun, it is closed below like the others.
            if self.living.is_empty() {
                task.abort();
            }
        }
        for (_, connection) in self.living.drain(..) {
            connection.close(CloseCode::SHUTDOWN);
        }
    }

    fn wants_a_session(&self) -> bool {
        // Nothing to do, nobody to call.
        self.attempt.is_none()
            && self.shared.hub.attachments() > 0
            && match &self.current {
                None => true,
                Some(current) => current.shaky && self.shared.settings.auto_reconnect,
            }
    }

    fn start(&mut self) {
        self.count += 1;
        let (nth, tell, shared) = (Nth(self.count), self.tell.clone(), self.shared.clone());
        if self.current.is_none() {
            shared.tell(&LinkEvent::Connecting { to: shared.address() });
        }
        let task = tokio::spawn(session(shared.clone(), nth, tell.clone()));
        self.attempt = Some((nth, task.abort_handle()));
        tokio::spawn(async move {
            let outcome = match task.await {
                Ok(outcome) => outcome,
                Err(e) => Outcome::Failed(internal(&shared, &e)),
            };
            let _ = tell.send(Report::Over(nth, outcome));
        });
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Begun(nth, connection) => self.living.push((nth, connection)),
            Report::Open(nth, peer) => self.on_open(nth, peer),
            Report::Shaky(nth) => {
                if let Some(current) = self.current.as_mut().filter(|c| c.nth == nth) {
                    if !current.shaky {
                        self.next = tokio::time::Instant::now();
                    }
                    current.shaky = true;
                }
            }
            Report::Steady(nth) => {
                if let Some(current) = self.current.as_mut().filter(|c| c.nth == nth) {
                    current.shaky = false;
                }
            }
            Report::Over(nth, outcome) => self.on_over(nth, outcome),
        }
    }

    fn on_open(&mut self, nth: Nth, peer: PeerInfo) {
        self.attempt.take_if(|(n, _)| *n == nth);
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        let since = tokio::time::Instant::now();
        match self.current.replace(Current { nth, since, shaky: false }) {
            None => self.shared.tell(&LinkEvent::Connected(peer)),
            Some(old) => {
                let Some((_, old)) = self.living.iter().find(|(n, _)| *n == old.nth) else {
                    return;
                };
                let old = old.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(OVERLAP).await;
                    old.close(CloseCode::SUPERSEDED);
                });
            }
        }
    }

    fn on_over(&mut self, nth: Nth, outcome: Outcome) {
        self.living.retain(|(n, _)| *n != nth);
        self.attempt.take_if(|(n, _)| *n == nth);
        let was_current = self.current.take_if(|c| c.nth == nth);
        let alone = self.current.is_none();
        let again = self.shared.settings.auto_reconnect;
        let to = self.shared.address();
        match outcome {
            // Whoever refuses us beside a living session is not the one we talk to.
            Outcome::Refused(ended) if alone => {
                let expired = match &ended {
                    Ended::UnknownPeer(key) => self.shared.settings.trust.expired(key),
                    _ => None,
                };
                self.shared.give_up(LinkEvent::Refused { ended, to, expired });
            }
            Outcome::Ended { peer, ended } => {
                // Another session has replaced it.
                let Some(current) = was_current else { return };
                self.backoff.was_up(current.since.elapsed());
                let retry_in = again.then(|| self.wait());
                let event = LinkEvent::Lost { peer, ended, retry_in };
                if again { self.shared.tell(&event) } else { self.shared.give_up(event) }
            }
            Outcome::Failed(error) | Outcome::Hung(error) if alone && !again => {
                self.shared.give_up(LinkEvent::ConnectFailed { error, retry_in: None });
            }
            // It took its time already.
            Outcome::Hung(error) => {
                self.next = tokio::time::Instant::now();
                if alone {
                    let retry_in = Some(Duration::ZERO);
                    self.shared.tell(&LinkEvent::ConnectFailed { error, retry_in });
                }
            }
            Outcome::Failed(error) => {
                let retry_in = Some(self.wait());
                if alone {
                    self.shared.tell(&LinkEvent::ConnectFailed { error, retry_in });
                }
            }
            Outcome::Refused(_) => {
                self.wait();
            }
        }
    }

    /// Puts the next attempt off; gives by how much. One that is under way is not put off.
    fn wait(&mut self) -> Duration {
        if self.attempt.is_some() {
            return Duration::ZERO;
        }
        let wait = self.backoff.next();
        self.next = tokio::time::Instant::now() + wait;
        wait
    }
}

async fn session(shared: Arc<Shared>, nth: Nth, tell: mpsc::UnboundedSender<Report>) -> Outcome {
    let settings = &shared.settings;
    let connecting = connect::connect(&settings.host, settings.port, settings.bind, settings.dscp);
    let tcp = match connecting.await {
        Ok(tcp) => tcp,
        Err(e) => return Outcome::Failed(e),
    };
    settings.trust.refreshed().await;
    match serve(&shared, nth, tell, tcp).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(error),
    }
}

async fn serve(
    shared: &Arc<Shared>,
    nth: Nth,
    tell: mpsc::UnboundedSender<Report>,
    tcp: TcpStream,
) -> Result<Outcome, ConnectError> {
    let settings = &shared.settings;
    let other =
        |e: std::io::Error| ConnectError::Other { to: shared.address(), detail: e.to_string() };
    let local = canonical(tcp.local_addr().map_err(other)?);
    let remote = canonical(tcp.peer_addr().map_err(other)?);
    let udp = shared.udp()?;
    let one_machine = local.ip().is_loopback() && remote.ip().is_loopback();
    let config = SessionConfig {
        identity: settings.identity.clone(),
        trust: settings.trust.clone(),
        expected_peer: settings.peer,
        accept_own_key: one_machine && connect::names_this_machine(&settings.host),
        agent: settings.agent.clone(),
        name: settings.name.clone(),
        carrier: settings.carrier,
        udp: udp.as_ref().map(|u| UdpEndpoint { port: u.local().port(), mtu: settings.mtu }),
        peer_address: remote,
        mtu: usize::from(settings.mtu),
    };
    let connection = Connection::register(udp.as_ref(), |index| {
        Session::caller(config, index, Box::new(OsEntropy), clock::now())
    });
    let _registered = Registered(&connection);
    connection.with(|_| ());
    let mut driver =
        CallerDriver { shared: shared.clone(), nth, tell, remote, exchange: None, open: false };
    let ended = connection.run(tcp, &mut driver).await;
    let peer = driver.finish(&connection, &ended);
    if is_final(&ended) {
        return Ok(Outcome::Refused(ended));
    }
    let detail = format!("{ended}; is Velin there?");
    let failed = ConnectError::Other { to: shared.address(), detail };
    Ok(match (peer, &ended) {
        (Some(peer), _) => Outcome::Ended { peer, ended },
        (None, Ended::HandshakeTimeout(_)) => Outcome::Hung(failed),
        (None, _) => Outcome::Failed(failed),
    })
}

/// No datagram reaches a session whose task has ended, however it did.
struct Registered<'a>(&'a Connection);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.unregister();
    }
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
    nth: Nth,
    tell: mpsc::UnboundedSender<Report>,
    remote: std::net::SocketAddr,
    exchange: Option<Exchange>,
    open: bool,
}

impl CallerDriver {
    /// The session is over; gives the peer if both sides had accepted each other.
    fn finish(self, connection: &Arc<Connection>, ended: &Ended) -> Option<PeerInfo> {
        let exchange = self.exchange?;
        let peer = self.open.then(|| exchange.peer().clone());
        exchange.finish(connection, ended);
        peer
    }

    fn report(&self, report: Report) {
        // Nobody listens any more when the link is over.
        let _ = self.tell.send(report);
    }

    fn tell(&self, event: impl FnOnce(PeerInfo) -> LinkEvent) {
        if let Some(exchange) = &self.exchange {
            self.shared.tell(&event(exchange.peer().clone()));
        }
    }

    fn on_open(&mut self, connection: &Arc<Connection>, name: Option<Name>) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.open(connection, name);
        let peer = exchange.peer().clone();
        self.open = true;
        self.report(Report::Open(self.nth, peer.clone()));
        let (shared, weak) = (self.shared.clone(), Arc::downgrade(connection));
        if shared.settings.carrier == Carrier::Tcp {
            let why = CarrierReason::Chosen;
            return shared.tell_way(peer, Route::Stream, why);
        }
        tokio::spawn(async move {
            tokio::time::sleep(UDP_PATIENCE).await;
            let Some(connection) = weak.upgrade() else { return };
            if connection.route() == Some(Route::Stream) {
                let why = CarrierReason::UdpSilent;
                shared.tell_way(peer, Route::Stream, why);
            }
        });
    }

    /// A caller that only plays says if there is nothing to play.
    fn expect_streams(&self, connection: &Arc<Connection>) {
        let (shared, weak) = (self.shared.clone(), Arc::downgrade(connection));
        let Some(peer) = self.exchange.as_ref().map(|e| e.peer().clone()) else { return };
        tokio::spawn(async move {
            tokio::time::sleep(STREAM_PATIENCE).await;
            let Some(connection) = weak.upgrade() else { return };
            if !shared.hub.plays_from(&connection) {
                for intake in shared.hub.intakes() {
                    intake.tell(LinkEvent::NothingToPlay(peer.clone()));
                }
            }
        });
    }
}

impl Driver for CallerDriver {
    fn on_event(&mut self, connection: &Arc<Connection>, event: Event) {
        let event = match &mut self.exchange {
            Some(exchange) => exchange.on_event(connection, event),
            None => Some(event),
        };
        match event {
            Some(Event::Authenticated { peer, .. }) => {
                let name = self.shared.settings.trust.name_of(&peer);
                let peer = PeerInfo { key: peer, name, address: self.remote };
                let hub = self.shared.hub.clone();
                let mut exchange = Exchange::new(hub, Role::Caller, peer, connection);
                exchange.sync(connection);
                self.exchange = Some(exchange);
                self.report(Report::Begun(self.nth, connection.clone()));
                if self.shared.stopped() {
                    connection.close(CloseCode::SHUTDOWN);
                }
            }
            Some(Event::Open { name }) => {
                self.on_open(connection, name);
                self.expect_streams(connection);
            }
            Some(Event::RouteChanged(route)) => {
                if let Some(exchange) = &self.exchange {
                    let why = reason(route, self.shared.settings.carrier);
                    self.shared.tell_way(exchange.peer().clone(), route, why);
                }
            }
            Some(Event::Stalled) => self.tell(LinkEvent::Stalled),
            Some(Event::Recovered(silence)) => {
                self.tell(|p| LinkEvent::Recovered(p, silence));
                if !connection.with(|s| s.is_detached()) {
                    self.report(Report::Steady(self.nth));
                }
            }
            Some(Event::Detached | Event::Lost(_) | Event::Woke(_) | Event::RenewalDue) => {
                self.report(Report::Shaky(self.nth))
            }
            _ => {}
        }
    }

    fn on_nudge(&mut self, connection: &Arc<Connection>) {
        if self.shared.stopped() {
            connection.close(CloseCode::SHUTDOWN);
            return;
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.sync(connection);
        }
    }

    fn on_jump(&mut self) {
        self.report(Report::Shaky(self.nth));
    }
}

/// Why media goes that way.
pub(super) fn reason(route: Route, carrier: Carrier) -> CarrierReason {
    match (route, carrier) {
        (_, Carrier::Tcp) => CarrierReason::Chosen,
        (Route::Datagram(_), _) => CarrierReason::UdpAnswers,
        (Route::Stream, _) => CarrierReason::UdpSilent,
        (Route::Held, _) => CarrierReason::PeerSilent,
    }
}
