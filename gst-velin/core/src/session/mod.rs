//! One session with one peer over carrier `lan`: handshake and control on a TCP connection,
//! media on UDP once the peer's address has answered a challenge, on TCP until then.
//!
//! [`Session`] is the whole state machine, without I/O: see the crate's documentation for the
//! loop that drives it. Media leaves through [`MediaTx`], which a streaming thread may own, and
//! arrives through [`MediaSink`], which the receive thread lends.

pub mod aead;
mod config;
mod control_budget;
mod counters;
mod epochs;
mod event;
pub mod header;
mod live;
mod liveness;
mod media;
#[cfg(any(test, feature = "nonce-guard"))]
pub mod nonce_guard;
pub mod opener;
mod path;
mod rekey;
pub mod replay;
pub mod sealer;
mod streams;

pub use config::{SessionConfig, Trust};
pub use counters::SessionCounters;
pub use event::{Ended, Event, Route};
pub use liveness::{LOST_AFTER, STALLED_AFTER};
pub use media::{MEDIA_HEAD, MEDIA_OVERHEAD, MediaError, MediaTx};
pub use streams::MAX_STREAMS;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use live::{Live, Origin};

use crate::codec::StreamFormat;
use crate::entropy::Entropy;
use crate::handshake::mac1::Mac1Key;
use crate::handshake::noise::{Initiator, Responder};
use crate::handshake::packets::{
    Carriage, DecodeError, Fini, HandshakePacket, Init, InitHead, Resp, SessionIndex, Vers,
};
use crate::identity::{Grants, Name, PublicKey};
use crate::time::MonoTime;
use crate::units::StreamId;
use crate::wire::{
    AudioFrame, CloseCode, CloseReason, Deframer, Hello, Intent, MAX_FORMATS, Report, StreamUuid,
    VERSIONS, common_version, frame_packet,
};

/// A peer has this long to finish the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The payload of RESP: nothing about the device, which an active stranger could read.
const RESP_PAYLOAD: &[u8] = br#"{"versions":[1]}"#;

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The calling side: the Noise initiator.
    Caller,
    /// The listening side: the Noise responder.
    Listener,
}

/// Something to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// These bytes go into the TCP connection, in order.
    Stream(Vec<u8>),
    /// This packet goes to `to` by UDP.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// The packet.
        packet: Vec<u8>,
    },
}

/// Takes what arrives on media streams. Called on the thread that handed in the packet.
pub trait MediaSink {
    /// A block of `stream`, authenticated and never seen before under its packet's number. The
    /// same *block* may come again, as a copy or over another path.
    fn audio(&mut self, stream: StreamId, frame: &AudioFrame<'_>);

    /// How the receiver of our `stream` fares.
    fn report(&mut self, _stream: StreamId, _report: &Report) {}
}

/// Takes nothing.
impl MediaSink for () {
    fn audio(&mut self, _: StreamId, _: &AudioFrame<'_>) {}
}

/// One session. See the module's documentation.
pub struct Session {
    shell: Shell,
    phase: Phase,
    role: Role,
    index: SessionIndex,
    deframer: Deframer,
    deadline: Option<MonoTime>,
    ended: bool,
}

/// What every phase needs, apart from the phase itself.
pub(crate) struct Shell {
    config: SessionConfig,
    entropy: Box<dyn Entropy>,
    stream_out: Vec<u8>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    counters: SessionCounters,
}

enum Phase {
    /// Caller: INIT is out.
    InitSent(Box<Initiator>),
    /// Listener: nothing came yet.
    AwaitInit,
    /// Listener: RESP is out.
    RespSent { responder: Box<Responder>, peer_index: SessionIndex },
    /// Keys are there.
    Live(Box<Live>),
    /// Over. Bytes may still have to be flushed.
    Closed,
}

impl Session {
    /// The calling side of a fresh TCP connection. `index` must be unused by other sessions of
    /// the same UDP socket.
    pub fn caller(
        config: SessionConfig,
        index: SessionIndex,
        mut entropy: Box<dyn Entropy>,
        now: MonoTime,
    ) -> Self {
        let head = InitHead::new(index);
        let initiator = Initiator::new(&config.identity, head, &mut *entropy);
        let mut session = Self::new(config, Role::Caller, index, entropy, now, Phase::Closed);
        match initiator {
            Ok(initiator) => {
                let message = *initiator.message1();
                // On TCP the mac1 would only turn a wrong `peer` into a silent hang-up: without it
                // the caller learns which device answers, and says so.
                let init = Init { initiator: index, mac1: None, token: None, message };
                session.shell.send_handshake(&HandshakePacket::Init(init));
                session.phase = Phase::InitSent(Box::new(initiator));
            }
            Err(e) => session.end(Ended::Handshake(e.to_string())),
        }
        session
    }

