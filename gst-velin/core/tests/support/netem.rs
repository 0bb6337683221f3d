//! One direction of a seeded, lossy network, without I/O: packets in, packets out later or never.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use velin_core::time::MonoTime;

use super::rng::Rng;

/// What the network does to packets. The default is perfect and instant.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Every packet takes at least this long.
    pub delay: Duration,
    /// And up to this much longer, evenly distributed. Order is kept, as in a queue.
    pub jitter: Duration,
    /// Probability that a packet is lost, each for itself.
    pub loss: f64,
    /// Losses in bursts.
    pub bursts: Option<GilbertElliott>,
    /// Times when nothing passes.
    pub outages: Outages,
    /// Probability that a packet comes twice.
    pub duplicate: f64,
    /// Probability that a packet is overtaken by later ones.
    pub reorder: f64,
    /// By how much an overtaken packet is later, at most.
    pub reorder_by: Duration,
    /// A slow link with a bounded queue.
    pub rate: Option<Rate>,
    /// Probability that one bit flips.
    pub corrupt: f64,
    /// Longer packets are lost.
    pub mtu: Option<usize>,
}

/// Two states; everything is lost in the bad one.
#[derive(Clone, Copy, Debug)]
pub struct GilbertElliott {
    /// Probability per packet of going from good to bad.
    pub p: f64,
    /// Probability per packet of going from bad to good: bursts are 1/r long on average.
    pub r: f64,
}

/// When nothing passes.
#[derive(Clone, Debug, Default)]
pub enum Outages {
    /// Never.
    #[default]
    None,
    /// Good and bad times, exponentially distributed around these means.
    Random {
        /// Mean time between outages.
        good: Duration,
        /// Mean length of an outage.
        bad: Duration,
    },
    /// Exactly then: from, up to.
    Windows(Vec<(MonoTime, MonoTime)>),
}

/// A slow link.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Bits per second.
    pub bits: u64,
    /// Bytes that may wait; what comes on top is lost.
    pub queue: usize,
}

/// A UDP packet under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub from: SocketAddr,
    /// Destination address.
    pub to: SocketAddr,
    /// Payload.
    pub bytes: Vec<u8>,
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets put in.
    pub sent: u64,
    /// Packets that will never come out.
    pub lost: u64,
    /// Additional copies.
    pub duplicated: u64,
    /// Packets held back behind later ones.
    pub reordered: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
}

/// One direction.
#[derive(Debug)]
pub struct Netem {
    /// May be changed at any time.
    pub settings: Settings,
    rng: Rng,
    in_burst: bool,
    /// Random outages: whether one is on, and until when that lasts.
    outage: (bool, MonoTime),
    /// When the slow link has sent everything it holds.
    link_free: MonoTime,
    last_due: MonoTime,
    queue: BTreeMap<(MonoTime, u64), Packet>,
    serial: u64,
    tally: Tally,
}

impl Netem {
    /// The same seed, settings and packets give the same result.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: Rng::new(seed),
            in_burst: false,
            outage: (true, MonoTime::ZERO),
            link_free: MonoTime::ZERO,
            last_due: MonoTime::ZERO,
            queue: BTreeMap::new(),
            serial: 0,
            tally: Tally::default(),
        }
    }

    /// A packet enters.
    pub fn send(&mut self, now: MonoTime, mut packet: Packet) {
        self.tally.sent += 1;
        if self.loses(now, packet.bytes.len()) {
            self.tally.lost += 1;
            return;
        }
        let Some(entered) = self.pass_link(now, packet.bytes.len()) else {
            self.tally.lost += 1;
            return;
        };
        if self.rng.chance(self.settings.corrupt) && !packet.bytes.is_empty() {
            let bit = self.rng.below(8 * packet.bytes.len() as u64);
            packet.bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            self.tally.corrupted += 1;
        }
        let jitter = self.settings.jitter.mul_f64(self.rng.unit());
        let mut due = (entered + self.settings.delay + jitter).max(self.last_due);
        if self.rng.chance(self.settings.reorder) {
            self.tally.reordered += 1;
            due += self.settings.reorder_by.mul_f64(self.rng.unit());
        } else {
            self.last_due = due;
        }
        if self.rng.chance(self.settings.duplicate) {
            self.tally.duplicated += 1;
            self.enqueue(due, packet.clone());
        }
        self.enqueue(due, packet);
    }

    /// The next packet that is due at `now`.
    pub fn poll(&mut self, now: MonoTime) -> Option<Packet> {
        let first = self.queue.first_entry().filter(|e| e.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the next packet is due.
    pub fn timeout(&self) -> Option<MonoTime> {
        self.queue.keys().next().map(|(due, _)| *due)
    }

    /// What became of the packets so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn enqueue(&mut self, due: MonoTime, packet: Packet) {
        self.queue.insert((due, self.serial), packet);
        self.serial += 1;
    }

    fn loses(&mut self, now: MonoTime, length: usize) -> bool {
        let burst = self.settings.bursts.is_some_and(|g| {
            let turn = if self.in_burst { g.r } else { g.p };
            self.in_burst ^= self.rng.chance(turn);
            self.in_burst
        });
        let too_long = self.settings.mtu.is_some_and(|mtu| length > mtu);
        // Every draw happens for every packet, so that settings do not shift each other.
        let random = self.rng.chance(self.settings.loss);
        burst | too_long | random | self.is_out(now)
    }

    fn is_out(&mut self, now: MonoTime) -> bool {
        match &self.settings.outages {
            Outages::None => false,
            Outages::Windows(windows) => windows.iter().any(|(from, to)| *from <= now && now < *to),
            Outages::Random { good, bad } => {
                while self.outage.1 <= now {
                    let on = !self.outage.0;
                    let mean = if on { *bad } else { *good };
                    let length = mean.mul_f64(self.rng.exponential());
                    self.outage = (on, self.outage.1 + length.max(Duration::from_nanos(1)));
                }
                self.outage.0
            }
        }
    }

    /// When a packet has left the slow link; `None` if its queue is full.
    fn pass_link(&mut self, now: MonoTime, length: usize) -> Option<MonoTime> {
        let Some(rate) = self.settings.rate else { return Some(now) };
        let time = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / rate.bits as f64);
        if self.link_free.since(now) > time(rate.queue) {
            return None;
        }
        self.link_free = self.link_free.max(now) + time(length);
        Some(self.link_free)
    }
}
