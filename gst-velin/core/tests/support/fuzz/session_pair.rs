//! Two sessions, and between them a network and an attacker that do what the bytes say.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use velin_core::identity::{Identity, Name};
use velin_core::session::nonce_guard::isolated;
use velin_core::session::{Event, Role};
use velin_core::units::StreamId;
use velin_core::wire::{AudioFlags, CloseCode, Hex, StreamUuid};

use super::bytes::Bytes;
use crate::support::ms;
use crate::support::netem::Settings;
use crate::support::pair::{Caller, Carrier, Listener, Pair, Setup, Wire, format, other};

/// Actions that are followed; longer lists only cost time.
const MAX_ACTIONS: usize = 60;

/// Wires an attacker remembers.
const MEMORY: usize = 64;

const ROLES: [Role; 2] = [Caller, Listener];

/// The first two bytes set the sessions up; each action after that is a byte and what it needs.
///
/// Whatever the list says: nothing panics, no nonce repeats, both ends know each other or neither is
/// open, nothing is heard that was not sent, an address that proved nothing gets no media and at most
/// three times what came from it, and the number of packets is bounded. When the network heals and
/// nobody has touched the connection, both ends agree on whether they live, and living streams carry
/// every block.
pub fn run(data: &[u8]) {
    isolated(|| Run::new(&mut Bytes::new(data)).finish());
}

/// What the attacker between the two knows and does.
#[derive(Default)]
struct Middle {
    memory: VecDeque<Wire>,
    /// Packets towards this role get this source.
    spoof: [Option<SocketAddr>; 2],
    /// As in the pair: what is filtered does not count as having come.
    blocked: [bool; 2],
    /// What happens to the next piece of TCP.
    tcp: Option<TcpFault>,
    /// Whether anything happened to the connection that TCP does not do by itself.
    touched: bool,
    /// Bytes with a victim's source, by victim and whom they went to.
    from_victims: BTreeMap<(SocketAddr, usize), usize>,
    packets: u64,
}

#[derive(Clone, Copy)]
enum TcpFault {
    Flip { at: u16, bits: u8 },
    Drop,
    Twice,
    Cut { at: u16 },
}

impl Middle {
    fn pass(&mut self, mut wire: Wire) -> Vec<Wire> {
        self.packets += 1;
        // Who sees what a victim gets can answer for it: a relay is no different from a NAT. The
        // attacker here is not at the victim's place.
        let unseen = matches!(wire.carrier, Carrier::Udp { to, .. } if to.ip() == victim(1).ip());
        if !unseen {
            if self.memory.len() == MEMORY {
                self.memory.pop_front();
            }
            self.memory.push_back(wire.clone());
        }
        match &mut wire.carrier {
            Carrier::Tcp => return self.pass_tcp(wire),
            Carrier::Udp { from, .. } => {
                if let Some(victim) = self.spoof[wire.to as usize] {
                    *from = victim;
                    if !self.blocked[wire.to as usize] {
                        self.count(victim, wire.to, wire.bytes.len());
                    }
                }
            }
        }
        vec![wire]
    }

    fn pass_tcp(&mut self, mut wire: Wire) -> Vec<Wire> {
        let Some(fault) = self.tcp.take() else { return vec![wire] };
        self.touched |= !matches!(fault, TcpFault::Cut { .. });
        let length = wire.bytes.len().max(1);
        match fault {
            TcpFault::Flip { at, bits } => wire.bytes[usize::from(at) % length] ^= bits,
            TcpFault::Drop => return Vec::new(),
            TcpFault::Twice => return vec![wire.clone(), wire],
            TcpFault::Cut { at } => {
                let tail = wire.bytes.split_off(usize::from(at) % length);
                let second = Wire { bytes: tail, ..wire.clone() };
                wire.bytes.shrink_to_fit();
                return [wire, second].into_iter().filter(|w| !w.bytes.is_empty()).collect();
            }
        }
        vec![wire]
    }

