//! A session that has keys.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::control_budget::ControlBudget;
use super::epochs::{Epochs, OpenFailure, Switched};
use super::event::{Ended, Event, Route};
use super::header::Header;
use super::liveness::{Change, Liveness, PROBE_ID};
use super::media::MediaTx;
use super::opener::OpenError;
use super::path::{CHALLENGE_BYTES, Paths};
use super::rekey::Rekey;
use super::sealer::Sealer;
use super::streams::{OfferError, Stream, Streams};
use super::{MediaSink, OpenStreamError, Role, Shell};
use crate::codec::StreamFormat;
use crate::handshake::noise::Established;
use crate::handshake::packets::SessionIndex;
use crate::handshake::schedule::{Direction, EpochSecrets};
use crate::identity::{Grant, Grants, Name, PublicKey};
use crate::time::MonoTime;
use crate::units::StreamId;
use crate::wire::{
    Accept, CloseCode, CloseReason, ControlDecoder, FormatOffer, Frame, Frames, Hello, Hex,
    Message, StreamAnswer, StreamDirection, StreamKind, StreamOffer, StreamUuid, UdpEndpoint,
    VERSIONS, common_version, encode_control, frame_packet, put_close, put_ctrl,
    put_path_challenge, put_path_response, put_ping, put_pong,
};

/// Bytes of a packet's header; frames start behind it.
const HEADER: usize = 16;

/// Control bytes in one packet.
const CONTROL_CHUNK: usize = 8 * 1024;

/// Media came and then nothing for this long: the peer is asked to use TCP and to prove UDP anew.
/// Which way it came last does not matter: UDP may have died in the moment of the move.
const MEDIA_SILENCE: Duration = Duration::from_millis(300);

/// PINGs by UDP may stay without answer for this long while the session lives: then UDP is dead on
/// our way to the peer, whoever has noticed, and must prove itself anew.
const UDP_UNANSWERED: Duration = Duration::from_secs(3);

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Stream,
    Datagram(SocketAddr),
}

pub(super) struct Live {
    role: Role,
    index: SessionIndex,
    peer: PublicKey,
    grants: Grants,
    accepted: bool,
    epochs: Epochs,
    control_in: ControlDecoder,
    control_offset: u64,
    control_budget: ControlBudget,
    streams: Streams,
    paths: Paths,
    route: Arc<ArcSwap<Route>>,
    liveness: Liveness,
    rekey: Rekey,
    /// Whether the packet in hand had a PATH_CHALLENGE that was answered.
    answered_challenge: bool,
    /// The oldest PING by UDP since which none was answered.
    unanswered: Option<MonoTime>,
    /// When media last came, while it is expected to go on.
    media_heard: Option<MonoTime>,
}

impl Live {
    pub(super) fn new(
        now: MonoTime,
        role: Role,
        index: SessionIndex,
        peer_index: SessionIndex,
        established: Established,
        grants: Grants,
    ) -> Self {
        let peer = established.remote;
        let (send, initiator, responder, offset) = match role {
            Role::Caller => (Direction::InitiatorToResponder, index, peer_index, 0),
            Role::Listener => (Direction::ResponderToInitiator, peer_index, index, 30),
        };
        let secrets = EpochSecrets::initial(&established, initiator, responder);
        Self {
            role,
            index,
            peer,
            grants,
            accepted: false,
            epochs: Epochs::new(send, index, peer_index, secrets),
            control_in: ControlDecoder::default(),
            control_offset: 0,
            control_budget: ControlBudget::new(now),
            streams: Streams::new(role == Role::Caller),
            paths: Paths::default(),
            route: Arc::new(ArcSwap::from_pointee(Route::Stream)),
            liveness: Liveness::new(now),
            rekey: Rekey::new(now, Duration::from_secs(offset)),
            answered_challenge: false,
            unanswered: None,
            media_heard: None,
        }
    }

    pub(super) fn peer(&self) -> PublicKey {
        self.peer
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.liveness.rtt()
    }

