//! When the next output is due: counted in frames, so that no timestamp is ever rounded twice. And
//! what time it is, by a clock that may say so late, or wrongly.

use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use velin_core::time::MonoTime;
use velin_core::units::SampleRate;

/// How late `create` may be called and still catch up back to back.
pub(super) const CATCH_UP: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// A timeline of output frames in running time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    origin: gst::ClockTime,
    frames: u64,
    rate: SampleRate,
}

impl Timeline {
    /// Frame 0 is due at `origin`.
    pub(super) fn new(origin: gst::ClockTime, rate: SampleRate) -> Self {
        Self { origin, frames: 0, rate }
    }

    /// The next frame's number.
    pub(super) fn frame(&self) -> u64 {
        self.frames
    }

    /// When the next frame is due.
    pub(super) fn due(&self) -> gst::ClockTime {
        self.at(self.frames)
    }

    /// Goes on by `frames`; gives the exact time they last.
    pub(super) fn advance(&mut self, frames: u64) -> gst::ClockTime {
        let before = self.due();
        self.frames += frames;
        self.due() - before
    }

    fn at(&self, frames: u64) -> gst::ClockTime {
        let ns = u128::from(frames) * 1_000_000_000 / u128::from(self.rate.hz());
        self.origin + gst::ClockTime::from_nseconds(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

/// The time of a clock and the host's, read at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// The clock's time.
    pub(super) clock: gst::ClockTime,
    /// The host's.
    pub(super) mono: MonoTime,
}

impl Pair {
    /// Whoever is interrupted between the two tries again, so often in all.
    const TRIES: u32 = 3;
    /// Near enough.
    const TIGHT: gst::ClockTime = gst::ClockTime::from_useconds(20);

    /// The tightest of a few readings: the clock, the host's, the clock again.
    pub(super) fn read(
        mut clock: impl FnMut() -> gst::ClockTime,
        mut mono: impl FnMut() -> MonoTime,
    ) -> Self {
        let mut read = || {
            let before = clock();
            let mono = mono();
            let width = clock().saturating_sub(before);
            (width, Self { clock: before + width / 2, mono })
        };
        let mut best = read();
        for _ in 1..Self::TRIES {
            if best.0 <= Self::TIGHT {
                break;
            }
            let next = read();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }
}

/// What time it is for the output: what its clock says, or for the clock of a sound card, which is
/// read from afar, what the clock says in the long run.
///
/// `pulsesink` on PipeWire is the reason: for its first ten seconds its clock goes wrong by up to
/// 5 % and is out by 150 ms, and it moves in steps of 20 ms later, while the card plays steadily.
/// The difference would be mistaken for a path that got faster, which is followed by leaving sound
/// out. So in its first seconds the host's clock is followed, and that of the card hardly at all: a
/// sink that is given a little too much holds us back, and one that runs dry is fed at once. Later the
/// card's is taken at its word while nothing is played.
#[derive(Debug)]
pub(super) struct Pace {
    clock: gst::Clock,
    /// What is waited on instead, unless the clock is exact by itself as the system's is.
    host: Option<gst::Clock>,
    /// Whoever waits can do so by the host's clock, without GStreamer's.
    plain: bool,
    /// The wait that is over.
    id: Option<gst::SingleShotClockId>,
    /// How far the clock is ahead of the host's, in the long run, in ns; and when it was so.
    ahead: Option<(f64, MonoTime)>,
    /// Since when the clock is read.
    began: Option<MonoTime>,
}

/// How to wait.
#[derive(Debug)]
pub(super) enum Nap {
    /// So long, by the host's clock.
    For(Duration),
    /// Until a clock says so.
    Until(gst::SingleShotClockId),
}

/// Whether threads can wait for the host's clock by themselves, as exactly as GStreamer's does and
/// with half its changes of thread: it sleeps twice, for most of the time and for the rest.
const NAPS: bool = cfg!(target_os = "linux");

/// Whether a clock is the host's own monotonic one.
fn is_plain(clock: &gst::Clock) -> bool {
    clock.type_() == gst::SystemClock::static_type()
        && clock.property::<gst::ClockType>("clock-type") == gst::ClockType::Monotonic
}

/// What is known of an output beside its clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// Something is heard.
    pub(super) playing: bool,
    /// What the sink holds when all goes well.
    pub(super) buffered: gst::ClockTime,
}

impl Pace {
    /// How long a difference takes to go, in seconds.
    const MEMORY: f64 = 2.0;
    /// It goes no faster than this: more than any two cards differ.
    const FASTEST: f64 = 1_000e-6;
    /// No card goes wrong by so much at once: it is read wrongly, or it is another. In ns.
    const DOUBTFUL: f64 = 5e6;
    /// How fast a doubtful difference goes: nobody hears it …
    const SLOWLY: f64 = 300e-6;
    /// … and how fast while the clock is young.
    const HARDLY: f64 = 50e-6;
    /// How long a clock is young.
    const YOUNG: Duration = Duration::from_secs(20);
    /// How fast if the sink would run dry otherwise.
    const AT_ONCE: f64 = 10_000e-6;
    /// Beyond it the clock has jumped: it, or the card, was stopped meanwhile. In ns.
    const JUMP: f64 = 300e6;

    pub(super) fn new(clock: gst::Clock) -> Self {
        let audio = glib::Type::from_name("GstAudioClock");
        let smooth = audio.is_some_and(|audio| clock.type_().is_a(audio));
        Self {
            plain: NAPS && (smooth || is_plain(&clock)),
            clock,
            host: smooth.then(gst::SystemClock::obtain),
            id: None,
            ahead: None,
            began: None,
        }
    }

    /// How to wait for `time`, from now on.
    pub(super) fn wait_for(&mut self, now: Pair, time: gst::ClockTime) -> Nap {
        if self.plain {
            return Nap::For(time.into());
        }
        let (clock, time) = match &self.host {
            None => (&self.clock, now.clock + time),
            // A clock that moves in steps would wake in steps.
            Some(host) => (host, host.time() + time),
        };
        // The one before is over: nothing is allocated once there is one.
        let before = self.id.take();
        let again = before.filter(|id| clock.single_shot_id_reinit(id, time).is_ok());
        let id = again.unwrap_or_else(|| clock.new_single_shot_id(time));
        Nap::Until(self.id.insert(id).clone())
    }

    /// The clock that it is for.
    pub(super) fn clock(&self) -> &gst::Clock {
        &self.clock
    }

    /// The time at which the clock said what `pair` says.
    pub(super) fn time(&mut self, pair: Pair, output: Output) -> gst::ClockTime {
        if self.host.is_none() {
            return pair.clock;
        }
        let mono = pair.mono.as_nanos() as f64;
        let read = pair.clock.nseconds() as f64 - mono;
        let began = *self.began.get_or_insert(pair.mono);
        let is_young = pair.mono.since(began) < Self::YOUNG;
        let follows = output.playing || is_young;
        let ahead = match self.ahead {
            Some((ahead, since)) if follows && (read - ahead).abs() < Self::JUMP => {
                let passed = pair.mono.as_nanos().saturating_sub(since.as_nanos()) as f64;
                let share = (passed / (Self::MEMORY * 1e9)).min(1.0);
                let off = read - ahead;
                let most = if off > output.buffered.nseconds() as f64 / 2.0 {
                    Self::AT_ONCE
                } else if off.abs() > Self::DOUBTFUL && is_young {
                    Self::HARDLY
                } else if off.abs() > Self::DOUBTFUL {
                    Self::SLOWLY
                } else {
                    Self::FASTEST
                };
                ahead + (off * share).clamp(-most * passed, most * passed)
            }
            _ => read,
        };
        self.ahead = Some((ahead, pair.mono));
        gst::ClockTime::from_nseconds((mono + ahead).max(0.0) as u64)
    }
}

/// How much earlier than its timestamps say an output is wanted that goes at the sender's pace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lead {
    ns: f64,
}

impl Lead {
    /// How long a difference takes to go, in seconds.
    const MEMORY: f64 = 1.0;
    /// The largest difference of two clocks that is followed.
    const MOST: f64 = 2_000e-6;

