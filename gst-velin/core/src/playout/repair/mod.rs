//! What has not come, when to ask for it, and how much delay that needs.
//!
//! The receiver decides alone: it knows its deadline, its loss and its round-trip time. A block is
//! missed when a later one has come and reordering is out of the question, or when its time has
//! passed by more than the path ever jitters; then it is asked for again and again, once in a
//! round-trip time, until it comes or is useless. See `docs/protocol.md`, section 4.2.

mod allowance;
mod lateness;
mod loss;
mod missing;
mod rtt;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allowance::{BURSTY, MUCH_LOSS, Path};
use lateness::Lateness;
use loss::Loss;
use missing::{Missing, MissingBlocks};
use rtt::Rtt;

use super::counters::StreamCounters;
use super::{PlayoutDelay, Profile, RepairWish};
use crate::codec::{Coding, StreamFormat};
use crate::units::BlockIndex;
use crate::wire::{Copies, Nack};

const MS: i64 = 1_000_000;

/// A block that cannot be played any more is still worth having up to this long after its time: how
/// late it comes says how long the playout delay should be.
const LATE_ASK: i64 = 100 * MS;
/// So many such blocks at most …
const MOST_LATE_ASKS: f64 = 80.0;
/// … and of all blocks at most this share, in the long run.
const LATE_SHARE: f64 = 0.1;
/// A missing block is remembered so long beyond that, to know its answer when it comes.
const MEMORY: i64 = 150 * MS;
/// Packets with questions in a row, at most; in the long run one a block.
const MOST_NACKS: f64 = 64.0;
/// The least time between two questions while nothing comes …
const SILENT_RETRY: i64 = 2 * MS;
/// … and once that has lasted …
const LONG_SILENCE: i64 = 100 * MS;
/// … so long …
const LONG_SILENT_RETRY: i64 = 10 * MS;
/// … until the stream has ended or paused, as far as anybody can tell.
const QUIET_AFTER: i64 = 500 * MS;
/// What is due this soon is asked for in the same packet.
const TOGETHER: i64 = MS / 4;
/// So many blocks in a row asked for in vain, however often: nobody answers.
const DEAF_AFTER: u32 = 40;
/// Then nothing is asked for so long.
const DEAF_FOR: i64 = 10_000 * MS;
/// Without loss for so long, some of the allowance is given up.
const CALM: i64 = 60_000 * MS;
/// An allowance beyond this is not kept, and not taken, for loss that does not happen.
const DEAR: i64 = 10 * MS;
/// How often the allowance is thought over without need.
const RECONSIDER: i64 = 50 * MS;
/// An allowance is raised when it was needed for so long.
const MOMENT: i64 = 1_000 * MS;
/// The playout's slack while the player says nothing.
const UNKNOWN_SLACK: i64 = 8 * MS;
/// Above this share of lost blocks, copies are worth what they cost.
const COPIES_ABOVE: f64 = 0.002;
/// Above this share copies of small blocks come beside answers; below half of it no more.
const COPIES_TOO_ABOVE: f64 = 0.03;

/// What a receiver asks its sender for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The blocks.
    pub nack: Nack,
    /// Whether to send the packet twice (sealed twice): so much is lost that one may be.
    pub twice: bool,
}

/// How a block stands to those that came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Later than all, by so many numbers more than one.
    Next { skipped: u64 },
    /// One that was missing, or came before the first of all.
    Earlier,
    /// It is there already.
    Again,
}