    fn count(&mut self, victim: SocketAddr, towards: Role, bytes: usize) {
        *self.from_victims.entry((victim, towards as usize)).or_default() += bytes;
    }
}

struct Run {
    pair: Pair,
    middle: Arc<Mutex<Middle>>,
    streams: Vec<(Role, StreamId, u32)>,
    trusted: [bool; 2],
    actions: u64,
}

impl Run {
    fn new(data: &mut Bytes<'_>) -> Self {
        let (seed, flags) = (data.u8(), data.u8());
        let mut setup = Setup::seeded(u64::from(seed) | 0xF0_0000);
        let untrusting = flags >> 5;
        if untrusting & 1 == 1 {
            setup.caller.trusts = None;
        }
        if untrusting == 2 {
            setup.listener.trusts = None;
        }
        if untrusting == 4 {
            setup.caller.expects = Some(Identity::from_secret([9; 32]).public());
        }
        if untrusting == 6 {
            setup.listener.secret = setup.caller.secret;
        }
        setup.caller.udp = flags & 1 == 0;
        setup.listener.udp = flags & 2 == 0;
        setup.listener.accepts_streams = flags & 4 == 0;
        let trusted = [setup.caller.trusts.is_some(), setup.listener.trusts.is_some()];
        let middle = Arc::new(Mutex::new(Middle::default()));
        let attacker = middle.clone();
        let pair = setup.attacked(move |wire| locked(&attacker).pass(wire)).build();
        let mut run = Self { pair, middle, streams: Vec::new(), trusted, actions: 0 };
        if flags & 8 != 0 {
            // Straight to where both are open, unless they never will be.
            run.pair.run_for(ms(100));
        }
        for _ in 0..MAX_ACTIONS {
            if data.is_empty() {
                break;
            }
            run.act(data);
        }
        run
    }

    fn act(&mut self, data: &mut Bytes<'_>) {
        self.actions += 1;
        let op = data.u8();
        // The top bit says who.
        let role = ROLES[usize::from(op >> 7)];
        match op & 0x7F {
            0..8 => self.pair.run_for(ms(u64::from(data.u8()))),
            8..12 => self.play(20 * (1 + u64::from(data.u8())), 20),
            12..16 => {
                let settings = network(data);
                for net in &mut self.pair.udp {
                    let outages = net.settings.outages.clone();
                    net.settings = Settings { outages, ..settings.clone() };
                }
            }
            16..20 => {
                let blocked = data.u8();
                self.pair.udp_blocked = [blocked & 1 == 1, blocked & 2 == 2];
                locked(&self.middle).blocked = self.pair.udp_blocked;
            }
            20..24 => {
                let now = self.pair.now;
                let until = now + ms(40 * u64::from(data.u8()));
                self.pair.tcp.outages.push((now, until));
            }
            24..28 => self.pair.outage(ms(40 * u64::from(data.u8()))),
            28..32 => {
                let host = data.u8() % 4;
                let _ = self.pair.rebind(role, &format!("198.51.100.{host}:4000"));
            }
            32..40 => {
                let now = self.pair.now;
                self.pair.session(role).rekey(now);
            }
            40..50 => self.open(role),
            50..54 => {
                let nth = usize::from(data.u8());
                if let Some((_, id, _)) = self.streams.get(nth % self.streams.len().max(1)) {
                    let id = *id;
                    self.pair.session(role).remove_stream(id, CloseCode::OK);
                }
            }
            54..70 => self.send(data.u8() % 8),
            70..78 => {
                let victim = data.u8();
                let spoof = (!victim.is_multiple_of(4)).then(|| self::victim(victim));
                locked(&self.middle).spoof[role as usize] = spoof;
            }
            78..86 => {
                let from = self.source(role, data.u8());
                let bytes = data.short();
                self.inject(role, from, bytes);
            }
            86..106 => self.replay(role, data),
            106..110 => {
                locked(&self.middle).touched = true;
                let bytes = data.short();
                self.pair.inject_tcp(role, bytes);
            }
            110..118 => {
                let at = data.u16();
                let fault = match op & 3 {
                    0 => TcpFault::Flip { at, bits: data.u8() | 1 },
                    1 => TcpFault::Drop,
                    2 => TcpFault::Twice,
                    _ => TcpFault::Cut { at },
                };
                locked(&self.middle).tcp = Some(fault);
            }
            118..120 => self.pair.cut_tcp(),
            120..122 => {
                let text = String::from_utf8_lossy(data.short()).into_owned();
                self.pair.session(role).close(CloseCode::OK, &text);
            }
            _ => self.pair.end_mut(role).accepts_streams = data.bool(),
        }
        self.pair.run_for(ms(0));
    }

