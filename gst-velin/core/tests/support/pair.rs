//! Two sessions in virtual time: a caller and a listener, joined by a TCP connection and by UDP.
//!
//! This is the loop every driver of a session runs: after each call that takes the time, take
//! what is to be sent and what happened until there is no more, then wait for the next packet or
//! for `poll_timeout`, whichever comes first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat};
use velin_core::handshake::packets::SessionIndex;
use velin_core::identity::{Grant, Grants, Identity, Name, PublicKey};
use velin_core::session::{
    AskId, Carrier as Carriage, Ended, Event, MediaError, MediaSink, MediaTx, Role, Route, Session,
    SessionConfig, StreamEnd, Transmit, Trust,
};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex, SampleRate, StreamId};
use velin_core::wire::{
    AudioFlags, AudioFrame, AudioHeader, CloseCode, Hex, Report, StreamUuid, UdpEndpoint,
    frame_packet,
};

use super::ms;
use super::netem::{Netem, Outages, Packet, Settings};
use super::rng::Rng;

pub use Role::{Caller, Listener};

/// Bytes of audio in a test block.
pub const PAYLOAD: usize = 64;

/// What travels, as an attacker between the two sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// When.
    pub now: MonoTime,
    /// Towards whom.
    pub to: Role,
    /// In what.
    pub carrier: Carrier,
    /// The bytes: of TCP, whatever was written at once.
    pub bytes: Vec<u8>,
}

/// The two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Bytes in order.
    Tcp,
    /// A datagram with its addresses.
    Udp {
        /// Source.
        from: SocketAddr,
        /// Destination.
        to: SocketAddr,
    },
}

impl Wire {
    /// The whole packets inside a piece of TCP.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        if self.carrier != Carrier::Tcp {
            return vec![self.bytes.clone()];
        }
        let (mut rest, mut out) = (&self.bytes[..], Vec::new());
        while let [a, b, tail @ ..] = rest {
            let (packet, after) = tail.split_at(usize::from(u16::from_be_bytes([*a, *b])));
            out.push(packet.to_vec());
            rest = after;
        }
        out
    }
}

/// Sees everything; gives what goes on in its stead.
pub type Attacker = Box<dyn FnMut(Wire) -> Vec<Wire> + Send>;

/// How two sessions start. Every field may be changed before [`build`](Self::build).
pub struct Setup {
    /// Everything random follows from it.
    pub seed: u64,
    /// The caller's side.
    pub caller: Party,
    /// The listener's side.
    pub listener: Party,
    /// The UDP network, both ways.
    pub udp: Settings,
    /// One-way delay of the TCP connection.
    pub tcp_delay: Duration,
    /// Between the two.
    pub attacker: Option<Attacker>,
}

/// One side's settings.
pub struct Party {
    /// Secret of the device key.
    pub secret: [u8; 32],
    /// What the other's key may do here; `None`: a stranger.
    pub trusts: Option<Grants>,
    /// `peer=`.
    pub expects: Option<PublicKey>,
    /// Our own key on the other side is welcome.
    pub accept_own_key: bool,
    /// What carries its packets.
    pub carrier: Carriage,
    /// Largest UDP payload, both ways.
    pub mtu: u16,
    /// Whether it has a UDP socket.
    pub udp: bool,
    /// The address of the UDP socket.
    pub address: SocketAddr,
    /// Takes every offered stream it can play.
    pub accepts_streams: bool,
}

impl Setup {
    /// Two devices that trust each other, 1 ms apart. The seed is the place this is called from.
    #[track_caller]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let place = Location::caller();
        let seed = place.file().bytes().fold(u64::from(place.line()), |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self::seeded(seed ^ u64::from(place.column()) << 48)
    }

    /// As [`new`](Self::new), from a seed.
    pub fn seeded(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork(1);
        let mut party = |address: &str| {
            let mut secret = [0; 32];
            velin_core::entropy::Entropy::fill(&mut rng, &mut secret);
            Party {
                secret,
                trusts: Some(Grants::PLAY_TO_ME.with(Grant::CaptureFromMe)),
                expects: None,
                accept_own_key: false,
                carrier: Carriage::Lan,
                mtu: 1200,
                udp: true,
                address: address.parse().expect("an address"),
                accepts_streams: true,
            }
        };
        Self {
            seed,
            caller: party("192.0.2.1:50001"),
            listener: party("192.0.2.2:49001"),
            udp: Settings { delay: ms(1), ..Settings::default() },
            tcp_delay: ms(1),
            attacker: None,
        }
    }

