//! A recording as figures.

use std::ops::Range;

use super::align::Part;
use super::recording::Capture;
use crate::stats::{Summary, Values};

/// What came of one run.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Milliseconds from the capture of a frame to the moment it came out.
    pub(crate) delay: Summary,
    /// Its median in the first and in the last tenth of the time.
    pub(crate) first: f32,
    pub(crate) last: f32,
    /// Share of the source that never came out as it was.
    pub(crate) missing: f64,
    /// The longest of these gaps, in milliseconds of the source.
    pub(crate) longest_ms: f64,
    /// How often what came out was not what follows in the source.
    pub(crate) breaks: u32,
    /// Mean likeness of what came out to the source, with zero for what is missing.
    pub(crate) likeness: f64,
    /// Seconds since the window began, and the median and greatest delay around then.
    pub(crate) course: Vec<(f32, f32, f32)>,
    /// Shares, and the delay that so many frames do not exceed.
    pub(crate) spread: Vec<(f32, f32)>,
}

/// Shorter gaps and jumps, in frames, are what resampling does to counting in whole frames.
const SMALL: i64 = 24;
/// Points of a course.
const POINTS: u64 = 160;
/// What may be on its way when the window ends, in seconds.
const UNDERWAY: f64 = 0.3;

/// Measures what came out in `window` (nanoseconds of CLOCK_MONOTONIC). `came_out` says when a frame
/// of the recording did. None when nothing of the source came out then.
pub(crate) fn figures(
    parts: &[Part],
    capture: &Capture,
    window: Range<u64>,
    came_out: impl Fn(usize) -> Option<u64>,
) -> Option<Figures> {
    let when = |part: &Part| came_out(part.first).filter(|at| window.contains(at));
    let inside: Vec<(&Part, u64)> = parts.iter().filter_map(|p| Some((p, when(p)?))).collect();
    let good: Vec<(i64, &Part, u64)> =
        inside.iter().filter_map(|(p, at)| Some((p.source?, *p, *at))).collect();
    let (lowest, highest) = (
        good.iter().map(|(s, ..)| *s).min()?,
        good.iter().map(|(s, p, _)| s + p.frames as i64).max()?,
    );

    let mut course = Course::new(&window);
    let mut delays = Vec::with_capacity(good.iter().map(|(_, part, _)| part.frames).sum());
    for (source, part, _) in &good {
        for offset in 0..part.frames {
            let Some(at) = came_out(part.first + offset) else { continue };
            let delay = ((at as f64 - capture.at(source + offset as i64)) / 1e6) as f32;
            delays.push(delay);
            course.add(at, delay);
        }
    }
    let tenth = (delays.len() / 10).max(1);
    let first = median(delays.get(..tenth)?);
    let last = median(&delays[delays.len().checked_sub(tenth)?..]);
    let spread = spread(&delays);

    let gaps = gaps(&good, lowest, highest);
    let seen = good.last().map_or(window.start, |(.., at)| *at);
    // A stream that ends early misses the rest; one that begins late misses the beginning.
    let silent = [window.end - seen, good.first().map_or(0, |(.., at)| *at - window.start)]
        .map(|ns| (ns as f64 / 1e9 - UNDERWAY).max(0.0) * capture.rate);
    let silent = silent.iter().sum::<f64>();
    let missing = gaps.iter().sum::<i64>() as f64 + silent;
    let likenesses = inside.iter().map(|(p, _)| p.likeness).sum::<f64>();
    let source_parts = (missing + (highest - lowest) as f64) / inside.first()?.0.frames as f64;
    Some(Figures {
        delay: delays.into_iter().collect::<Values>().summary(),
        first,
        last,
        missing: missing / ((highest - lowest) as f64 + silent),
        longest_ms: gaps.iter().map(|g| *g as f64).fold(silent, f64::max) / capture.rate * 1e3,
        breaks: breaks(&inside),
        likeness: likenesses / source_parts.max(inside.len() as f64),
        course: course.finish(),
        spread,
    })
}

/// When the source was first heard; a chance match is not followed by others.
pub(crate) fn first_heard(parts: &[Part], came_out: impl Fn(usize) -> Option<u64>) -> Option<u64> {
    let found = parts.windows(4).find(|four| four.iter().all(|p| p.source.is_some()))?;
    came_out(found[0].first)
}

/// The lengths of what never came out between two of the source's frames.
fn gaps(good: &[(i64, &Part, u64)], lowest: i64, highest: i64) -> Vec<i64> {
    let mut heard = vec![false; (highest - lowest) as usize];
    for (source, part, _) in good {
        let from = (source - lowest) as usize;
        heard[from..from + part.frames].fill(true);
    }
    let runs = heard.chunk_by(|a, b| a == b).filter(|run| !run[0]);
    runs.map(|run| run.len() as i64).filter(|length| *length > SMALL).collect()
}

