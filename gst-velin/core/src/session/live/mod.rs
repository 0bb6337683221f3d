//! A session that has keys.

mod control;
mod outage;
mod paths;
mod streams;

pub use outage::{DETACHED_SILENCE, UNRENEWED_AFTER};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use outage::Detached;

use super::asks::Asks;
use super::control_budget::ControlBudget;
use super::epochs::{Epochs, OpenFailure};
use super::event::{Ended, Event, Route};
use super::header::Header;
use super::liveness::{Liveness, PROBE_ID};
use super::opener::OpenError;
use super::path::{CHALLENGE_BYTES, Paths};
use super::rekey::Rekey;
use super::renewal::Renewal;
use super::sealer::Sealer;
use super::streams::{Stream, Streams};
use super::{MediaSink, Role, Shell};
use crate::handshake::noise::Established;
use crate::handshake::packets::SessionIndex;
use crate::handshake::schedule::{Direction, EpochSecrets};
use crate::identity::{Grants, PublicKey};
use crate::time::MonoTime;
use crate::units::StreamId;
use crate::wire::{
    Accept, CloseCode, CloseReason, ControlDecoder, Frame, Frames, Hello, Message, VERSIONS,
    frame_packet, put_path_response,
};

/// Bytes of a packet's header; frames start behind it.
const HEADER: usize = 16;

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
    asks: Asks,
    paths: Paths,
    route: Arc<ArcSwap<Route>>,
    /// The largest UDP payload that the peer takes.
    peer_mtu: Option<usize>,
    liveness: Liveness,
    rekey: Rekey,
    renewal: Renewal,
    /// Whether the packet in hand had a PATH_CHALLENGE that was answered.
    answered_challenge: bool,
    /// The oldest PING by UDP since which none was answered.
    unanswered: Option<MonoTime>,
    /// When media last came, while it is expected to go on.
    media_heard: Option<MonoTime>,
    detached: Option<Detached>,
    /// After waking: until when everything is probed.
    awake_until: Option<MonoTime>,
    /// When we were last called.
    called: MonoTime,
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
            asks: Asks::new(role == Role::Caller),
            paths: Paths::default(),
            route: Arc::new(ArcSwap::from_pointee(Route::Stream)),
            peer_mtu: None,
            liveness: Liveness::new(now),
            rekey: Rekey::new(now, Duration::from_secs(offset)),
            renewal: Renewal::new(now),
            answered_challenge: false,
            unanswered: None,
            media_heard: None,
            detached: None,
            awake_until: None,
            called: now,
        }
    }

    pub(super) fn peer(&self) -> PublicKey {
        self.peer
    }

    pub(super) fn grants(&self) -> Grants {
        self.grants
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.liveness.rtt()
    }

    pub(super) fn mtu(&self, shell: &Shell) -> usize {
        self.peer_mtu.map_or(shell.config.mtu, |theirs| theirs.min(shell.config.mtu))
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
            udp: shell.config.announced_udp(),
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
        self.note_heard(now);
        if let Some(outage) = self.liveness.on_heard(now) {
            self.on_recovery(shell, now, origin, outage);
        }
        self.after_switch(shell, switched);
        if let Origin::Datagram(from) = origin {
            let current = header.epoch == self.epochs.epoch().to_wire();
            if header.stream == StreamId::PATH && current && opened.newest {
                self.paths.on_newest(now, from, bytes as u64);
                self.probe(shell, now);
            }
        }
        self.update_pace(shell, now);
        self.answered_challenge = false;
        for frame in Frames::new(header.stream, opened.frames) {
            let frame = frame.map_err(|e| Ended::PeerMisbehaved(e.to_string()))?;
            self.handle_frame(shell, now, origin, header.stream, frame, sink)?;
        }
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, shell: &mut Shell, now: MonoTime) -> Result<(), Ended> {
        self.update_pace(shell, now);
        self.poll_liveness(shell, now)?;
        self.epochs.handle_timeout(now);
        if self.rekey.is_hopeless(now) {
            if !self.is_lost() && !self.is_detached() {
                return Err(Ended::ByUs(CloseReason::new(CloseCode::REKEY_FAILED, "")));
            }
            self.rekey.forgive(now);
        }
        self.rekey.count(now, || self.epochs.most_sealed());
        if self.renewal.poll(now) {
            shell.events.push_back(Event::RenewalDue);
        }
        if self.rekey.is_due(now) && !self.start_rekey(shell, now) {
            self.rekey.postpone(now);
        }
        if self.media_heard.is_some_and(|t| now.since(t) >= MEDIA_SILENCE) {
            self.media_heard = None;
            if self.streams.iter().any(|(_, s)| matches!(s, Stream::Playing { .. })) {
                self.say(shell, &Message::PathLost);
                // Our own packets may meet the same wall.
                self.restart_paths(shell, now);
            }
        }
        self.probe(shell, now);
        self.ask_for_life(shell, now);
        shell.counters.unproved_addresses = self.paths.unproved();
        Ok(())
    }

    pub(super) fn timeout(&self) -> MonoTime {
        let optional = [
            self.epochs.timeout(),
            self.renewal.timeout(),
            self.paths.timeout(),
            self.media_heard.map(|t| t + MEDIA_SILENCE),
            self.detached_deadline().map(|(at, _)| at),
        ];
        let always = self.liveness.timeout().min(self.rekey.timeout());
        optional.into_iter().flatten().fold(always, MonoTime::min)
    }

    /// No sealer of this session gives another packet.
    pub(super) fn shut(&mut self) {
        for (_, stream) in self.streams.drain() {
            if let Some(tx) = stream.tx() {
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
                if matches!(self.streams.get(stream), Some(Stream::Playing { .. })) {
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
                self.answer_ping(shell, now, origin, id, t1);
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
            Frame::Nack { entries } => {
                if matches!(self.streams.get(stream), Some(Stream::Outgoing { .. })) {
                    sink.nack(stream, entries);
                }
            }
            Frame::CtrlAck(_) | Frame::Parity { .. } | Frame::Sync(_) => {}
        }
        Ok(())
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
    if shell.hung_up {
        return;
    }
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
