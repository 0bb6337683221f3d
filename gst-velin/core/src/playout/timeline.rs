//! The player's place in the stream: which frame comes next, and what to play when it is missing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::PlayoutDelay;
use super::block::Slot;
use super::conceal::{Conceal, Source};
use super::counters::{Cause, StreamCounters};
use super::due::{DueClock, LOWERING};
use super::queue::Queue;
use crate::codec::{Coding, SampleFormat, StreamFormat, decode_into};

/// A place later than its target by more than this is given up for the right one.
const EXCESS_NS: i64 = 40_000_000;
/// A place earlier than its target by less than this is left alone.
const SLACK_NS: i64 = 500_000;
/// A place off its target comes back within about this long, ns.
const PULL_NS: f64 = 2e9;
/// A gap is concealed in place for so long; after that the stream is anchored anew.
const LONGEST_GAP_S: u64 = 2;
/// Beyond ±80 dB full scale a float sample is an accident.
const SANE: f32 = 10_000.0;

/// What a pull did besides filling its buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulled {
    /// The stream has a part in the output.
    pub(super) audible: bool,
    /// Every sample is zero.
    pub(super) silent: bool,
    /// The stream has ended and all of it was played.
    pub(super) finished: bool,
}

/// How frames are to be played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How many times faster than nominally.
    pub(super) speed: f64,
    /// From the place to where it should be, while there is one, ns.
    pub(super) behind_ns: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No place: nothing has come yet, or for long.
    Idle,
    /// The next frame is, or is about to be, in the queue.
    Playing,
    /// The next frame is missing.
    Gap,
}

/// Reads the stream's frames in their order at the output's pace.
#[derive(Debug)]
pub(super) struct Timeline {
    ring: rtrb::Consumer<Slot>,
    queue: Queue,
    format: StreamFormat,
    channels: usize,
    exact: bool,
    clock: DueClock,
    conceal: Conceal,
    /// What the stream goes on with where frames are missing.
    source: Source,
    state: State,
    /// The frame that is due next.
    pos: u64,
    /// The block it is in, or the first that may still come.
    next: u64,
    /// The frame after the last that was really played.
    played_end: u64,
    /// Frames since the last real one.
    gap: u64,
    /// Frames since the last block, in a pause that the sender announced.
    paused: u64,
    /// Waiting in a gap for the due time to come down to `pos`.
    holding: bool,
    anchored: bool,
    epoch: u32,
    generation: u32,
    /// The epoch that the clock's path belongs to.
    path_epoch: u32,
    /// Nothing but zeros was written in this pull.
    silent: bool,
    counters: Arc<StreamCounters>,
}

impl Timeline {
    pub(super) fn new(
        ring: rtrb::Consumer<Slot>,
        queue: Queue,
        format: StreamFormat,
        source: Source,
        delay: PlayoutDelay,
        exact: bool,
        counters: Arc<StreamCounters>,
    ) -> Self {
        let channels = format.channels().get();
        let block_ns = format.block_duration().as_nanos() as i64;
        counters.block_ns.store(block_ns, Ordering::Relaxed);
        let codec_ns = format.codec_delay().as_nanos() as i64;
        counters.codec_ns.store(codec_ns, Ordering::Relaxed);
        Self {
            ring,
            queue,
            conceal: Conceal::new(format.rate, channels),
            source,
            clock: DueClock::new(&format, delay),
            format,
            channels,
            exact,
            state: State::Idle,
            pos: 0,
            next: 0,
            played_end: 0,
            gap: 0,
            paused: 0,
            holding: false,
            anchored: false,
            epoch: 0,
            generation: 0,
            path_epoch: 0,
            silent: true,
            counters,
        }
    }

