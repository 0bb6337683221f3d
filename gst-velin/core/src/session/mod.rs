//! One session with one peer over carrier `lan`: handshake and control on a TCP connection,
//! media on UDP once the peer's address has answered a challenge, on TCP until then.
//!
//! [`Session`] is the whole state machine, without I/O: see the crate's documentation for the
//! loop that drives it. Media leaves through [`MediaTx`], which a streaming thread may own, and
//! arrives through [`MediaSink`], which the receive thread lends.

pub mod aead;
mod asks;
mod config;
mod control_budget;
mod counters;
mod epochs;
mod event;
pub mod header;
mod io;
mod live;
mod liveness;
mod media;
#[cfg(any(test, feature = "nonce-guard"))]
pub mod nonce_guard;
pub mod opener;
mod opening;
mod path;
mod query;
mod rekey;
mod renewal;
pub mod replay;
pub mod sealer;
mod streams;

pub use asks::{AskError, AskId, MAX_ASKS};
pub use config::{Carrier, SessionConfig, Trust};
pub use counters::SessionCounters;
pub use event::{Ended, Event, Route};
pub use io::{MediaSink, Role, StreamEnd, Transmit};
pub use live::{DETACHED_SILENCE, UNRENEWED_AFTER};
pub use liveness::{EXPIRED_AFTER, LOST_AFTER, STALLED_AFTER};
pub use media::{FeedbackTx, MEDIA_HEAD, MEDIA_OVERHEAD, MediaError, MediaTx};
pub use renewal::RENEW_AFTER;
pub use streams::{MAX_STREAMS, OpenStreamError};

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use live::{Live, Origin};
use opening::close_reason_for;

use crate::codec::StreamFormat;
use crate::entropy::Entropy;
use crate::handshake::noise::{Initiator, Responder};
use crate::handshake::packets::{Carriage, HandshakePacket, Init, InitHead, SessionIndex};
use crate::identity::{Grants, Name};
use crate::time::MonoTime;
use crate::units::StreamId;
use crate::wire::{
    CloseCode, CloseReason, Copies, Deframer, MAX_FORMATS, NameGlob, StreamUuid, frame_packet,
};

