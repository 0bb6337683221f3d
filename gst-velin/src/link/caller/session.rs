//! One session of a calling link, from the connection to the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use velin_core::identity::Name;
use velin_core::session::{Carrier, Ended, Event, Role, Route, Session, SessionConfig};
use velin_core::wire::{CloseCode, UdpEndpoint};

use super::super::clock;
use super::super::connect::{self, ConnectError};
use super::super::connection::{Connection, Driver};
use super::super::entropy::OsEntropy;
use super::super::event::{CarrierReason, LinkEvent, PeerInfo};
use super::super::exchange::Exchange;
use super::super::udp::canonical;
use super::life::{Nth, Outcome, Report};
use super::{Shared, reason};

/// UDP has this long to answer before the user hears that it does not.
const UDP_PATIENCE: Duration = Duration::from_secs(1);

/// A caller that plays waits this long for a stream before it says that there is none.
const STREAM_PATIENCE: Duration = Duration::from_secs(2);

/// Connects, and drives the session to its end.
pub(super) async fn session(
    shared: Arc<Shared>,
    nth: Nth,
    tell: mpsc::UnboundedSender<Report>,
) -> Outcome {
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
            let lives = shared.hub.sessions().iter().any(|c| Arc::ptr_eq(c, &connection));
            if lives && !shared.hub.plays_from(&connection) {
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
            // What another session has replaced may fall silent.
            Some(Event::Stalled) if self.shared.hub.is_superseded(connection) => {}
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