    /// Fills `out` with the frames that are heard from `due_ns` on; `causes` has one entry for
    /// each frame. `overhead_ns` is the part of the delay that the output itself needs.
    ///
    /// Its frames may last a little longer or shorter than nominally: [`pace`](Self::pace) says how
    /// much.
    pub(super) fn pull(
        &mut self,
        due_ns: i64,
        overhead_ns: i64,
        out: &mut [f32],
        causes: &mut [Cause],
    ) -> Pulled {
        self.clock.set_overhead(overhead_ns);
        self.counters.output_ns.store(overhead_ns, Ordering::Relaxed);
        self.silent = true;
        // First the flag, then the ring: what was pushed before the end is not missed.
        let ended = self.ring.is_abandoned();
        self.drain();
        self.clock.advance(due_ns);
        self.lower_if_far_behind(due_ns);
        let frames = causes.len();
        let mut audible = self.conceal.is_sounding();
        let mut at = 0;
        while at < frames {
            let now = due_ns + self.clock.nanos(at as u64);
            at += match self.state {
                State::Idle => self.wait(now, &mut out[at * self.channels..], &mut causes[at..]),
                State::Playing => self.play(ended, out, at, causes),
                State::Gap => self.conceal(now, ended, out, at, causes),
            };
            audible |= self.state != State::Idle;
        }
        self.conceal.remember(out);
        let finished = ended && self.state != State::Playing && self.queue.is_empty() && !audible;
        if ended && self.queue.is_empty() && self.state == State::Gap && !self.conceal.is_sounding()
        {
            self.state = State::Idle;
        }
        Pulled { audible, silent: self.silent, finished }
    }

    /// How long `frames` of the stream last, ns.
    pub(super) fn nanos(&self, frames: f64) -> i64 {
        (frames * 1e9 / f64::from(self.format.rate.hz())) as i64
    }

    /// How the next frames are to be played, if they are heard from `due_ns` on by a clock that runs
    /// `output_drift` slower than the host's: what the clocks differ by, and what brings the place to
    /// its target. `ahead_ns` is what was pulled and not yet played.
    pub(super) fn pace(&mut self, due_ns: i64, ahead_ns: i64, output_drift: f64) -> Pace {
        let drift = (1.0 + output_drift) * (1.0 + self.clock.drift()) - 1.0;
        let target_ns = self.clock.target_ns();
        self.counters.drift_ppb.store((drift * 1e9) as i64, Ordering::Relaxed);
        self.counters.target_ns.store(target_ns, Ordering::Relaxed);
        if self.state != State::Playing || self.path_epoch != self.epoch {
            return Pace { speed: 1.0 + drift, behind_ns: None };
        }
        let behind_ns = self.clock.behind_ns(due_ns, self.pos) + ahead_ns;
        self.counters.delay_ns.store(target_ns + behind_ns, Ordering::Relaxed);
        let slack_ns = self.clock.slack_ns() + behind_ns;
        self.counters.slack_ns.store(slack_ns.max(1), Ordering::Relaxed);
        let to_target = behind_ns as f64 / PULL_NS + self.clock.lowering();
        let speed = 1.0 + drift + to_target.clamp(-LOWERING, LOWERING);
        Pace { speed, behind_ns: Some(behind_ns) }
    }

    /// Idle: silence until the first block's time has come.
    fn wait(&mut self, now: i64, out: &mut [f32], causes: &mut [Cause]) -> usize {
        let rest = causes.len();
        let due = self.clock.frame_at(now);
        // Before anything was played the first block is worth a little patience; later it would
        // be stale.
        let patience = if self.anchored { 0 } else { self.clock.frames(EXCESS_NS) };
        let mut silence = rest;
        while let Some(first) = self.queue.first(self.next) {
            let (index, ts, end) = (first.index, first.ts as i64, first.end() as i64);
            let early = ts - due;
            if early > 0 && early < self.clock.longest_wait() {
                silence = rest.min(early as usize);
                break;
            }
            if early + patience < 0 && end <= due {
                self.drop_before(index + 1);
                continue;
            }
            let place = if early + patience < 0 { due } else { ts };
            self.start(index, place as u64);
            return 0;
        }
        self.silent &= !self.conceal.is_sounding();
        self.conceal.release();
        self.conceal.fill(&mut self.source, &mut out[..silence * self.channels]);
        causes[..silence].fill(Cause::Silence);
        silence
    }

