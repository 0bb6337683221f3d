//! The receive thread's half.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Profile;
use super::arrivals::Arrivals;
use super::block::{Block, Body, MAX_PAYLOAD, PathClock, Slot};
use super::controls::StreamControls;
use super::counters::StreamCounters;
use super::repair::{Place, Repair, Request};
use super::tap::TraceTap;
use super::trace::TracedBlock;
use crate::codec::{Coding, StreamFormat, opus};
use crate::time::MonoTime;
use crate::units::BlockIndex;
use crate::wire::{Copies, Report};

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// On its way to the player.
    Accepted,
    /// It had come before.
    Duplicate,
    /// Its time has passed.
    TooLate,
    /// Its payload does not fit the stream's format.
    Malformed,
    /// The player has taken nothing for so long that the hand-over is full.
    Overrun,
}

/// The receive thread's half of one stream: checks, counts and hands over blocks.
///
/// Keep it across sessions when the same stream is attached again. Dropping it ends the stream:
/// what was handed over is played, then the mixer lets the stream go.
#[derive(Debug)]
pub struct ReceiverHalf {
    format: StreamFormat,
    ring: rtrb::Producer<Slot>,
    /// A block that comes this much later than the fastest is useless.
    stale_ns: i64,
    seen: Seen,
    arrivals: Arrivals,
    repair: Repair,
    /// The highest block's first frame.
    highest_ts: u64,
    epoch: u32,
    generation: u32,
    trace: Option<TraceTap>,
    counters: Arc<StreamCounters>,
    controls: Arc<StreamControls>,
}

impl ReceiverHalf {
    pub(super) fn new(
        format: StreamFormat,
        ring: rtrb::Producer<Slot>,
        stale: Duration,
        profile: Profile,
        repair: Repair,
        counters: Arc<StreamCounters>,
        controls: Arc<StreamControls>,
    ) -> Self {
        let block_ns = i64::try_from(format.block_duration().as_nanos()).unwrap_or(i64::MAX);
        Self {
            format,
            ring,
            stale_ns: stale.as_nanos() as i64,
            seen: Seen::default(),
            arrivals: Arrivals::new(block_ns, profile),
            repair,
            highest_ts: 0,
            epoch: 0,
            generation: 0,
            trace: None,
            counters,
            controls,
        }
    }

    /// Takes a block that arrived at `arrival`. Never allocates or waits.
    pub fn insert(&mut self, arrival: MonoTime, block: Block<'_>) -> Insert {
        let checked =
            self.frames_of(block.body).and_then(|n| Some((n, self.media_ns(block.ts.0, n)?)));
        let Some((frames, media)) = checked else {
            add(&self.counters.malformed, 1);
            return Insert::Malformed;
        };
        let index = u64::from(block.index.0);
        let arrival = i64::try_from(arrival.as_nanos()).unwrap_or(i64::MAX / 2);
        if block.discontinuity && self.seen.is_restart(index) {
            self.restart();
        }
        let order = self.seen.mark(index);
        let place = match order {
            Order::Next { skipped } => Some(Place::Next { skipped }),
            Order::Earlier { .. } | Order::Filled => Some(Place::Earlier),
            Order::Duplicate => Some(Place::Again),
            Order::Ancient => None,
        };
        match order {
            Order::Next { skipped } => {
                add(&self.counters.lost, skipped);
                // Numbers go up and media time goes down: no network does that.
                let backwards = block.ts.0 < self.highest_ts;
                let broken = block.discontinuity && self.arrivals.is_jump(arrival, media);
                if backwards || broken {
                    self.jump();
                }
                self.highest_ts = block.ts.0;
            }
            Order::Earlier { skipped } => {
                add(&self.counters.reordered, 1);
                add(&self.counters.lost, skipped);
            }
            Order::Filled => {
                add(&self.counters.reordered, 1);
                let lost = self.counters.lost.load(Ordering::Relaxed);
                self.counters.lost.store(lost.saturating_sub(1), Ordering::Relaxed);
            }
            Order::Duplicate => add(&self.counters.duplicate, 1),
            Order::Ancient => {}
        }
        let Some(place) = place else { return self.too_late() };
        // A retransmission says how long repair takes, not how long the path is.
        if place != Place::Again {
            self.note(arrival, &block);
            if !block.repair || self.arrivals.is_empty() {
                self.arrivals.record(arrival, media);
            } else {
                self.arrivals.record_repair(arrival, media);
            }
        }
        let expected = self.arrivals.path().base.value_at(arrival).saturating_add(media);
        let is_stalled = self.arrivals.is_stalled();
        if matches!(place, Place::Next { .. }) {
            self.repair.set_pauses(self.is_pause(block.body));
        }
        self.repair.on_block(arrival, expected, index, block.repair, place, is_stalled);
        if place == Place::Again {
            return Insert::Duplicate;
        }
        self.counters.jitter_ns.store(self.arrivals.path().jitter_ns, Ordering::Relaxed);
        let rel = arrival.saturating_sub(media) - self.arrivals.path().base.value_at(arrival);
        if rel > self.stale_ns || self.is_played(index) {
            return self.too_late();
        }
        self.hand_over(index, frames, block)
    }

