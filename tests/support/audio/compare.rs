//! Compares a recording with what was played: where it lies, how alike it is, what is missing.
//!
//! 1. The two are aligned coarsely by the peak of their cross-correlation (FFT, all channels).
//! 2. The alignment is followed in blocks of a quarter second, to fractions of a frame, because an
//!    honest resampler shifts slowly; between block centres it is interpolated. A receiver that
//!    changes its delay by a splice makes it jump; then the frame of the jump is looked for, also soon
//!    after the first sound.
//! 3. The recording is brought onto the reference's frames by windowed-sinc interpolation.
//! 4. In windows of 1 ms, where the reference can be heard: nothing there counts as missing,
//!    something else counts as wrong. Level and correlation are taken from all the rest.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::Clip;
use super::track::Track;

/// Compares `heard` with `reference`. The recording may begin before and end after it.
///
/// # Errors
/// The formats differ, one of them is silent or shorter than half a second, or nothing in `heard`
/// resembles `reference`.
pub fn compare(reference: &Clip, heard: &Clip) -> Result<Comparison, CompareError> {
    if (reference.rate, reference.channels) != (heard.rate, heard.channels) {
        return Err(CompareError::Format {
            reference: format!("{} Hz × {}", reference.rate, reference.channels),
            heard: format!("{} Hz × {}", heard.rate, heard.channels),
        });
    }
    for (clip, which) in [(reference, "reference"), (heard, "recording")] {
        if clip.duration() < Duration::from_millis(500) {
            return Err(CompareError::TooShort { which, length: clip.duration() });
        }
        if clip.level_db() < -90.0 {
            return Err(CompareError::Silent { which });
        }
    }

    let track = Track::follow(reference, heard);
    let aligned = track.align(reference, heard);
    let comparison = judge(reference, &aligned, &track);
    if comparison.correlation < 0.2 {
        return Err(CompareError::Unrelated { correlation: comparison.correlation });
    }
    Ok(comparison)
}

/// What a recording has in common with what was played.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// Where in the recording the reference begins, in seconds; negative when the recording began
    /// later. It is a delay when both began at the same moment.
    pub offset: f64,
    /// By how much the offset changed from its least to its greatest, in milliseconds.
    pub wander_ms: f64,
    /// How often the offset jumped: splices, which a receiver makes to change its delay.
    pub splices: usize,
    /// Normalised correlation (−1 to 1) over everything between the first and the last sound heard,
    /// gaps included.
    pub correlation: f64,
    /// Level of the recording against the reference where both are there, in dB.
    pub level_db: f64,
    /// What of the reference lies before the first sound heard.
    pub lost_at_start: Duration,
    /// What of the reference lies after the last sound heard.
    pub lost_at_end: Duration,
    /// Stretches in between with no sound where there should be some, by position in the reference.
    pub gaps: Vec<Gap>,
    /// The sum of all stretches, in between, with sound that is not the reference's.
    pub wrong: Duration,
    /// How much of the reference could be heard and was looked at.
    pub judged: Duration,
}

impl Comparison {
    /// The length of all gaps together.
    #[must_use]
    pub fn missing(&self) -> Duration {
        self.gaps.iter().map(|gap| gap.length).sum()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        writeln!(f, "  compared      {:.1} s of sound", self.judged.as_secs_f64())?;
        writeln!(f, "  correlation   {:.5}", self.correlation)?;
        // A level that rounds to zero has no sign.
        let level = if self.level_db.abs() < 0.005 { 0.0 } else { self.level_db };
        writeln!(f, "  level         {level:+.2} dB")?;
        writeln!(f, "  missing       {:.0} ms in {} gaps", ms(self.missing()), self.gaps.len())?;
        writeln!(f, "  wrong         {:.0} ms", ms(self.wrong))?;
        writeln!(f, "  lost at start {:.0} ms", ms(self.lost_at_start))?;
        writeln!(f, "  lost at end   {:.0} ms", ms(self.lost_at_end))?;
        writeln!(f, "  offset        {:.2} ms", self.offset * 1000.0)?;
        write!(f, "  wander        {:.2} ms, {} splices", self.wander_ms, self.splices)
    }
}

