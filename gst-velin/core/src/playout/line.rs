//! How one clock runs against another: a straight line through the fastest moments.
//!
//! Samples are `(t, x)`: at time `t` of one clock the other was `x` behind. Queues, wake-ups and
//! preemption only ever add to `x`, so of each window of 250 ms the least sample above the line so
//! far is the one that knows something; where these scatter, as with a capture whose chunks beat
//! against the blocks, a window lasts a second. Through these goes a straight line, by the g-h filter of
//! critical damping: at first with the gains of growing memory, which make it the least-squares
//! line of all there was (E. Brookner, *Tracking and Kalman Filtering Made Easy*, 1998, chapters 1.2
//! and 1.3), then with those of fading memory, a loop of 0.01 Hz. When the line stays off the windows to
//! one side, the clocks themselves change, and the loop widens up to 0.06 Hz.

/// The other clock at time `t` of the one: `value + slope · (t − at)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LineView {
    /// Where the line is known, ns.
    pub(super) at: i64,
    /// Its value there, ns.
    pub(super) value: i64,
    /// Its slope, ns per ns.
    pub(super) slope: f64,
}

impl LineView {
    /// The line's value at `t`, ns.
    pub(super) fn value_at(&self, t: i64) -> i64 {
        self.value.saturating_add(((t.saturating_sub(self.at)) as f64 * self.slope) as i64)
    }
}

/// Length of a window, ns.
const SHORT_NS: i64 = 250_000_000;
/// Length of a window where short ones scatter.
const LONG_NS: i64 = 4 * SHORT_NS;
/// Windows that scatter by more than this become long, …
const SCATTERS_NS: f64 = 250_000.0;
/// … and by less than this short again.
const STEADY_NS: f64 = 60_000.0;
/// 1 − θ of the fading memory, for a second: a loop of 0.01 Hz.
const NARROW: f64 = std::f64::consts::TAU * 0.01;
/// Two clocks differ by about this much before anything is known: what a few windows say beyond it
/// is rather their scatter.
const PRIOR: f64 = 300e-6;
/// How much wider the loop gets at most.
const WIDEST: f64 = 6.0;
/// The line is off when its windows lie to one side by more than this, or by more than they
/// scatter.
const OFF_NS: f64 = 40_000.0;
/// Over how many seconds "to one side" is averaged.
const SIDE_S: f64 = 2.0;
/// No pair of clocks differs by more: ±2000 ppm.
pub(super) const MAX_SLOPE: f64 = 2_000e-6;
/// A step is a sample off the line by at least this, or by eight times the scatter.
const STEP_NS: f64 = 3_000_000.0;
/// For so many windows a step away from the fast side must last before it is believed: until then
/// it may be a queue.
const STEP_WINDOWS: u32 = 4;
/// After so long without a sample the slope is worth no more than …
const LONG_PAUSE_NS: i64 = 2_000_000_000;
/// … so many windows.
const AFTER_PAUSE: u32 = 12;

/// Follows one pair of clocks.
#[derive(Debug)]
pub(super) struct Line {
    view: LineView,
    window_ns: i64,
    /// What of the value is below a nanosecond.
    rest: f64,
    /// Windows that the line knows; stops counting when the memory fades.
    windows: u32,
    started: bool,
    /// When the window in hand began.
    begin: i64,
    /// Its least sample above the line, and when that was.
    least: Option<(i64, i64)>,
    last: i64,
    /// Mean of the windows' distance from the line, with its sign.
    side: f64,
    /// Mean of their distance from that, without.
    scatter: f64,
    /// Windows in a row that say the line has stepped up.
    stepped: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            view: LineView::default(),
            window_ns: SHORT_NS,
            rest: 0.0,
            windows: 0,
            started: false,
            begin: 0,
            least: None,
            last: 0,
            side: 0.0,
            scatter: 0.0,
            stepped: 0,
        }
    }
}

impl Line {
    /// What is known. While a few windows scatter, their slope counts only in part.
    pub(super) fn view(&self) -> LineView {
        // Of the slope of a least-squares line through n equidistant points.
        let n = f64::from(self.windows.max(1));
        let error = self.scatter * 12.0_f64.sqrt() / (self.window_ns as f64 * n * n.sqrt());
        let trust = PRIOR * PRIOR / (PRIOR * PRIOR + error * error);
        LineView { slope: self.view.slope * trust, ..self.view }
    }

    /// How much the windows scatter around the line, ns: about so uncertain is its value.
    pub(super) fn scatter_ns(&self) -> i64 {
        self.scatter as i64
    }