    /// With something between the two.
    #[must_use]
    pub fn attacked(mut self, attacker: impl FnMut(Wire) -> Vec<Wire> + Send + 'static) -> Self {
        self.attacker = Some(Box::new(attacker));
        self
    }

    /// Both sessions exist; nothing has been sent.
    pub fn build(self) -> Pair {
        let now = MonoTime::ZERO;
        let rng = Rng::new(self.seed);
        let index = |purpose| {
            let random = rng.fork(purpose).next() as u32;
            SessionIndex::new(random | 1).expect("not zero")
        };
        let keys = [self.caller.key(), self.listener.key()];
        let config = |own: &Party, peer: &Party| SessionConfig {
            identity: Arc::new(Identity::from_secret(own.secret)),
            trust: Arc::new(Book(own.trusts.map(|grants| (peer.key(), grants)))),
            expected_peer: own.expects,
            accept_own_key: own.accept_own_key,
            agent: Name::new("velin-test").ok(),
            name: Name::new("test device").ok(),
            carrier: own.carrier,
            udp: own.udp.then(|| UdpEndpoint { port: own.address.port(), mtu: own.mtu }),
            peer_address: SocketAddr::new(peer.address.ip(), 49000),
            mtu: own.mtu.into(),
        };
        let caller = Session::caller(
            config(&self.caller, &self.listener),
            index(2),
            Box::new(rng.fork(3)),
            now,
        );
        let listener = Session::listener(
            config(&self.listener, &self.caller),
            index(4),
            Box::new(rng.fork(5)),
            now,
        );
        Pair {
            now,
            ends: [End::new(caller, &self.caller), End::new(listener, &self.listener)],
            keys,
            udp: [Netem::new(self.udp.clone(), self.seed ^ 6), Netem::new(self.udp, self.seed ^ 7)],
            udp_blocked: [false; 2],
            stopped: [MonoTime::ZERO; 2],
            tcp: Tcp { delay: self.tcp_delay, ..Tcp::default() },
            attacker: self.attacker,
            record: None,
            astray: Vec::new(),
        }
    }

    /// Both sessions, open.
    pub fn open(self) -> Pair {
        let mut pair = self.build();
        pair.run_until_open();
        pair
    }
}

impl Party {
    /// The device key.
    pub fn key(&self) -> PublicKey {
        Identity::from_secret(self.secret).public()
    }
}

struct Book(Option<(PublicKey, Grants)>);

impl Trust for Book {
    fn grants(&self, peer: &PublicKey) -> Option<Grants> {
        self.0.filter(|(key, _)| key == peer).map(|(_, grants)| grants)
    }
}

/// Two sessions and what is between them.
pub struct Pair {
    /// The time.
    pub now: MonoTime,
    ends: [End; 2],
    keys: [PublicKey; 2],
    /// The UDP networks towards the caller and towards the listener.
    pub udp: [Netem; 2],
    /// Whether UDP towards the caller, towards the listener, is filtered.
    pub udp_blocked: [bool; 2],
    /// Until when the caller, the listener, does not run.
    pub stopped: [MonoTime; 2],
    /// The TCP connection.
    pub tcp: Tcp,
    /// Between the two.
    pub attacker: Option<Attacker>,
    record: Option<Vec<Wire>>,
    /// Datagrams to addresses where neither of the two is.
    pub astray: Vec<Wire>,
}

/// One side.
pub struct End {
    /// Its session.
    pub session: Session,
    /// Where its datagrams seem to come from, and where it is reached.
    pub address: SocketAddr,
    /// What happened, and when.
    pub events: Vec<(MonoTime, Event)>,
    /// What arrived.
    pub heard: Heard,
    /// Whether it takes offers.
    pub accepts_streams: bool,
    /// The last ask of the peer that is open.
    pub asked: Option<AskId>,
    players: Vec<Player>,
    connection_over: bool,
    seen: usize,
}

/// Blocks by stream, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Number of each block, in order of arrival; each payload was right.
    pub blocks: BTreeMap<StreamId, Vec<u32>>,
    /// Blocks whose content nobody sent.
    pub wrong: u64,
    /// Reports.
    pub reports: Vec<(StreamId, Report)>,
}