    /// The listening side of a fresh TCP connection.
    pub fn listener(
        config: SessionConfig,
        index: SessionIndex,
        entropy: Box<dyn Entropy>,
        now: MonoTime,
    ) -> Self {
        Self::new(config, Role::Listener, index, entropy, now, Phase::AwaitInit)
    }

    /// Bytes from the TCP connection.
    pub fn handle_stream(&mut self, now: MonoTime, mut bytes: &[u8], sink: &mut dyn MediaSink) {
        // Taken out so that a packet can be decrypted in the buffer it arrived in.
        let mut deframer = std::mem::take(&mut self.deframer);
        while !matches!(self.phase, Phase::Closed) {
            let taken = deframer.push(bytes);
            bytes = &bytes[taken..];
            let mut progress = taken > 0;
            while !matches!(self.phase, Phase::Closed) {
                match deframer.next() {
                    Ok(Some(packet)) => {
                        progress = true;
                        self.handle_packet(now, packet, sink);
                        if matches!(self.phase, Phase::Live(_)) {
                            deframer.authenticated();
                        }
                    }
                    Ok(None) => break,
                    Err(e) => {
                        self.shell.counters.malformed += 1;
                        self.end(Ended::NotVelin(e));
                    }
                }
            }
            if bytes.is_empty() || !progress {
                break;
            }
        }
        self.deframer = deframer;
    }

    /// A UDP packet that carries this session's index.
    ///
    /// Decrypts in place. Whatever is wrong with it, nothing moves unless it was sealed by the
    /// peer and never seen before.
    pub fn handle_datagram(
        &mut self,
        now: MonoTime,
        from: SocketAddr,
        packet: &mut [u8],
        sink: &mut dyn MediaSink,
    ) {
        if let Phase::Live(live) = &mut self.phase
            && let Err(ended) =
                live.handle(&mut self.shell, now, Origin::Datagram(from), packet, sink)
        {
            self.end_with_close(ended);
        }
    }

