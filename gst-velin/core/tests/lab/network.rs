//! What becomes of a packet on its way: seeded, so that every run sees the same network.

use crate::clocks::{MS, S, True};
use crate::rng::Rng;

/// A part of a packet's delay.
#[derive(Clone, Debug)]
pub enum Delay {
    /// Between nothing and this, ns.
    Uniform(i64),
    /// Exponential with this mean, ns.
    Exponential(f64),
    /// For this share of packets, exponential with this mean, ns.
    Spikes { share: f64, mean: f64 },
    /// Each block's own, ns, again and again: a recorded network.
    Recorded(Vec<i64>),
}

/// When the path stands still: what is sent in the meantime comes in one burst at the end.
#[derive(Clone, Debug)]
pub struct Stalls {
    /// Mean time between two, ns …
    pub every: i64,
    /// … which is exponential or always the same.
    pub random: bool,
    /// Shortest and longest, uniform between, ns.
    pub length: (i64, i64),
}

impl Stalls {
    fn next(&self, span: &mut Span, time: True) -> (True, True) {
        let Self { every, random, length: (least, most) } = *self;
        span.at(time, |rng| {
            let gap = if random { (rng.exponential() * every as f64) as i64 } else { every };
            (gap, least + rng.below((most - least).max(1) as u64) as i64)
        })
    }
}

/// Why packets are lost.
#[derive(Clone, Debug)]
pub enum Loss {
    /// Each with this probability.
    Random(f64),
    /// Gilbert–Elliott: everything in the bad state, nothing in the good one. `share` of all, in
    /// bursts of `burst` packets on average.
    Bursts { share: f64, burst: f64 },
    /// Nothing passes for exponential times of the given means, ns, both.
    Outages { every: f64, length: f64 },
    /// Nothing passes between these true times, ns.
    Between(True, True),
}

/// One direction of a path.
#[derive(Clone, Debug)]
pub struct Way {
    /// What every packet takes, ns.
    pub base: i64,
    pub delays: Vec<Delay>,
    pub stalls: Option<Stalls>,
    pub losses: Vec<Loss>,
    /// Share of packets that come twice, up to 5 ms apart.
    pub duplicates: f64,
    /// Share of packets that are overtaken, by up to 5 ms.
    pub reordered: f64,
    /// Packets keep their order, as on one cable.
    pub in_order: bool,
    rng: Rng,
    sent: usize,
    bad: bool,
    last: True,
    /// Present or last outage and stall, and where the next begins.
    outage: Span,
    stall: Span,
}

#[derive(Clone, Debug)]
struct Span {
    begin: True,
    end: True,
    rng: Rng,
}

impl Span {
    fn new(rng: Rng) -> Self {
        Self { begin: 0, end: 0, rng }
    }

    /// The first span that ends after `time`.
    fn at(&mut self, time: True, next: impl Fn(&mut Rng) -> (i64, i64)) -> (True, True) {
        while self.end <= time {
            let (gap, length) = next(&mut self.rng);
            self.begin = self.end + gap.max(1);
            self.end = self.begin + length.max(1);
        }
        (self.begin, self.end)
    }
}

impl Way {
    /// A cable: 0.1 ms and little more.
    pub fn wired(seed: u64) -> Self {
        let rng = Rng::new(seed);
        Self {
            base: MS / 10,
            delays: vec![],
            stalls: None,
            losses: vec![],
            duplicates: 0.0,
            reordered: 0.0,
            in_order: false,
            outage: Span::new(rng.fork(1)),
            stall: Span::new(rng.fork(2)),
            rng,
            sent: 0,
            bad: false,
            last: 0,
        }
    }

    pub fn delay(mut self, delay: Delay) -> Self {
        self.delays.push(delay);
        self
    }

    pub fn loss(mut self, loss: Loss) -> Self {
        self.losses.push(loss);
        self
    }

    pub fn stalls(mut self, stalls: Stalls) -> Self {
        self.stalls = Some(stalls);
        self
    }

    /// The way back over the same path: outages and stalls are the same ones, chance is not.
    pub fn back(&self) -> Self {
        Self { rng: self.rng.fork(3), ..self.clone() }
    }

    /// What a packet takes on average, stalls aside, ns.
    pub fn mean(&self) -> i64 {
        let mean = |delay: &Delay| match delay {
            Delay::Uniform(most) => most / 2,
            Delay::Exponential(mean) => *mean as i64,
            Delay::Spikes { share, mean } => (share * mean) as i64,
            Delay::Recorded(delays) => delays.iter().sum::<i64>() / delays.len() as i64,
        };
        self.base + self.delays.iter().map(mean).sum::<i64>()
    }