    /// Knows nothing about the value any more, though still the slope.
    pub(super) fn restart_value(&mut self) {
        self.started = false;
        self.least = None;
        self.stepped = 0;
        self.side = 0.0;
    }

    /// At `t` the other clock was `x` behind. Times that go back count as the last.
    pub(super) fn record(&mut self, t: i64, x: i64) {
        if !self.started {
            self.started = true;
            (self.view.at, self.view.value, self.rest) = (t, x, 0.0);
            (self.begin, self.last) = (t, t);
            self.windows = self.windows.min(AFTER_PAUSE);
        }
        let t = t.max(self.last);
        if t - self.last > LONG_PAUSE_NS {
            self.windows = self.windows.min(AFTER_PAUSE);
            self.least = None;
            self.begin = t;
        }
        self.last = t;
        let mut above = x.saturating_sub(self.view.value_at(t));
        // Nothing is faster than the fastest way, so a sample far below the line is a new one; and
        // before the first window is full each lower one is.
        if (above as f64) < -self.step_ns() || (self.windows == 0 && above < 0) {
            self.shift(t, above as f64);
            self.least = None;
            above = 0;
        }
        if self.least.is_none_or(|(least, _)| above < least) {
            self.least = Some((above, t));
        }
        if t - self.begin >= self.window_ns {
            self.begin = t;
            if let Some((least, at)) = self.least.take() {
                self.finish_window(at, least as f64);
            }
        }
    }

    /// Takes over what a window has found: its least distance above the line.
    fn finish_window(&mut self, t: i64, off: f64) {
        if self.windows >= 2 && off > self.step_ns() {
            self.stepped += 1;
            if self.stepped >= STEP_WINDOWS {
                self.stepped = 0;
                self.shift(t, off);
            }
            return;
        }
        self.stepped = 0;
        self.windows = (self.windows + 1).min(1_000);
        let n = f64::from(self.windows);
        let seconds = self.window_ns as f64 / 1e9;
        let average = (seconds / SIDE_S).max(1.0 / n);
        self.side += (off - self.side) * average;
        self.scatter += ((off - self.side).abs() - self.scatter) * average;
        let widen = (self.side.abs() / OFF_NS.max(self.scatter)).clamp(1.0, WIDEST);
        let fading = NARROW * seconds * widen;
        let growing = (2.0 * (2.0 * n - 1.0) / (n * (n + 1.0)), 6.0 / (n * (n + 1.0)));
        let g = growing.0.max(1.0 - (1.0 - fading) * (1.0 - fading)).min(1.0);
        let h = if self.windows == 1 { 0.0 } else { growing.1.max(fading * fading).min(1.0) };
        // Of two windows the two points count, of more the number of windows.
        let apart = if self.windows == 2 { t - self.view.at } else { self.window_ns };
        self.shift(t, g * off);
        let slope = self.view.slope + h * off / apart.max(self.window_ns / 4) as f64;
        self.view.slope = slope.clamp(-MAX_SLOPE, MAX_SLOPE);
        self.choose_window();
    }

    /// Short windows know more often, long ones know better.
    fn choose_window(&mut self) {
        if self.window_ns == SHORT_NS && self.windows >= 4 && self.scatter > SCATTERS_NS {
            self.window_ns = LONG_NS;
            self.windows = (self.windows / 4).max(1);
        } else if self.window_ns == LONG_NS && self.windows >= 4 && self.scatter < STEADY_NS {
            self.window_ns = SHORT_NS;
            self.windows *= 4;
        }
    }

    /// Moves the line by `by` ns, and the place where it is known to `t`.
    fn shift(&mut self, t: i64, by: f64) {
        let moved = (t - self.view.at) as f64 * self.view.slope + by + self.rest;
        let whole = moved.floor();
        self.view.value = self.view.value.saturating_add(whole as i64);
        self.rest = moved - whole;
        self.view.at = t;
    }