fn breaks(inside: &[(&Part, u64)]) -> u32 {
    let (mut count, mut last) = (0, None);
    let mut broken = true;
    for (part, _) in inside {
        match (part.lead(), last) {
            (None, Some(_)) if !broken => {
                count += 1;
                broken = true;
            }
            (Some(lead), Some(before)) if !broken && i64::abs(lead - before) > SMALL => count += 1,
            _ => {}
        }
        if let Some(lead) = part.lead() {
            (last, broken) = (Some(lead), false);
        }
    }
    count
}

fn median(values: &[f32]) -> f32 {
    values.iter().copied().collect::<Values>().summary().median
}

fn spread(delays: &[f32]) -> Vec<(f32, f32)> {
    let mut sorted = delays.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let shares = (0..=98).step_by(2).map(|p| p as f32 / 100.0);
    let shares = shares.chain([0.99, 0.995, 0.999, 1.0]);
    let last = sorted.len().saturating_sub(1) as f32;
    shares.filter_map(|q| Some((q, *sorted.get((q * last).round() as usize)?))).collect()
}

/// Delays gathered over time.
struct Course {
    start: u64,
    step: u64,
    delays: Vec<Vec<f32>>,
}

impl Course {
    fn new(window: &Range<u64>) -> Self {
        let step = ((window.end - window.start) / POINTS).max(1);
        Self { start: window.start, step, delays: vec![Vec::new(); POINTS as usize + 1] }
    }

    fn add(&mut self, at: u64, delay: f32) {
        let point = at.saturating_sub(self.start) / self.step;
        if let Some(delays) = self.delays.get_mut(point as usize) {
            delays.push(delay);
        }
    }

