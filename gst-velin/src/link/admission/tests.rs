//! A listener in virtual time: connections arrive, one thread does all handshakes one after the
//! other, some never come to an end.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::*;

/// How finely time passes.
const TICK: Duration = Duration::from_micros(500);

/// How late a sweep may come.
const SWEEP: Duration = Duration::from_millis(10);

/// A hostile connection stays open so long.
const HOLD: Duration = Duration::from_secs(5);

/// A known device that is refused or evicted tries again after these.
const BACKOFF: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(700)];

/// One that calls.
#[derive(Clone, Copy, Debug)]
struct Visitor {
    address: IpAddr,
    honest: bool,
    first: MonoTime,
    attempts: usize,
}

/// What became of an honest one.
#[derive(Debug)]
struct Visit {
    address: IpAddr,
    /// From its first attempt to the end of its handshake.
    took: Duration,
    refused: usize,
}

struct Listener {
    now: MonoTime,
    handshake: Duration,
    admission: Admission<usize>,
    visitors: Vec<Visitor>,
    /// Who comes when, the latest first.
    coming: Vec<(MonoTime, usize)>,
    asking: Vec<(MonoTime, usize, Knock)>,
    inside: Vec<(usize, Place, MonoTime)>,
    work: VecDeque<usize>,
    busy_until: Option<MonoTime>,
    visits: Vec<Visit>,
    most_inside: usize,
}

impl Listener {
    fn new(handshake: Duration) -> Self {
        Self {
            now: MonoTime::ZERO,
            handshake,
            admission: Admission::default(),
            visitors: Vec::new(),
            coming: Vec::new(),
            asking: Vec::new(),
            inside: Vec::new(),
            work: VecDeque::new(),
            busy_until: None,
            visits: Vec::new(),
            most_inside: 0,
        }
    }

    fn comes(&mut self, at: Duration, address: IpAddr, honest: bool) {
        let first = MonoTime::ZERO + at;
        self.coming.push((first, self.visitors.len()));
        self.visitors.push(Visitor { address, honest, first, attempts: 0 });
    }

    /// `per_second` connections of `address` that never say anything.
    fn floods(&mut self, address: IpAddr, per_second: u32, from: Duration, until: Duration) {
        let pause = Duration::from_secs(1) / per_second;
        let mut at = from;
        while at < until {
            self.comes(at, address, false);
            at += pause;
        }
    }

