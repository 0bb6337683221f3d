//! How late blocks come: the histogram of relative one-way delay.
//!
//! The idea is NetEQ's, with finer grain: `rel = (arrival − media time) − the fastest way`, in
//! buckets of 0.5 ms with exponential forgetting; see `docs/protocol.md`, section 4.3. The fastest
//! way is a [`Line`], so that a drifting clock does not look like jitter.

use super::Profile;
use super::block::PathClock;
use super::line::Line;

const MS: i64 = 1_000_000;
const BUCKET_NS: i64 = MS / 2;
const BUCKETS: usize = 600;
const RECOMPUTE_NS: i64 = 50 * MS;
const SETTLED_NS: i64 = 1_000 * MS;
/// No arrival for so long is a stall of the path, not jitter.
const STALL_NS: i64 = 50 * MS;
/// No arrival for so long is more than an outage of the path: a pause, a sleep, or a stall that no
/// delay would bridge.
const AWAY_NS: i64 = 100 * MS;
/// A stall whose blocks stay late for so long has become the path's new delay.
const STALL_BURST_NS: i64 = 100 * MS;
/// Stalls that follow each other faster than this are a capture that delivers in long chunks: each
/// counts once, with its first block. Others are left out altogether.
const RHYTHM_NS: i64 = 500 * MS;
/// No arrival for so long, or for what blocks are late anyhow, and then a burst is a hiccup of the
/// path or of a machine …
const HICCUP_NS: i64 = 10 * MS;
/// … which is left out, too, unless there was one within this time before: of 30 ms it would hold
/// more late blocks than a profile lets pass in a minute, and a delay that was raised by it would
/// need another minute to come down.
const RECENT_NS: i64 = 20_000 * MS;
/// A discontinuity that moves the media clock by more than this is a jump.
const JUMP_NS: i64 = 40 * MS;

/// So much of what is uncertain about the fastest way is jitter, too, at most.
const MOST_UNCERTAIN_NS: i64 = MS;
/// A repaired block that took longer says nothing about a delay that anybody would choose.
const LONGEST_REPAIR_NS: i64 = 100 * MS;

/// What a profile asks of the histogram.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// Share of blocks that may come later than the target.
    tail: f64,
    /// After so long a block weighs half as much, ns.
    half_life_ns: f64,
}

impl Wish {
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::Low => Self { tail: 0.01, half_life_ns: 10e9 },
            Profile::Voice => Self { tail: 0.005, half_life_ns: 10e9 },
            Profile::Music => Self { tail: 0.000_5, half_life_ns: 30e9 },
        }
    }
}

/// Arrival statistics of one stream.
#[derive(Debug)]
pub(super) struct Arrivals {
    wish: Wish,
    line: Line,
    weights: Box<[f64; BUCKETS]>,
    total: f64,
    /// Weight of the next arrival; growing it is the forgetting.
    weight: f64,
    first: Option<i64>,
    last: i64,
    /// When the burst after a stall began.
    stall: Option<i64>,
    last_stall: i64,
    /// When the burst after a hiccup began that is left out.
    hiccup: Option<i64>,
    last_hiccup: i64,
    /// From when to when nothing came last, for longer than jitter.
    still: (i64, i64),
    /// The last stall followed another so soon that it is the capture's rhythm.
    rhythm: bool,
    recomputed: i64,
    path: PathClock,
    block_ns: i64,
}

impl Arrivals {
    pub(super) fn new(block_ns: i64, profile: Profile) -> Self {
        Self {
            wish: Wish::of(profile),
            line: Line::default(),
            weights: Box::new([0.0; BUCKETS]),
            total: 0.0,
            weight: 1.0,
            first: None,
            last: 0,
            stall: None,
            last_stall: i64::MIN / 2,
            hiccup: None,
            last_hiccup: i64::MIN / 2,
            still: (i64::MIN, i64::MIN),
            rhythm: false,
            recomputed: 0,
            path: PathClock::default(),
            block_ns,
        }
    }

    /// What is known now.
    pub(super) fn path(&self) -> PathClock {
        self.path
    }

    /// Whether a block that was expected at `expected` would have come while nothing did.
    fn is_held(&self, expected: i64) -> bool {
        self.still.0 < expected && expected < self.still.1
    }