    /// Takes the place `pos` in the block `index`, out of silence.
    fn start(&mut self, index: u64, pos: u64) {
        self.epoch = self.queue.at(index).map_or(self.epoch, |slot| slot.epoch);
        self.set_next(index);
        self.pos = pos;
        self.played_end = pos;
        self.state = State::Playing;
        if self.anchored {
            self.count_reanchor();
        }
        if self.anchored || !self.exact {
            self.conceal.begin_join(&mut self.source);
        }
        self.anchored = true;
    }

    /// Plays on from the block at hand.
    fn play(&mut self, ended: bool, out: &mut [f32], at: usize, causes: &mut [Cause]) -> usize {
        let ch = self.channels;
        let Some(slot) =
            self.queue.at(self.next).filter(|s| s.ts <= self.pos && self.pos < s.end())
        else {
            if let Some(n) = self.rest(ended, out, at, causes) {
                return n;
            }
            self.conceal.begin(&mut self.source, &out[..at * ch]);
            self.state = State::Gap;
            self.holding = false;
            self.gap = 0;
            return 0;
        };
        let n = (causes.len() - at).min((slot.end() - self.pos) as usize);
        let audio = &mut out[at * ch..(at + n) * ch];
        self.silent &= slot.len == 0 && !self.conceal.is_sounding();
        let offset = (self.pos - slot.ts) as usize;
        match (&mut self.source, self.format.coding) {
            (Source::Opus(decoded), _) => decoded.read(slot, offset, audio),
            (Source::Pcm(_), Coding::Pcm(sample)) => {
                decode(sample, ch, slot, offset, self.exact, audio);
            }
            (Source::Pcm(_), Coding::Opus(_)) => audio.fill(0.0),
        }
        self.paused = 0;
        causes[at..at + n].fill(if slot.repair { Cause::Repaired } else { Cause::Received });
        self.conceal.join(audio);
        self.pos += n as u64;
        self.played_end = self.pos;
        if self.pos == slot.end() {
            self.queue.drop_range(self.next, self.next + 1);
            self.set_next(self.next + 1);
            self.follow(&out[..(at + n) * ch]);
        }
        n
    }

    /// The sender has said that it pauses: what its decoder makes of that is heard until the next
    /// block's time. `None` if there is no pause, or no end to it.
    fn rest(
        &mut self,
        ended: bool,
        out: &mut [f32],
        at: usize,
        causes: &mut [Cause],
    ) -> Option<usize> {
        let Source::Opus(decoded) = &mut self.source else { return None };
        let longest = LONGEST_GAP_S * u64::from(self.format.rate.hz());
        if !decoded.pauses() || self.paused >= longest || (ended && self.queue.is_empty()) {
            return None;
        }
        let mut n = causes.len() - at;
        if let Some(first) = self.queue.first(self.next) {
            let (index, epoch, end) = (first.index, first.epoch, first.end());
            if epoch != self.epoch {
                return None;
            }
            match first.ts.checked_sub(self.pos) {
                Some(early) if early > 0 => n = n.min(usize::try_from(early).unwrap_or(n)),
                _ if end <= self.pos => {
                    self.drop_before(index + 1);
                    return Some(0);
                }
                // One of the pause's own is missing, and does not matter.
                _ => {
                    self.set_next(index);
                    return Some(0);
                }
            }
        }
        let audio = &mut out[at * self.channels..(at + n) * self.channels];
        decoded.go_on(audio);
        self.silent &= audio.iter().all(|x| *x == 0.0) && !self.conceal.is_sounding();
        self.conceal.join(audio);
        causes[at..at + n].fill(Cause::Silence);
        self.pos += n as u64;
        self.played_end = self.pos;
        self.paused += n as u64;
        Some(n)
    }

    /// Looks at the successor of a block that was played to its end.
    fn follow(&mut self, written: &[f32]) {
        let Some(slot) = self.queue.at(self.next) else { return };
        if slot.epoch != self.epoch {
            // The sender's media time jumped: what it sends next is what is heard next.
            self.epoch = slot.epoch;
            self.pos = slot.ts;
            self.played_end = slot.ts;
            self.conceal.begin(&mut self.source, written);
            self.conceal.begin_join(&mut self.source);
            self.count_reanchor();
        }
    }

