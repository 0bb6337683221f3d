//! Which of the source's frames a recording holds, and where.

use realfft::RealFftPlanner;

use super::RATE;
use super::recording::{Capture, Recording};
use super::signal::Signal;

/// How finely is looked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grain {
    /// Frames that are looked for as one.
    block: usize,
    /// Frames that are there or not, as one.
    part: usize,
    /// Normalised correlation from which on they are the source's.
    likeness: f64,
}

impl Grain {
    /// For what comes out as it went in, resampled at most.
    pub(crate) const PCM: Self = Self { block: 120, part: 48, likeness: 0.7 };
    /// For what went through a codec that keeps the shape only roughly.
    pub(crate) const LOSSY: Self = Self { block: 480, part: 240, likeness: 0.6 };
}

/// Some frames of the recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// The first of them.
    pub(crate) first: usize,
    pub(crate) frames: usize,
    /// The source's frame that it is; none when these are not the source's.
    pub(crate) source: Option<i64>,
    /// How well they match what should be there: 1.0 is a copy.
    pub(crate) likeness: f64,
}

impl Part {
    /// By how many frames the source is ahead of the recording.
    pub(crate) fn lead(&self) -> Option<i64> {
        self.source.map(|source| source - self.first as i64)
    }
}

/// Finds every part of `recording` in `signal`, captured as `capture` says.
pub(crate) fn align(
    signal: &Signal,
    capture: &Capture,
    recording: &Recording,
    grain: Grain,
) -> Vec<Part> {
    let heard: Vec<f64> = recording.samples.iter().map(|s| f64::from(*s)).collect();
    let mut finder = Finder { signal, planner: RealFftPlanner::new() };
    let leads = finder.leads(capture, recording, &heard, grain);
    let near = Neighbours::new(&leads);
    (0..heard.len() / grain.part)
        .map(|i| {
            let first = i * grain.part;
            let piece = &heard[first..first + grain.part];
            let candidates = near.of(first / grain.block).into_iter().flatten();
            let best = candidates
                .flat_map(|lead| [lead, lead - 1, lead + 1])
                .map(|lead| (finder.likeness(piece, first as i64 + lead), first as i64 + lead))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let (likeness, source) = best.unwrap_or_default();
            Part {
                first,
                frames: grain.part,
                source: (likeness > grain.likeness).then_some(source),
                likeness: likeness.max(0.0),
            }
        })
        .collect()
}

/// The oldest that a sound is looked for.
const OLDEST: i64 = 4 * RATE as i64;
/// How far around the last known place is looked first.
const NEAR: i64 = RATE as i64 / 5;
/// Blocks that are looked for together where nothing is known: enough to resemble nothing else,
const SNIPPET: usize = 4;
/// if they are this like.
const CONVINCING: f64 = 0.55;
/// Every so many blocks that were not found it is looked for everywhere.
const PATIENCE: usize = 16;
/// What never exceeds this is silence.
const SILENT: f64 = 20.0;

struct Finder<'a> {
    signal: &'a Signal,
    planner: RealFftPlanner<f64>,
}