    fn run(&mut self, until: Duration) {
        self.coming.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        while self.now < MonoTime::ZERO + until {
            self.now += TICK;
            self.tick();
            self.most_inside = self.most_inside.max(self.admission.at_door());
            assert!(self.asking.len() <= MAX_WAITING);
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        if self.busy_until.is_some_and(|at| at <= now) {
            self.busy_until = None;
            if let Some(who) = self.work.pop_front() {
                self.finish(who);
            }
        }
        let sweeps = now.as_nanos().is_multiple_of(SWEEP.as_nanos() as u64);
        if sweeps && self.admission.next_sweep().is_some_and(|at| at <= now) {
            let evicted: Vec<_> = self.admission.sweep(now).collect();
            evicted.into_iter().for_each(|who| self.evict(who));
        }
        let (over, inside) = self
            .inside
            .drain(..)
            .partition(|(who, _, since)| !self.visitors[*who].honest && now.since(*since) >= HOLD);
        self.inside = inside;
        let over: Vec<(usize, Place, MonoTime)> = over;
        over.into_iter().for_each(|(_, place, _)| self.admission.leave(place));

        let (due, asking) = self.asking.drain(..).partition(|(at, ..)| *at <= now);
        self.asking = asking;
        let due: Vec<(MonoTime, usize, Knock)> = due;
        due.into_iter().for_each(|(_, who, knock)| self.ask(who, knock));
        while self.coming.last().is_some_and(|(at, _)| *at <= now) {
            let Some((_, who)) = self.coming.pop() else { break };
            let knock = self.admission.knock(now, self.visitors[who].address);
            self.ask(who, knock);
        }
        if self.busy_until.is_none() && !self.work.is_empty() {
            self.busy_until = Some(now + self.handshake);
        }
    }

    fn ask(&mut self, who: usize, knock: Knock) {
        match self.admission.admit(self.now, &knock) {
            Decision::Enter(pass) => {
                let (place, evicted) = self.admission.enter(self.now, pass, who);
                self.inside.push((who, place, self.now));
                evicted.into_iter().for_each(|who| self.evict(who));
                if self.visitors[who].honest {
                    self.work.push_back(who);
                }
            }
            Decision::Wait(time) => {
                assert!(time > Duration::ZERO);
                self.asking.push((self.now + time, who, knock));
            }
            Decision::Refuse(_) => self.again(who),
        }
    }

    fn finish(&mut self, who: usize) {
        let at =
            self.inside.iter().position(|(w, ..)| *w == who).expect("evicted ones do not work");
        let (_, place, _) = self.inside.swap_remove(at);
        self.admission.authenticated(self.now, place);
        let Visitor { address, first, attempts, .. } = self.visitors[who];
        self.visits.push(Visit { address, took: self.now.since(first), refused: attempts });
    }

    fn evict(&mut self, who: usize) {
        self.inside.retain(|(w, ..)| *w != who);
        self.work.retain(|w| *w != who);
        self.again(who);
    }

    fn again(&mut self, who: usize) {
        let visitor = &mut self.visitors[who];
        if visitor.honest {
            let pause = BACKOFF[visitor.attempts.min(BACKOFF.len() - 1)];
            visitor.attempts += 1;
            self.coming.push((self.now + pause, who));
            self.coming.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        }
    }

    fn slowest(&self) -> Duration {
        self.visits.iter().map(|v| v.took).max().unwrap_or_default()
    }

    fn refused(&self) -> usize {
        self.visits.iter().map(|v| v.refused).sum()
    }
}

fn v4(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

const HANDSHAKE: Duration = ms(3);

#[test]
fn seven_hostile_connections_a_second_delay_nobody() {
    for honest in [v4(1), v4(2)] {
        let mut listener = Listener::new(HANDSHAKE);
        listener.floods(v4(1), 7, s(0), s(60));
        for n in 0..40 {
            listener.comes(ms(5_003 + 1_337 * n), honest, true);
        }
        listener.run(s(61));
        assert_eq!(listener.visits.len(), 40);
        assert!(listener.visits.iter().all(|v| v.address == honest));
        assert!(listener.slowest() <= ms(50), "{:?}", listener.visits);
        assert_eq!(listener.admission.counters().refused_source, 0);
        // Those of 250 ms, and four older ones.
        assert!(listener.most_inside <= 7, "{}", listener.most_inside);
    }
}

#[test]
fn known_devices_all_come_back_at_once_from_many_sources() {
    let mut listener = Listener::new(HANDSHAKE);
    (0..128).for_each(|n| listener.comes(ms(1), v4(n), true));
    listener.run(s(1));
    assert_eq!((listener.visits.len(), listener.refused()), (128, 0));
    assert_eq!(listener.admission.at_door(), 0);
}

#[test]
fn as_many_devices_as_there_can_be_sessions_come_back_together() {
    let mut listener = Listener::new(ms(1));
    (0..256).for_each(|n| listener.comes(ms(1), v4(n), true));
    listener.run(s(1));
    assert_eq!((listener.visits.len(), listener.refused()), (256, 0));
}

#[test]
fn known_devices_all_come_back_at_once_from_one_source() {
    for source in ["203.0.113.1", "2001:db8::1", "127.0.0.1"] {
        let mut listener = Listener::new(HANDSHAKE);
        (0..128).for_each(|_| listener.comes(ms(1), source.parse().unwrap(), true));
        listener.run(s(1));
        assert_eq!((listener.visits.len(), listener.refused()), (128, 0), "{source}");
    }
}

#[test]
fn known_keys_may_come_two_hundred_times_a_second_from_one_source_or_many() {
    for sources in [1, 200] {
        let mut listener = Listener::new(HANDSHAKE);
        (0..2000).for_each(|n| listener.comes(ms(5 * n), v4(n as u32 % sources), true));
        listener.run(s(11));
        assert_eq!((listener.visits.len(), listener.refused()), (2000, 0));
        assert!(listener.slowest() <= ms(50), "{:?}", listener.slowest());
    }
}

#[test]
fn a_flood_from_one_source_is_cut_to_its_rate_and_nobody_else_feels_it() {
    let mut listener = Listener::new(HANDSHAKE);
    listener.floods(v4(1), 1000, s(0), s(20));
    for n in 0..50 {
        listener.comes(s(2) + ms(313 * n), v4(100 + n as u32), true);
    }
    listener.run(s(21));
    assert_eq!((listener.visits.len(), listener.refused()), (50, 0));
    assert!(listener.slowest() <= ms(50), "{:?}", listener.visits);
    let entered = 20_000 - listener.admission.counters().refused_source;
    // 20 at once, 10 a second, and those that still wait.
    assert!((200..=20 + 200 + 128).contains(&entered), "{entered}");
    assert!(listener.most_inside <= 26, "{}", listener.most_inside);
}

#[test]
fn a_flood_from_many_sources_does_not_delay_a_device_that_was_here_before() {
    let mut listener = Listener::new(HANDSHAKE);
    let (early, late) = (v4(100_000), v4(100_001));
    listener.comes(ms(1), early, true);
    for n in 0..400 {
        listener.floods(v4(n), 4, s(1) + ms(u64::from(n)), s(12));
    }
    for n in 0..10 {
        listener.comes(s(3) + ms(801 * n), early, true);
    }
    listener.comes(s(8), late, true);
    listener.run(s(13));
    assert_eq!(listener.visits.len(), 12);
    for visit in &listener.visits {
        assert_eq!(visit.refused, 0);
        let most = if visit.address == early { ms(50) } else { s(1) };
        assert!(visit.took <= most, "{visit:?}");
    }
    let counters = listener.admission.counters();
    assert!(counters.refused_global > 5_000, "{counters:?}");
    assert!(listener.most_inside <= 256);
}

#[test]
fn no_number_of_sources_delays_a_device_that_was_here_before() {
    let mut listener = Listener::new(HANDSHAKE);
    let friend = v4(100_000);
    listener.comes(ms(1), friend, true);
    // Each is new, so none is suspect: 300 a second.
    (0..2700).for_each(|n| listener.comes(s(1) + ms(10 * n / 3), v4(n as u32), false));
    (0..10).for_each(|n| listener.comes(s(4) + ms(501 * n), friend, true));
    listener.run(s(10));
    assert_eq!((listener.visits.len(), listener.refused()), (11, 0));
    assert!(listener.slowest() <= ms(50), "{:?}", listener.visits);
    assert!(listener.admission.counters().refused_global > 1000);
}

#[test]
fn a_program_on_this_machine_cannot_shut_out_the_network() {
    let mut listener = Listener::new(HANDSHAKE);
    listener.floods("::1".parse().unwrap(), 1000, s(0), s(10));
    for n in 0..20 {
        listener.comes(s(3) + ms(301 * n), v4(n as u32), true);
    }
    listener.run(s(11));
    assert_eq!((listener.visits.len(), listener.refused()), (20, 0));
    assert!(listener.slowest() <= ms(50), "{:?}", listener.slowest());
}

#[test]
fn who_is_not_on_the_list_costs_nothing() {
    let mut admission = Admission::<()>::new("10.0.0.0/8".parse().unwrap());
    for n in 0..100 {
        let stranger = IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + n));
        let knock = admission.knock(MonoTime::ZERO, stranger);
        let decision = admission.admit(MonoTime::ZERO, &knock);
        assert_eq!(decision, Decision::Refuse(Refusal::NotAllowed));
    }
    let mapped = admission.knock(MonoTime::ZERO, "::ffff:10.0.0.1".parse().unwrap());
    assert!(matches!(admission.admit(MonoTime::ZERO, &mapped), Decision::Enter(_)));
    let counters = AdmissionCounters { not_allowed: 100, ..AdmissionCounters::default() };
    assert_eq!(admission.counters(), counters);
    assert_eq!(admission.buckets.sizes(), (1, 0));
}

#[test]
fn who_gives_up_waiting_without_a_word_is_forgotten() {
    let mut admission = Admission::<()>::default();
    let mut told_to_wait = 0;
    for n in 0..200u64 {
        let now = MonoTime::ZERO + Duration::from_micros(n);
        let knock = admission.knock(now, v4(1));
        match admission.admit(now, &knock) {
            Decision::Enter(pass) => {
                admission.enter(now, pass, ());
            }
            Decision::Wait(_) => told_to_wait += 1,
            Decision::Refuse(reason) => assert_eq!(reason, Refusal::Source),
        }
    }
    assert_eq!(told_to_wait, MAX_WAITING - WAITING_RESERVE);
    let later = MonoTime::ZERO + s(2);
    let knock = admission.knock(later, v4(2));
    admission.admit(later, &knock);
    assert!(admission.waiting.is_empty());
}