    fn open(&mut self, role: Role) {
        let name = Name::new("x").expect("a name");
        let uuid = StreamUuid(Hex([1; 16]));
        if let Ok(id) = self.pair.session(role).open_stream(name, uuid, vec![format()], None) {
            assert!(self.streams.iter().all(|(_, other, _)| *other != id), "{id:?} comes again");
            self.streams.push((role, id, 0));
        }
    }

    /// A block of every stream.
    fn send(&mut self, times: u8) {
        for _ in 0..times {
            for (role, id, next) in &mut self.streams {
                let Some(tx) = self.pair.session(*role).media_tx(*id) else { continue };
                if self.pair.send_block(*role, &tx, *next, AudioFlags::NONE).is_ok() {
                    *next += 1;
                }
            }
        }
    }

    /// A block of every stream every `step` ms, for `time` ms.
    fn play(&mut self, time: u64, step: u64) {
        for _ in 0..time / step {
            self.send(1);
            self.pair.run_for(ms(step));
        }
    }

    /// Something that was on the wire, to either end, by UDP, perhaps changed.
    fn replay(&mut self, role: Role, data: &mut Bytes<'_>) {
        let (nth, at, bits) = (data.u8(), data.u8(), data.u8());
        let from = self.source(role, data.u8());
        let packet = {
            let middle = locked(&self.middle);
            let length = middle.memory.len().max(1);
            middle.memory.get(usize::from(nth) % length).cloned()
        };
        let Some(packet) = packet else { return };
        for mut bytes in packet.packets() {
            let length = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(usize::from(at) % length) {
                *byte ^= bits;
            }
            self.inject(role, from, &bytes);
        }
    }

    fn inject(&mut self, role: Role, from: SocketAddr, bytes: &[u8]) {
        locked(&self.middle).count(from, role, bytes.len());
        let before = self.pair.session(role).counters();
        self.pair.inject_udp(role, from, bytes);
        let after = self.pair.session(role).counters();
        let named = |c: velin_core::session::SessionCounters| {
            c.received + c.forged + c.replayed + c.wrong_epoch + c.unknown_stream + c.malformed
        };
        assert!(named(after) - named(before) <= 1, "one packet, one cause");
    }

    /// The peer's place or a victim's.
    fn source(&self, role: Role, choice: u8) -> SocketAddr {
        if choice.is_multiple_of(2) { self.pair.end(other(role)).address } else { victim(choice) }
    }

    /// The network heals; then everything that must hold is looked at.
    fn finish(mut self) {
        {
            let mut middle = locked(&self.middle);
            middle.spoof = [None; 2];
            middle.tcp = None;
        }
        self.pair.udp_blocked = [false; 2];
        for net in &mut self.pair.udp {
            net.settings = Settings { delay: ms(1), ..Settings::default() };
        }
        self.pair.tcp.outages.clear();
        // Long enough for the slowest probe; a block often enough that its absence is noticed.
        self.play(12_000, 100);
        if !locked(&self.middle).touched {
            self.assert_agreed();
        }
        let (now, blocks) =
            (self.pair.now, self.streams.iter().map(|s| u64::from(s.2)).sum::<u64>());
        let middle = locked(&self.middle);
        let most = 500 + 60 * self.actions + 100 * now.as_nanos() / 1_000_000_000;
        assert!(middle.packets <= most + blocks, "{} packets", middle.packets);
        self.assert_nobody_is_flooded(&middle);
        for role in ROLES {
            self.assert_sound(role);
        }
    }