/// A stretch without sound where the reference has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins in the reference.
    pub at: Duration,
    /// How long it is, in whole milliseconds.
    pub length: Duration,
}

/// Why two clips cannot be compared.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Rates or channel counts differ.
    #[error("the formats differ: reference {reference}, recording {heard}; convert one of them")]
    Format {
        /// Of the reference.
        reference: String,
        /// Of the recording.
        heard: String,
    },
    /// There is no sound in it.
    #[error("the {which} is silent")]
    Silent {
        /// Which of the two.
        which: &'static str,
    },
    /// Too short to align.
    #[error("the {which} is only {length:?} long; half a second is the least")]
    TooShort {
        /// Which of the two.
        which: &'static str,
        /// Its length.
        length: Duration,
    },
    /// Nothing matches.
    #[error("the recording does not contain the reference (correlation {correlation:.3})")]
    Unrelated {
        /// The best found.
        correlation: f64,
    },
}

/// What happened to one window of 1 ms.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Window {
    /// The reference is too quiet to tell.
    Quiet,
    Right,
    Silent,
    Wrong,
}

fn judge(reference: &Clip, aligned: &Clip, track: &Track) -> Comparison {
    let width = reference.rate as usize / 1000 * reference.channels;
    let pairs = || reference.samples.chunks(width).zip(aligned.samples.chunks(width));
    let audible = energy(&reference.samples) / reference.samples.len() as f64 * 0.001;

    // The gain, from the windows that are there at all.
    let present = |r: &[f32], h: &[f32]| energy(h) > 0.01 * energy(r);
    let (cross, own) = pairs()
        .filter(|(r, h)| energy(r) > audible * r.len() as f64 && present(r, h))
        .fold((0.0, 0.0), |(c, o), (r, h)| (c + dot(r, h), o + energy(r)));
    let gain = if own > 0.0 { cross / own } else { 0.0 };

    let mut windows: Vec<Window> = pairs()
        .map(|(r, h)| {
            let expected = energy(r) * gain * gain;
            if energy(r) <= audible * r.len() as f64 {
                Window::Quiet
            } else if energy(h) < 0.001 * expected {
                Window::Silent
            } else if error(r, h, gain) > 0.1 * expected {
                Window::Wrong
            } else {
                Window::Right
            }
        })
        .collect();

    let ms = |n: usize| Duration::from_millis(n as u64);
    let first = windows.iter().position(|&w| w == Window::Right).unwrap_or(windows.len());
    let last = windows.iter().rposition(|&w| w == Window::Right).map_or(0, |i| i + 1);
    let lost = |part: &[Window]| {
        // Counted from the first sound that was lost: silence before it is nobody's loss.
        ms(part.iter().filter(|&&w| w != Window::Quiet).count())
    };
    let (lost_at_start, lost_at_end) = (lost(&windows[..first]), lost(&windows[last..]));

    let inner = first.min(last)..last;
    bridge(&mut windows[inner.clone()]);
    let inside = &windows[inner.clone()];
    let mut gaps: Vec<Gap> = Vec::new();
    for (i, _) in inside.iter().enumerate().filter(|&(_, &w)| w == Window::Silent) {
        let at = ms(inner.start + i);
        match gaps.last_mut() {
            Some(gap) if gap.at + gap.length == at => gap.length += ms(1),
            _ => gaps.push(Gap { at, length: ms(1) }),
        }
    }

    let (mut cross, mut own, mut other) = (0.0, 0.0, 0.0);
    for (r, h) in pairs().take(inner.end).skip(inner.start) {
        cross += dot(r, h);
        own += energy(r);
        other += energy(h);
    }
    let correlation = if own * other > 0.0 { cross / (own * other).sqrt() } else { 0.0 };

    Comparison {
        offset: track.offset(),
        wander_ms: track.wander_ms(),
        splices: track.splices(),
        correlation,
        level_db: 20.0 * gain.abs().max(1e-9).log10(),
        lost_at_start,
        lost_at_end,
        gaps,
        wrong: ms(inside.iter().filter(|&&w| w == Window::Wrong).count()),
        judged: ms(inside.iter().filter(|&&w| w != Window::Quiet).count()),
    }
}

