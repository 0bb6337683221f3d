//! What one session does about streams: offers ours, asks for the peer's, hands what is offered to
//! whoever plays it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use velin_core::session::{AskId, Ended, Event, MAX_ASKS, MEDIA_OVERHEAD, OpenStreamError, Role};
use velin_core::units::StreamId;
use velin_core::wire::{CloseCode, CloseReason, NameGlob, StreamOffer, StreamUuid};

use super::connection::Connection;
use super::event::{LinkEvent, PeerInfo};
use super::hub::Hub;
use super::intake::{Intake, StreamKey, Verdict};
use super::out_stream::{OutStream, StreamSpec};

/// A stream that the other side had no room or no use for is offered again after this long.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a stream may still come through a session whose place another one has taken.
const OVERLAP: Duration = Duration::from_millis(1500);

/// The same where the session has lost its connection: it ends before its silence looks like a stall.
const SHORT_OVERLAP: Duration = Duration::from_millis(100);

/// The streams of one authenticated session, both directions.
pub(crate) struct Exchange {
    hub: Arc<Hub>,
    role: Role,
    peer: PeerInfo,
    /// Asks are made once the peer has accepted us.
    open: bool,
    /// Ours, on offer or taken. What was refused stays, so that it is not offered again.
    outs: HashMap<StreamId, Arc<OutStream>>,
    /// The peer's, played here.
    ins: HashMap<StreamId, (StreamKey, Arc<Intake>)>,
    /// What we asked for.
    made: Vec<(AskId, NameGlob)>,
    /// What the peer asked for.
    got: Vec<(AskId, NameGlob)>,
    /// Streams that the peer had no room or no use for: told about once, offered again and again.
    waiting: Vec<StreamUuid>,
}