/// Repair of one stream, receiver's side. Times are nanoseconds of the host's clock.
#[derive(Debug)]
pub(super) struct Repair {
    wish: RepairWish,
    delay: PlayoutDelay,
    block_ns: i64,
    /// What the codec adds to the delay beside the block, ns.
    codec_ns: i64,
    /// Blocks are so small that a copy costs little more than the room it takes in a packet.
    is_small: bool,
    missing: MissingBlocks,
    lateness: Lateness,
    loss: Loss,
    rtt: Rtt,
    /// The highest block, and when it would have come on the fastest path.
    highest: Option<(u64, i64)>,
    /// When anything came last.
    heard: i64,
    /// When a path that had stalled last worked off what it held back.
    stalled: i64,
    began: i64,
    /// While nothing comes: when to ask next. `None`: no more.
    silent_ask: Option<i64>,
    in_silence: bool,
    /// The highest block said that nothing comes for a while.
    pauses: bool,
    late_asks: f64,
    /// Questions that may be sent now, and since when no more were allowed.
    nacks: f64,
    allowed: i64,
    unanswered: u32,
    deaf_until: Option<i64>,
    /// Whether requests have a way to the sender at all, and are any use on it.
    way_back: bool,
    /// Somebody fetches the requests.
    is_polled: bool,
    allowance: i64,
    copies: Copies,
    reconsidered: i64,
    /// Nothing had been lost for long when this was last thought over.
    was_calm: bool,
    /// Since when more is needed, and at least how much.
    rising: Option<(i64, i64)>,
    counters: Arc<StreamCounters>,
}

impl Repair {
    pub(super) fn new(
        wish: RepairWish,
        delay: PlayoutDelay,
        format: &StreamFormat,
        counters: Arc<StreamCounters>,
    ) -> Self {
        let block_ns = i64::try_from(format.block_duration().as_nanos()).unwrap_or(i64::MAX).max(1);
        let mut repair = Self {
            wish,
            delay,
            block_ns,
            codec_ns: format.codec_delay().as_nanos() as i64,
            is_small: matches!(format.coding, Coding::Opus(_)),
            missing: MissingBlocks::new(),
            lateness: Lateness::new(block_ns),
            loss: Loss::new(block_ns),
            rtt: Rtt::new(),
            highest: None,
            heard: 0,
            stalled: i64::MIN / 2,
            began: 0,
            silent_ask: None,
            in_silence: false,
            pauses: false,
            late_asks: MOST_LATE_ASKS / 2.0,
            nacks: MOST_NACKS,
            allowed: 0,
            unanswered: 0,
            deaf_until: None,
            way_back: true,
            is_polled: false,
            allowance: 0,
            copies: Copies::None,
            reconsidered: i64::MIN / 2,
            was_calm: true,
            rising: None,
            counters,
        };
        repair.reconsider(0);
        repair
    }

    /// A block came at `arrival`; on the fastest path it would have come at `expected`. A path that
    /// `is_stalled` says nothing about its jitter.
    pub(super) fn on_block(
        &mut self,
        arrival: i64,
        expected: i64,
        index: u64,
        is_repair: bool,
        place: Place,
        is_stalled: bool,
    ) {
        if self.highest.is_none() {
            self.began = arrival;
        }
        if is_stalled {
            self.stalled = arrival;
        }
        let had_first = self.loss.has_first(index);
        self.loss.came(index, !is_repair);
        self.count(index, expected, arrival, is_repair, place);
        match place {
            Place::Next { skipped } => {
                self.late_asks =
                    (self.late_asks + LATE_SHARE * (skipped + 1) as f64).min(MOST_LATE_ASKS);
                self.miss(arrival, index, expected, skipped);
                self.highest = Some((index, expected));
                if let Some(missing) = self.missing.take(index) {
                    self.found(arrival, &missing, is_repair);
                }
            }
            Place::Earlier | Place::Again => {
                if let Some(missing) = self.missing.take(index) {
                    self.found(arrival, &missing, is_repair);
                } else if place == Place::Again
                    && !is_repair
                    && !had_first
                    && arrival.saturating_sub(self.stalled) > MEMORY
                {
                    // It was late, and its retransmission was faster.
                    self.lateness.asked(true);
                }
            }
        }
        if !is_repair && !is_stalled {
            self.lateness.came(arrival - expected);
        }
        self.end_silence(arrival);
        self.prove(arrival);
        self.reconsider_now_and_then(arrival);
    }

    /// Whether the highest block says that nothing comes for a while: then nothing is missed.
    pub(super) fn set_pauses(&mut self, pauses: bool) {
        self.pauses = pauses;
    }

