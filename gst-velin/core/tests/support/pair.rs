//! Two sessions in virtual time: a caller and a listener, joined by a TCP connection and by UDP.
//!
//! This is the loop every driver of a session runs: after each call that takes the time, take
//! what is to be sent and what happened until there is no more, then wait for the next packet or
//! for `poll_timeout`, whichever comes first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use velin_core::identity::{Name, PublicKey};
use velin_core::session::{
    AskId, Ended, Event, MediaError, MediaTx, Role, Route, Session, StreamEnd, Transmit,
};
use velin_core::time::MonoTime;
use velin_core::units::StreamId;
use velin_core::wire::{AudioFlags, CloseCode, Hex, StreamUuid, frame_packet};

use super::netem::{Netem, Outages, Packet};

pub use super::setup::{Party, Setup};
pub use super::sound::{Heard, PAYLOAD, format, payload, seal, ts};
pub use super::way::{Attacker, Carrier, Tcp, Wire};
pub use Role::{Caller, Listener};

/// Two sessions and what is between them.
pub struct Pair {
    /// The time.
    pub now: MonoTime,
    pub(super) ends: [End; 2],
    pub(super) keys: [PublicKey; 2],
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
    pub(super) record: Option<Vec<Wire>>,
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

/// Sends a block of one stream at a steady pace.
struct Player {
    tx: MediaTx,
    next: MonoTime,
    every: Duration,
    block: u32,
}

impl End {
    pub(super) fn new(session: Session, party: &Party) -> Self {
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