impl Finder<'_> {
    /// By how much the source is ahead in every block.
    fn leads(
        &mut self,
        capture: &Capture,
        recording: &Recording,
        heard: &[f64],
        grain: Grain,
    ) -> Vec<Option<i64>> {
        let (mut lead, mut failed): (Option<i64>, usize) = (None, 0);
        let mut leads = Vec::with_capacity(heard.len() / grain.block);
        for first in (0..heard.len().saturating_sub(grain.block)).step_by(grain.block) {
            let block = &heard[first..first + grain.block];
            let here = first as i64;
            let follows = lead.and_then(|lead| self.step(block, here, lead, grain.likeness));
            let found = follows.or_else(|| {
                let snippet = heard.get(first..first + SNIPPET * grain.block)?;
                let everywhere = failed.is_multiple_of(PATIENCE);
                failed += 1;
                let latest = capture.latest(recording.came_out(first)?);
                let nearby = lead.and_then(|lead| {
                    self.search(snippet, (here + lead - NEAR)..(here + lead + NEAR).min(latest))
                });
                let place = nearby.or_else(|| {
                    everywhere.then(|| self.search(snippet, latest - OLDEST..latest)).flatten()
                })?;
                // The next blocks may be there even where this one spans a splice.
                lead = Some(place - here);
                self.step(block, here, place - here, grain.likeness)
            });
            if found.is_some() {
                (lead, failed) = (found, 0);
            }
            leads.push(found);
        }
        leads
    }

    /// The lead of a block at or beside `lead`: a resampler moves it frame by frame.
    fn step(&self, block: &[f64], here: i64, lead: i64, enough: f64) -> Option<i64> {
        let around = [0, -1, 1, -2, 2, -3, 3].map(|d| lead + d);
        let scored = around.map(|lead| (self.likeness(block, here + lead), lead));
        let (score, lead) = scored.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
        (score > enough).then_some(lead)
    }

    /// Normalised correlation of `piece` with the source from frame `at` on.
    fn likeness(&self, piece: &[f64], at: i64) -> f64 {
        if piece.iter().all(|s| s.abs() < SILENT) {
            return 0.0;
        }
        let (mut cross, mut own, mut other) = (0.0, 0.0, 0.0);
        for (n, heard) in (at..).zip(piece) {
            let sent = f64::from(self.signal.sample(n));
            cross += sent * heard;
            own += heard * heard;
            other += sent * sent;
        }
        cross / (own * other).sqrt().max(1.0)
    }

    /// Where in the source, from a frame in `places` on, `snippet` is.
    fn search(&mut self, snippet: &[f64], places: std::ops::Range<i64>) -> Option<i64> {
        if snippet.iter().all(|s| s.abs() < SILENT) || places.is_empty() {
            return None;
        }
        let count = (places.end - places.start) as usize;
        let length = (count + snippet.len()).next_power_of_two();
        let forward = self.planner.plan_fft_forward(length);
        let inverse = self.planner.plan_fft_inverse(length);
        let mut source: Vec<f64> =
            (places.start..).take(length).map(|n| f64::from(self.signal.sample(n))).collect();
        // The energy of the source under the snippet, at every place.
        let mut sum = 0.0;
        let sums: Vec<f64> = std::iter::once(0.0)
            .chain(source.iter().map(|s| {
                sum += s * s;
                sum
            }))
            .collect();
        let mut padded = snippet.to_vec();
        padded.resize(length, 0.0);
        let (mut a, mut b) = (forward.make_output_vec(), forward.make_output_vec());
        // The lengths come from the plans themselves, which is all these can fail on.
        let _ = forward.process(&mut source, &mut a);
        let _ = forward.process(&mut padded, &mut b);
        for (a, b) in a.iter_mut().zip(&b) {
            *a *= b.conj();
        }
        let last = a.len() - 1;
        (a[0].im, a[last].im) = (0.0, 0.0);
        let mut cross = inverse.make_output_vec();
        let _ = inverse.process(&mut a, &mut cross);
        let own = snippet.iter().map(|s| s * s).sum::<f64>();
        let score = |k: usize| {
            let energy = (sums[k + snippet.len()] - sums[k]) * own;
            cross[k] / length as f64 / energy.sqrt().max(1.0)
        };
        let best = (0..count).max_by(|a, b| score(*a).total_cmp(&score(*b)))?;
        (score(best) > CONVINCING).then_some(places.start + best as i64)
    }
}

/// The nearest known leads before and after each block.
struct Neighbours {
    before: Vec<Option<i64>>,
    after: Vec<Option<i64>>,
}

impl Neighbours {
    fn new(leads: &[Option<i64>]) -> Self {
        let carry = |last: &mut Option<i64>, lead: &Option<i64>| {
            *last = lead.or(*last);
            Some(*last)
        };
        let before = leads.iter().scan(None, carry).collect();
        let mut after: Vec<_> = leads.iter().rev().scan(None, carry).collect();
        after.reverse();
        Self { before, after }
    }

    fn of(&self, block: usize) -> [Option<i64>; 2] {
        // The last blocks of a recording may be cut.
        let last = self.before.len().saturating_sub(1);
        [&self.before, &self.after].map(|known| known.get(block.min(last)).copied().flatten())
    }
}