    /// The TCP connection ended.
    pub fn handle_stream_end(&mut self) {
        self.end(Ended::Truncated);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        if self.deadline.is_some_and(|d| d <= now) {
            self.end(Ended::HandshakeTimeout(HANDSHAKE_TIMEOUT));
        }
        if let Phase::Live(live) = &mut self.phase
            && let Err(ended) = live.handle_timeout(&mut self.shell, now)
        {
            self.end_with_close(ended);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        match &self.phase {
            Phase::Closed => None,
            Phase::Live(live) => {
                Some(self.deadline.into_iter().fold(live.timeout(), MonoTime::min))
            }
            _ => self.deadline,
        }
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if !self.shell.stream_out.is_empty() {
            return Some(Transmit::Stream(std::mem::take(&mut self.shell.stream_out)));
        }
        let (to, packet) = self.shell.datagrams.pop_front()?;
        Some(Transmit::Datagram { to, packet })
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shell.events.pop_front()
    }

    /// Whether [`poll_event`](Self::poll_event) has something.
    pub fn has_events(&self) -> bool {
        !self.shell.events.is_empty()
    }

    /// Offers a stream; [`Event::StreamAccepted`] or [`Event::StreamRemoved`] answers.
    ///
    /// # Errors
    /// Before [`Event::Authenticated`], after the end, with 64 streams open, or with a number of
    /// formats that no peer takes.
    pub fn open_stream(
        &mut self,
        name: Name,
        uuid: StreamUuid,
        formats: Vec<StreamFormat>,
    ) -> Result<StreamId, OpenStreamError> {
        let Phase::Live(live) = &mut self.phase else { return Err(OpenStreamError::NotOpen) };
        if formats.is_empty() || formats.len() > MAX_FORMATS {
            return Err(OpenStreamError::Formats);
        }
        live.open_stream(&mut self.shell, name, uuid, formats)
    }

    /// Takes a stream that was offered, in the offer's format number `format`.
    pub fn accept_stream(&mut self, id: StreamId, format: u8) {
        if let Phase::Live(live) = &mut self.phase {
            live.accept_stream(&mut self.shell, id, format);
        }
    }

    /// Ends a stream, or refuses an offer, or takes an offer back.
    pub fn remove_stream(&mut self, id: StreamId, code: CloseCode) {
        if let Phase::Live(live) = &mut self.phase {
            live.remove_stream(&mut self.shell, id, code);
        }
    }

    /// The sending half of a stream of ours that was accepted.
    pub fn media_tx(&self, id: StreamId) -> Option<MediaTx> {
        match &self.phase {
            Phase::Live(live) => live.media_tx(id),
            _ => None,
        }
    }

    /// Starts a change of keys.
    pub fn rekey(&mut self, now: MonoTime) {
        if let Phase::Live(live) = &mut self.phase {
            live.start_rekey(&mut self.shell, now);
        }
    }

    /// Says goodbye and ends. Drain [`poll_transmit`](Self::poll_transmit), then close the
    /// connection.
    pub fn close(&mut self, code: CloseCode, text: &str) {
        self.end_with_close(Ended::ByUs(CloseReason::new(code, text)));
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Our index: what UDP packets for this session carry.
    pub fn index(&self) -> SessionIndex {
        self.index
    }

    /// Who connected.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The authenticated peer.
    pub fn peer(&self) -> Option<PublicKey> {
        match &self.phase {
            Phase::Live(live) => Some(live.peer()),
            _ => None,
        }
    }

    /// Smoothed round-trip time.
    pub fn rtt(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Live(live) => live.rtt(),
            _ => None,
        }
    }

    /// Which way media leaves.
    pub fn route(&self) -> Option<Route> {
        match &self.phase {
            Phase::Live(live) => Some(live.route()),
            _ => None,
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> SessionCounters {
        self.shell.counters
    }

    fn new(
        config: SessionConfig,
        role: Role,
        index: SessionIndex,
        entropy: Box<dyn Entropy>,
        now: MonoTime,
        phase: Phase,
    ) -> Self {
        let shell = Shell {
            config,
            entropy,
            stream_out: Vec::new(),
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
            counters: SessionCounters::default(),
        };
        let deadline = Some(now + HANDSHAKE_TIMEOUT);
        Self { shell, phase, role, index, deframer: Deframer::new(), deadline, ended: false }
    }

    fn handle_packet(&mut self, now: MonoTime, packet: &mut [u8], sink: &mut dyn MediaSink) {
        let result = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => return,
            Phase::Live(mut live) => {
                let result = live.handle(&mut self.shell, now, Origin::Stream, packet, sink);
                if live.is_accepted() {
                    self.deadline = None;
                }
                self.phase = Phase::Live(live);
                if let Err(ended) = result {
                    self.end_with_close(ended);
                }
                return;
            }
            Phase::InitSent(initiator) => self.on_resp(now, *initiator, packet),
            Phase::AwaitInit => self.on_init(packet),
            Phase::RespSent { responder, peer_index } => {
                self.on_fini(now, *responder, peer_index, packet)
            }
        };
        match result {
            Ok(phase) => self.phase = phase,
            Err(ended) => self.end(ended),
        }
    }

    fn on_init(&mut self, packet: &[u8]) -> Result<Phase, Ended> {
        let init = match HandshakePacket::decode(packet, Carriage::Stream) {
            Ok(HandshakePacket::Init(init)) => init,
            Err(DecodeError::Version { version, initiator }) => {
                let vers = Vers { initiator, versions: VERSIONS };
                self.shell.send_handshake(&HandshakePacket::Vers(vers));
                return Err(Ended::Version { theirs: vec![version] });
            }
            _ => return Err(self.not_a_handshake("an INIT was expected")),
        };
        let own = self.shell.config.identity.public();
        if !Mac1Key::new(&own).admits(&init, false) {
            return Err(self.not_a_handshake("the caller expects another device here"));
        }
        let responder = Responder::new(
            &self.shell.config.identity,
            init.head(),
            &init.message,
            RESP_PAYLOAD,
            &mut *self.shell.entropy,
        )
        .map_err(|e| Ended::Handshake(e.to_string()))?;
        let resp = Resp {
            initiator: init.initiator,
            responder: self.index,
            message: responder.message2(),
        };
        self.shell.send_handshake(&HandshakePacket::Resp(resp));
        Ok(Phase::RespSent { responder: Box::new(responder), peer_index: init.initiator })
    }

    fn on_resp(
        &mut self,
        now: MonoTime,
        initiator: Initiator,
        packet: &[u8],
    ) -> Result<Phase, Ended> {
        let resp = match HandshakePacket::decode(packet, Carriage::Stream) {
            Ok(HandshakePacket::Resp(resp)) if resp.initiator == self.index => resp,
            Ok(HandshakePacket::Vers(vers)) if vers.initiator == self.index => {
                return Err(Ended::Version { theirs: vers.versions.to_vec() });
            }
            _ => return Err(self.not_a_handshake("a RESP was expected")),
        };
        let ready = initiator
            .read(resp.message)
            .map_err(|rejected| Ended::Handshake(rejected.error.to_string()))?;
        let peer = ready.remote();
        let grants = self.judge(&peer)?;
        check_versions(ready.payload())?;
        let config = &self.shell.config;
        let hello = Hello {
            versions: VERSIONS.to_vec(),
            intent: Intent::Stream,
            agent: config.agent.clone(),
            name: config.name.clone(),
            udp: config.udp,
            critical: Vec::new(),
        };
        let (established, message3) =
            ready.write(&hello.encode()).map_err(|e| Ended::Handshake(e.to_string()))?;
        let fini = Fini { responder: resp.responder, message: &message3 };
        self.shell.send_handshake(&HandshakePacket::Fini(fini));
        let live = Live::new(now, self.role, self.index, resp.responder, established, grants);
        self.shell.events.push_back(Event::Authenticated { peer, grants });
        Ok(Phase::Live(Box::new(live)))
    }

    fn on_fini(
        &mut self,
        now: MonoTime,
        responder: Responder,
        peer_index: SessionIndex,
        packet: &[u8],
    ) -> Result<Phase, Ended> {
        let fini = match HandshakePacket::decode(packet, Carriage::Stream) {
            Ok(HandshakePacket::Fini(fini)) if fini.responder == self.index => fini,
            _ => return Err(self.not_a_handshake("a FINI was expected")),
        };
        let (established, payload) = responder
            .read(fini.message)
            .map_err(|rejected| Ended::Handshake(rejected.error.to_string()))?;
        let peer = established.remote;
        let mut live = Live::new(now, self.role, self.index, peer_index, established, Grants::NONE);
        let verdict = self.judge(&peer).and_then(|grants| {
            let hello = Hello::decode(&payload)
                .map_err(|e| Ended::PeerMisbehaved(format!("its Hello: {e}")))?;
            if common_version(&hello.versions) != Some(1) {
                return Err(Ended::Downgrade);
            }
            Ok((grants, hello))
        });
        match verdict {
            Ok((grants, hello)) => {
                self.deadline = None;
                self.shell.events.push_back(Event::Authenticated { peer, grants });
                live.welcome(&mut self.shell, now, grants, hello);
                Ok(Phase::Live(Box::new(live)))
            }
            Err(ended) => {
                live.say_close(&mut self.shell, &close_reason_for(&ended));
                Err(ended)
            }
        }
    }

    /// Whether we talk to `peer`, and what it may do (see `docs/protocol.md`, section 2.3). The
    /// caller asks before it reveals itself, the listener when the caller has proved its key.
    fn judge(&self, peer: &PublicKey) -> Result<Grants, Ended> {
        let config = &self.shell.config;
        if let Some(expected) = config.expected_peer
            && expected != *peer
        {
            return Err(Ended::IdentityMismatch { expected, got: *peer });
        }
        if *peer == config.identity.public() {
            return if config.accept_own_key { Ok(Grants::ALL) } else { Err(Ended::OwnKey) };
        }
        match config.trust.grants(peer) {
            Some(grants) => Ok(grants),
            // A caller that names the key consents to this link; a listener needs the trust.
            None if self.role == Role::Caller && config.expected_peer.is_some() => Ok(Grants::NONE),
            None => Err(Ended::UnknownPeer(*peer)),
        }
    }

    fn not_a_handshake(&mut self, what: &str) -> Ended {
        self.shell.counters.malformed += 1;
        Ended::Handshake(what.to_owned())
    }

    fn end_with_close(&mut self, ended: Ended) {
        if let Phase::Live(live) = &mut self.phase
            && !matches!(ended, Ended::ByPeer(_))
        {
            live.say_close(&mut self.shell, &close_reason_for(&ended));
        }
        self.end(ended);
    }

    fn end(&mut self, ended: Ended) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Phase::Live(live) = &mut self.phase {
            live.shut();
        }
        self.phase = Phase::Closed;
        self.deadline = None;
        self.shell.datagrams.clear();
        self.shell.events.push_back(Event::Closed(ended));
    }
}

impl Shell {
    /// A handshake packet: as it is, with its length before it. Ours always fit.
    fn send_handshake(&mut self, packet: &HandshakePacket<'_>) {
        let mut bytes = Vec::new();
        if packet.encode(Carriage::Stream, &mut bytes).is_ok() {
            frame_packet(&bytes, &mut self.stream_out);
        }
    }

