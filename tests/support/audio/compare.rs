//! Compares a recording with what was played: where it lies, how alike it is, what is missing.
//!
//! 1. The two are aligned coarsely by the peak of their cross-correlation (FFT, all channels).
//! 2. The alignment is followed in blocks of a quarter second, to fractions of a frame, because an
//!    honest resampler shifts slowly; between block centres it is interpolated. A receiver that
//!    changes its delay by a splice makes it jump; then the frame of the jump is looked for.
//! 3. The recording is brought onto the reference's frames by windowed-sinc interpolation.
//! 4. In windows of 1 ms, where the reference can be heard: nothing there counts as missing,
//!    something else counts as wrong. Level and correlation are taken from all the rest.

use std::f64::consts::PI;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use realfft::RealFftPlanner;
use thiserror::Error;

use super::Clip;

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

    let coarse = coarse_offset(&mixed(reference), &mixed(heard));
    let track = Track::follow(&mixed(reference), &mixed(heard), coarse, reference.rate);
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

/// Where the reference's frames lie in the recording: `offsets[i]` is that of block i's centre.
struct Track {
    block: usize,
    offsets: Vec<f64>,
    /// After which block the offset jumps, and at which frame of the reference.
    jumps: Vec<(usize, usize)>,
    rate: u32,
}

impl Track {
    /// How far one block's offset may lie from the one before, in seconds.
    const STEP: f64 = 0.002;
    /// How far it may lie where nothing nearer matches: a large splice.
    const LEAP: f64 = 0.06;
    /// What matches this well (as a correlation) is taken without looking further.
    const CONVINCING: f64 = 0.9;
    /// A larger change from block to block is a jump: 500 ppm make six frames at 48 kHz.
    const JUMP: f64 = 0.000_25;

    fn follow(reference: &[f64], heard: &[f64], coarse: i64, rate: u32) -> Self {
        let block = rate as usize / 4;
        let frames = |seconds: f64| (seconds * f64::from(rate)).ceil() as i64;
        let (reach, leap) = (frames(Self::STEP), frames(Self::LEAP));
        let loud = reference.iter().map(|s| s * s).sum::<f64>() / reference.len() as f64;

        let mut found: Vec<Option<f64>> = Vec::new();
        let mut near = coarse as f64;
        for start in (0..reference.len()).step_by(block) {
            let piece = &reference[start..reference.len().min(start + block)];
            let energy = piece.iter().map(|s| s * s).sum::<f64>();
            let look = |reach| refine(piece, heard, start as i64, near.round() as i64, reach);
            let offset = if energy > 0.01 * loud * block as f64 {
                let nearby = look(reach);
                let convinced = nearby.is_some_and(|(_, likeness)| likeness >= Self::CONVINCING);
                let far = if convinced { None } else { look(leap) };
                // Tones resemble each other at many places: from afar only the thing itself counts.
                far.filter(|(_, likeness)| *likeness >= Self::CONVINCING).or(nearby)
            } else {
                None
            };
            if let Some((offset, _)) = offset {
                near = offset;
            }
            found.push(offset.map(|(offset, _)| offset));
        }

        // Blocks that say nothing take their neighbour's word.
        let mut last = found.iter().flatten().next().copied().unwrap_or(coarse as f64);
        let carry = |offset: Option<f64>| {
            last = offset.unwrap_or(last);
            last
        };
        let offsets: Vec<f64> = found.into_iter().map(carry).collect();
        let jumps = offsets.windows(2).enumerate();
        let jumps = jumps
            .filter(|(_, pair)| (pair[1] - pair[0]).abs() > Self::JUMP * f64::from(rate))
            .map(|(i, pair)| {
                let between = i * block + block / 2..((i + 1) * block + block / 2);
                (i, switch(reference, heard, between, pair[0], pair[1]))
            })
            .collect();
        Self { block, offsets, jumps, rate }
    }

    /// The recording's frame that belongs to the reference's frame.
    fn locate(&self, frame: usize) -> f64 {
        let at = (frame as f64 / self.block as f64 - 0.5).max(0.0);
        let low = (at as usize).min(self.offsets.len() - 1);
        let high = (low + 1).min(self.offsets.len() - 1);
        let part = match self.jumps.iter().find(|(before, _)| *before == low) {
            Some((_, switch)) => f64::from(u8::from(frame >= *switch)),
            None => at - low as f64,
        };
        let offset = self.offsets[low] + (self.offsets[high] - self.offsets[low]) * part.min(1.0);
        frame as f64 + offset
    }

    /// The recording on the reference's frames; zero where it has nothing.
    fn align(&self, reference: &Clip, heard: &Clip) -> Clip {
        let mut aligned = Clip::silence(reference.rate, reference.channels, reference.frames());
        for channel in 0..heard.channels {
            let signal: Vec<f64> = heard.channel(channel).map(f64::from).collect();
            for frame in 0..reference.frames() {
                aligned.samples[frame * reference.channels + channel] =
                    interpolate(&signal, self.locate(frame)) as f32;
            }
        }
        aligned
    }