impl MediaSink for Heard {
    fn audio(&mut self, stream: StreamId, frame: &AudioFrame<'_>) {
        let block = frame.header.block.0;
        if frame.payload != payload(stream, block) || frame.header.ts.0 != ts(block) {
            self.wrong += 1;
        }
        self.blocks.entry(stream).or_default().push(block);
    }

    fn report(&mut self, stream: StreamId, report: &Report) {
        self.reports.push((stream, *report));
    }
}

/// Sends a block of one stream at a steady pace.
struct Player {
    tx: MediaTx,
    next: MonoTime,
    every: Duration,
    block: u32,
}

/// The connection: bytes in order, late perhaps, never lost.
#[derive(Debug, Default)]
pub struct Tcp {
    /// One way.
    pub delay: Duration,
    /// Nothing passes from, up to.
    pub outages: Vec<(MonoTime, MonoTime)>,
    /// Towards caller, towards listener: bytes, or the end of the connection.
    queues: [VecDeque<(MonoTime, Result<Vec<u8>, StreamEnd>)>; 2],
    last_due: [MonoTime; 2],
}

impl Tcp {
    fn send(&mut self, now: MonoTime, to: Role, bytes: Result<Vec<u8>, StreamEnd>) {
        let due = (now + self.delay).max(self.last_due[to as usize]);
        self.last_due[to as usize] = due;
        self.queues[to as usize].push_back((due, bytes));
    }

    /// When what waits is due, an outage being over.
    fn timeout(&self, to: Role) -> Option<MonoTime> {
        let mut due = self.queues[to as usize].front()?.0;
        for (from, until) in &self.outages {
            if *from <= due && due < *until {
                due = *until + self.delay;
            }
        }
        Some(due)
    }

    fn poll(&mut self, now: MonoTime, to: Role) -> Option<Result<Vec<u8>, StreamEnd>> {
        self.timeout(to).filter(|due| *due <= now)?;
        self.queues[to as usize].pop_front().map(|(_, bytes)| bytes)
    }
}

impl End {
    fn new(session: Session, party: &Party) -> Self {
        Self {
            session,
            address: party.address,
            events: Vec::new(),
            heard: Heard::default(),
            accepts_streams: party.accepts_streams,
            asked: None,
            players: Vec::new(),
            connection_over: false,
            seen: 0,
        }
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<&Ended> {
        self.events.iter().find_map(|(_, event)| match event {
            Event::Closed(ended) => Some(ended),
            _ => None,
        })
    }

    /// When the first event of a kind happened.
    pub fn when(&self, kind: impl Fn(&Event) -> bool) -> Option<MonoTime> {
        self.events.iter().find(|(_, event)| kind(event)).map(|(time, _)| *time)
    }

    /// How many events of a kind happened.
    pub fn count(&self, kind: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| kind(event)).count()
    }

    /// Which blocks of `stream` arrived, sorted, each once.
    pub fn blocks(&self, stream: StreamId) -> Vec<u32> {
        let mut blocks = self.heard.blocks.get(&stream).cloned().unwrap_or_default();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }
}

impl Pair {
    /// One side.
    pub fn end(&self, role: Role) -> &End {
        &self.ends[role as usize]
    }

    /// One side, to be changed.
    pub fn end_mut(&mut self, role: Role) -> &mut End {
        &mut self.ends[role as usize]
    }

    /// One side's session.
    pub fn session(&mut self, role: Role) -> &mut Session {
        &mut self.ends[role as usize].session
    }

    /// One side's device key.
    pub fn key(&self, role: Role) -> PublicKey {
        self.keys[role as usize]
    }

    /// From now on everything sent is recorded.
    pub fn record(&mut self) {
        self.record = Some(Vec::new());
    }

