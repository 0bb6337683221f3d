//! Counters that add up, written by the two halves, read by anyone.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

/// A stream's counters. The halves write, any thread takes a [`snapshot`](Self::snapshot).
#[derive(Debug, Default)]
pub struct StreamCounters {
    // Written by the receiver half only (`late` by both).
    pub(super) blocks: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) duplicate: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) reordered: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) overrun: AtomicU64,
    /// Extra delay beyond the block that the arrivals ask for, ns.
    pub(super) jitter_ns: AtomicI64,
    pub(super) nacks: AtomicU64,
    pub(super) asked: AtomicU64,
    pub(super) by_retransmission: AtomicU64,
    pub(super) by_redundancy: AtomicU64,
    pub(super) repaired_late: AtomicU64,
    pub(super) needless: AtomicU64,
    /// Delay beyond the block that repair needs, ns.
    pub(super) allowance_ns: AtomicI64,
    // Written by the player half only. `sequence` is odd while a group of frames is being added.
    sequence: AtomicU32,
    received: AtomicU64,
    repaired: AtomicU64,
    concealed: AtomicU64,
    silence: AtomicU64,
    played: AtomicU64,
    pub(super) reanchors: AtomicU64,
    pub(super) delay_ns: AtomicI64,
    pub(super) target_ns: AtomicI64,
    /// How long an answer to a request for a lost block takes, ns; 0 until one was seen.
    pub(super) rtt_ns: AtomicI64,
    /// A block's own duration, ns.
    pub(super) block_ns: AtomicI64,
    /// How far the codec's encoder looks ahead, ns.
    pub(super) codec_ns: AtomicI64,
    /// What the output needs of the delay, ns.
    pub(super) output_ns: AtomicI64,
    /// How much faster than nominally the stream is played, in billionths.
    pub(super) drift_ppb: AtomicI64,
    /// A block may still be played if it comes so long after its own end on the fastest path, ns;
    /// 0: not known.
    pub(super) slack_ns: AtomicI64,
    /// First block the player may still use (33 bits) below its generation (31 bits).
    pub(super) wanted: AtomicU64,
}

/// What [`StreamCounters::snapshot`] returns.
///
/// Frames are frames of the output, counted by the cause of the input frame nearest to them:
/// `received + repaired + concealed + silence == played`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Frames from blocks that came in their first packet, the sender's silence included.
    pub received: u64,
    /// Frames from blocks that came as a copy or a retransmission.
    pub repaired: u64,
    /// Frames made up because a due block was missing.
    pub concealed: u64,
    /// Frames while no audio of the sender was due: before its first block, in its own pauses,
    /// after two seconds without a block, after its end.
    pub silence: u64,
    /// All frames since the stream joined the mixer.
    pub played: u64,
    /// Blocks handed to the player.
    pub blocks: u64,
    /// Blocks that came after their time, or whose time passed before the output took them.
    pub late: u64,
    /// Blocks that came again.
    pub duplicate: u64,
    /// Blocks that have not come although a later one has.
    pub lost: u64,
    /// Blocks that came after a later one.
    pub reordered: u64,
    /// Blocks whose payload did not fit the stream's format.
    pub malformed: u64,
    /// Blocks dropped because the player took none for long.
    pub overrun: u64,
    /// Packets that asked for missing blocks.
    pub nacks: u64,
    /// Times a missing block was asked for.
    pub asked: u64,
    /// Blocks that came in time because they had been asked for.
    pub by_retransmission: u64,
    /// Blocks that came in time as a copy in a later packet.
    pub by_redundancy: u64,
    /// Copies and retransmissions that came after their time.
    pub repaired_late: u64,
    /// Copies and retransmissions of blocks that were there: the price of asking early.
    pub needless: u64,
    /// Times the playout's place was set anew, the first time not counted.
    pub reanchors: u64,
    /// From a sample's capture on the fastest recent path to its playout.
    pub delay: Duration,
    /// What the delay should be.
    pub target: Duration,
    /// Delay beyond one block that the arrivals ask for.
    pub jitter: Duration,
    /// How long an answer to a request for a lost block takes, or a PING; zero until one was seen.
    pub rtt: Duration,
    /// The part of the delay that is a block's own duration.
    pub block: Duration,
    /// The part of the delay that the codec adds beside the block: its encoder's look-ahead.
    pub codec: Duration,
    /// The part of the delay that the output needs: its period and the resampler's filter.
    pub output: Duration,
    /// How much faster the sender's clock runs than the output's, in billionths (1000 = 1 ppm).
    pub drift_ppb: i64,
    /// Delay beyond one block that repair needs.
    pub allowance: Duration,
}

