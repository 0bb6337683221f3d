//! Clocks that go wrong: what each of the three shows at a true time, and the other way round.

use crate::rng::Rng;

/// True time in nanoseconds since the laboratory began.
pub type True = i64;

pub const MS: i64 = 1_000_000;
pub const S: i64 = 1_000_000_000;

/// How a clock's rate errs.
#[derive(Clone, Debug)]
pub enum Law {
    /// So many ppm fast, always.
    Constant(f64),
    /// From 0 up and down between ±`limit` ppm.
    Ramp { ppm_per_s: f64, limit: f64 },
    /// From each time (s) on so many ppm.
    Steps(Vec<(f64, f64)>),
    /// A random walk within ±`limit` ppm whose deviation grows by `step` ppm in a second.
    Wander { step: f64, limit: f64, seed: u64 },
}

/// Within a segment the rate is constant.
const SEGMENT: True = S / 10;

#[derive(Clone, Copy, Debug)]
struct Segment {
    begin: True,
    end: True,
    /// What the clock shows more than the truth at the beginning, ns.
    ahead: f64,
    /// Its rate less one.
    error: f64,
}

impl Segment {
    fn shown_at(&self, time: True) -> f64 {
        time as f64 + self.ahead + self.error * (time - self.begin) as f64
    }
}

/// One clock. Ask it about times that go forward; within a tenth of a second they may go back.
#[derive(Clone, Debug)]
pub struct Clock {
    law: Law,
    /// The clock stands still from the first to the second true time.
    asleep: Vec<(True, True)>,
    segment: Segment,
    walk: f64,
    rng: Rng,
}

impl Clock {
    pub fn new(law: Law) -> Self {
        let seed = if let Law::Wander { seed, .. } = law { seed } else { 0 };
        let segment = Segment { begin: 0, end: 0, ahead: 0.0, error: 0.0 };
        Self { law, asleep: vec![], segment, walk: 0.0, rng: Rng::new(seed) }.first()
    }

    pub fn exact() -> Self {
        Self::new(Law::Constant(0.0))
    }

    pub fn ppm(ppm: f64) -> Self {
        Self::new(Law::Constant(ppm))
    }

    /// Stands still between the true times, in seconds: a machine that is suspended.
    pub fn asleep(mut self, from_s: f64, to_s: f64) -> Self {
        self.asleep.push(((from_s * 1e9) as True, (to_s * 1e9) as True));
        self.segment.end = 0;
        self.first()
    }

    /// What the clock shows at a true time, ns.
    pub fn shown_at(&mut self, time: True) -> i64 {
        while time >= self.segment.end {
            self.advance();
        }
        self.segment.shown_at(time).round() as i64
    }

    /// When the clock shows `shown` ns.
    pub fn true_at(&mut self, shown: i64) -> True {
        while shown as f64 >= self.segment.shown_at(self.segment.end) {
            self.advance();
        }
        let s = &self.segment;
        let from_begin = shown as f64 - s.shown_at(s.begin);
        s.begin + (from_begin / (1.0 + s.error)).round() as i64
    }

    /// Its rate error now, ppm.
    pub fn error_ppm(&self) -> f64 {
        self.segment.error * 1e6
    }

    fn first(mut self) -> Self {
        self.advance();
        self
    }

    fn advance(&mut self) {
        let begin = self.segment.end;
        let end = (begin / SEGMENT + 1) * SEGMENT;
        let ahead = if begin == 0 { 0.0 } else { self.segment.shown_at(begin) - begin as f64 };
        let edge = |t: &True| *t > begin && *t < end;
        let end = self.asleep.iter().flat_map(|(a, b)| [a, b]).filter(|t| edge(t)).min();
        let end = end.copied().unwrap_or((begin / SEGMENT + 1) * SEGMENT);
        let asleep = self.asleep.iter().any(|(a, b)| (*a..*b).contains(&begin));
        let error = if asleep { -1.0 } else { self.ppm_at(begin) * 1e-6 };
        self.segment = Segment { begin, end, ahead, error };
    }

    fn ppm_at(&mut self, time: True) -> f64 {
        let s = (time + SEGMENT / 2) as f64 / 1e9;
        match &self.law {
            Law::Constant(ppm) => *ppm,
            Law::Ramp { ppm_per_s, limit } => {
                let quarter = limit / ppm_per_s;
                let phase = (s / quarter).rem_euclid(4.0);
                limit * if phase < 1.0 { phase } else { (2.0 - phase).max(phase - 4.0) }
            }
            Law::Steps(steps) => {
                steps.iter().rev().find(|(at, _)| s >= *at).map_or(0.0, |(_, ppm)| *ppm)
            }
            Law::Wander { step, limit, .. } => {
                let each = step * (SEGMENT as f64 / 1e9).sqrt();
                // Uniform with the variance asked for; many of them make a normal one.
                let change = (self.rng.unit() * 2.0 - 1.0) * 3f64.sqrt() * each;
                self.walk = (self.walk + change).clamp(-limit, *limit);
                self.walk
            }
        }
    }
}

#[test]
fn a_clock_tells_the_same_both_ways() {
    let laws = [
        Law::Constant(-300.0),
        Law::Ramp { ppm_per_s: 1.0, limit: 300.0 },
        Law::Steps(vec![(3.0, 500.0), (7.0, -500.0)]),
        Law::Wander { step: 10.0, limit: 100.0, seed: 3 },
    ];
    for law in laws {
        let mut clock = Clock::new(law.clone()).asleep(5.0, 6.5);
        let mut back = clock.clone();
        for i in 0..20_000_i64 {
            let time = i * MS + i % 7;
            let shown = clock.shown_at(time);
            if !(5 * S..6_500 * MS).contains(&time) {
                assert!((back.true_at(shown) - time).abs() <= 1, "{law:?} {time}");
            }
        }
        assert!((clock.shown_at(20 * S) - 18_500 * MS).abs() < 7 * MS, "{law:?}");
    }
}

#[test]
fn a_ramp_goes_up_and_down_between_its_limits() {
    let mut clock = Clock::new(Law::Ramp { ppm_per_s: 1.0, limit: 300.0 });
    for (at, ppm) in
        [(150, 150.0), (300, 300.0), (450, 150.0), (600, 0.0), (900, -300.0), (1_200, 0.0)]
    {
        clock.shown_at(at * S);
        assert!((clock.error_ppm() - ppm).abs() < 0.2, "{at}: {}", clock.error_ppm());
    }
}