    fn wander_ms(&self) -> f64 {
        let least = self.offsets.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.offsets.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (most - least) / f64::from(self.rate) * 1000.0
    }
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
        offset: track.offsets.first().copied().unwrap_or(0.0) / f64::from(reference.rate),
        wander_ms: track.wander_ms(),
        splices: track.jumps.len(),
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

/// All channels as one signal. The weights differ so that channels in antiphase do not cancel.
fn mixed(clip: &Clip) -> Vec<f64> {
    let frame =
        |f: &[f32]| f.iter().enumerate().map(|(c, &s)| f64::from(s) / (1.0 + 0.5 * c as f64)).sum();
    clip.samples.chunks(clip.channels).map(frame).collect()
}

/// The whole-frame offset at which the cross-correlation is greatest.
fn coarse_offset(reference: &[f64], heard: &[f64]) -> i64 {
    let length = (reference.len() + heard.len()).next_power_of_two();
    let mut planner = RealFftPlanner::<f64>::new();
    let forward = planner.plan_fft_forward(length);
    let transform = |signal: &[f64]| {
        let mut input = signal.to_vec();
        input.resize(length, 0.0);
        let mut output = forward.make_output_vec();
        // The lengths come from the plan itself, which is all this can fail on.
        let _ = forward.process(&mut input, &mut output);
        output
    };
    let reference_spectrum = transform(reference);
    let mut product = transform(heard);
    for (h, r) in product.iter_mut().zip(&reference_spectrum) {
        *h *= r.conj();
    }
    // The inverse wants the two real bins exactly real.
    let last = product.len() - 1;
    product[0].im = 0.0;
    product[last].im = 0.0;

    let inverse = planner.plan_fft_inverse(length);
    let mut correlation = inverse.make_output_vec();
    let _ = inverse.process(&mut product, &mut correlation);
    let peak = (0..length).max_by(|&a, &b| correlation[a].total_cmp(&correlation[b])).unwrap_or(0);
    if peak < heard.len() { peak as i64 } else { peak as i64 - length as i64 }
}

/// The frame in `between` where the recording's offset most likely changes from `before` to `after`.
fn switch(
    reference: &[f64],
    heard: &[f64],
    between: Range<usize>,
    before: f64,
    after: f64,
) -> usize {
    let wrong = |frame: usize, offset: f64| {
        let at = usize::try_from(frame as i64 + offset.round() as i64).ok();
        let heard = at.and_then(|at| heard.get(at)).copied().unwrap_or(0.0);
        (reference.get(frame).copied().unwrap_or(0.0) - heard).powi(2)
    };
    // By how much the frames so far speak for the offset before.
    let (mut balance, mut best) = (0.0, (0.0, between.start));
    for frame in between {
        balance += wrong(frame, before) - wrong(frame, after);
        if balance < best.0 {
            best = (balance, frame + 1);
        }
    }
    best.1
}

/// The offset of `piece` (which begins at the reference's frame `start`) within `reach` of `near`, to
/// a fraction of a frame, and how well it matches (1.0 is a copy); none when nothing there does.
fn refine(piece: &[f64], heard: &[f64], start: i64, near: i64, reach: i64) -> Option<(f64, f64)> {
    // Silence takes long to search and holds nothing.
    let frame = |at: i64| usize::try_from(at).unwrap_or(0).min(heard.len());
    let end = start + near + reach + 2 + piece.len() as i64;
    if heard[frame(start + near - reach - 1)..frame(end)].iter().all(|s| *s == 0.0) {
        return None;
    }
    let score = |offset: i64| {
        let at = start + offset;
        let skip = usize::try_from(-at).unwrap_or(0);
        let from = usize::try_from(at).unwrap_or(0).min(heard.len());
        let piece = piece.get(skip..).unwrap_or_default();
        let pairs = piece.iter().zip(&heard[from..]);
        let (cross, energy) = pairs.fold((0.0, 0.0), |(c, e), (r, h)| (c + r * h, e + h * h));
        if energy > 0.0 { cross / energy.sqrt() } else { 0.0 }
    };
    let scores: Vec<f64> = (near - reach - 1..=near + reach + 1).map(score).collect();
    let best = (1..scores.len() - 1).max_by(|&a, &b| scores[a].total_cmp(&scores[b]))?;
    let own = piece.iter().map(|s| s * s).sum::<f64>().sqrt();
    if scores[best] < 0.5 * own {
        return None;
    }
    // A parabola through the peak and its neighbours.
    let (a, b, c) = (scores[best - 1], scores[best], scores[best + 1]);
    let bend = a - 2.0 * b + c;
    let part = if bend < 0.0 { (0.5 * (a - c) / bend).clamp(-0.5, 0.5) } else { 0.0 };
    Some(((near - reach - 1 + best as i64) as f64 + part, scores[best] / own))
}

/// `signal` at a fractional position: a sinc of 32 taps under a Hann window; zero outside.
fn interpolate(signal: &[f64], at: f64) -> f64 {
    const HALF: i64 = 16;
    let whole = at.floor() as i64;
    let part = at - whole as f64;
    if part.abs() < 1e-9 {
        return usize::try_from(whole).ok().and_then(|i| signal.get(i)).copied().unwrap_or(0.0);
    }
    // sin(π(part − k)) alternates in sign only, so one sine serves all taps.
    let sine = (PI * part).sin();
    (1 - HALF..=HALF)
        .filter_map(|k| {
            let sample = *usize::try_from(whole + k).ok().and_then(|i| signal.get(i))?;
            let x = part - k as f64;
            let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
            let window = 0.5 + 0.5 * (PI * x / HALF as f64).cos();
            Some(sample * sign * sine / (PI * x) * window)
        })
        .sum()
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