    /// The numbers or the media time start anew: what is missing is not missed any more.
    pub(super) fn restart(&mut self) {
        self.pauses = false;
        self.missing.clear();
        self.loss.restart();
        self.highest = None;
        self.in_silence = false;
        self.silent_ask = None;
    }

    /// The session measured a round trip.
    pub(super) fn set_rtt(&mut self, rtt_ns: i64) {
        self.rtt.tell(self.heard, rtt_ns);
    }

    /// Whether requests can reach the sender and are any use.
    pub(super) fn set_way_back(&mut self, way_back: bool) {
        if self.way_back != way_back {
            self.way_back = way_back;
            self.missing.clear();
            self.reconsider(self.heard);
        }
    }

    /// Playout delay beyond a block that repair needs.
    pub(super) fn allowance_ns(&self) -> i64 {
        self.allowance
    }

    /// Which older blocks every packet is to hold once more.
    pub(super) fn copies(&self) -> Copies {
        self.copies
    }

    /// What is to be asked for now.
    pub(super) fn poll(&mut self, now: i64) -> Option<Request> {
        if !self.is_polled {
            self.is_polled = true;
            self.reconsider(now);
        }
        if !self.asks() {
            return None;
        }
        if self.deaf_until.is_some_and(|until| now >= until) {
            self.deaf_until = None;
            self.unanswered = DEAF_AFTER / 2;
        }
        self.guess(now);
        self.enter_silence(now);
        let passed = now.saturating_sub(self.allowed) as f64 / self.block_ns as f64;
        self.allowed = now.max(self.allowed);
        self.nacks = (self.nacks + passed.max(0.0)).min(MOST_NACKS);
        if self.nacks < 1.0 {
            self.put_off(now);
            return None;
        }
        let nack = if self.in_silence { self.ask_in_silence(now) } else { self.ask(now) };
        self.forget(now);
        if nack.is_empty() {
            return None;
        }
        let twice = self.loss.share() > MUCH_LOSS && !self.in_silence;
        self.nacks -= 1.0 + f64::from(u8::from(twice));
        add(&self.counters.nacks, 1 + u64::from(twice));
        add(&self.counters.asked, nack.blocks().count() as u64);
        Some(Request { nack, twice })
    }

    /// When [`poll`](Self::poll) is to be called next.
    pub(super) fn next(&self) -> Option<i64> {
        if !self.asks() {
            return None;
        }
        if self.in_silence {
            return self.silent_ask;
        }
        let asks = self.missing.iter().map(|m| m.ask_at).filter(|at| *at != i64::MAX);
        let silence = self.highest.filter(|_| !self.pauses).map(|_| self.silent_at());
        asks.chain(self.guess_at()).chain(silence).min()
    }

    fn asks(&self) -> bool {
        self.way_back && matches!(self.wish, RepairWish::Auto | RepairWish::Nack)
    }

    /// Counts what repair did, and learns how well the path keeps the order.
    fn count(&mut self, index: u64, expected: i64, arrival: i64, is_repair: bool, place: Place) {
        if !is_repair {
            return;
        }
        if place == Place::Again {
            add(&self.counters.needless, 1);
            return;
        }
        if arrival > expected + self.block_ns + self.slack() {
            add(&self.counters.repaired_late, 1);
            return;
        }
        let was_asked = self.missing.iter().any(|m| m.index == index && m.asks > 0);
        let counter = if was_asked || self.in_silence {
            &self.counters.by_retransmission
        } else {
            &self.counters.by_redundancy
        };
        add(counter, 1);
    }

