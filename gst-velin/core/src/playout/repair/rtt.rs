//! How long an answer takes.

use super::MS;

/// Before anything is measured.
const ASSUMED_NS: f64 = 5.0 * MS as f64;
/// Older than this, our own samples give way to the session's.
const OWN_NS: i64 = 10_000 * MS;
/// A sample more than this beyond three times the mean is odd, …
const ODD_NS: f64 = 20.0 * MS as f64;
/// … unless so many follow each other.
const ODDS: u32 = 4;
/// After so many samples the average is a slow one.
const SLOW: u32 = 32;

/// Round-trip time: mean and mean deviation as in RFC 6298, with a slower average, because the
/// playout delay follows it.
#[derive(Debug)]
pub(super) struct Rtt {
    mean: f64,
    deviation: f64,
    samples: u32,
    /// Samples in a row that were far too long.
    odd: u32,
    own: Option<i64>,
    /// What the session said last.
    told: i64,
}

impl Rtt {
    pub(super) fn new() -> Self {
        Self { mean: ASSUMED_NS, deviation: 0.0, samples: 0, odd: 0, own: None, told: 0 }
    }

    /// The session's PINGs say so.
    pub(super) fn tell(&mut self, now: i64, rtt: i64) {
        if rtt == self.told || self.own.is_some_and(|at| now - at < OWN_NS) {
            return;
        }
        self.told = rtt;
        self.take(rtt);
    }

    /// A block came that had been asked for once, so long ago.
    pub(super) fn sample(&mut self, now: i64, rtt: i64) {
        self.own = Some(now);
        self.take(rtt);
    }

    fn take(&mut self, rtt: i64) {
        let sample = rtt.clamp(0, 1_000 * MS) as f64;
        // A stall in the middle of a round trip is no round-trip time.
        let odd = self.samples > 0 && sample > 3.0 * self.mean + ODD_NS;
        self.odd = if odd { self.odd + 1 } else { 0 };
        if odd && self.odd < ODDS {
            return;
        }
        self.samples = (self.samples + 1).min(SLOW);
        if self.samples == 1 {
            self.mean = sample;
            self.deviation = sample / 4.0;
            return;
        }
        let gain = 1.0 / f64::from(self.samples);
        self.deviation += ((sample - self.mean).abs() - self.deviation) * gain;
        self.mean += (sample - self.mean) * gain;
    }

    /// The mean, once something was measured.
    pub(super) fn mean(&self) -> Option<i64> {
        (self.samples > 0).then_some(self.mean as i64)
    }

    /// About as long as 95 of 100 answers take.
    pub(super) fn p95(&self) -> i64 {
        (self.mean + 2.0 * self.deviation) as i64
    }

    /// From one question to the next about the same block.
    pub(super) fn retry(&self) -> i64 {
        self.p95() + MS.max(self.mean as i64 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_covers_most_answers_and_follows() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.p95(), 5 * MS);
        let path = |i: i64| (i * 7_919 % 4_000) * 1_000;
        (0..2_000).for_each(|i| rtt.sample(i, path(i)));
        let p95 = rtt.p95();
        let above = (0..2_000).filter(|i| path(*i) > p95).count();
        assert!(above < 150, "{above} of 2000 above {p95}");
        (0..200).for_each(|i| rtt.sample(i, 40 * MS));
        assert!((38 * MS..60 * MS).contains(&rtt.p95()), "{rtt:?}");
    }

    #[test]
    fn own_samples_are_better_than_the_sessions() {
        let mut rtt = Rtt::new();
        rtt.tell(0, 20 * MS);
        assert!(rtt.p95() >= 20 * MS);
        (0..100).for_each(|i| rtt.sample(i * MS, MS));
        let own = rtt.p95();
        rtt.tell(100 * MS, 21 * MS);
        assert_eq!(rtt.p95(), own);
        rtt.tell(20_000 * MS, 21 * MS);
        assert!(rtt.p95() > own);
    }
}