    fn finish(self) -> Vec<(f32, f32, f32)> {
        let seconds = self.step as f32 / 1e9;
        let points = self.delays.into_iter().enumerate().filter(|(_, delays)| !delays.is_empty());
        points
            .map(|(k, delays)| {
                let s = delays.into_iter().collect::<Values>().summary();
                ((k as f32 + 0.5) * seconds, s.median, s.max)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::RATE;
    use crate::compare::align::{Grain, align};
    use crate::compare::card::Card;
    use crate::compare::recording::Recording;
    use crate::compare::signal::{Band, Signal};

    const T0: u64 = 5_000_000_000;
    const MS: u64 = 1_000_000;
    const PIECE: u64 = 120;

    /// Hands out the source's frames in pieces, each `delay` after its last frame was captured.
    fn delayed(signal: &Signal, delay: u64, seconds: u64, skip: impl Fn(u64) -> bool) -> Recording {
        let mut recording = Recording::default();
        let capture = Capture::steady(T0, 0.0);
        for k in (0..seconds * RATE / PIECE).filter(|k| !skip(*k)) {
            let at = capture.at(((k + 1) * PIECE) as i64) as u64 + delay;
            recording.add(at, &signal.interleaved(k * PIECE, PIECE));
        }
        recording
    }

    fn measured(signal: &Signal, recording: &Recording, ppm: f64) -> Figures {
        let capture = Capture::steady(T0, ppm);
        let parts = align(signal, &capture, recording, Grain::PCM);
        let window = T0 + 500 * MS..recording.pieces.last().unwrap().1;
        figures(&parts, &capture, window, |frame| recording.came_out(frame)).unwrap()
    }

    #[test]
    fn a_known_delay_is_found() {
        let signal = Signal::new(Band::Wide);
        let f = measured(&signal, &delayed(&signal, 7 * MS, 3, |_| false), 0.0);
        // A piece waits for its last frame: its first is 2.5 ms older.
        assert!((f.delay.median - 8.25).abs() < 0.15, "{:?}", f.delay);
        assert!((f.delay.max - 9.5).abs() < 0.05, "{:?}", f.delay);
        assert!((f.first - f.last).abs() < 0.05);
        assert_eq!((f.missing, f.breaks, f.longest_ms), (0.0, 0, 0.0));
        assert!(f.likeness > 0.999, "{}", f.likeness);
        assert!(f.course.len() > 100 && f.spread.len() > 50);
        let capture = Capture::steady(T0, 0.0);
        let recording = delayed(&signal, 7 * MS, 3, |_| false);
        let parts = align(&signal, &capture, &recording, Grain::PCM);
        let heard = first_heard(&parts, |frame| recording.came_out(frame));
        assert_eq!(heard, Some(recording.pieces[0].1));
    }

    #[test]
    fn a_delay_of_a_second_is_found_as_well() {
        let signal = Signal::new(Band::Wide);
        let f = measured(&signal, &delayed(&signal, 1_000 * MS, 4, |_| false), 0.0);
        assert!((f.delay.median - 1001.25).abs() < 0.15, "{:?}", f.delay);
    }

    #[test]
    fn lost_pieces_are_counted_whether_they_are_left_out_or_replaced() {
        let signal = Signal::new(Band::Wide);
        let lost = |k: u64| k % 40 == 7;
        let cut = measured(&signal, &delayed(&signal, 7 * MS, 4, lost), 0.0);
        let mut replaced = delayed(&signal, 7 * MS, 4, |_| false);
        for k in (0..4 * RATE / PIECE).filter(|k| lost(*k)) {
            let at = (k * PIECE) as usize;
            let before = replaced.samples[at - PIECE as usize..at].to_vec();
            replaced.samples[at..at + PIECE as usize].copy_from_slice(&before);
        }
        let replaced = measured(&signal, &replaced, 0.0);
        for f in [cut, replaced] {
            // Parts that straddle an edge count with it.
            assert!((0.02..0.04).contains(&f.missing), "{}", f.missing);
            assert!((2.0..4.6).contains(&f.longest_ms), "{}", f.longest_ms);
            assert!((33..=36).contains(&f.breaks), "{}", f.breaks);
        }
    }

    #[test]
    fn a_stream_that_ends_early_misses_the_rest() {
        let signal = Signal::new(Band::Wide);
        let recording = delayed(&signal, 7 * MS, 2, |_| false);
        let capture = Capture::steady(T0, 0.0);
        let parts = align(&signal, &capture, &recording, Grain::PCM);
        let whole = T0 + 500 * MS..T0 + 4_500 * MS;
        let f = figures(&parts, &capture, whole, |frame| recording.came_out(frame)).unwrap();
        assert!((f.missing - 0.6).abs() < 0.03, "{}", f.missing);
        let after = T0 + 3_000 * MS..T0 + 4_000 * MS;
        assert!(figures(&parts, &capture, after, |frame| recording.came_out(frame)).is_none());
    }

    #[test]
    fn drift_that_nobody_corrects_shows_behind_a_card() {
        let signal = Signal::new(Band::Wide);
        let capture = Capture::steady(T0, 500.0);
        let mut recording = Recording::default();
        for k in 0..10 * RATE / PIECE {
            let at = capture.at(((k + 1) * PIECE) as i64) as u64 + 5 * MS;
            recording.add(at, &signal.interleaved(k * PIECE, PIECE));
        }
        let handed_out = measured(&signal, &recording, 500.0);
        assert!((handed_out.first - handed_out.last).abs() < 0.1);
        let parts = align(&signal, &capture, &recording, Grain::PCM);
        let played = Card::USUAL.play(&recording);
        let window = T0 + 500 * MS..recording.pieces.last().unwrap().1;
        let f = figures(&parts, &capture, window, |frame| played.came_out(frame)).unwrap();
        // 0.5 ms a second, between the middles of the first and the last tenth.
        assert!((f.last - f.first - 4.28).abs() < 0.2, "{} {}", f.first, f.last);
        assert_eq!(f.breaks, 0);
    }

    #[test]
    fn what_was_resampled_by_500_ppm_is_still_the_source() {
        let signal = Signal::new(Band::Wide);
        let capture = Capture::steady(T0, 500.0);
        let mut recording = Recording::default();
        let mut bytes = Vec::new();
        for n in 0..5 * RATE {
            let at = n as f64 * 1.0005;
            let (whole, part) = (at.floor() as i64, at.fract());
            let [a, b] = [0, 1].map(|d| f64::from(signal.sample(whole + d)));
            let sample = ((a + (b - a) * part) as i16).to_le_bytes();
            bytes.extend([sample, sample].concat());
            if bytes.len() == 480 {
                recording.add(T0 + (n + 1) * 1_000_000_000 / RATE + 9 * MS, &bytes);
                bytes.clear();
            }
        }
        let parts = align(&signal, &capture, &recording, Grain::PCM);
        let window = T0 + 500 * MS..recording.pieces.last().unwrap().1;
        let f = figures(&parts, &capture, window, |frame| recording.came_out(frame)).unwrap();
        assert_eq!((f.missing, f.breaks), (0.0, 0));
        assert!((f.delay.median - 10.25).abs() < 0.2 && (f.last - f.first).abs() < 0.1, "{f:?}");
    }
}