    /// What was recorded so far. Recording goes on.
    pub fn recorded(&mut self) -> Vec<Wire> {
        self.record.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Runs for `time`.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until `end`.
    pub fn run_until(&mut self, end: MonoTime) {
        while self.step(end) {}
    }

    /// Runs until an event of `role` that was not waited for before fits.
    ///
    /// # Panics
    /// When that takes more than a minute.
    #[track_caller]
    pub fn run_until_event(&mut self, role: Role, fits: impl Fn(&Event) -> bool) -> Event {
        let give_up = self.now + Duration::from_secs(60);
        loop {
            let end = &mut self.ends[role as usize];
            if let Some(at) = end.events[end.seen..].iter().position(|(_, event)| fits(event)) {
                end.seen += at + 1;
                return end.events[end.seen - 1].1.clone();
            }
            assert!(self.step(give_up), "{role:?} had only {:?}", self.end(role).events);
        }
    }

    /// Runs until both are open.
    #[track_caller]
    pub fn run_until_open(&mut self) {
        for role in [Caller, Listener] {
            self.run_until_event(role, |event| matches!(event, Event::Open { .. }));
        }
    }

    /// Runs until `role` has a media path by UDP.
    #[track_caller]
    pub fn run_until_udp(&mut self, role: Role) {
        while !matches!(self.session(role).route(), Some(Route::Datagram(_))) {
            assert!(self.step(self.now + Duration::from_secs(20)), "no UDP path");
        }
    }

    /// Offers a stream from `role`, waits until it is taken, and sends a block every `every`.
    #[track_caller]
    pub fn play(&mut self, role: Role, every: Duration) -> StreamId {
        let id = self.offer(role);
        self.run_until_event(
            role,
            |event| matches!(event, Event::StreamAccepted { id: got, .. } if *got == id),
        );
        self.start(role, id, every);
        id
    }

    /// Offers a stream; a listener's, that the caller has asked for.
    #[track_caller]
    pub fn offer(&mut self, role: Role) -> StreamId {
        let ask = (role == Listener).then(|| self.ask_listener());
        self.offer_for(role, ask)
    }

    /// Offers a stream as an answer to `ask`.
    #[track_caller]
    pub fn offer_for(&mut self, role: Role, ask: Option<AskId>) -> StreamId {
        let name = Name::new("sound").expect("a name");
        let uuid = StreamUuid(Hex([7; 16]));
        self.session(role).open_stream(name, uuid, vec![format()], ask).expect("room for a stream")
    }

    /// The caller asks for everything and the listener has heard it, if that is not so already.
    #[track_caller]
    pub fn ask_listener(&mut self) -> AskId {
        if self.end(Listener).asked.is_none() {
            let everything = "*".parse().expect("a pattern");
            let _ = self.session(Caller).ask(everything).expect("room for an ask");
            self.run_until_event(Listener, |event| matches!(event, Event::StreamAsked { .. }));
        }
        self.end(Listener).asked.expect("it was asked")
    }

    /// Sends a block of an accepted stream every `every`.
    #[track_caller]
    pub fn start(&mut self, role: Role, id: StreamId, every: Duration) {
        let tx = self.session(role).media_tx(id).expect("an accepted stream");
        let next = self.now;
        self.end_mut(role).players.push(Player { tx, next, every, block: 0 });
    }

    /// No more blocks; gives how many were sent of each stream.
    pub fn stop(&mut self, role: Role) -> HashMap<StreamId, u32> {
        let players = std::mem::take(&mut self.end_mut(role).players);
        players.into_iter().map(|player| (player.tx.id(), player.block)).collect()
    }

    /// Sends one block.
    pub fn send_block(
        &mut self,
        role: Role,
        tx: &MediaTx,
        block: u32,
        flags: AudioFlags,
    ) -> Result<(), MediaError> {
        let (packet, route) = seal(tx, block, flags)?;
        self.put(role, route, packet);
        Ok(())
    }

    /// A packet of media goes its way.
    pub fn put(&mut self, role: Role, route: Route, packet: Vec<u8>) {
        match route {
            Route::Datagram(to) => self.transmit(role, Transmit::Datagram { to, packet }),
            Route::Held => panic!("a held block was sealed"),
            Route::Stream => {
                let mut framed = Vec::new();
                frame_packet(&packet, &mut framed);
                self.transmit(role, Transmit::Stream(framed));
            }
        }
    }

    /// The NAT in front of `role` gives it another address.
    pub fn rebind(&mut self, role: Role, address: &str) -> SocketAddr {
        let address = address.parse().expect("an address");
        self.end_mut(role).address = address;
        address
    }

    /// A datagram from anywhere reaches `role` now.
    pub fn inject_udp(&mut self, role: Role, from: SocketAddr, bytes: &[u8]) {
        let End { session, heard, .. } = &mut self.ends[role as usize];
        session.handle_datagram(self.now, from, &mut bytes.to_vec(), heard);
        self.drain(role);
    }

    /// Bytes of the TCP connection reach `role` now.
    pub fn inject_tcp(&mut self, role: Role, bytes: &[u8]) {
        let End { session, heard, .. } = &mut self.ends[role as usize];
        session.handle_stream(self.now, bytes, heard);
        self.drain(role);
    }

    /// Nothing passes any way for `time` from now on.
    pub fn outage(&mut self, time: Duration) {
        let window = (self.now, self.now + time);
        self.tcp.outages.push(window);
        for net in &mut self.udp {
            match &mut net.settings.outages {
                Outages::Windows(windows) => windows.push(window),
                outages => *outages = Outages::Windows(vec![window]),
            }
        }
    }

    /// The connection breaks: what is under way is lost, both ends see its end.
    pub fn cut_tcp(&mut self) {
        for to in [Caller, Listener] {
            self.tcp.queues[to as usize].clear();
            self.end_tcp(to, StreamEnd::Closed);
        }
    }

    /// `role` sees its connection end now, whatever the other sees.
    pub fn end_tcp(&mut self, role: Role, end: StreamEnd) {
        let End { session, connection_over, .. } = &mut self.ends[role as usize];
        *connection_over = true;
        session.handle_stream_end(self.now, end);
        self.drain(role);
    }

    /// Both systems give the connection up.
    pub fn time_tcp_out(&mut self) {
        for role in [Caller, Listener] {
            self.end_tcp(role, StreamEnd::TimedOut);
        }
    }

    /// `role` does not run for `time`: what arrives waits.
    pub fn suspend(&mut self, role: Role, time: Duration) {
        self.stopped[role as usize] = self.now + time;
    }

    /// The process of `role` is gone: nothing comes from it any more, and its system says so.
    pub fn kill(&mut self, role: Role) {
        self.suspend(role, Duration::from_secs(1 << 30));
        self.end_tcp(other(role), StreamEnd::Closed);
    }

    /// The end of `role`'s session is not the end of the connection.
    pub fn keep_connection(&mut self, role: Role) {
        self.end_mut(role).connection_over = true;
    }

    /// One thing happens, or nothing until `end`: then false, and it is `end`.
    fn step(&mut self, end: MonoTime) -> bool {
        for role in [Caller, Listener] {
            self.drain(role);
        }
        let next = [Caller, Listener]
            .into_iter()
            .flat_map(|role| {
                [
                    self.end(role).session.poll_timeout(),
                    self.udp[role as usize].timeout(),
                    self.tcp.timeout(role),
                    self.end(role).players.iter().map(|player| player.next).min(),
                ]
                .map(|due| due.map(|due| due.max(self.stopped[role as usize])))
            })
            .flatten()
            .min();
        let Some(next) = next.filter(|next| *next <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        for role in [Caller, Listener] {
            if self.now < self.stopped[role as usize] {
                continue;
            }
            self.arrive(role);
            self.play_due(role);
            self.tick(role);
        }
        true
    }

    fn arrive(&mut self, role: Role) {
        while let Some(packet) = self.udp[role as usize].poll(self.now) {
            if packet.to == self.end(role).address {
                self.inject_udp(role, packet.from, &packet.bytes);
            }
        }
        while let Some(bytes) = self.tcp.poll(self.now, role) {
            match bytes {
                Ok(bytes) => self.inject_tcp(role, &bytes),
                Err(end) => {
                    let now = self.now;
                    self.session(role).handle_stream_end(now, end);
                    self.drain(role);
                }
            }
        }
    }

    fn play_due(&mut self, role: Role) {
        for i in 0..self.end(role).players.len() {
            let now = self.now;
            let player = &mut self.end_mut(role).players[i];
            if player.next > now {
                continue;
            }
            player.next += player.every;
            player.block += 1;
            let (tx, block) = (player.tx.clone(), player.block - 1);
            let sent = self.send_block(role, &tx, block, AudioFlags::NONE);
            // A block that is held is dropped.
            if sent.is_err() && sent != Err(MediaError::Held) {
                // The stream is over: the block was not sent.
                let player = &mut self.end_mut(role).players[i];
                player.block -= 1;
                player.next = MonoTime::from_nanos(u64::MAX);
            }
        }
    }

    fn tick(&mut self, role: Role) {
        let now = self.now;
        let session = self.session(role);
        if session.poll_timeout().is_some_and(|due| due <= now) {
            session.handle_timeout(now);
            let again = session.poll_timeout();
            assert!(again.is_none_or(|due| due > now), "{role:?} wants to be called for ever");
            self.drain(role);
        }
    }

    /// The rule of the loop.
    fn drain(&mut self, role: Role) {
        loop {
            while let Some(transmit) = self.session(role).poll_transmit() {
                self.transmit(role, transmit);
            }
            let Some(event) = self.session(role).poll_event() else { break };
            self.answer(role, &event);
            let now = self.now;
            self.end_mut(role).events.push((now, event));
        }
        if self.session(role).is_closed() && !self.end(role).connection_over {
            self.end_mut(role).connection_over = true;
            self.tcp.send(self.now, other(role), Err(StreamEnd::Closed));
        }
    }

    fn answer(&mut self, role: Role, event: &Event) {
        match event {
            Event::StreamAsked { ask, .. } => self.end_mut(role).asked = Some(*ask),
            Event::AskEnded { ask, ours: false, .. } => {
                let end = self.end_mut(role);
                end.asked = end.asked.filter(|open| open != ask);
            }
            _ => {}
        }
        let Event::StreamOffered(offer) = event else { return };
        if !self.end(role).accepts_streams {
            return;
        }
        let id = StreamId(offer.id);
        let playable = offer.formats.iter().position(|f| f.to_format(1200).is_some());
        match playable {
            Some(format) => self.session(role).accept_stream(id, format as u8),
            None => self.session(role).remove_stream(id, CloseCode::CAPS),
        }
    }

    fn transmit(&mut self, role: Role, transmit: Transmit) {
        let to = other(role);
        let from = self.end(role).address;
        let (carrier, bytes) = match transmit {
            Transmit::Stream(bytes) => (Carrier::Tcp, bytes),
            Transmit::Datagram { to, packet } => (Carrier::Udp { from, to }, packet),
        };
        let wire = Wire { now: self.now, to, carrier, bytes };
        if let Some(record) = &mut self.record {
            record.push(wire.clone());
        }
        let wires = match &mut self.attacker {
            Some(attacker) => attacker(wire),
            None => vec![wire],
        };
        for wire in wires {
            self.carry(wire);
        }
    }

    fn carry(&mut self, wire: Wire) {
        match wire.carrier {
            Carrier::Tcp => self.tcp.send(self.now, wire.to, Ok(wire.bytes)),
            Carrier::Udp { from, to } if to == self.end(wire.to).address => {
                if !self.udp_blocked[wire.to as usize] {
                    let packet = Packet { from, to, bytes: wire.bytes };
                    self.udp[wire.to as usize].send(self.now, packet);
                }
            }
            Carrier::Udp { .. } => self.astray.push(wire),
        }
    }
}

/// The other side.
pub fn other(role: Role) -> Role {
    match role {
        Caller => Listener,
        Listener => Caller,
    }
}

/// The format of every test stream: 16 frames of S16LE stereo.
pub fn format() -> StreamFormat {
    StreamFormat {
        sample: SampleFormat::S16Le,
        rate: SampleRate::HZ_48000,
        map: ChannelMap::stereo(),
        frames_per_block: 16,
    }
}

/// The one right content of a block.
pub fn payload(stream: StreamId, block: u32) -> [u8; PAYLOAD] {
    let mut rng = Rng::new(u64::from(stream.0) << 32 | u64::from(block));
    let mut bytes = [0; PAYLOAD];
    velin_core::entropy::Entropy::fill(&mut rng, &mut bytes);
    bytes
}

/// The one right position of a block.
pub fn ts(block: u32) -> u64 {
    u64::from(block) * 16
}

/// Seals a test block.
pub fn seal(tx: &MediaTx, block: u32, flags: AudioFlags) -> Result<(Vec<u8>, Route), MediaError> {
    let mut packet = vec![0; 48 + PAYLOAD];
    packet[32..32 + PAYLOAD].copy_from_slice(&payload(tx.id(), block));
    let header = AudioHeader { flags, block: BlockIndex(block), ts: FrameIndex(ts(block)) };
    let (length, route) = tx.seal(&header, PAYLOAD, &mut packet)?;
    packet.truncate(length);
    Ok((packet, route))
}