    fn assert_agreed(&mut self) {
        let events = |pair: &Pair| ROLES.map(|role| pair.end(role).events.clone());
        let closed = ROLES.map(|role| self.pair.session(role).is_closed());
        assert_eq!(closed[0], closed[1], "{:?}", events(&self.pair));
        let before: Vec<_> = self.streams.iter().map(|(_, _, next)| *next).collect();
        self.play(200, 20);
        self.pair.run_for(ms(100));
        for ((from, id, sent), before) in self.streams.iter().zip(before) {
            let heard = self.pair.end(other(*from)).blocks(*id);
            let fresh = heard.iter().filter(|block| **block >= before).count();
            assert_eq!(fresh, (sent - before) as usize, "{id:?} {:?}", events(&self.pair));
        }
    }

    fn assert_nobody_is_flooded(&self, middle: &Middle) {
        let mut hit: BTreeMap<(SocketAddr, usize), usize> = BTreeMap::new();
        for wire in &self.pair.astray {
            let Carrier::Udp { to, .. } = wire.carrier else { continue };
            if to.ip() == victim(1).ip() {
                assert_eq!(wire.bytes[..4], [0x5D, wire.bytes[1], 0xFF, 0xFF], "no media");
                *hit.entry((to, other(wire.to) as usize)).or_default() += wire.bytes.len();
            }
        }
        for (place, bytes) in hit {
            let came = middle.from_victims.get(&place).copied().unwrap_or_default();
            assert!(bytes <= 3 * came, "{bytes} bytes to {place:?}, {came} came");
        }
    }

    fn assert_sound(&self, role: Role) {
        let end = self.pair.end(role);
        assert_eq!(end.heard.wrong, 0);
        for id in end.heard.blocks.keys() {
            let known = self.streams.iter().find(|(from, known, _)| known == id && *from != role);
            let (_, _, sent) = known.expect("a stream that nobody offered is heard");
            assert!(end.blocks(*id).iter().all(|block| block < sent), "a block that was not sent");
        }
        for (i, (_, event)) in end.events.iter().enumerate() {
            match event {
                Event::Authenticated { peer, .. } => {
                    assert!(self.trusted[role as usize], "a stranger");
                    assert_eq!(*peer, self.pair.key(other(role)));
                }
                // Only the peer's key makes an end open.
                Event::Open { .. } => {
                    let counters = end.session.counters();
                    assert!(role == Listener || counters.received > 0);
                    let knows = |e: &Event| matches!(e, Event::Authenticated { .. });
                    assert!(end.count(knows) == 1 && self.trusted == [true; 2]);
                }
                Event::Closed(ended) => {
                    assert_eq!(i + 1, end.events.len(), "nothing happens after the end");
                    super::assert_printable(ended);
                }
                _ => {}
            }
        }
    }
}

fn network(data: &mut Bytes<'_>) -> Settings {
    let time = u64::from(data.u8()) / 2;
    Settings {
        delay: ms(time / 4),
        jitter: ms(time / 2),
        loss: 0.5 * data.unit(),
        duplicate: 0.5 * data.unit(),
        reorder: 0.5 * data.unit(),
        corrupt: 0.5 * data.unit(),
        reorder_by: ms(time),
        ..Settings::default()
    }
}

/// Somebody who has nothing to do with it.
fn victim(number: u8) -> SocketAddr {
    ([203, 0, 113, 9], 9000 + u16::from(number % 4)).into()
}

fn locked(middle: &Mutex<Middle>) -> std::sync::MutexGuard<'_, Middle> {
    middle.lock().unwrap_or_else(PoisonError::into_inner)
}