    /// In a gap: finds the way out, or fills a piece of it.
    fn conceal(
        &mut self,
        now: i64,
        ended: bool,
        out: &mut [f32],
        at: usize,
        causes: &mut [Cause],
    ) -> usize {
        let rest = causes.len() - at;
        if ended && self.queue.is_empty() {
            return self.fill(out, at, rest, causes, Cause::Silence);
        }
        if self.gap >= LONGEST_GAP_S * u64::from(self.format.rate.hz()) {
            self.state = State::Idle;
            return 0;
        }
        let due = self.clock.frame_at(now);
        let other_epoch = self.queue.first(self.next).filter(|s| s.epoch != self.epoch);
        if let Some(slot) = other_epoch {
            let early = slot.ts as i64 - due;
            if slot.index != self.next && early > 0 && early < self.clock.longest_wait() {
                return self.fill(out, at, rest.min(early as usize), causes, Cause::Concealed);
            }
            let (index, ts, epoch) = (slot.index, slot.ts, slot.epoch);
            self.set_next(index);
            self.epoch = epoch;
            self.pos = ts;
            self.played_end = ts;
            self.count_reanchor();
            return self.resume();
        }
        // Behind a jump still to be played, the due time says nothing about this place.
        if self.path_epoch == self.epoch {
            if let Some(hold) = self.hold(due) {
                return self.fill(out, at, rest.min(hold), causes, Cause::Concealed);
            }
            if due - self.pos as i64 > self.clock.frames(EXCESS_NS) {
                self.pos = due as u64;
                self.count_reanchor();
            }
        }
        while let Some(slot) = self.queue.first(self.next) {
            if slot.epoch != self.epoch {
                return 0;
            }
            if slot.end() > self.pos {
                break;
            }
            let index = slot.index;
            self.drop_before(index + 1);
        }
        let Some(first) = self.queue.first(self.next) else {
            let n = self.fill(out, at, rest, causes, Cause::Concealed);
            self.pos += n as u64;
            return n;
        };
        if first.ts > self.pos {
            // With no number missing it is the sender that paused.
            let cause = if first.index == self.next { Cause::Silence } else { Cause::Concealed };
            let mut missing = usize::try_from(first.ts - self.pos).unwrap_or(usize::MAX);
            let block = self.format.frames_per_block as usize;
            if let Source::Opus(decoded) = &mut self.source
                && cause == Cause::Concealed
            {
                if missing == block {
                    decoded.repair(first);
                } else if missing > block {
                    missing -= block;
                }
            }
            let n = self.fill(out, at, rest.min(missing), causes, cause);
            self.pos += n as u64;
            return n;
        }
        let index = first.index;
        self.set_next(index);
        self.resume()
    }

    /// The playout is earlier than its target: how many frames to wait in this gap. Frames of the
    /// gap itself may still be played, so the place goes back as far as the gap's beginning.
    fn hold(&mut self, due: i64) -> Option<usize> {
        let pos = self.pos as i64;
        if !self.holding && due < pos - self.clock.frames(SLACK_NS) {
            self.holding = true;
            self.count_reanchor();
        }
        if self.holding && due < pos {
            self.pos = u64::try_from(due).unwrap_or(0).max(self.played_end);
        }
        let hold = self.pos as i64 - due;
        self.holding &= hold > 0;
        if !self.holding {
            return None;
        }
        // Never for longer than any target: a clock that has gone astray must not mute a stream.
        usize::try_from(hold.min(self.clock.longest_wait())).ok()
    }

    fn resume(&mut self) -> usize {
        if let Source::Opus(decoded) = &mut self.source {
            let returns = self.queue.at(self.next);
            decoded.set_joins(returns.is_some_and(|slot| slot.ts == self.pos));
        }
        self.state = State::Playing;
        self.holding = false;
        self.conceal.begin_join(&mut self.source);
        0
    }

    fn fill(
        &mut self,
        out: &mut [f32],
        at: usize,
        n: usize,
        causes: &mut [Cause],
        cause: Cause,
    ) -> usize {
        self.silent &= !self.conceal.is_sounding();
        if cause == Cause::Silence {
            self.conceal.release();
        }
        self.conceal.fill(&mut self.source, &mut out[at * self.channels..(at + n) * self.channels]);
        causes[at..at + n].fill(cause);
        self.gap += n as u64;
        n
    }

