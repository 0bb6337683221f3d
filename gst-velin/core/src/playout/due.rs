//! When a frame is due: the stream's media time, the path's clock and the playout delay.

use std::time::Duration;

use super::PlayoutDelay;
use super::block::PathClock;
use crate::codec::StreamFormat;
use crate::units::SampleRate;

/// Delay beyond one block before the path is known.
const START_NS: i64 = 8_000_000;
/// Least delay beyond one block afterwards: this class of machine hiccups.
const FLOOR_NS: i64 = 4_000_000;
/// The longest adaptive delay.
pub(super) const MAX_AUTO: Duration = Duration::from_millis(200);
/// No wait for a due time is longer than the target by more than this: a clock that has gone
/// astray must not mute a stream.
const PATIENCE_S: i64 = 1;

/// Turns output time into stream frames. A frame is due at `base + frame / rate + margin`.
#[derive(Debug)]
pub(super) struct DueClock {
    rate: SampleRate,
    delay: PlayoutDelay,
    block_ns: i64,
    /// What the output itself needs: its period and the resampler, ns.
    overhead_ns: i64,
    path: PathClock,
}

impl DueClock {
    pub(super) fn new(format: &StreamFormat, delay: PlayoutDelay) -> Self {
        Self {
            rate: format.rate,
            delay,
            block_ns: format.block_duration().as_nanos() as i64,
            overhead_ns: 0,
            path: PathClock::default(),
        }
    }

    pub(super) fn set_path(&mut self, path: PathClock) {
        self.path = path;
    }

    pub(super) fn set_overhead(&mut self, overhead_ns: i64) {
        self.overhead_ns = overhead_ns;
    }

    /// The frame whose time is `now`; negative before the stream's first.
    pub(super) fn frame_at(&self, now: i64) -> i64 {
        let ns = i128::from(now) - i128::from(self.path.base_ns) - i128::from(self.margin_ns());
        let frame = (ns * i128::from(self.rate.hz())).div_euclid(1_000_000_000);
        // A difference of times below 2^64 ns, at no more than 192 kHz: it fits.
        frame as i64
    }

    /// From the capture of a frame on the fastest path to its playout at `now`.
    pub(super) fn delay_ns(&self, now: i64, frame: u64) -> i64 {
        now - self.path.base_ns - self.nanos(frame) + self.block_ns
    }

    /// What [`delay_ns`](Self::delay_ns) should be.
    pub(super) fn target_ns(&self) -> i64 {
        self.block_ns + self.margin_ns()
    }

    /// The longest reasonable wait for a frame that has come, in frames.
    pub(super) fn longest_wait(&self) -> i64 {
        self.frames(self.margin_ns()) + PATIENCE_S * i64::from(self.rate.hz())
    }

    /// How long `frames` last, ns.
    pub(super) fn nanos(&self, frames: u64) -> i64 {
        self.rate.duration_of(frames).as_nanos() as i64
    }

    /// Frames in `ns`.
    pub(super) fn frames(&self, ns: i64) -> i64 {
        ns * i64::from(self.rate.hz()) / 1_000_000_000
    }

    /// Delay beyond one block.
    fn margin_ns(&self) -> i64 {
        match self.delay {
            PlayoutDelay::Fixed(delay) => (delay.as_nanos() as i64 - self.block_ns).max(0),
            PlayoutDelay::Adaptive(_) => {
                let least = if self.path.settled { FLOOR_NS } else { START_NS };
                let most = (MAX_AUTO.as_nanos() as i64 - self.block_ns).max(least);
                (self.path.jitter_ns.max(self.path.allowance_ns) + self.overhead_ns)
                    .clamp(least, most)
            }
        }
    }
}