    /// Expects the sender to number its blocks and frames anew, as after a restart of its element.
    ///
    /// What was handed over before and is not yet played gives way to what comes. A discontinuity
    /// more than 4096 blocks back does the same.
    pub fn restart(&mut self) {
        self.seen = Seen::default();
        self.highest_ts = 0;
        self.generation = self.generation.wrapping_add(1);
        self.jump();
    }

    /// From now on records in `trace` when blocks arrive that are no repairs.
    pub fn set_trace(&mut self, trace: TraceTap) {
        self.trace = Some(trace);
    }

    /// The next request for missing blocks that is due; call again until `None`. Never allocates.
    ///
    /// Call it after every [`insert`](Self::insert) and at [`next_nack`](Self::next_nack). Whoever
    /// never does has no repair, and no delay for it.
    pub fn poll_nack(&mut self, now: MonoTime) -> Option<Request> {
        self.repair.poll(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX / 2))
    }

    /// When [`poll_nack`](Self::poll_nack) may have something to say, if nothing comes before.
    pub fn next_nack(&self) -> Option<MonoTime> {
        self.repair.next().map(|at| MonoTime::from_nanos(u64::try_from(at).unwrap_or(0)))
    }

    /// The round-trip time that the session has measured.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.repair.set_rtt(i64::try_from(rtt.as_nanos()).unwrap_or(i64::MAX));
    }

    /// Whether requests can reach the sender and are any use: not while the stream comes by TCP,
    /// which repairs itself. `true` at first.
    pub fn set_way_back(&mut self, way_back: bool) {
        self.repair.set_way_back(way_back);
    }

    /// Which older blocks the sender should put into every packet once more. It has to be told
    /// when this changes.
    pub fn copies(&self) -> Copies {
        self.repair.copies()
    }

    /// What the sender is told once a second.
    pub fn report(&self) -> Report {
        let stats = self.counters.snapshot();
        let micros = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        let highest = self.seen.highest.unwrap_or(0);
        Report {
            highest: BlockIndex(u32::try_from(highest).unwrap_or(u32::MAX)),
            lost: stats.lost as u32,
            by_retransmit: stats.by_retransmission as u32,
            by_redundancy: stats.by_redundancy as u32,
            late: stats.late as u32,
            target_us: micros(stats.target),
            level_us: micros(stats.delay),
            drift_ppb: stats.drift_ppb.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
            group_latency_us: 0,
        }
    }

    /// Extra delay beyond one block that the arrivals ask for now.
    pub fn jitter(&self) -> Duration {
        Duration::from_nanos(self.arrivals.path().jitter_ns.unsigned_abs())
    }

    /// Whether the player half is gone, so that nothing will be heard any more.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }

    /// The stream's format.
    pub fn format(&self) -> &StreamFormat {
        &self.format
    }

    /// The stream's counters, to be read by any thread.
    pub fn counters(&self) -> &Arc<StreamCounters> {
        &self.counters
    }

    /// The stream's settings in the mix, to be turned by any thread.
    pub fn controls(&self) -> &Arc<StreamControls> {
        &self.controls
    }

    /// Frames in the body, `None` if it is no whole number of them or too many.
    fn frames_of(&self, body: Body<'_>) -> Option<u64> {
        match body {
            Body::Silence { frames: 0 } => None,
            Body::Silence { frames } => Some(u64::from(frames)),
            Body::Audio(bytes) => match self.format.coding {
                Coding::Pcm(sample) => {
                    let frame = sample.bytes() * self.format.channels().get();
                    let whole = !bytes.is_empty() && bytes.len().is_multiple_of(frame);
                    let fits = bytes.len() <= self.format.block_bytes().min(MAX_PAYLOAD);
                    (whole && fits).then_some((bytes.len() / frame) as u64)
                }
                Coding::Opus(_) => opus::packet_frames(bytes)
                    .filter(|frames| *frames == self.format.frames_per_block)
                    .filter(|_| bytes.len() <= MAX_PAYLOAD)
                    .map(u64::from),
            },
        }
    }

    /// Whether the sender says that there is nothing to hear until more comes.
    fn is_pause(&self, body: Body<'_>) -> bool {
        match body {
            Body::Audio(bytes) => self.format.coding.sample().is_none() && opus::is_pause(bytes),
            Body::Silence { .. } => false,
        }
    }

    /// The media time in ns of the block's first frame, if it were a block of the usual length
    /// that ends where this one does: a block leaves the sender when its last frame is there.
    /// `None` beyond thirty years, longer than any stream.
    fn media_ns(&self, ts: u64, frames: u64) -> Option<i64> {
        const THIRTY_YEARS_S: u64 = 1_000_000_000;
        let rate = self.format.rate;
        if ts / u64::from(rate.hz()) >= THIRTY_YEARS_S {
            return None;
        }
        let nanos = |frames| rate.duration_of(frames).as_nanos() as i64;
        let usual = u64::from(self.format.frames_per_block);
        Some(if frames == usual { nanos(ts) } else { nanos(ts + frames) - nanos(usual) })
    }

    fn note(&mut self, arrival: i64, block: &Block<'_>) {
        if let Some(trace) = self.trace.as_mut().filter(|_| !block.repair) {
            let media = self.format.rate.duration_of(block.ts.0);
            trace.note(TracedBlock {
                arrival_ns: u64::try_from(arrival).unwrap_or(0),
                media_ns: media.as_nanos() as u64,
            });
        }
    }

    fn jump(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.arrivals.restart_clock();
        self.repair.restart();
    }

    fn is_played(&self, index: u64) -> bool {
        let wanted = self.counters.wanted.load(Ordering::Relaxed);
        (wanted >> 33) as u32 & 0x7FFF_FFFF == self.generation & 0x7FFF_FFFF
            && index < wanted & 0x1_FFFF_FFFF
    }

    fn too_late(&self) -> Insert {
        self.counters.late.fetch_add(1, Ordering::Relaxed);
        Insert::TooLate
    }

    fn hand_over(&mut self, index: u64, frames: u64, block: Block<'_>) -> Insert {
        let mut slot = Slot {
            index,
            ts: block.ts.0,
            frames,
            repair: block.repair,
            epoch: self.epoch,
            generation: self.generation,
            path: PathClock { allowance_ns: self.repair.allowance_ns(), ..self.arrivals.path() },
            len: 0,
            payload: [0; MAX_PAYLOAD],
        };
        if let Body::Audio(bytes) = block.body {
            slot.len = bytes.len();
            slot.payload[..bytes.len()].copy_from_slice(bytes);
        }
        if self.ring.push(slot).is_err() {
            add(&self.counters.overrun, 1);
            return Insert::Overrun;
        }
        add(&self.counters.blocks, 1);
        Insert::Accepted
    }
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// Where a block stands among those seen.
enum Order {
    /// Later than all, by so many numbers more than one.
    Next {
        skipped: u64,
    },
    /// Before the very first; so many numbers between them.
    Earlier {
        skipped: u64,
    },
    /// A missing one.
    Filled,
    Duplicate,
    /// Too old to know.
    Ancient,
}