impl Exchange {
    /// The peer has just proved who it is.
    pub(crate) fn new(
        hub: Arc<Hub>,
        role: Role,
        peer: PeerInfo,
        connection: &Arc<Connection>,
    ) -> Self {
        hub.enter(connection);
        Self {
            hub,
            role,
            peer,
            open: false,
            outs: HashMap::new(),
            ins: HashMap::new(),
            made: Vec::new(),
            got: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The peer.
    pub(crate) fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// The peer took us and says what it is called; a name from the trust file stands.
    pub(crate) fn open(
        &mut self,
        connection: &Arc<Connection>,
        name: Option<velin_core::identity::Name>,
    ) {
        self.peer.name = self.peer.name.take().or(name);
        self.open = true;
        // Streams were offered before the peer could say how much fits into its packets.
        let mtu = connection.with(|s| s.mtu());
        let too_large = |s: &OutStream| s.spec.format.block_bytes() + MEDIA_OVERHEAD > mtu;
        let large: Vec<_> =
            self.outs.iter().filter(|(_, s)| too_large(s)).map(|(id, _)| *id).collect();
        for id in large {
            connection.with(|s| s.remove_stream(id, CloseCode::CAPS));
            if let Some(stream) = self.outs.get(&id) {
                let text = format!("it takes packets of {mtu} bytes at most; set mtu={mtu} here");
                let reason = CloseReason::new(CloseCode::STREAM_LIMIT, &text);
                stream.tell(LinkEvent::StreamRefused { peer: self.peer.clone(), reason });
            }
        }
        self.sync(connection);
    }

    /// Brings the session in line with what is attached to the link.
    pub(crate) fn sync(&mut self, connection: &Arc<Connection>) {
        self.outs.retain(|id, stream| {
            let closed = stream.is_closed();
            if closed {
                connection.with(|s| s.remove_stream(*id, CloseCode::OK));
            }
            !closed
        });
        let left: Vec<_> =
            self.ins.iter().filter(|(_, (_, i))| i.is_closed()).map(|(id, _)| *id).collect();
        for id in left {
            // Somebody else may want it: its sender comes again with it.
            connection.with(|s| s.remove_stream(id, CloseCode::BUSY));
            self.stop_playing(connection, id, false);
        }
        for stream in self.hub.outs() {
            if !self.outs.values().any(|known| Arc::ptr_eq(known, &stream)) {
                self.offer(connection, stream);
            }
        }
        if self.role == Role::Caller && self.open {
            self.ask(connection);
        }
    }

    /// What happened to streams. Gives other events back.
    pub(crate) fn on_event(&mut self, connection: &Arc<Connection>, event: Event) -> Option<Event> {
        match event {
            Event::StreamAccepted { id, .. } => {
                if let Some(stream) = self.outs.get(&id)
                    && let Some(outlet) = connection.outlet(id, stream.history())
                {
                    self.waiting.retain(|uuid| *uuid != stream.spec.uuid);
                    stream.add(outlet, self.role == Role::Caller);
                    stream.tell(LinkEvent::Streaming(self.peer.clone()));
                }
            }
            Event::CopiesWanted { id, copies } => connection.set_copies(id, copies),
            Event::StreamOffered(offer) => self.on_offer(connection, &offer),
            Event::StreamRemoved { id, reason } => self.on_removed(connection, id, reason),
            Event::StreamAsked { ask, name } => {
                self.got.push((ask, name));
                self.sync(connection);
            }
            Event::AskEnded { ask, code, ours: true } => {
                self.made.retain(|(a, _)| *a != ask);
                let reason = CloseReason::new(code, "");
                for intake in self.hub.intakes() {
                    let peer = self.peer.clone();
                    intake.tell(LinkEvent::StreamRefused { peer, reason: reason.clone() });
                }
            }
            Event::AskEnded { ask, ours: false, .. } => self.on_withdrawn(connection, ask),
            other => return Some(other),
        }
        None
    }

    /// The session is over: nothing leaves or comes through it any more.
    pub(crate) fn finish(mut self, connection: &Arc<Connection>, ended: &Ended) {
        for stream in self.outs.values() {
            stream.remove(connection.index());
        }
        let ids: Vec<_> = self.ins.keys().copied().collect();
        for id in ids {
            self.stop_playing(connection, id, may_come_back(ended));
        }
        self.hub.leave(connection);
    }

    fn offer(&mut self, connection: &Arc<Connection>, stream: Arc<OutStream>) {
        let StreamSpec { name, uuid, format, .. } = stream.spec.clone();
        let ask = match self.role {
            Role::Caller => None,
            // A listener gives what it is asked for, nothing else.
            Role::Listener => match self.got.iter().find(|(_, g)| g.matches(name.as_str())) {
                Some((ask, _)) => Some(*ask),
                None => return,
            },
        };
        match connection.with(|s| s.open_stream(name, uuid, vec![format], ask)) {
            Ok(id) => {
                self.outs.insert(id, stream);
            }
            // The session is over or has lost its connection: the next one offers the stream.
            Err(OpenStreamError::NotOpen) => {}
            Err(_) if self.waiting.contains(&uuid) => {}
            Err(e) => {
                self.waiting.push(uuid);
                let reason = CloseReason::new(CloseCode::STREAM_LIMIT, &e.to_string());
                stream.tell(LinkEvent::StreamRefused { peer: self.peer.clone(), reason });
            }
        }
    }

    fn ask(&mut self, connection: &Arc<Connection>) {
        let mut wanted = Vec::new();
        for intake in self.hub.intakes() {
            for glob in intake.filter.asks(self.peer.name.as_ref()) {
                if !wanted.contains(&glob) {
                    wanted.push(glob);
                }
            }
        }
        if wanted.len() > MAX_ASKS
            && let Ok(all) = NameGlob::new("*")
        {
            wanted = vec![all];
        }
        self.made.retain(|(ask, glob)| {
            let needed = wanted.contains(glob);
            if !needed {
                connection.with(|s| s.withdraw_ask(*ask, CloseCode::OK));
            }
            needed
        });
        for glob in wanted {
            if self.made.iter().any(|(_, g)| *g == glob) {
                continue;
            }
            if let Ok(ask) = connection.with(|s| s.ask(glob.clone())) {
                self.made.push((ask, glob));
            }
        }
    }

    fn on_offer(&mut self, connection: &Arc<Connection>, offer: &StreamOffer) {
        let id = StreamId(offer.id);
        let key = StreamKey { peer: self.peer.key, uuid: offer.uuid };
        let before = self.take_over(key);
        let mut intakes = self.hub.intakes();
        // Whoever has the stream keeps it.
        intakes.sort_by_key(|i| !before.as_ref().is_some_and(|b| Arc::ptr_eq(&b.intake, i)));
        intakes.retain(|i| i.filter.takes(self.peer.name.as_ref(), &offer.name));
        let mut refusal = CloseCode::STREAM_UNKNOWN;
        let mut owned = false;
        for intake in intakes {
            if owned {
                if before.is_none() {
                    let name = offer.name.clone();
                    intake.tell(LinkEvent::StreamTaken { peer: self.peer.clone(), name });
                }
                continue;
            }
            match intake.acceptor.offered(&self.peer, offer) {
                Verdict::Accept { format, receiver } => {
                    owned = true;
                    self.hub.playing(key, connection, id, &intake);
                    self.ins.insert(id, (key, intake));
                    connection.accept(id, format, receiver);
                    if let Some(before) = &before {
                        before.connection.forward(before.id, connection, id);
                    }
                }
                Verdict::Refuse(code) => refusal = code,
            }
        }
        if !owned {
            connection.with(|s| s.remove_stream(id, refusal));
        }
        if let Some(before) = before {
            before.end(connection);
        }
    }

    /// The same stream again, though the session it came through last has not ended: its sender
    /// found that one dead before we did, or makes a new one before it breaks the old. Nobody else
    /// has the key to offer it.
    fn take_over(&self, key: StreamKey) -> Option<Before> {
        let (connection, id, intake) = self.hub.take_playing(key)?;
        if let Some(receiver) = connection.take_receiver(id) {
            intake.acceptor.ended(key, receiver, true);
        }
        Some(Before { connection, id, intake })
    }

    fn on_removed(&mut self, connection: &Arc<Connection>, id: StreamId, reason: CloseReason) {
        self.stop_playing(connection, id, false);
        let Some(stream) = self.outs.get(&id) else { return };
        stream.remove(connection.index());
        let later = matches!(reason.code, CloseCode::BUSY | CloseCode::STREAM_UNKNOWN);
        let known = later && self.waiting.contains(&stream.spec.uuid);
        // In another session it goes on.
        if reason.code != CloseCode::SUPERSEDED && !known {
            stream.tell(LinkEvent::StreamRefused { peer: self.peer.clone(), reason });
        }
        if later {
            if !known {
                self.waiting.push(stream.spec.uuid);
            }
            self.outs.remove(&id);
            let connection = Arc::downgrade(connection);
            tokio::spawn(async move {
                tokio::time::sleep(AGAIN).await;
                if let Some(connection) = connection.upgrade() {
                    connection.nudge();
                }
            });
        }
    }

    fn on_withdrawn(&mut self, connection: &Arc<Connection>, ask: AskId) {
        self.got.retain(|(a, _)| *a != ask);
        let got = &self.got;
        self.outs.retain(|id, stream| {
            let wanted = got.iter().any(|(_, g)| g.matches(stream.spec.name.as_str()));
            if !wanted {
                stream.remove(connection.index());
                connection.with(|s| s.remove_stream(*id, CloseCode::OK));
            }
            wanted
        });
    }

    fn stop_playing(&mut self, connection: &Arc<Connection>, id: StreamId, resumable: bool) {
        let Some((key, intake)) = self.ins.remove(&id) else { return };
        self.hub.stopped(key, connection, id);
        if let Some(receiver) = connection.take_receiver(id) {
            intake.acceptor.ended(key, receiver, resumable);
        }
    }
}

/// How a stream came until now.
struct Before {
    connection: Arc<Connection>,
    id: StreamId,
    intake: Arc<Intake>,
}

impl Before {
    /// Takes the stream out of the session before `now`, once its sender had the time to change.
    fn end(self, now: &Arc<Connection>) {
        let Self { connection, id, .. } = self;
        if Arc::ptr_eq(&connection, now) {
            connection.with(|s| s.remove_stream(id, CloseCode::SUPERSEDED));
            return;
        }
        let detached = connection.with(|s| s.is_detached());
        tokio::spawn(async move {
            tokio::time::sleep(if detached { SHORT_OVERLAP } else { OVERLAP }).await;
            connection.with(|s| s.remove_stream(id, CloseCode::SUPERSEDED));
            connection.nudge();
        });
    }
}

/// Whether the streams of a session that ended like this may be offered again in another.
fn may_come_back(ended: &Ended) -> bool {
    match ended {
        Ended::ByUs(reason) | Ended::ByPeer(reason) => {
            let for_good =
                [CloseCode::OK, CloseCode::SHUTDOWN, CloseCode::UNTRUSTED, CloseCode::PERMISSION];
            !for_good.contains(&reason.code)
        }
        _ => true,
    }
}