    /// Blocks before `index` have not come.
    fn miss(&mut self, now: i64, index: u64, expected: i64, skipped: u64) {
        // Blocks that have been asked for are known already.
        let ordered = self.lateness.is_ordered();
        let guard = self.lateness.reorder();
        let far = skipped.min(missing::most());
        for back in (1..=far).rev() {
            // Two later blocks prove it as well.
            let proven = ordered && back >= 2;
            let missing = Missing {
                index: index - back,
                expected: expected - back as i64 * self.block_ns,
                since: now,
                ask_at: if proven { now } else { now + guard },
                asked_at: 0,
                asks: 0,
                is_guess: false,
            };
            self.missing.add(missing);
        }
        if skipped > 0 && self.loss.run() > BURSTY {
            // What was asked for during the burst went down with it.
            let asked = self.missing.iter_mut().filter(|m| m.asks > 0 && m.ask_at != i64::MAX);
            asked.for_each(|m| m.ask_at = now);
        }
        if ordered {
            // This is the second block later than what was missed by the one before.
            let due = self.missing.iter_mut().filter(|m| m.asks == 0 && m.index + 1 < index);
            due.for_each(|m| m.ask_at = m.ask_at.min(now));
        }
    }

    /// A missing block has come.
    fn found(&mut self, now: i64, missing: &Missing, is_repair: bool) {
        // Whatever is asked in a stall is asked too early.
        let calm = now.saturating_sub(self.stalled) > MEMORY;
        if missing.asks > 0 && calm {
            self.lateness.asked(!is_repair);
        }
        if !is_repair {
            if !missing.is_guess && calm {
                self.lateness.overtaken(now - missing.since);
            }
            return;
        }
        if missing.asks > 0 {
            self.unanswered = 0;
        }
        if missing.asks == 1 && calm {
            self.rtt.sample(now, now - missing.asked_at);
        }
    }

    /// The block after the highest: missed by the clock alone. Only one at a time.
    fn guess(&mut self, now: i64) {
        let Some((highest, expected)) = self.highest else { return };
        if self.guess_at().is_some_and(|at| now >= at) {
            self.missing.add(Missing {
                index: highest + 1,
                expected: expected + self.block_ns,
                since: now,
                ask_at: now,
                asked_at: 0,
                asks: 0,
                is_guess: true,
            });
        }
    }

    fn guess_at(&self) -> Option<i64> {
        let (highest, expected) = self.highest?;
        let at = expected + self.block_ns + self.lateness.timer();
        let may_guess = !self.in_silence && !self.pauses;
        (may_guess && !self.missing.contains(highest + 1)).then_some(at)
    }

    /// From here on nothing comes.
    fn silent_at(&self) -> i64 {
        if self.loss.run() > BURSTY {
            return self.heard + (self.block_ns + self.lateness.timer()).max(3 * MS);
        }
        self.heard + (3 * self.block_ns).max(5 * MS) + self.lateness.timer()
    }

    fn enter_silence(&mut self, now: i64) {
        if self.pauses || self.in_silence {
            return;
        }
        if self.highest.is_some() && now >= self.silent_at() {
            self.in_silence = true;
            self.silent_ask = Some(now);
        }
    }

    fn end_silence(&mut self, now: i64) {
        if self.in_silence {
            self.in_silence = false;
            self.silent_ask = None;
            // What was asked in vain is asked again as if it never had been.
            let waiting = self.missing.iter_mut().filter(|m| m.ask_at != i64::MAX);
            waiting.for_each(|m| (m.asks, m.ask_at) = (0, m.ask_at.min(now)));
        }
        self.heard = self.heard.max(now);
    }

    /// Nothing comes: only the oldest block that can still be played is worth a question.
    fn ask_in_silence(&mut self, now: i64) -> Nack {
        let mut nack = Nack::default();
        let Some((highest, expected)) = self.highest else { return nack };
        if self.silent_ask.is_none_or(|at| now < at) {
            return nack;
        }
        let silent = now - self.heard;
        if silent >= QUIET_AFTER {
            self.silent_ask = None;
            return nack;
        }
        let pause = if silent < LONG_SILENCE { SILENT_RETRY } else { LONG_SILENT_RETRY };
        let pause = pause.max(self.block_ns / 2).max(self.rtt.p95() / 2);
        self.silent_ask = Some(now + pause);
        let lasts = self.block_ns + self.slack();
        let known = self.missing.iter().find(|m| m.expected + lasts > now).map(|m| m.index);
        let oldest = known.unwrap_or_else(|| {
            let passed = (now - lasts - expected).div_euclid(self.block_ns) + 1;
            highest + u64::try_from(passed).unwrap_or(0).max(1)
        });
        // Its own time must have come.
        let ahead = i64::try_from(oldest.saturating_sub(highest)).unwrap_or(i64::MAX / 2);
        if oldest <= highest || expected + ahead.saturating_mul(self.block_ns) <= now {
            push(&mut nack, oldest);
        }
        nack
    }