    fn step_ns(&self) -> f64 {
        STEP_NS.max(8.0 * self.scatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const BLOCK: i64 = 2_500_000;

    /// A small generator (splitmix64).
    fn below(seed: &mut u64, n: i64) -> i64 {
        *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 1) as i64 % n
    }

    /// Feeds `seconds` of blocks whose clock has run away by `drift(t)` at time `t`.
    fn feed(line: &mut Line, from_s: i64, seconds: i64, jitter: i64, drift: impl Fn(f64) -> f64) {
        let mut seed = from_s as u64;
        for i in from_s * 400..(from_s + seconds) * 400 {
            let t = i * BLOCK;
            let x = 7 * MS + drift(t as f64) as i64 + below(&mut seed, jitter);
            line.record(t, x);
        }
    }

    #[test]
    fn a_steady_drift_is_known_within_ten_seconds_and_then_ever_better() {
        for ppm in [-300.0, -20.0, 0.0, 300.0] {
            let mut line = Line::default();
            let drift = |t: f64| t * ppm * 1e-6;
            feed(&mut line, 0, 10, 5 * MS, drift);
            assert!((line.view().slope * 1e6 - ppm).abs() < 10.0, "{:?}", line.view());
            feed(&mut line, 10, 10, 5 * MS, drift);
            assert!((line.view().slope * 1e6 - ppm).abs() < 5.0, "{:?}", line.view());
            for minute in 0..30 {
                feed(&mut line, 20 + minute * 60, 60, 5 * MS, drift);
                let end = (20 + minute * 60 + 60) * 1_000 * MS;
                assert!((line.view().slope * 1e6 - ppm).abs() < 3.0, "{minute}: {:?}", line.view());
                let off = line.view().value_at(end) - 7 * MS - drift(end as f64) as i64;
                // The least of a hundred samples of 0 to 5 ms lies 50 µs above the fastest way.
                assert!((0..120_000).contains(&off), "{minute}: {off} ns");
            }
        }
    }

    #[test]
    fn a_ramp_is_followed() {
        let mut line = Line::default();
        feed(&mut line, 0, 60, MS / 5, |_| 0.0);
        // 1 ppm more each second.
        let ramp = |t: f64| {
            let s = (t * 1e-9 - 60.0).max(0.0);
            0.5 * s * s * 1_000.0
        };
        for s in 60..360 {
            feed(&mut line, s, 1, MS / 5, ramp);
            let t = (s + 1) * 1_000 * MS;
            let off = line.view().value_at(t) - 7 * MS - ramp(t as f64) as i64;
            assert!(off.abs() < 200_000, "{s} s: {off} ns");
        }
    }

    #[test]
    fn chunks_that_beat_against_the_blocks_are_no_drift() {
        for frames in [256, 512, 960, 1_024, 2_048, 1_200, 3_072, 4_096] {
            let mut line = Line::default();
            // A block of 120 frames leaves with the chunk that holds its last frame.
            for i in 0..40 * 400_i64 {
                let end = (i + 1) * 120;
                let chunk = (end + frames - 1) / frames;
                let t = chunk * frames * 1_000_000_000 / 48_000;
                line.record(t, t - i * BLOCK);
                for (second, most) in [(5, 250e-6), (39, 5e-6)] {
                    let slope = line.view().slope;
                    assert!(
                        i != second * 400 || slope.abs() < most,
                        "{frames}, {second}: {slope:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_step_is_taken_as_one() {
        for (step, within) in [(-20 * MS, 1), (30 * MS, 2)] {
            let mut line = Line::default();
            feed(&mut line, 0, 60, MS, |t| t * 50e-6);
            let stepped = |t: f64| t * 50e-6 + step as f64;
            feed(&mut line, 60, within, MS, stepped);
            let t = (60 + within) * 1_000 * MS;
            let off = line.view().value_at(t) - 7 * MS - stepped(t as f64) as i64;
            assert!(off.abs() < 200_000, "{step}: {off}");
            assert!((line.view().slope * 1e6 - 50.0).abs() < 3.0, "{step}: {:?}", line.view());
        }
    }

    #[test]
    fn a_queue_of_half_a_second_moves_nothing() {
        let mut line = Line::default();
        feed(&mut line, 0, 30, MS, |t| t * 50e-6);
        let before = line.view();
        feed(&mut line, 30, 0, MS, |_| 0.0);
        for i in 12_000..12_200 {
            // A stall: what was sent in it arrives when it ends, at 30.5 s.
            line.record(30_500 * MS, 30_500 * MS - i * BLOCK + 7 * MS);
        }
        feed(&mut line, 31, 10, MS, |t| t * 50e-6);
        assert!((line.view().slope - before.slope).abs() < 3e-6, "{:?}", line.view());
    }

    #[test]
    fn the_first_sample_is_believed_until_a_faster_one_comes() {
        let mut line = Line::default();
        line.record(0, 9 * MS);
        assert_eq!(line.view().value_at(5 * MS), 9 * MS);
        line.record(BLOCK, 8 * MS);
        line.record(2 * BLOCK, 10 * MS);
        assert_eq!(line.view().value_at(10 * MS), 8 * MS);
    }
}