    /// Takes what the receiver half has handed over.
    fn drain(&mut self) {
        while let Ok(slot) = self.ring.pop() {
            self.clock.set_path(slot.path);
            self.path_epoch = slot.epoch;
            if slot.generation != self.generation {
                self.generation = slot.generation;
                let dropped = self.queue.clear();
                self.count_late(dropped);
                self.splice_out_of_play();
                self.set_next(slot.index);
            }
            if !self.anchored && slot.index < self.next && self.state == State::Idle {
                self.set_next(slot.index);
            }
            if slot.index < self.next {
                self.count_late(1);
                continue;
            }
            if self.queue.is_empty() && self.state == State::Idle {
                self.set_next(slot.index);
            }
            if slot.index >= self.next + self.queue.capacity() {
                // The newest audio wins.
                self.drop_before(slot.index + 1 - self.queue.capacity());
            }
            if self.queue.put(slot) {
                self.count_late(1);
            }
        }
    }

    /// The block numbers start anew: what is heard ends, what comes is anchored afresh.
    fn splice_out_of_play(&mut self) {
        if self.state == State::Playing {
            self.conceal.begin(&mut self.source, &[]);
        }
        self.state = State::Idle;
    }

    /// Jumps to the due frame when the playout has fallen far behind it.
    fn lower_if_far_behind(&mut self, now: i64) {
        if self.state != State::Playing || self.path_epoch != self.epoch {
            return;
        }
        let due = self.clock.frame_at(now);
        if due - self.pos as i64 <= self.clock.frames(EXCESS_NS) {
            return;
        }
        let due = due as u64;
        while let Some(slot) = self.queue.first(self.next).filter(|slot| slot.end() <= due) {
            if slot.epoch != self.epoch {
                return;
            }
            let index = slot.index;
            self.drop_before(index + 1);
        }
        self.pos = due;
        self.count_reanchor();
        self.conceal.begin(&mut self.source, &[]);
        let here = self.queue.first(self.next).map(|slot| (slot.index, slot.epoch, slot.ts <= due));
        if let Some((index, epoch, true)) = here
            && epoch == self.epoch
        {
            self.set_next(index);
            self.conceal.begin_join(&mut self.source);
            return;
        }
        // The right frame has not come yet.
        self.played_end = due;
        self.state = State::Gap;
        self.holding = false;
        self.gap = 0;
    }

    fn drop_before(&mut self, index: u64) {
        let dropped = self.queue.drop_range(self.next, index);
        self.count_late(dropped);
        self.set_next(index);
    }

    fn set_next(&mut self, index: u64) {
        self.next = index;
        let generation = u64::from(self.generation & 0x7FFF_FFFF);
        // Until something was played, what comes earlier is welcome: by TCP, say, behind the first
        // block by UDP.
        let wanted = if self.anchored { index } else { 0 };
        self.counters.wanted.store(generation << 33 | wanted, Ordering::Relaxed);
    }

    fn count_late(&self, n: u64) {
        if n > 0 {
            self.counters.late.fetch_add(n, Ordering::Relaxed);
        }
    }

    fn count_reanchor(&self) {
        self.counters.reanchors.fetch_add(1, Ordering::Relaxed);
    }
}

/// Decodes a part of a block of samples that begins `offset` frames of `channels` in.
fn decode(
    sample: SampleFormat,
    channels: usize,
    slot: &Slot,
    offset: usize,
    exact: bool,
    out: &mut [f32],
) {
    if slot.len == 0 {
        out.fill(0.0);
        return;
    }
    let bytes = &slot.payload[offset * sample.bytes() * channels..slot.len];
    let n = decode_into(sample, bytes, out);
    out[n..].fill(0.0);
    if sample == SampleFormat::F32Le {
        let bound = if exact { f32::MAX } else { SANE };
        for x in out {
            *x = if x.is_finite() { x.clamp(-bound, bound) } else { 0.0 };
        }
    }
}
