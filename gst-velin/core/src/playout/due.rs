//! When a frame is due: the stream's media time, the path's clock and the playout delay.

use std::time::Duration;

use super::block::PathClock;
use super::{PlayoutDelay, Profile};
use crate::codec::StreamFormat;
use crate::units::SampleRate;

/// The longest adaptive delay.
pub(super) const MAX_AUTO: Duration = Duration::from_millis(200);
/// No wait for a due time is longer than the target by more than this: a clock that has gone
/// astray must not mute a stream.
const PATIENCE_S: i64 = 1;
/// How fast an adaptive delay comes down: 0.5 ms a second, inaudible as a change of pitch.
pub(super) const LOWERING: f64 = 500e-6;

/// What a profile asks of the delay.
#[derive(Clone, Copy, Debug)]
struct Wish {
    /// Delay beyond one block before the path is known, ns.
    start_ns: i64,
    /// Least delay beyond one block afterwards, ns.
    floor_ns: i64,
    /// How long a delay must have been longer than needed before it comes down, ns.
    hold_ns: i64,
}

impl Wish {
    fn of(profile: Profile) -> Self {
        const MS: i64 = 1_000_000;
        match profile {
            Profile::Low => Self { start_ns: 4 * MS, floor_ns: 0, hold_ns: 5_000 * MS },
            Profile::Voice => Self { start_ns: 8 * MS, floor_ns: 4 * MS, hold_ns: 5_000 * MS },
            Profile::Music => Self { start_ns: 8 * MS, floor_ns: 4 * MS, hold_ns: 10_000 * MS },
        }
    }
}

/// Turns output time into stream frames. A frame is due at
/// `fastest way + frame / rate + margin`.
#[derive(Debug)]
pub(super) struct DueClock {
    rate: SampleRate,
    delay: PlayoutDelay,
    block_ns: i64,
    /// By how much what is decoded lags behind the frame numbers, ns.
    codec_ns: i64,
    /// What the output itself needs: its period and the resampler, ns.
    overhead_ns: i64,
    path: PathClock,
    /// Delay beyond one block, on its way to what is wanted, ns.
    margin_ns: i64,
    /// What of it is below a nanosecond.
    rest: f64,
    /// Since when less would do.
    longer_since: Option<i64>,
    was_settled: bool,
    advanced: Option<i64>,
    lowering: bool,
}

impl DueClock {
    pub(super) fn new(format: &StreamFormat, delay: PlayoutDelay) -> Self {
        let mut this = Self {
            rate: format.rate,
            delay,
            block_ns: format.block_duration().as_nanos() as i64,
            codec_ns: format.codec_delay().as_nanos() as i64,
            overhead_ns: 0,
            path: PathClock::default(),
            margin_ns: 0,
            rest: 0.0,
            longer_since: None,
            was_settled: false,
            advanced: None,
            lowering: false,
        };
        this.margin_ns = this.wanted_ns();
        this
    }

    pub(super) fn set_path(&mut self, path: PathClock) {
        self.path = path;
        self.raise();
    }

    pub(super) fn set_overhead(&mut self, overhead_ns: i64) {
        self.overhead_ns = overhead_ns;
        self.raise();
    }

    /// It is `now`: lets the delay come down if it may.
    pub(super) fn advance(&mut self, now: i64) {
        let since = self.advanced.replace(now).unwrap_or(now);
        // A render that is late, or a clock that was set, is no reason to hurry.
        let passed = now.saturating_sub(since).clamp(0, 100_000_000);
        let wanted = self.wanted_ns();
        let settles = self.path.settled && !std::mem::replace(&mut self.was_settled, true);
        self.was_settled = self.path.settled;
        self.lowering = false;
        if wanted >= self.margin_ns {
            self.margin_ns = wanted;
            self.longer_since = None;
            return;
        }
        let PlayoutDelay::Adaptive(profile) = self.delay else {
            self.margin_ns = wanted;
            return;
        };
        let hold_ns = Wish::of(profile).hold_ns;
        // What the beginning took to be on the safe side needs no hold.
        let since = self.longer_since.get_or_insert(now);
        if settles {
            *since = now.saturating_sub(hold_ns);
        }
        if now.saturating_sub(*since) < hold_ns {
            return;
        }
        let step = passed as f64 * LOWERING + self.rest;
        self.rest = step.fract();
        self.margin_ns = (self.margin_ns - step as i64).max(wanted);
        self.lowering = true;
    }

    /// How much faster than the sender the playout is to run, so that the delay comes down.
    pub(super) fn lowering(&self) -> f64 {
        if self.lowering { LOWERING } else { 0.0 }
    }

    /// How much faster the sender's clock runs than the host's, less the host's own.
    pub(super) fn drift(&self) -> f64 {
        -self.path.base.slope
    }

    /// The frame whose time is `now`, to the nearest; negative before the stream's first.
    pub(super) fn frame_at(&self, now: i64) -> i64 {
        let frames = i128::from(self.media_at(now)) * i128::from(self.rate.hz());
        // A difference of times below 2^64 ns, at no more than 192 kHz: it fits.
        (frames + 500_000_000).div_euclid(1_000_000_000) as i64
    }

    /// From `frame` to the one whose time is `now`, in ns of media time.
    pub(super) fn behind_ns(&self, now: i64, frame: u64) -> i64 {
        self.media_at(now).saturating_sub(self.nanos(frame))
    }

    /// The media time that is due at `now`, ns.
    fn media_at(&self, now: i64) -> i64 {
        now.saturating_sub(self.path.base.value_at(now)).saturating_sub(self.margin_ns)
    }

    /// From the capture of a frame on the fastest path to its playout, as it should be.
    pub(super) fn target_ns(&self) -> i64 {
        self.block_ns + self.codec_ns + self.margin_ns
    }

    /// How long after the fastest path a block may come and still be played whole, if the place is
    /// where it should be, ns.
    pub(super) fn slack_ns(&self) -> i64 {
        self.margin_ns - self.overhead_ns
    }

    /// The longest reasonable wait for a frame that has come, in frames.
    pub(super) fn longest_wait(&self) -> i64 {
        self.frames(self.margin_ns) + PATIENCE_S * i64::from(self.rate.hz())
    }

    /// How long `frames` last, ns.
    pub(super) fn nanos(&self, frames: u64) -> i64 {
        self.rate.duration_of(frames).as_nanos() as i64
    }

    /// Frames in `ns`.
    pub(super) fn frames(&self, ns: i64) -> i64 {
        ns * i64::from(self.rate.hz()) / 1_000_000_000
    }

    /// More delay is needed at once.
    fn raise(&mut self) {
        let wanted = self.wanted_ns();
        if wanted > self.margin_ns {
            self.margin_ns = wanted;
            self.longer_since = None;
        }
    }

    /// Delay beyond one block and the codec's own.
    fn wanted_ns(&self) -> i64 {
        let fixed_ns = self.block_ns + self.codec_ns;
        match self.delay {
            PlayoutDelay::Fixed(delay) => (delay.as_nanos() as i64 - fixed_ns).max(0),
            PlayoutDelay::Adaptive(profile) => {
                let wish = Wish::of(profile);
                let least = if self.path.settled { wish.floor_ns } else { wish.start_ns };
                let most = (MAX_AUTO.as_nanos() as i64 - fixed_ns).max(least);
                (self.path.jitter_ns.max(self.path.allowance_ns) + self.overhead_ns)
                    .clamp(least, most)
            }
        }
    }
}