/// A peer has this long to finish the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

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
    hung_up: bool,
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
        self.notice_wake(now);
        if self.is_detached() {
            return;
        }
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

    /// A UDP packet that carries this session's index. Dropped on [`Carrier::Tcp`].
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
        self.notice_wake(now);
        if self.shell.config.carrier == Carrier::Tcp {
            self.shell.counters.unknown_stream += 1;
            return;
        }
        if let Phase::Live(live) = &mut self.phase
            && let Err(ended) =
                live.handle(&mut self.shell, now, Origin::Datagram(from), packet, sink)
        {
            self.end_with_close(ended);
        }
    }

    /// The TCP connection ended.
    ///
    /// An open session that knows where the peer receives UDP goes on, [detached](Event::Detached):
    /// media and probes go by UDP, nothing can be said on the control stream any more, and it ends
    /// - [`DETACHED_SILENCE`] after the last packet if the peer closed the connection: it is gone;
    /// - [`EXPIRED_AFTER`] after the last packet otherwise;
    /// - [`UNRENEWED_AFTER`] after the first packet that came since then.
    ///
    /// Any other session ends at once.
    pub fn handle_stream_end(&mut self, now: MonoTime, end: StreamEnd) {
        self.notice_wake(now);
        let result = match &mut self.phase {
            Phase::Live(live) => live.detach(&mut self.shell, now, end),
            _ => Err(Ended::Truncated),
        };
        if let Err(ended) = result {
            self.end(ended);
        }
    }

    /// The machine slept, or its clock says so: every way to the peer is tried at once, and eight
    /// times a second for two seconds. A session that is called more than two seconds too late
    /// notices by itself, and tells [`Event::Woke`].
    pub fn wake(&mut self, now: MonoTime) {
        if let Phase::Live(live) = &mut self.phase {
            live.wake(&mut self.shell, now);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        self.notice_wake(now);
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
    /// `ask` is the ask of the peer that this answers. A caller refuses what it has not asked for.
    ///
    /// # Errors
    /// Before [`Event::Authenticated`], after the end, with 64 streams open, with a number of
    /// formats that no peer takes, with a format of which a block does not fit [`mtu`](Self::mtu)
    /// (as far as the peer's is known: [`MediaTx::seal`] looks again), on a listener without the grant `capture-from-me`, or if the
    /// peer does not ask for this name.
    pub fn open_stream(
        &mut self,
        name: Name,
        uuid: StreamUuid,
        formats: Vec<StreamFormat>,
        ask: Option<AskId>,
    ) -> Result<StreamId, OpenStreamError> {
        let Phase::Live(live) = &mut self.phase else { return Err(OpenStreamError::NotOpen) };
        if formats.is_empty() || formats.len() > MAX_FORMATS {
            return Err(OpenStreamError::Formats);
        }
        live.open_stream(&mut self.shell, name, uuid, formats, ask)
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

    /// Asks for every stream whose name fits, those that are there and those that will be. The
    /// peer offers them ([`Event::StreamOffered`]) or refuses ([`Event::AskEnded`]).
    ///
    /// # Errors
    /// Before [`Event::Open`], after the end, or with 16 asks open.
    pub fn ask(&mut self, name: NameGlob) -> Result<AskId, AskError> {
        match &mut self.phase {
            Phase::Live(live) => live.ask(&mut self.shell, name),
            _ => Err(AskError::NotOpen),
        }
    }

    /// We want no more streams for this ask of ours. Those that are open go on.
    pub fn withdraw_ask(&mut self, ask: AskId, code: CloseCode) {
        if let Phase::Live(live) = &mut self.phase {
            live.withdraw_ask(&mut self.shell, ask, code);
        }
    }

    /// The peer gets no more streams for this ask of its. Those that are open go on.
    pub fn refuse_ask(&mut self, ask: AskId, code: CloseCode) {
        if let Phase::Live(live) = &mut self.phase {
            live.refuse_ask(&mut self.shell, ask, code);
        }
    }

    /// The trust in the peer changed while the session lives. On a listener, streams and asks that
    /// are not permitted any more end with `PERMISSION` on both sides, each with its event here.
    /// On a caller nothing ends: it has consented by calling.
    pub fn update_grants(&mut self, grants: Grants) {
        if let Phase::Live(live) = &mut self.phase {
            live.update_grants(&mut self.shell, grants);
        }
    }

    /// The sending half of a stream of ours that was accepted.
    pub fn media_tx(&self, id: StreamId) -> Option<MediaTx> {
        match &self.phase {
            Phase::Live(live) => live.media_tx(id),
            _ => None,
        }
    }

    /// What seals our NACKs and REPORTs on a stream that we play.
    pub fn feedback_tx(&self, id: StreamId) -> Option<FeedbackTx> {
        match &self.phase {
            Phase::Live(live) => live.feedback_tx(id),
            _ => None,
        }
    }

    /// Asks the sender of a stream that we play for copies in its packets, or for none any more.
    /// Say it when it changes.
    pub fn want_copies(&mut self, id: StreamId, copies: Copies) {
        if let Phase::Live(live) = &mut self.phase {
            live.want_copies(&mut self.shell, id, copies);
        }
    }

    /// Starts a change of keys.
    pub fn rekey(&mut self, now: MonoTime) {
        if let Phase::Live(live) = &mut self.phase {
            live.start_rekey(&mut self.shell, now);
        }
    }

    /// Says goodbye and ends. A session whose connection is gone has no way to say it, because a
    /// CLOSE is only taken from the connection: it ends without a word, and the peer finds out by
    /// [`UNRENEWED_AFTER`] or by the session that takes over. Drain [`poll_transmit`](Self::poll_transmit), then close the
    /// connection.
    pub fn close(&mut self, code: CloseCode, text: &str) {
        self.end_with_close(Ended::ByUs(CloseReason::new(code, text)));
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
            hung_up: false,
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

    /// A call that comes much later than asked for: we were stopped.
    fn notice_wake(&mut self, now: MonoTime) {
        if let Phase::Live(live) = &mut self.phase
            && let Some(late) = live.overslept(now)
        {
            self.shell.events.push_back(Event::Woke(late));
            live.wake(&mut self.shell, now);
        }
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

    /// There is no connection any more: what waits for it is dropped, and nothing comes after it.
    fn hang_up(&mut self) {
        self.stream_out.clear();
        self.hung_up = true;
    }

    fn random_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