/// How far back a duplicate is known, in blocks: 4 s of 1 ms blocks.
const SEEN: u64 = 4096;

/// Which of the last [`SEEN`] blocks have come.
#[derive(Debug)]
struct Seen {
    first: u64,
    highest: Option<u64>,
    bits: [u64; (SEEN / 64) as usize],
}

impl Default for Seen {
    fn default() -> Self {
        Self { first: 0, highest: None, bits: [0; (SEEN / 64) as usize] }
    }
}

impl Seen {
    /// Whether the numbers have started anew rather than arrived late.
    fn is_restart(&self, index: u64) -> bool {
        self.highest.is_some_and(|highest| index + SEEN <= highest)
    }

    fn mark(&mut self, index: u64) -> Order {
        let Some(highest) = self.highest else {
            self.first = index;
            self.highest = Some(index);
            self.set(index);
            return Order::Next { skipped: 0 };
        };
        if index > highest {
            for i in highest + 1..=index.min(highest + SEEN) {
                self.clear(i);
            }
            self.highest = Some(index);
            self.set(index);
            return Order::Next { skipped: index - highest - 1 };
        }
        if index + SEEN <= highest {
            return Order::Ancient;
        }
        if self.is_set(index) {
            return Order::Duplicate;
        }
        self.set(index);
        if index < self.first {
            let skipped = self.first - index - 1;
            self.first = index;
            return Order::Earlier { skipped };
        }
        Order::Filled
    }

    fn place(index: u64) -> (usize, u64) {
        let bit = index % SEEN;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn is_set(&self, index: u64) -> bool {
        let (word, bit) = Self::place(index);
        self.bits[word] & bit != 0
    }

    fn set(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        self.bits[word] |= bit;
    }

    fn clear(&mut self, index: u64) {
        let (word, bit) = Self::place(index);
        self.bits[word] &= !bit;
    }
}