    /// When the path stands still, up to `until`.
    pub fn stalled(&self, until: True) -> Vec<(True, True)> {
        let mut way = self.clone();
        let mut spans = vec![];
        while let Some(stalls) = way.stalls.clone() {
            let after = spans.last().map_or(0, |(_, end)| *end);
            let span = stalls.next(&mut way.stall, after);
            if span.0 >= until {
                break;
            }
            spans.push(span);
        }
        spans
    }

    /// When a packet sent at `time` arrives, none to two times.
    pub fn send(&mut self, time: True) -> [Option<True>; 2] {
        self.sent += 1;
        if self.loses(time) {
            return [None; 2];
        }
        let first = self.arrival(time);
        let twice = self.rng.chance(self.duplicates);
        let second = twice.then(|| first + self.rng.below(5 * MS as u64) as i64);
        [Some(first), second]
    }

    fn loses(&mut self, time: True) -> bool {
        let mut lost = false;
        for i in 0..self.losses.len() {
            lost |= match self.losses[i] {
                Loss::Random(p) => self.rng.chance(p),
                Loss::Bursts { share, burst } => {
                    let leave = 1.0 / burst;
                    let enter = leave * share / (1.0 - share);
                    let change = self.rng.chance(if self.bad { leave } else { enter });
                    self.bad ^= change;
                    self.bad
                }
                Loss::Outages { every, length } => {
                    let (begin, _) = self.outage.at(time, |rng| {
                        ((rng.exponential() * every) as i64, (rng.exponential() * length) as i64)
                    });
                    time >= begin
                }
                Loss::Between(from, to) => (from..to).contains(&time),
            };
        }
        lost
    }

    fn arrival(&mut self, time: True) -> True {
        let mut at = time + self.base;
        for i in 0..self.delays.len() {
            at += match &self.delays[i] {
                Delay::Uniform(most) => self.rng.below(*most as u64) as i64,
                Delay::Exponential(mean) => (self.rng.exponential() * mean) as i64,
                Delay::Spikes { share, mean } => {
                    let spike = self.rng.chance(*share);
                    if spike { (self.rng.exponential() * mean) as i64 } else { 0 }
                }
                Delay::Recorded(delays) => delays[self.sent % delays.len()],
            };
        }
        if let Some(stalls) = &self.stalls {
            let (begin, end) = stalls.next(&mut self.stall, time);
            if time >= begin {
                // The queue is let go at line rate.
                at = at.max(end + self.base + (time - begin) / 500);
            }
        }
        if self.rng.chance(self.reordered) {
            at += self.rng.below(5 * MS as u64) as i64;
        }
        if self.in_order {
            at = at.max(self.last);
        }
        self.last = self.last.max(at);
        at
    }
}

#[test]
fn losses_have_the_share_and_the_bursts_they_are_asked_for() {
    let cases = [
        (Loss::Random(0.1), 0.1, 1.11),
        (Loss::Bursts { share: 0.05, burst: 3.0 }, 0.05, 3.0),
        (Loss::Outages { every: 980e6, length: 20e6 }, 0.02, 20.0),
    ];
    for (loss, share, burst) in cases {
        let mut way = Way::wired(1).loss(loss.clone());
        let lost: Vec<bool> = (0..2_000_000).map(|i| way.send(i * MS)[0].is_none()).collect();
        let all = lost.iter().filter(|lost| **lost).count() as f64;
        let bursts = lost.windows(2).filter(|w| !w[0] && w[1]).count() as f64;
        assert!((all / 2e6 / share - 1.0).abs() < 0.06, "{loss:?}: {}", all / 2e6);
        assert!((all / bursts / burst - 1.0).abs() < 0.1, "{loss:?}: {}", all / bursts);
    }
}

#[test]
fn a_stall_lets_all_go_at_its_end() {
    let stalls = Stalls { every: 30 * S, random: false, length: (100 * MS, 500 * MS) };
    let mut way = Way::wired(5).stalls(stalls);
    let late = |at: &(i64, i64)| at.1 - at.0 > MS;
    let arrivals = (0..60_000).map(|i| (i * MS, way.send(i * MS)[0].unwrap()));
    let held: Vec<(i64, i64)> = arrivals.filter(late).collect();
    let (first, last) = (held[0].1, held[held.len() - 1]);
    assert!((98..500).contains(&held.len()), "{}", held.len());
    assert!(first > 30_099 * MS && last.1 - first < 3 * MS, "{first} {last:?}");
}