    /// Too much was asked for lately: everything waits for a block's time.
    fn put_off(&mut self, now: i64) {
        let later = now + self.block_ns.max(MS);
        self.silent_ask = self.silent_ask.map(|at| at.max(later));
        self.missing.iter_mut().for_each(|m| m.ask_at = m.ask_at.max(later));
    }

    fn ask(&mut self, now: i64) -> Nack {
        let mut nack = Nack::default();
        if self.deaf_until.is_some() {
            self.missing.iter_mut().for_each(|m| m.ask_at = i64::MAX);
            return nack;
        }
        if !self.missing.iter().any(|m| m.ask_at <= now) {
            return nack;
        }
        let lasts = self.block_ns + self.slack();
        let retry = self.rtt.retry();
        for m in self.missing.iter_mut().filter(|m| m.ask_at <= now + TOGETHER) {
            let in_time = now < m.expected + lasts;
            if !in_time && (self.late_asks < 1.0 || now > m.expected + LATE_ASK) {
                m.ask_at = i64::MAX;
                continue;
            }
            if !push(&mut nack, m.index) {
                break;
            }
            self.late_asks -= f64::from(u8::from(!in_time));
            m.asks += 1;
            m.asked_at = now;
            m.ask_at = now + retry;
        }
        nack
    }

    /// Lets go of what will not come any more.
    fn forget(&mut self, now: i64) {
        let lasts = (self.block_ns + self.slack()).max(LATE_ASK) + MEMORY;
        let mut unanswered = self.unanswered;
        self.missing.retain(|m| {
            let keep = now <= m.expected + lasts;
            if !keep && m.asks > 0 && !m.is_guess {
                unanswered += 1;
            }
            keep
        });
        self.unanswered = unanswered;
        if unanswered >= DEAF_AFTER && self.deaf_until.is_none() {
            self.deaf_until = Some(now + DEAF_FOR);
            self.reconsider(now);
        }
    }

    /// What has not come in its first packet by now never will.
    fn prove(&mut self, now: i64) {
        let Some((highest, expected)) = self.highest else { return };
        let wait = self.lateness.timer().max(self.lateness.reorder());
        let back = (expected + wait - now).max(0) / self.block_ns + i64::from(wait > 0);
        let until = highest.saturating_sub(u64::try_from(back).unwrap_or(0)) + 1;
        let was_calm = self.is_calm(now);
        if self.loss.judge(now, until) > 0 && was_calm {
            self.reconsider(now);
        }
    }

    fn is_calm(&self, now: i64) -> bool {
        now - self.loss.last().unwrap_or(self.began) >= CALM
    }

    /// Until when a block may come and still be played, beyond its own end, on the fastest path.
    fn slack(&self) -> i64 {
        let told = self.counters.slack_ns.load(Ordering::Relaxed);
        if told > 0 {
            return told;
        }
        let target = self.counters.target_ns.load(Ordering::Relaxed);
        let fixed = self.block_ns + self.codec_ns;
        if target > 0 { (target - fixed).max(0) } else { UNKNOWN_SLACK }
    }

    fn reconsider_now_and_then(&mut self, now: i64) {
        if now - self.reconsidered >= RECONSIDER {
            self.reconsider(now);
        }
    }