/// A pause of the reference within a gap belongs to the gap only if silence stands on both sides and
/// it is short: the reference passes through zero there.
fn bridge(windows: &mut [Window]) {
    const SHORT: usize = 3;
    let mut last_silent: Option<usize> = None;
    for i in 0..windows.len() {
        match windows[i] {
            Window::Silent => {
                if let Some(before) = last_silent.filter(|b| i - b <= SHORT + 1) {
                    windows[before..i].fill(Window::Silent);
                }
                last_silent = Some(i);
            }
            Window::Quiet => {}
            Window::Right | Window::Wrong => last_silent = None,
        }
    }
}

fn energy(samples: &[f32]) -> f64 {
    dot(samples, samples)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn error(reference: &[f32], heard: &[f32], gain: f64) -> f64 {
    let difference = |(&r, &h): (&f32, &f32)| (f64::from(h) - gain * f64::from(r)).powi(2);
    reference.iter().zip(heard).map(difference).sum()
}

#[cfg(test)]
mod tests {
    use super::super::track::interpolate;
    use super::super::{melody, noise};
    use super::*;

    const RATE: u32 = 48_000;

    fn tune() -> Clip {
        melody(RATE, 2, Duration::from_secs(4))
    }

    /// `clip` as a recorder would hear it that began `lead` frames earlier, at half the level.
    fn recorded(clip: &Clip, lead: usize) -> Clip {
        let mut heard = Clip::silence(RATE, 2, lead);
        heard.append(clip);
        heard.append(&Clip::silence(RATE, 2, 5000));
        heard.samples.iter_mut().for_each(|s| *s *= 0.5);
        heard
    }

    #[test]
    fn a_perfect_copy_is_found_and_nothing_is_missing() {
        let result = compare(&tune(), &recorded(&tune(), 12_345)).unwrap();
        assert!((result.offset * f64::from(RATE) - 12_345.0).abs() < 0.05, "{result}");
        assert!(result.correlation > 0.9999, "{result}");
        assert!((result.level_db + 6.02).abs() < 0.01, "{result}");
        assert_eq!(result.gaps, [], "{result}");
        assert_eq!(result.wrong, Duration::ZERO, "{result}");
        assert_eq!(result.lost_at_start, Duration::ZERO, "{result}");
    }

    #[test]
    fn a_hole_is_measured_to_the_millisecond() {
        let mut heard = recorded(&tune(), 777);
        let hole = 777 + 2 * RATE as usize..777 + 2 * RATE as usize + 960;
        heard.samples[hole.start * 2..hole.end * 2].fill(0.0);
        let result = compare(&tune(), &heard).unwrap();
        assert_eq!(result.gaps.len(), 1, "{result}");
        assert_eq!(result.gaps[0].at.as_millis(), 2000, "{result}");
        assert!(result.missing().as_millis().abs_diff(20) <= 1, "{result}");
    }

    #[test]
    fn other_sound_counts_as_wrong_and_not_as_missing() {
        let mut heard = recorded(&tune(), 0);
        let strange = noise(7, RATE, 2, Duration::from_millis(50), 0.2);
        heard.samples[RATE as usize * 2..][..strange.samples.len()]
            .copy_from_slice(&strange.samples);
        let result = compare(&tune(), &heard).unwrap();
        assert_eq!(result.gaps, [], "{result}");
        assert!((40..=51).contains(&result.wrong.as_millis()), "{result}");
    }

    #[test]
    fn a_recording_that_begins_late_and_ends_early_says_so() {
        let tune = tune();
        let cut = RATE as usize;
        let heard = Clip { samples: tune.samples[cut * 2..cut * 6].to_vec(), ..tune.clone() };
        let result = compare(&tune, &heard).unwrap();
        assert!(result.lost_at_start.as_millis().abs_diff(1000) <= 2, "{result}");
        assert!(result.lost_at_end.as_millis().abs_diff(1000) <= 5, "{result}");
        assert!((result.offset + 1.0).abs() < 1e-4, "{result}");
        assert!(result.correlation > 0.9999, "{result}");
    }

    #[test]
    fn a_clock_that_drifts_and_a_fraction_of_a_frame_are_followed() {
        // 100 ppm slow, by 0.3 of a frame late: what a resampler on another clock puts out.
        let tune = tune();
        let mut heard = Clip::silence(RATE, 2, tune.frames());
        for channel in 0..2 {
            let signal: Vec<f64> = tune.channel(channel).map(f64::from).collect();
            for frame in 0..tune.frames() {
                heard.samples[frame * 2 + channel] =
                    interpolate(&signal, frame as f64 * 1.0001 - 0.3) as f32;
            }
        }
        let result = compare(&tune, &heard).unwrap();
        assert!(result.correlation > 0.999, "{result}");
        assert_eq!(result.gaps, [], "{result}");
        assert!((0.3..0.5).contains(&result.wander_ms), "{result}");
    }

    #[test]
    fn a_splice_is_no_loss_and_is_counted() {
        // At one and two seconds the delay grows, by 2 ms and by 20: a piece is heard twice.
        let tune = tune();
        let (first, second) = (RATE as usize, 2 * RATE as usize);
        let mut samples = tune.samples[..first * 2].to_vec();
        samples.extend_from_slice(&tune.samples[(first - 92) * 2..second * 2]);
        samples.extend_from_slice(&tune.samples[(second - 960) * 2..]);
        let heard = Clip { samples, ..tune.clone() };
        let result = compare(&tune, &heard).unwrap();
        assert_eq!(result.splices, 2, "{result}");
        assert!(result.correlation > 0.9999, "{result}");
        assert_eq!(result.gaps, [], "{result}");
        assert!(result.wrong <= Duration::from_millis(2), "{result}");
        let shift = (92.0 + 960.0) / f64::from(RATE) * 1000.0;
        assert!((result.wander_ms - shift).abs() < 0.1, "{result}");
    }

    #[test]
    fn a_splice_soon_after_the_first_sound_is_no_loss_either() {
        // A second of silence, and 132 ms into the tune the delay grows by 2.4 ms.
        let mut played = Clip::silence(RATE, 2, RATE as usize);
        played.append(&tune());
        let at = RATE as usize * 1132 / 1000;
        let mut samples = played.samples[..at * 2].to_vec();
        samples.extend_from_slice(&played.samples[(at - 115) * 2..]);
        let heard = Clip { samples, ..played.clone() };
        let result = compare(&played, &heard).unwrap();
        assert_eq!(result.lost_at_start, Duration::ZERO, "{result}");
        assert_eq!((result.splices, &result.gaps[..]), (1, &[][..]), "{result}");
        assert!(result.wrong <= Duration::from_millis(2), "{result}");
    }

    #[test]
    fn what_is_missing_at_the_start_is_lost_also_before_a_splice() {
        let tune = tune();
        let mut heard = tune.clone();
        heard.samples[..RATE as usize / 10 * 2].fill(0.0);
        let result = compare(&tune, &heard).unwrap();
        assert!(result.lost_at_start.as_millis().abs_diff(100) <= 1, "{result}");
        assert_eq!(result.splices, 0, "{result}");
    }

    #[test]
    fn strangers_silence_and_other_formats_are_refused() {
        let strange = noise(9, RATE, 2, Duration::from_secs(4), 0.3);
        assert!(matches!(compare(&tune(), &strange), Err(CompareError::Unrelated { .. })));
        let silence = Clip::silence(RATE, 2, 100_000);
        assert_eq!(compare(&tune(), &silence), Err(CompareError::Silent { which: "recording" }));
        let other = Clip { rate: 44_100, ..tune() };
        assert!(matches!(compare(&tune(), &other), Err(CompareError::Format { .. })));
        let blip = Clip { samples: tune().samples[..2000].to_vec(), ..tune() };
        assert!(matches!(compare(&tune(), &blip), Err(CompareError::TooShort { .. })));
    }
}
