//! Lets callers in and serves each with a session of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use velin_core::identity::{Identity, Name, PublicKey};
use velin_core::session::{Ended, Event, Role, Session, SessionConfig};
use velin_core::wire::{CloseCode, UdpEndpoint};

use super::super::admission::{Decision, Knock, Place};
use super::super::caller::reason;
use super::super::clock;
use super::super::connect::tune;
use super::super::connection::{Connection, Driver};
use super::super::entropy::OsEntropy;
use super::super::event::{LinkEvent, PeerInfo};
use super::super::exchange::Exchange;
use super::super::hub::Hub;
use super::super::trust::TrustSource;
use super::super::udp::{UdpShared, canonical};
use super::{ListenerSettings, Shared, lock};

/// After an error of `accept` (for instance too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Server {
    pub(super) settings: ListenerSettings,
    pub(super) udp: Option<Arc<UdpShared>>,
    pub(super) shared: Arc<Shared>,
    pub(super) hub: Arc<Hub>,
    pub(super) identity: Arc<Identity>,
    pub(super) trust: Arc<TrustSource>,
    pub(super) agent: Option<Name>,
}

impl Server {
    pub(super) async fn run(self: Arc<Self>, tcp: TcpListener) {
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

    /// Whether a later session of the same peer carries what this one did.
    fn is_replaced(&self, connection: &Arc<Connection>) -> bool {
        let hub = &self.server.hub;
        !hub.plays_from(connection) && hub.is_superseded(connection)
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
            // What another session has replaced may fall silent.
            Some(Event::Stalled) if self.is_replaced(connection) => {}
            Some(Event::Stalled) => self.tell(LinkEvent::Stalled),
            Some(Event::Recovered(silence)) => self.tell(|p| LinkEvent::Recovered(p, silence)),
            // Its caller has made another one, and could not say so here.
            Some(Event::Lost(_)) if self.is_replaced(connection) => {
                connection.close(CloseCode::SUPERSEDED);
            }
            _ => {}
        }
    }

    fn on_nudge(&mut self, connection: &Arc<Connection>) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.sync(connection);
        // A later session has everything that this one carried, and its caller cannot say so here.
        if self.is_replaced(connection) && connection.with(|s| s.is_detached()) {
            connection.close(CloseCode::SUPERSEDED);
        }
    }
}