    /// Decides between requests and copies, and what delay they need.
    fn reconsider(&mut self, now: i64) {
        self.reconsidered = now;
        let path = Path {
            loss: self.loss.share(),
            events: self.loss.events(),
            run: self.loss.run(),
            block_ns: self.block_ns,
            detect_ns: self.lateness.timer(),
            // A PING tells within a moment; until then the delay a stream starts with has room.
            rtt_ns: if self.rtt.mean().is_some() { self.rtt.p95() } else { MS },
            retry_ns: self.rtt.retry(),
        };
        let room = self.room();
        let can_ask = self.asks() && self.is_polled && self.deaf_until.is_none();
        let fits = |tries: u32| path.delay_ns(tries) <= room || self.wish == RepairWish::Nack;
        let tries = (1..=path.tries()).rev().find(|tries| can_ask && fits(*tries));
        let may_copy = self.way_back
            && self.is_polled
            && matches!(self.wish, RepairWish::Auto | RepairWish::Copy);
        self.copies = match tries {
            _ if !may_copy => Copies::None,
            None => self.wanted_copies(path),
            Some(_) if self.is_small => self.copies_too(path),
            Some(_) => Copies::None,
        };
        let need = match tries {
            Some(tries) => path.delay_ns(tries).min(room.max(0)),
            None => i64::from(self.copies.longest()) * self.block_ns + MS / 2,
        };
        let none = tries.is_none() && self.copies == Copies::None;
        let low = self.delay == PlayoutDelay::Adaptive(Profile::Low);
        let given_up = low && self.is_calm(now);
        self.allow(now, if none || given_up { 0 } else { need });
        self.counters.rtt_ns.store(self.rtt.mean().unwrap_or(0), Ordering::Relaxed);
        self.counters.allowance_ns.store(self.allowance, Ordering::Relaxed);
    }

    /// What a moment asks for is forgotten with it: delay comes down far more slowly than it goes up.
    fn allow(&mut self, now: i64, need: i64) {
        let calm = self.is_calm(now);
        let first_loss = std::mem::replace(&mut self.was_calm, calm) && !calm;
        let is_young = now - self.began < MOMENT;
        // Much delay is for loss that happens.
        let loses = !calm && self.loss.last().is_some();
        let worth = |need| if need > DEAR && !loses { 0 } else { need };
        if need <= self.allowance || (self.allowance == 0 && (first_loss || is_young)) {
            self.allowance = worth(need);
            self.rising = None;
            return;
        }
        let (since, least) = self.rising.map_or((now, need), |(at, least)| (at, least.min(need)));
        self.rising = Some((since, least));
        if now - since >= MOMENT {
            self.allowance = worth(least);
            self.rising = None;
        }
    }

    /// As much delay beyond a block as repair may ask for.
    fn room(&self) -> i64 {
        match self.delay {
            PlayoutDelay::Fixed(fixed) => fixed.as_nanos() as i64 - self.block_ns - self.codec_ns,
            PlayoutDelay::Adaptive(Profile::Low) => 40 * MS,
            PlayoutDelay::Adaptive(Profile::Voice) => 80 * MS,
            PlayoutDelay::Adaptive(Profile::Music) => 120 * MS,
        }
    }

    /// Where much is lost, a copy is often faster than an answer, which may be lost as well.
    fn copies_too(&self, path: Path) -> Copies {
        let keep = if self.copies == Copies::None { 1.0 } else { 0.5 };
        let much = path.loss >= keep * COPIES_TOO_ABOVE;
        if much { self.wanted_copies(path) } else { Copies::None }
    }

    /// Loss in runs takes neighbours: the longer the run, the farther away a copy must be.
    fn wanted_copies(&self, path: Path) -> Copies {
        let keep = if self.copies == Copies::None { COPIES_ABOVE } else { COPIES_ABOVE / 4.0 };
        match path.run {
            _ if path.loss < keep => Copies::None,
            run if run < 1.3 => Copies::Next,
            run if run < 2.5 => Copies::Second,
            _ => Copies::SecondAndFourth,
        }
    }
}

/// Numbers of blocks are 32 bits on the wire.
fn push(nack: &mut Nack, index: u64) -> bool {
    u32::try_from(index).is_ok_and(|index| nack.push(BlockIndex(index)))
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}
