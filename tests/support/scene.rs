//! A tune on its way from one machine to another, and what a listener there says about it.

use std::time::{Duration, Instant};

use crate::audio::{Clip, Comparison, compare, melody};
use crate::launch::{RATE, Receiver, SOON, first_sound, framed};
use crate::machines::Machines;
use crate::net::Side;
use crate::proc::{Process, wait_until};

/// By how much the sound may come earlier or later after an outage than before it.
const SHIFT: f64 = 0.04;

/// A tune that goes from A to B.
#[derive(Debug)]
pub struct Scene {
    /// Who plays and who hears.
    pub machines: Machines,
    /// What is played.
    pub tune: Clip,
    /// What comes before it: time to connect.
    pub silence_before: Duration,
}

impl Scene {
    /// Two machines that trust each other, and a tune.
    ///
    /// # Panics
    /// There are no such machines; see [`crate::net::available`].
    #[must_use]
    pub fn new(length: Duration) -> Self {
        let machines = Machines::friends().unwrap_or_else(|e| panic!("{e}"));
        let silence_before = Duration::from_millis(800);
        Self { machines, tune: melody(RATE, 2, length), silence_before }
    }

    /// Starts the tune.
    #[must_use]
    pub fn sender(&self) -> Process {
        self.sender_with("")
    }