    /// Whether the path works off what it held back.
    pub(super) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Whether nothing has been recorded yet.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether a block behind a discontinuity lies on another media clock than those before.
    pub(super) fn is_jump(&self, arrival: i64, media: i64) -> bool {
        self.first.is_some() && (arrival - media - self.path.base.value_at(arrival)).abs() > JUMP_NS
    }

    /// Forgets where the media clock stood, but not how much the path jitters.
    pub(super) fn restart_clock(&mut self) {
        self.line.restart_value();
        self.stall = None;
    }

    /// Records a block that arrived at `arrival` and whose first frame has media time `media`, ns.
    pub(super) fn record(&mut self, arrival: i64, media: i64) {
        let first = *self.first.get_or_insert(arrival);
        // Two carriers may deliver a little out of order.
        let now = if first == arrival { arrival } else { arrival.max(self.last) };
        let gap = if first == arrival { 0 } else { now - self.last };
        if gap > STALL_NS {
            self.still = (self.last, now);
            self.stall = Some(now);
            self.rhythm = now - self.last_stall < RHYTHM_NS;
            self.last_stall = now;
        }
        self.last = now;
        let transit = arrival.saturating_sub(media);
        if first != arrival && transit - self.path.base.value_at(now) < -AWAY_NS {
            // The host has slept, and its clock with it: all that came before this is past.
            self.still = (i64::MIN / 2, now);
        }
        self.line.record(now, transit);
        self.path.base = self.line.view();
        self.path.settled = now - first >= SETTLED_NS;

        let rel = transit.saturating_sub(self.path.base.value_at(now));
        if let Some(begin) = self.stall {
            let first_of_burst = begin == now;
            if rel <= self.path.jitter_ns + self.block_ns {
                self.stall = None;
            } else if now - begin > STALL_BURST_NS {
                self.restart_clock();
                self.line.record(now, transit);
                self.path.base = self.line.view();
                return;
            } else if !(first_of_burst && self.rhythm) {
                return;
            }
        } else if !self.rhythm && self.is_held(arrival - rel) {
            // The burst does not keep the order.
            return;
        } else if self.is_lone_hiccup(now, gap, rel) {
            return;
        }
        self.count(rel);
        if rel > self.path.jitter_ns || now - self.recomputed >= RECOMPUTE_NS {
            self.recompute(now);
        }
    }

    /// Whether a block that comes `rel` late, and `gap` after the one before it, belongs to a hiccup
    /// that is left out.
    fn is_lone_hiccup(&mut self, now: i64, gap: i64, rel: i64) -> bool {
        let usual = self.path.jitter_ns + self.block_ns;
        if rel <= usual {
            self.hiccup = None;
            return false;
        }
        if gap > HICCUP_NS.max(usual + self.block_ns) {
            let is_lone = now - self.last_hiccup > RECENT_NS;
            self.hiccup = is_lone.then_some(now);
            self.last_hiccup = now;
        }
        self.hiccup.is_some_and(|begin| now - begin <= STALL_BURST_NS)
    }

    /// Records a block that was lost and came again. When it comes says nothing about the path's
    /// clock, but how long a playout delay must be to have use for it; unless the sender was away:
    /// no delay bridges that.
    pub(super) fn record_repair(&mut self, arrival: i64, media: i64) {
        let rel = arrival.saturating_sub(media).saturating_sub(self.path.base.value_at(arrival));
        let expected = arrival.saturating_sub(rel);
        let away = arrival.saturating_sub(self.last) > AWAY_NS
            || (self.still.1.saturating_sub(self.still.0) > AWAY_NS && self.is_held(expected));
        if self.first.is_some() && rel <= LONGEST_REPAIR_NS && !away {
            self.count(rel);
        }
    }

    fn count(&mut self, rel: i64) {
        let bucket = usize::try_from(rel / BUCKET_NS).unwrap_or(0).min(BUCKETS - 1);
        self.weights[bucket] += self.weight;
        self.total += self.weight;
    }