    pub(super) fn route(&self) -> Route {
        **self.route.load()
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Listener: the caller is trusted.
    pub(super) fn welcome(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        grants: Grants,
        hello: Hello,
    ) {
        self.grants = grants;
        self.accepted = true;
        self.announced(shell, now, hello.udp);
        let accept = Accept {
            versions: VERSIONS.to_vec(),
            agent: shell.config.agent.clone(),
            name: shell.config.name.clone(),
            udp: shell.config.udp,
            streams: Vec::new(),
            critical: Vec::new(),
        };
        self.say(shell, &Message::Accept(accept));
        shell.events.push_back(Event::Open { name: hello.name });
        self.probe(shell, now);
    }

    /// A packet from either carrier. An error ends the session; only an authenticated packet can
    /// cause one.
    pub(super) fn handle(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        origin: Origin,
        packet: &mut [u8],
        sink: &mut dyn MediaSink,
    ) -> Result<(), Ended> {
        let Some(header) = Header::parse(packet).ok().filter(|h| h.receiver == self.index) else {
            shell.counters.malformed += 1;
            return Ok(());
        };
        // An attacker that sees the connection could bring its packets by UDP out of order.
        if matches!(origin, Origin::Datagram(_)) && header.stream == StreamId::CONTROL {
            shell.counters.unknown_stream += 1;
            return Ok(());
        }
        let bytes = packet.len();
        let (opened, switched) = match self.epochs.open(now, &header, packet) {
            Ok(opened) => opened,
            Err(failure) => return count_failure(shell, failure),
        };
        shell.counters.received += 1;
        shell.counters.received_bytes += bytes as u64;
        if let Some(silence) = self.liveness.on_heard(now) {
            shell.events.push_back(Event::Recovered(silence));
            self.unanswered = None;
            if origin == Origin::Stream {
                // The connection came back first; UDP must prove itself anew.
                self.restart_paths(shell, now);
            } else {
                // UDP came back first: the peer hears us soonest by a challenge.
                self.paths.hurry(now);
                self.probe(shell, now);
            }
        }
        self.after_switch(shell, switched);
        if let Origin::Datagram(from) = origin {
            let current = header.epoch == self.epochs.epoch().to_wire();
            if header.stream == StreamId::PATH && current && opened.newest {
                self.paths.on_newest(now, from, bytes as u64);
                self.probe(shell, now);
            }
        }
        self.answered_challenge = false;
        for frame in Frames::new(header.stream, opened.frames) {
            let frame = frame.map_err(|e| Ended::PeerMisbehaved(e.to_string()))?;
            self.handle_frame(shell, now, origin, header.stream, frame, sink)?;
        }
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, shell: &mut Shell, now: MonoTime) -> Result<(), Ended> {
        match self.liveness.poll(now) {
            Some(Change::Lost(silence)) => return Err(Ended::PathLost(silence)),
            // Media keeps its way: a path that comes back carries audio at once. If only UDP is
            // blocked, the receiver says so on the other carrier.
            Some(Change::Stalled) => shell.events.push_back(Event::Stalled),
            None => {}
        }
        let switched = self.epochs.handle_timeout(now);
        self.after_switch(shell, switched);
        if self.rekey.is_hopeless(now) {
            return Err(Ended::ByUs(CloseReason::new(CloseCode::REKEY_FAILED, "")));
        }
        if self.rekey.is_due(now) && !self.start_rekey(shell, now) {
            self.rekey.postpone(now);
        }
        if self.media_heard.is_some_and(|t| now.since(t) >= MEDIA_SILENCE) {
            self.media_heard = None;
            if self.streams.iter().any(|(_, s)| matches!(s, Stream::Playing)) {
                self.say(shell, &Message::PathLost);
                // Our own packets may meet the same wall.
                self.restart_paths(shell, now);
            }
        }
        self.probe(shell, now);
        if let Some(id) = self.liveness.poll_ping(now) {
            let dead = self.unanswered.is_some_and(|t| now.since(t) >= UDP_UNANSWERED);
            if dead && !self.liveness.is_stalled() {
                self.restart_paths(shell, now);
            }
            self.unanswered = match self.route() {
                Route::Datagram(_) => self.unanswered.or(Some(now)),
                Route::Stream => None,
            };
            let mut packet = vec![0; HEADER];
            put_ping(id, now.as_nanos(), &mut packet);
            self.send_path(shell, packet);
            if self.liveness.is_stalled() {
                // Perhaps only the way we use is dead: five times a second, try the other.
                if self.route() == Route::Stream {
                    self.paths.hurry(now);
                    self.probe(shell, now);
                } else {
                    let mut packet = vec![0; HEADER];
                    put_ping(PROBE_ID, now.as_nanos(), &mut packet);
                    seal_to_stream(shell, self.epochs.path(), packet);
                }
            }
        }
        shell.counters.unproved_addresses = self.paths.unproved();
        Ok(())
    }

    pub(super) fn timeout(&self) -> MonoTime {
        let optional = [
            self.epochs.timeout(),
            self.paths.timeout(),
            self.media_heard.map(|t| t + MEDIA_SILENCE),
        ];
        let always = self.liveness.timeout().min(self.rekey.timeout());
        optional.into_iter().flatten().fold(always, MonoTime::min)
    }

    pub(super) fn open_stream(
        &mut self,
        shell: &mut Shell,
        name: Name,
        uuid: StreamUuid,
        formats: Vec<StreamFormat>,
    ) -> Result<StreamId, OpenStreamError> {
        let offers = formats.iter().map(FormatOffer::pcm).collect();
        let id = self.streams.offer(formats).ok_or(OpenStreamError::NoRoom)?;
        let offer = StreamOffer {
            id: id.0,
            dir: StreamDirection::Send,
            name,
            uuid,
            kind: StreamKind::Playback,
            formats: offers,
        };
        self.say(shell, &Message::StreamAdd(offer));
        Ok(id)
    }

    pub(super) fn accept_stream(&mut self, shell: &mut Shell, id: StreamId, format: u8) {
        let Some(stream @ Stream::Incoming) = self.streams.get_mut(id) else { return };
        *stream = Stream::Playing;
        self.epochs.listen(id);
        self.say(shell, &Message::StreamOk(StreamAnswer { id: id.0, format }));
    }

    pub(super) fn remove_stream(&mut self, shell: &mut Shell, id: StreamId, code: CloseCode) {
        if self.forget_stream(id) {
            self.say(shell, &Message::StreamRemove { id: id.0, code: code.0 });
        }
    }

    pub(super) fn media_tx(&self, id: StreamId) -> Option<MediaTx> {
        match self.streams.get(id)? {
            Stream::Outgoing { tx } => Some(tx.clone()),
            _ => None,
        }
    }

    /// Whether a change of keys is under way now, because of this call or before it.
    pub(super) fn start_rekey(&mut self, shell: &mut Shell, now: MonoTime) -> bool {
        if self.rekey.is_pending() {
            return true;
        }
        if self.epochs.is_switching() || !self.accepted {
            return false;
        }
        let public = self.rekey.start(now, &mut *shell.entropy);
        let epoch = self.epochs.next_epoch().to_wire();
        self.say(shell, &Message::Rekey { epoch, public: Hex(public.0) });
        true
    }

    /// The last words. Nothing is sealed after them.
    pub(super) fn say_close(&mut self, shell: &mut Shell, reason: &CloseReason) {
        let mut packet = vec![0; HEADER];
        put_close(reason, &mut packet);
        seal_to_stream(shell, self.epochs.control(), packet);
    }

    /// No sealer of this session gives another packet.
    pub(super) fn shut(&mut self) {
        for (_, stream) in self.streams.drain() {
            if let Stream::Outgoing { tx } = stream {
                tx.close();
            }
        }
    }

    fn handle_frame(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        origin: Origin,
        stream: StreamId,
        frame: Frame<'_>,
        sink: &mut dyn MediaSink,
    ) -> Result<(), Ended> {
        match frame {
            Frame::Audio(audio) => {
                if matches!(self.streams.get(stream), Some(Stream::Playing)) {
                    self.media_heard = Some(now);
                    sink.audio(stream, &audio);
                }
            }
            Frame::Report(report) => {
                if matches!(self.streams.get(stream), Some(Stream::Outgoing { .. })) {
                    sink.report(stream, &report);
                }
            }
            Frame::Ping { id, t1 } => {
                if !self.liveness.may_pong(now) {
                    shell.counters.unanswered_pings += 1;
                    return Ok(());
                }
                let mut packet = vec![0; HEADER];
                put_pong(id, t1, now.as_nanos(), now.as_nanos(), &mut packet);
                // Back the way it came, so that the round trip is one path's.
                match origin {
                    Origin::Datagram(from) if self.paths.validated() == Some(from) => {
                        seal_to(shell, self.epochs.path(), packet, from);
                    }
                    Origin::Datagram(_) => self.send_path(shell, packet),
                    Origin::Stream => seal_to_stream(shell, self.epochs.path(), packet),
                }
            }
            Frame::Pong { id: PROBE_ID, .. } => {}
            Frame::Pong { t1, t2, t3, .. } => {
                self.unanswered = None;
                let held = Duration::from_nanos(t3.saturating_sub(t2));
                self.liveness.on_pong(now, MonoTime::from_nanos(t1), held);
            }
            Frame::PathChallenge(nonce) => {
                // One answer a packet, and it counts: nobody gets more than three times what
                // came from there.
                if let Origin::Datagram(from) = origin
                    && !std::mem::replace(&mut self.answered_challenge, true)
                {
                    let mut packet = vec![0; HEADER];
                    put_path_response(nonce, &mut packet);
                    self.paths.on_sent(from, CHALLENGE_BYTES);
                    seal_to(shell, self.epochs.path(), packet, from);
                }
            }
            Frame::PathResponse(nonce) => {
                if self.paths.on_response(nonce).is_some() {
                    self.update_route(shell);
                }
            }
            Frame::Ctrl { offset, bytes } => {
                if !self.control_budget.take(now, bytes.len()) {
                    let reason = CloseReason::new(CloseCode::RATE_LIMITED, "too much control");
                    return Err(Ended::ByUs(reason));
                }
                let mut messages = Vec::new();
                self.control_in
                    .push(offset, bytes, |m| messages.push(m))
                    .map_err(|e| Ended::PeerMisbehaved(e.to_string()))?;
                for message in messages {
                    self.handle_message(shell, now, message)?;
                }
            }
            Frame::Close(reason) => return Err(Ended::ByPeer(reason)),
            Frame::CtrlAck(_) | Frame::Nack { .. } | Frame::Parity { .. } | Frame::Sync(_) => {}
        }
        Ok(())
    }

    fn handle_message(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        message: Message,
    ) -> Result<(), Ended> {
        if !self.accepted && !matches!(message, Message::Accept(_)) {
            return Err(Ended::PeerMisbehaved("it spoke before it accepted".into()));
        }
        match message {
            Message::Accept(accept) => self.on_accept(shell, now, accept)?,
            Message::PathLost => self.restart_paths(shell, now),
            Message::Rekey { epoch, public } => self.on_rekey(shell, now, epoch, public)?,
            Message::RekeyAck { epoch, public } => self.on_rekey_ack(shell, now, epoch, public)?,
            Message::StreamAdd(offer) => self.on_offer(shell, offer)?,
            Message::StreamOk(answer) => self.on_answer(shell, answer)?,
            Message::StreamRemove { id, code } => {
                let id = StreamId(id);
                if self.forget_stream(id) {
                    let reason = CloseReason::new(CloseCode(code), "");
                    shell.events.push_back(Event::StreamRemoved { id, reason });
                }
            }
        }
        Ok(())
    }

    fn on_accept(&mut self, shell: &mut Shell, now: MonoTime, accept: Accept) -> Result<(), Ended> {
        if self.accepted {
            return Err(Ended::PeerMisbehaved("it accepted twice".into()));
        }
        if common_version(&accept.versions) != Some(1) {
            return Err(Ended::Downgrade);
        }
        self.accepted = true;
        shell.events.push_back(Event::Open { name: accept.name });
        self.announced(shell, now, accept.udp);
        self.probe(shell, now);
        for answer in accept.streams {
            self.on_answer(shell, answer)?;
        }
        Ok(())
    }

    fn on_offer(&mut self, shell: &mut Shell, offer: StreamOffer) -> Result<(), Ended> {
        let id = StreamId(offer.id);
        let refusal = match self.streams.offered(offer.clone()) {
            Err(OfferError::Id) => {
                return Err(Ended::PeerMisbehaved("a stream id out of order".into()));
            }
            Err(OfferError::Limit) => Some(CloseCode::STREAM_LIMIT),
            Ok(()) => self.refusal(&offer),
        };
        match refusal {
            Some(code) => {
                self.forget_stream(id);
                self.say(shell, &Message::StreamRemove { id: id.0, code: code.0 });
            }
            None => shell.events.push_back(Event::StreamOffered(offer)),
        }
        Ok(())
    }

    /// Grants restrict listeners; a caller's consent is that it called.
    fn refusal(&self, offer: &StreamOffer) -> Option<CloseCode> {
        if offer.kind == StreamKind::Unknown || offer.dir == StreamDirection::Recv {
            return Some(CloseCode::CAPS);
        }
        let may = self.role == Role::Caller || self.grants.contains(Grant::PlayToMe);
        (!may).then_some(CloseCode::PERMISSION)
    }

    fn on_answer(&mut self, shell: &mut Shell, answer: StreamAnswer) -> Result<(), Ended> {
        let id = StreamId(answer.id);
        let Some(Stream::Offered { formats }) = self.streams.get(id) else {
            // We may have taken the offer back in the meantime.
            return Ok(());
        };
        let Some(format) = formats.get(usize::from(answer.format)).cloned() else {
            return Err(Ended::PeerMisbehaved("it chose a format that was not offered".into()));
        };
        let Some(sealer) = self.epochs.media_sealer(id) else { return Ok(()) };
        let tx = MediaTx::new(id, sealer, self.route.clone());
        if let Some(stream) = self.streams.get_mut(id) {
            *stream = Stream::Outgoing { tx };
        }
        // Reports and requests for repair come back on the same id.
        self.epochs.listen(id);
        shell.events.push_back(Event::StreamAccepted { id, format });
        Ok(())
    }

    fn on_rekey(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        epoch: u8,
        public: Hex<32>,
    ) -> Result<(), Ended> {
        if self.rekey.is_pending() {
            if self.role == Role::Caller {
                // Both asked at once: the caller's request wins.
                return Ok(());
            }
            self.rekey.yield_to_peer();
        }
        if self.epochs.is_switching() || epoch != self.epochs.next_epoch().to_wire() {
            return Err(Ended::PeerMisbehaved("new keys out of order".into()));
        }
        let (ours, secret) = self
            .rekey
            .answer(now, &PublicKey(public.0), &mut *shell.entropy)
            .ok_or_else(|| Ended::PeerMisbehaved("a low-order key".into()))?;
        // The answer still goes out under the old keys.
        self.say(shell, &Message::RekeyAck { epoch, public: Hex(ours.0) });
        let switched = self.epochs.agree(now, &secret, false);
        self.after_switch(shell, switched);
        Ok(())
    }

    fn on_rekey_ack(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        epoch: u8,
        public: Hex<32>,
    ) -> Result<(), Ended> {
        if !self.rekey.is_pending() {
            return Ok(());
        }
        if epoch != self.epochs.next_epoch().to_wire() {
            return Err(Ended::PeerMisbehaved("new keys out of order".into()));
        }
        let secret = self
            .rekey
            .finish(now, &PublicKey(public.0))
            .ok_or_else(|| Ended::PeerMisbehaved("a low-order key".into()))?;
        let switched = self.epochs.agree(now, &secret, true);
        self.after_switch(shell, switched);
        // The first packet under the new keys lets the peer follow.
        let mut packet = vec![0; HEADER];
        put_ping(PROBE_ID, now.as_nanos(), &mut packet);
        self.send_path(shell, packet);
        Ok(())
    }

    fn after_switch(&mut self, shell: &mut Shell, switched: Switched) {
        if !switched.0 {
            return;
        }
        for (id, stream) in self.streams.iter() {
            if let Stream::Outgoing { tx } = stream
                && let Some(sealer) = self.epochs.media_sealer(id)
            {
                tx.rekey(sealer);
            }
        }
        shell.events.push_back(Event::Rekeyed { epoch: self.epochs.epoch().0 });
    }

    fn announced(&mut self, shell: &Shell, now: MonoTime, udp: Option<UdpEndpoint>) {
        let Some(udp) = udp.filter(|u| u.port != 0 && shell.config.udp.is_some()) else { return };
        let mut address = shell.config.peer_address;
        address.set_port(udp.port);
        self.paths.announce(now, address);
    }

    /// Sends every challenge that is due.
    fn probe(&mut self, shell: &mut Shell, now: MonoTime) {
        while let Some((to, nonce)) = self.paths.poll(now, || shell.random_u64()) {
            let mut packet = vec![0; HEADER];
            put_path_challenge(nonce, &mut packet);
            seal_to(shell, self.epochs.path(), packet, to);
        }
    }

    /// TCP from now on, until UDP is proved again.
    fn restart_paths(&mut self, shell: &mut Shell, now: MonoTime) {
        self.paths.restart(now);
        self.update_route(shell);
        self.probe(shell, now);
    }

    fn update_route(&mut self, shell: &mut Shell) {
        let route = self.paths.validated().map_or(Route::Stream, Route::Datagram);
        if route != self.route() {
            self.route.store(Arc::new(route));
            shell.events.push_back(Event::RouteChanged(route));
        }
    }

    fn forget_stream(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.remove(id) else { return false };
        self.epochs.retire(id);
        if let Stream::Outgoing { tx } = stream {
            tx.close();
        }
        true
    }

    /// A control message.
    fn say(&mut self, shell: &mut Shell, message: &Message) {
        for chunk in encode_control(message).chunks(CONTROL_CHUNK) {
            let mut packet = vec![0; HEADER];
            let mut frames = Vec::new();
            put_ctrl(self.control_offset, chunk, &mut frames);
            self.control_offset += chunk.len() as u64;
            packet.append(&mut frames);
            seal_to_stream(shell, self.epochs.control(), packet);
        }
    }

    /// A packet of stream 0xFFFF, the way media goes.
    fn send_path(&self, shell: &mut Shell, packet: Vec<u8>) {
        match self.route() {
            Route::Datagram(to) => seal_to(shell, self.epochs.path(), packet, to),
            Route::Stream => seal_to_stream(shell, self.epochs.path(), packet),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shut();
    }
}

/// `packet` holds sixteen bytes for the header and then frames.
fn seal(shell: &mut Shell, sealer: &Sealer, mut packet: Vec<u8>) -> Option<Vec<u8>> {
    let frames = packet.len() - HEADER;
    packet.resize(packet.len() + 16, 0);
    // Only a used-up key refuses; the session is renewed long before that.
    sealer.seal(&mut packet, frames).ok()?;
    shell.counters.sent += 1;
    Some(packet)
}

fn seal_to_stream(shell: &mut Shell, sealer: &Sealer, packet: Vec<u8>) {
    if let Some(packet) = seal(shell, sealer, packet) {
        frame_packet(&packet, &mut shell.stream_out);
    }
}

fn seal_to(shell: &mut Shell, sealer: &Sealer, packet: Vec<u8>, to: SocketAddr) {
    if let Some(packet) = seal(shell, sealer, packet) {
        shell.datagrams.push_back((to, packet));
    }
}

/// A packet that was not opened is counted, and moves nothing.
fn count_failure(shell: &mut Shell, failure: OpenFailure) -> Result<(), Ended> {
    let counters = &mut shell.counters;
    match failure {
        OpenFailure::Epoch => counters.wrong_epoch += 1,
        OpenFailure::Stream => counters.unknown_stream += 1,
        OpenFailure::Open(OpenError::Forged) => counters.forged += 1,
        OpenFailure::Open(OpenError::Replay(_)) => counters.replayed += 1,
        OpenFailure::Open(OpenError::KeyLimit) => {
            return Err(Ended::ByUs(CloseReason::new(CloseCode::KEY_LIMIT, "")));
        }
        OpenFailure::Open(_) => counters.malformed += 1,
    }
    Ok(())
}