    /// Starts the tune, with more properties of the `velinsink`.
    ///
    /// # Panics
    /// The sender cannot be started.
    #[must_use]
    pub fn sender_with(&self, properties: &str) -> Process {
        let clip = framed(&self.tune, self.silence_before, Duration::from_millis(300));
        let wav = self.machines.wav(&clip);
        let properties = format!("host={} {properties}", Side::B.ipv4());
        self.machines.sender(&wav, &properties).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The way was cut at frame `out` of the recording and open again at `back`: the sound returns
    /// within `limit` and goes on in step with what was heard before. Gives what sender and receiver
    /// had printed two seconds later.
    ///
    /// # Panics
    /// It does not.
    pub fn assert_returns(
        &self,
        receiver: &Receiver,
        sender: &Process,
        out: usize,
        back: usize,
        limit: Duration,
    ) -> [String; 2] {
        // A quarter second is more than was on its way.
        let (settled, margin) = (back.max(out + RATE as usize / 4), RATE as usize / 2);
        let sound = receiver.wait_for_sound(settled, SOON);
        pass(Duration::from_secs(2));
        let printed = [sender.output(), receiver.output()];
        let said = printed.join("\n");
        let Some(sound) = sound else { panic!("no sound came back:\n{said}") };
        let heard = receiver.heard();
        let took = frames(sound.saturating_sub(back));
        // What was on its way is over soon, and then there is nothing, least of all something old.
        let ended = out + RATE as usize / 2;
        let stale = first_sound(&cut(&heard, 0, back.max(ended)), ended);
        assert_eq!(stale.map(frames), None, "sound without a network:\n{said}");
        println!("sound {took:?} after the way was open");

        let before = self.compare(&cut(&heard, 0, out.saturating_sub(margin)), &said);
        let after = self.compare(&cut(&heard, sound, heard.frames()), &said);
        println!("before:\n{before}\nafter:\n{after}");
        let shift = (before.offset - after.offset).abs();
        assert!(shift < SHIFT, "{before}\n{after}\n{said}");
        assert!(took < limit, "{took:?}\n{said}");
        self.assert_no_pop(&heard);
        printed
    }

    /// From which frame of `heard` on, `from` or later, it is the tune with its beginning at `offset`
    /// (in seconds): the first 10 ms that are.
    #[must_use]
    pub fn in_step_from(&self, heard: &Clip, from: usize, offset: f64) -> Option<usize> {
        const WINDOW: usize = RATE as usize / 100;
        let begin = (offset * f64::from(RATE)).round() as i64;
        let sample = |clip: &Clip, frame: i64| {
            let at = usize::try_from(frame).ok().map(|f| f * 2);
            at.and_then(|at| clip.samples.get(at)).copied().unwrap_or(0.0)
        };
        let fits = |start: &usize| {
            let pairs = (*start..start + WINDOW).map(|f| {
                let f = f as i64;
                (sample(&self.tune, f - begin), sample(heard, f))
            });
            let (wrong, loud) = pairs.fold((0.0, 0.0), |(wrong, loud), (tune, heard)| {
                (wrong + (tune - heard).powi(2), loud + tune.powi(2))
            });
            loud > 1e-4 && wrong < 0.1 * loud
        };
        (from..heard.frames().saturating_sub(WINDOW)).find(fits)
    }

    /// As heard in `one` and in `other`, the tune began at the same moment. The instants are when
    /// the two recordings began.
    ///
    /// # Panics
    /// It did not, or what was heard is something else; `said` is what the processes printed.
    pub fn assert_in_step(&self, one: (&Clip, Instant), other: (&Clip, Instant), said: &str) {
        let started = |(heard, began): (&Clip, Instant)| {
            let result = self.compare(heard, said);
            println!("{result}");
            // Instants cannot be negative, offsets can.
            began + Duration::from_secs(1000) - Duration::from_secs_f64(1000.0 - result.offset)
        };
        let (one, other) = (started(one), started(other));
        let shift = if one > other { one - other } else { other - one };
        println!("shift {shift:?}");
        assert!(shift.as_secs_f64() < SHIFT, "stale by {shift:?}\n{said}");
    }

    /// No step between neighbouring samples that the tune does not have itself.
    ///
    /// # Panics
    /// There is one.
    #[track_caller]
    pub fn assert_no_pop(&self, heard: &Clip) {
        let (own, (worst, at)) = (sharpest(&self.tune).0, sharpest(heard));
        println!("sharpest bend {worst:.4}, the tune's own {own:.4}");
        assert!(worst < 1.5 * own + 0.01, "a pop of {worst} at {:?}", frames(at));
    }

    /// `heard` is a part of the tune, without a hole.
    ///
    /// # Panics
    /// It is not; `said` is what the processes printed.
    #[must_use]
    pub fn compare(&self, heard: &Clip, said: &str) -> Comparison {
        let result = compare(&self.tune, heard).unwrap_or_else(|e| panic!("{e}\n{said}"));
        assert!(result.correlation > 0.98, "{result}\n{said}");
        result
    }
}

/// `heard` with silence in place of everything outside of `from..to`, so that offsets stay.
#[must_use]
pub fn cut(heard: &Clip, from: usize, to: usize) -> Clip {
    let mut cut = heard.clone();
    cut.samples[..from * 2].fill(0.0);
    cut.samples[to * 2..].fill(0.0);
    cut
}

/// Waits until `process` has printed `text` that often; gives how long that took.
///
/// # Panics
/// It did not within `limit`.
pub fn wait_for_count(process: &Process, text: &str, count: usize, limit: Duration) -> Duration {
    let start = Instant::now();
    let enough = || process.output().matches(text).count() >= count;
    assert!(wait_until(limit, enough), "no {count} times {text:?}:\n{}", process.output());
    start.elapsed()
}

/// Lets real time pass: what is under test is what happens meanwhile.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// The length of so many frames.
#[must_use]
pub fn frames(count: usize) -> Duration {
    Duration::from_secs_f64(count as f64 / f64::from(RATE))
}

/// The greatest second difference and its frame: a cut within a tone makes a large one.
fn sharpest(clip: &Clip) -> (f32, usize) {
    let mut worst = (0.0, 0);
    for channel in 0..clip.channels {
        let signal: Vec<f32> = clip.channel(channel).collect();
        for (i, w) in signal.windows(3).enumerate() {
            let bend = (w[0] - 2.0 * w[1] + w[2]).abs();
            if bend > worst.0 {
                worst = (bend, i);
            }
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_within_the_tune_counts_as_a_pop() {
        let tune = melody(RATE, 2, Duration::from_secs(2));
        let own = sharpest(&tune).0;
        // Most cuts are heard; some fall near a zero crossing.
        let heard = (20_000..21_000).step_by(10).filter(|cut| {
            let mut broken = tune.clone();
            broken.samples[cut * 2..].fill(0.0);
            sharpest(&broken).0 >= 1.5 * own + 0.01
        });
        let share = heard.count();
        assert!(share > 50, "only {share} of 100 cuts are found");
    }
}
