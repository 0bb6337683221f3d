//! How much playout delay repair needs.

use super::MS;

/// Below this share of lost blocks one try is enough.
const LITTLE_LOSS: f64 = 0.001;
/// Above this share requests and answers go twice.
pub(super) const MUCH_LOSS: f64 = 0.02;
/// This share of blocks may stay missing.
const RESIDUE: f64 = 1e-5;
/// Tries, at most.
pub(super) const MOST_TRIES: u32 = 4;
/// Losses come in bursts where more than this are lost in a row, on average.
pub(super) const BURSTY: f64 = 1.6;
/// What a burst adds, in multiples of its mean length beyond that of random loss …
const BURSTS: f64 = 1.5;
/// … and at most.
const MOST_BURST: i64 = 60 * MS;

/// What the need depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Share of blocks lost in their first packet.
    pub(super) loss: f64,
    /// Share of blocks with which a run of lost ones began.
    pub(super) events: f64,
    /// Blocks lost in a row.
    pub(super) run: f64,
    pub(super) block_ns: i64,
    /// From a block's time to the request for it.
    pub(super) detect_ns: i64,
    pub(super) rtt_ns: i64,
    pub(super) retry_ns: i64,
}

impl Path {
    /// How often a block may have to be asked for: enough that one in a hundred thousand stays
    /// missing.
    pub(super) fn tries(&self) -> u32 {
        // What is lost together is a matter of the burst, not of tries.
        let random = if self.run > BURSTY { self.events } else { self.loss };
        if random < LITTLE_LOSS {
            return 1;
        }
        let arrives = if self.loss > MUCH_LOSS { 1.0 - self.loss.powi(2) } else { 1.0 - self.loss };
        // There and back.
        let fails = 1.0 - arrives * arrives;
        let missing = |tries: u32| random * fails.powi(tries as i32);
        (1..MOST_TRIES).find(|k| missing(*k) <= RESIDUE).unwrap_or(MOST_TRIES)
    }

    /// Delay beyond a block that so many tries need.
    pub(super) fn delay_ns(&self, tries: u32) -> i64 {
        let retries = i64::from(tries.saturating_sub(1)) * self.retry_ns;
        self.detect_ns + self.rtt_ns * 5 / 4 + retries + self.burst_ns()
    }

    /// Loss that comes in runs takes the requests and the answers with it until it is over.
    fn burst_ns(&self) -> i64 {
        let random = 1.0 / (1.0 - self.loss).max(0.1);
        let excess = (self.run - random - 0.5).max(0.0) * BURSTS;
        ((excess * self.block_ns as f64) as i64).min(MOST_BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(loss: f64) -> Path {
        let (rtt_ns, retry_ns) = (3 * MS, 4 * MS);
        let (block_ns, detect_ns) = (MS * 5 / 2, MS * 3 / 2);
        Path { loss, events: loss, run: 1.0, block_ns, detect_ns, rtt_ns, retry_ns }
    }

    #[test]
    fn tries_follow_the_loss() {
        let tries: Vec<_> =
            [0.0, 0.0005, 0.001, 0.005, 0.019, 0.05, 0.1, 0.2, 0.5].map(|p| path(p).tries()).into();
        assert_eq!(tries, [1, 1, 1, 2, 3, 2, 3, 4, 4]);
    }

    #[test]
    fn the_delay_is_that_of_the_documentation() {
        assert_eq!(path(0.0).delay_ns(1), 1_500_000 + 3_750_000);
        assert_eq!(path(0.0).delay_ns(3), 1_500_000 + 3_750_000 + 8_000_000);
        let bursty = Path { run: 4.5, ..path(0.05) };
        assert!(bursty.delay_ns(1) > path(0.05).delay_ns(1) + 10 * MS);
        let random = Path { run: 1.25, ..path(0.2) };
        assert_eq!(random.delay_ns(1), path(0.2).delay_ns(1));
    }
}