impl StreamStats {
    /// Whether every played frame has a cause.
    pub fn adds_up(&self) -> bool {
        self.received + self.repaired + self.concealed + self.silence == self.played
    }
}

/// What a mixer did to the sum of its streams. The mixer writes, any thread reads.
#[derive(Debug)]
pub struct MixCounters {
    limiter_gain: AtomicU32,
    limited: AtomicU64,
}

impl Default for MixCounters {
    fn default() -> Self {
        Self { limiter_gain: AtomicU32::new(1.0_f32.to_bits()), limited: AtomicU64::new(0) }
    }
}

impl MixCounters {
    /// The limiter's gain at the end of the last render, linear; 1.0 when it is not acting.
    pub fn limiter_gain(&self) -> f32 {
        f32::from_bits(self.limiter_gain.load(Ordering::Relaxed))
    }

    /// Frames that the limiter made quieter, since the mixer was made.
    pub fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// Only the mixer calls this.
    pub(super) fn set(&self, limiter_gain: f32, limited: u64) {
        self.limiter_gain.store(limiter_gain.to_bits(), Ordering::Relaxed);
        self.limited.store(limited, Ordering::Relaxed);
    }
}

/// Why a frame sounds as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Received,
    Repaired,
    Concealed,
    Silence,
}

/// Played frames by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FrameCounts([u64; 4]);

impl FrameCounts {
    pub(super) fn add(&mut self, cause: Cause) {
        self.0[cause as usize] += 1;
    }

    pub(super) fn of(&self, cause: Cause) -> u64 {
        self.0[cause as usize]
    }
}

impl StreamCounters {
    /// The state now; the frame counts belong together.
    pub fn snapshot(&self) -> StreamStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let nanos = |counter: &AtomicI64| {
            Duration::from_nanos(u64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(0))
        };
        let mut stats = StreamStats {
            blocks: load(&self.blocks),
            late: load(&self.late),
            duplicate: load(&self.duplicate),
            lost: load(&self.lost),
            reordered: load(&self.reordered),
            malformed: load(&self.malformed),
            overrun: load(&self.overrun),
            nacks: load(&self.nacks),
            asked: load(&self.asked),
            by_retransmission: load(&self.by_retransmission),
            by_redundancy: load(&self.by_redundancy),
            repaired_late: load(&self.repaired_late),
            needless: load(&self.needless),
            reanchors: load(&self.reanchors),
            delay: nanos(&self.delay_ns),
            target: nanos(&self.target_ns),
            jitter: nanos(&self.jitter_ns),
            rtt: nanos(&self.rtt_ns),
            block: nanos(&self.block_ns),
            codec: nanos(&self.codec_ns),
            output: nanos(&self.output_ns),
            drift_ppb: self.drift_ppb.load(Ordering::Relaxed),
            allowance: nanos(&self.allowance_ns),
            ..StreamStats::default()
        };
        // The player may be preempted in the middle of its stores, so no waiting for ever.
        for _ in 0..100 {
            let before = self.sequence.load(Ordering::Acquire);
            stats.received = load(&self.received);
            stats.repaired = load(&self.repaired);
            stats.concealed = load(&self.concealed);
            stats.silence = load(&self.silence);
            stats.played = load(&self.played);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return stats;
            }
            std::hint::spin_loop();
        }
        stats.played = stats.received + stats.repaired + stats.concealed + stats.silence;
        stats
    }

    /// Adds one render's frames. Only the player half calls this.
    pub(super) fn add_frames(&self, counts: FrameCounts, played: u64) {
        // One writer: a load and a store do, and cost less than a locked addition.
        let add = |counter: &AtomicU64, n| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        };
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let [received, repaired, concealed, silence] = counts.0;
        add(&self.received, received);
        add(&self.repaired, repaired);
        add(&self.concealed, concealed);
        add(&self.silence, silence);
        add(&self.played, played);
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }
}