    fn recompute(&mut self, now: i64) {
        let passed = (now - self.recomputed).clamp(0, 10_000 * MS);
        self.recomputed = now;
        self.weight *= (passed as f64 / self.wish.half_life_ns).exp2();
        if self.weight > 1e12 {
            let scale = 1.0 / self.weight;
            self.weights.iter_mut().for_each(|w| *w *= scale);
            self.total *= scale;
            self.weight = 1.0;
        }
        let mut above = 0.0;
        for (i, w) in self.weights.iter().enumerate().rev() {
            above += w;
            if above > self.wish.tail * self.total {
                let uncertain = self.line.scatter_ns().min(MOST_UNCERTAIN_NS);
                self.path.jitter_ns = (i as i64 + 1) * BUCKET_NS + uncertain;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: i64 = 2_500_000;

    #[test]
    fn a_clean_path_asks_for_one_bucket() {
        let mut arrivals = Arrivals::new(BLOCK, Profile::Music);
        for i in 0..2_000 {
            arrivals.record(7 * MS + i * BLOCK, i * BLOCK);
        }
        let path = arrivals.path();
        assert_eq!((path.base.value_at(5_000 * MS), path.jitter_ns), (7 * MS, BUCKET_NS));
        assert!(path.settled);
    }

    #[test]
    fn a_drifting_clock_is_not_jitter() {
        for drift in [-300, 300] {
            let mut arrivals = Arrivals::new(BLOCK, Profile::Music);
            for i in 0..20_000 {
                arrivals.record(7 * MS + i * (BLOCK + BLOCK * drift / 1_000_000), i * BLOCK);
            }
            assert_eq!(arrivals.path().jitter_ns, BUCKET_NS);
        }
    }

    #[test]
    fn bursts_of_a_chunk_ask_for_the_chunk_less_a_block() {
        let mut arrivals = Arrivals::new(BLOCK, Profile::Music);
        for i in 0..4_000 {
            let chunk = i / 8;
            arrivals.record((chunk + 1) * 20 * MS, i * BLOCK);
        }
        assert_eq!(arrivals.path().jitter_ns, 18 * MS);
    }

    #[test]
    fn chunks_longer_than_a_stall_are_learned_too() {
        let mut arrivals = Arrivals::new(BLOCK, Profile::Music);
        for i in 0..4_000 {
            let chunk = i / 24;
            arrivals.record((chunk + 1) * 60 * MS, i * BLOCK);
        }
        assert_eq!(arrivals.path().jitter_ns, 58 * MS);
    }

    #[test]
    fn one_stall_does_not_raise_the_target() {
        let mut arrivals = Arrivals::new(BLOCK, Profile::Music);
        for i in 0..8_000 {
            let due = i * BLOCK;
            let arrival = if (4_000..4_200).contains(&i) { 4_200 * BLOCK } else { due };
            arrivals.record(arrival, due);
        }
        assert_eq!(arrivals.path().jitter_ns, BUCKET_NS);
    }

    /// What is asked for at the end of a minute on a clean path that stood still for 30 ms at each of
    /// `hiccups`, in seconds.
    fn jitter_after_hiccups(hiccups: &[i64]) -> i64 {
        let mut arrivals = Arrivals::new(BLOCK, Profile::Music);
        for i in 0..24_000 {
            let due = i * BLOCK;
            let held =
                hiccups.iter().map(|s| s * 1_000 * MS).find(|h| (*h..h + 30 * MS).contains(&due));
            arrivals.record(held.map_or(due, |h| h + 30 * MS), due);
        }
        arrivals.path().jitter_ns
    }

    #[test]
    fn a_hiccup_raises_the_target_only_if_it_is_not_alone() {
        assert_eq!(jitter_after_hiccups(&[13]), BUCKET_NS);
        assert_eq!(jitter_after_hiccups(&[5, 30, 55]), BUCKET_NS);
        assert!(jitter_after_hiccups(&[40, 48, 55]) > 20 * MS);
    }

    #[test]
    fn a_longer_path_becomes_the_new_base_within_two_seconds() {
        let mut arrivals = Arrivals::new(BLOCK, Profile::Music);
        for i in 0..2_000 {
            let detour = if i < 1_000 { 0 } else { 30 * MS };
            arrivals.record(i * BLOCK + detour, i * BLOCK);
        }
        assert_eq!(arrivals.path().base.value_at(5_000 * MS), 30 * MS);
        assert!(arrivals.path().jitter_ns >= 30 * MS);
    }
}
