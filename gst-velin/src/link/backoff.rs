//! When to try again: soon at first, later less often, never in step with others.

use std::time::Duration;

use super::entropy::random_u64;

/// Attempts come quickly for this long after an outage began.
const QUICK: Duration = Duration::from_secs(60);

/// A connection that held this long ends the outage.
const SETTLED: Duration = Duration::from_secs(30);

const STEPS_MS: [u64; 2] = [200, 400];
const PLATEAU_MS: u64 = 700;
const MAX_MS: u64 = 8_000;

/// The delays of one outage.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempt: u32,
    spent: Duration,
    current_ms: u64,
}

impl Backoff {
    /// The wait before the next attempt: 0.2 s, 0.4 s, then 0.7 s for the first minute, then
    /// doubling to 8 s, each ± 20 %.
    pub(crate) fn next(&mut self) -> Duration {
        self.next_with(random_u64())
    }

    /// A connection ended after `up`.
    pub(crate) fn was_up(&mut self, up: Duration) {
        if up >= SETTLED {
            *self = Self::default();
        }
    }

    fn next_with(&mut self, random: u64) -> Duration {
        let base = match STEPS_MS.get(self.attempt as usize) {
            Some(ms) => *ms,
            None if self.spent < QUICK => PLATEAU_MS,
            None => (self.current_ms * 2).min(MAX_MS),
        };
        self.attempt = self.attempt.saturating_add(1);
        self.current_ms = base;
        let jittered = base * (800 + random % 401) / 1000;
        let wait = Duration::from_millis(jittered);
        self.spent += wait;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_follow_the_documented_steps() {
        let mut b = Backoff::default();
        let mid = 200;
        assert_eq!(b.next_with(mid), Duration::from_millis(200));
        assert_eq!(b.next_with(mid), Duration::from_millis(400));
        let mut spent = Duration::from_millis(600);
        while spent < QUICK {
            let d = b.next_with(mid);
            assert_eq!(d, Duration::from_millis(700));
            spent += d;
        }
        let later: Vec<_> = (0..5).map(|_| b.next_with(mid).as_millis()).collect();
        assert_eq!(later, [1400, 2800, 5600, 8000, 8000]);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for random in [0, 400, u64::MAX] {
            let d = Backoff::default().next_with(random);
            assert!((160..=240).contains(&d.as_millis()), "{d:?}");
        }
    }

    #[test]
    fn only_a_connection_that_held_resets_the_delays() {
        let mut b = Backoff::default();
        b.next_with(200);
        b.was_up(Duration::from_secs(29));
        assert_eq!(b.next_with(200), Duration::from_millis(400));
        b.was_up(Duration::from_secs(30));
        assert_eq!(b.next_with(200), Duration::from_millis(200));
    }
}