    /// When what is due at `due` is wanted.
    pub(super) fn wanted(self, due: gst::ClockTime) -> gst::ClockTime {
        let wanted = due.nseconds() as f64 - self.ns;
        gst::ClockTime::from_nseconds(wanted.max(0.0) as u64)
    }

    /// `period` was played `behind_ns` later than the sender's clock would have it.
    pub(super) fn follow(&mut self, behind_ns: Option<i64>, period: Duration) {
        let Some(behind) = behind_ns else { return };
        let passed = period.as_secs_f64();
        let most = Self::MOST * passed * 1e9;
        self.ns += (behind as f64 * passed / Self::MEMORY).clamp(-most, most);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MS: u64 = 1_000_000;

    /// Both clocks at once, by a script of how long each reading takes.
    fn read(takes: &[u64]) -> (Pair, u64, usize) {
        let (now, calls) = (Cell::new(1_000 * MS), Cell::new(0));
        let tick = || {
            now.set(now.get() + takes.get(calls.get()).copied().unwrap_or(0));
            calls.set(calls.get() + 1);
            now.get()
        };
        let pair = Pair::read(
            || gst::ClockTime::from_nseconds(tick() + 5 * MS),
            || MonoTime::from_nanos(tick()),
        );
        let error = pair.clock.nseconds().abs_diff(pair.mono.as_nanos() + 5 * MS);
        (pair, error, calls.get())
    }

    #[test]
    fn two_clocks_are_read_at_one_moment_though_the_thread_is_interrupted() {
        assert_eq!(read(&[0, 1_000, 1_000]).1, 0);
        assert_eq!(read(&[0, 1_000, 1_000]).2, 3);
        // Interrupted for 8 ms in the first try, for 3 in the second, never in the third.
        let (_, error, calls) = read(&[0, 8 * MS, 500, 500, 500, 3 * MS, 500, 600, 400]);
        assert_eq!((error, calls), (100, 9));
        // Interrupted each time: the shortest counts, and there is no fourth.
        let (_, error, calls) = read(&[0, 8 * MS, 0, 0, 2 * MS, 0, 0, 4 * MS, 0]);
        assert_eq!((error, calls), (MS, 9));
    }

    fn pace(smooth: bool) -> Pace {
        gst::init().unwrap();
        let clock = gst::SystemClock::obtain();
        Pace {
            plain: false,
            host: smooth.then(|| clock.clone()),
            clock,
            id: None,
            ahead: None,
            began: None,
        }
    }

    /// The clock's time by its pace, less the host's, in ms, at each of `seconds` that `ahead` says
    /// how far the clock is ahead.
    fn follow(pace: &mut Pace, seconds: f64, ahead: impl Fn(f64) -> f64) -> Vec<f64> {
        let output = Output { playing: true, buffered: gst::ClockTime::from_mseconds(200) };
        follow_with(pace, output, seconds, ahead)
    }

    fn follow_with(
        pace: &mut Pace,
        output: Output,
        seconds: f64,
        ahead: impl Fn(f64) -> f64,
    ) -> Vec<f64> {
        let at = |t: f64| {
            let mono = MonoTime::from_nanos((t * 1e9) as u64 + 1_000 * MS);
            let clock = mono.as_nanos() as f64 + 1e9 + ahead(t) * 1e6;
            let clock = gst::ClockTime::from_nseconds(clock as u64);
            let time = pace.time(Pair { clock, mono }, output).nseconds() as f64;
            (time - mono.as_nanos() as f64 - 1e9) / 1e6
        };
        (0..(seconds * 1e3) as u32).map(|ms| f64::from(ms) / 1e3).map(at).collect()
    }

    #[test]
    fn a_card_that_is_a_little_off_is_followed_for_ever() {
        for ppm in [-500.0, 0.0, 500.0] {
            let seen = follow(&mut pace(true), 600.0, |t| t * ppm / 1e3);
            for (ms, ahead) in seen.iter().enumerate() {
                let error = ahead - ms as f64 * ppm / 1e6;
                assert!(error.abs() < 1.01, "{ppm} ppm, {ms} ms: {error} ms off");
            }
        }
    }

    #[test]
    fn a_clock_that_is_read_wrongly_at_first_is_believed_in_the_long_run() {
        // What pulsesink's says on PipeWire: 150 ms slow within 5 s, then steps of 20 ms.
        let wrong = |t: f64| match t {
            ..5.0 => -30.0 * t,
            _ => -30.0 - 120.0 / (1.0 + (t - 5.0) / 3.0) - 20.0 * (t * 1.5).fract(),
        };
        let seen = follow(&mut pace(true), 400.0, wrong);
        for pair in seen.windows(2) {
            assert!((pair[1] - pair[0]).abs() < 0.001_001, "{pair:?}");
        }
        let most = seen[..20_000].iter().fold(0.0f64, |most, ahead| most.max(ahead.abs()));
        assert!(most < 4.0, "{most} ms");
        assert!((seen[399_000] + 40.0).abs() < 15.0, "{} ms", seen[399_000]);
    }

    #[test]
    fn a_sink_that_would_run_dry_is_fed_at_once() {
        let ahead = |t: f64| if t < 1.0 { 0.0 } else { 30.0 };
        let mut pace = pace(true);
        let at = |seconds: f64| (seconds * 1e3) as usize;
        // Of 200 ms it has enough left, and the host's clock is hardly left.
        assert!((follow(&mut pace, 5.0, ahead)[at(4.0)] - 0.15).abs() < 0.01);
        // Of 20 ms it has not.
        let output = Output { playing: true, buffered: gst::ClockTime::from_mseconds(20) };
        pace.ahead = None;
        let seen = follow_with(&mut pace, output, 5.0, ahead);
        assert!((20.0..21.0).contains(&seen[at(3.5)]), "{}", seen[at(3.5)]);
    }

    #[test]
    fn a_clock_is_taken_at_its_word_while_nothing_is_heard() {
        let output = Output { playing: false, buffered: gst::ClockTime::from_mseconds(200) };
        let ahead = |t: f64| if t < 30.0 { 0.0 } else { -21.5 };
        let seen = follow_with(&mut pace(true), output, 31.0, ahead);
        assert_eq!((seen[29_999], seen[30_000]), (0.0, -21.5));
    }

    #[test]
    fn a_card_that_was_stopped_begins_anew() {
        let seen = follow(&mut pace(true), 4.0, |t| if t < 2.0 { 0.0 } else { -400.0 });
        assert!((seen[1_999], seen[2_000]) == (0.0, -400.0), "{:?}", &seen[1_999..2_001]);
    }

    #[test]
    fn an_output_follows_the_senders_pace_and_its_timestamps_do_not() {
        // The sender is 300 ppm fast for ten minutes: that is 180 ms of sound more than is due.
        let mut lead = Lead::default();
        let period = Duration::from_millis(1);
        let mut behind = 0.0;
        let due = |ms: u64| gst::ClockTime::from_mseconds(1_000 + ms);
        for ms in 0..600_000_u64 {
            let ahead = due(ms) - lead.wanted(due(ms));
            behind = ms as f64 * 300.0 - ahead.nseconds() as f64;
            lead.follow(Some(behind as i64), period);
        }
        assert!((behind - 300e3).abs() < 2e3, "{behind} ns behind");
        // A stranger's clock is not.
        let mut lead = Lead::default();
        (0..1_000).for_each(|_| lead.follow(Some(1_000 * MS as i64), period));
        assert_eq!(due(0) - lead.wanted(due(0)), gst::ClockTime::from_mseconds(2));
        lead.follow(None, period);
        assert_eq!(due(0) - lead.wanted(due(0)), gst::ClockTime::from_mseconds(2));
    }

    #[test]
    fn the_systems_clock_is_taken_at_its_word() {
        let seen = follow(&mut pace(false), 1.0, |t| 50.0 * t);
        assert_eq!(seen[900], 45.0);
    }

    #[test]
    fn timestamps_and_durations_add_up_for_ever() {
        let mut t =
            Timeline::new(gst::ClockTime::from_nseconds(5), SampleRate::new(44_100).unwrap());
        for _ in 0..44_100 {
            let before = t.due();
            let duration = t.advance(44);
            assert_eq!(before + duration, t.due());
        }
        assert_eq!(t.due(), gst::ClockTime::from_nseconds(5) + gst::ClockTime::from_seconds(44));
        assert_eq!(t.frame(), 44 * 44_100);
    }
}