    fn random_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// What the other side is told.
fn close_reason_for(ended: &Ended) -> CloseReason {
    let code = match ended {
        Ended::ByUs(reason) => return reason.clone(),
        Ended::UnknownPeer(_) => CloseCode::UNTRUSTED,
        Ended::IdentityMismatch { .. } => CloseCode::IDENTITY_MISMATCH,
        Ended::OwnKey => CloseCode::SELF,
        Ended::Downgrade => CloseCode::DOWNGRADE,
        Ended::Version { .. } => CloseCode::VERSION,
        Ended::PathLost(_) => CloseCode::PATH_LOST,
        Ended::HandshakeTimeout(_) => CloseCode::IDLE_TIMEOUT,
        _ => CloseCode::PROTOCOL,
    };
    CloseReason::new(code, "")
}

/// RESP's payload: `{"versions":[…]}`. The version in use must be the highest common one.
fn check_versions(payload: &[u8]) -> Result<(), Ended> {
    #[derive(serde::Deserialize)]
    struct Versions {
        versions: Vec<u8>,
    }
    let parsed: Versions = serde_json::from_slice(payload)
        .map_err(|_| Ended::PeerMisbehaved("its list of versions".into()))?;
    if common_version(&parsed.versions) == Some(1) { Ok(()) } else { Err(Ended::Downgrade) }
}

/// Why a stream could not be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStreamError {
    /// The session is not open, or is over.
    #[error("the session is not open; offer the stream again in the next one")]
    NotOpen,
    /// No format, or more than a peer takes.
    #[error("a stream is offered in 1 to {MAX_FORMATS} formats; choose the best ones")]
    Formats,
    /// 64 streams are open, or the session's ids are used up.
    #[error("the session has no room for another stream; close one, or start a new session")]
    NoRoom,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
