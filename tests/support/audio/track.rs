//! Where one clip's frames lie in a recording of it: an offset that may drift and jump.

use std::f64::consts::PI;
use std::ops::Range;

use realfft::RealFftPlanner;

use super::Clip;

/// Where the reference's frames lie in the recording: `offsets[i]` is that of block i's centre.
pub(super) struct Track {
    block: usize,
    offsets: Vec<f64>,
    /// After which block the offset jumps, and at which frame of the reference.
    jumps: Vec<(usize, usize)>,
    /// A jump within the first block that sounds: its frame, and the offset before it.
    head: Option<(usize, f64)>,
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
    /// The first sound is looked at alone for this long,
    const ONSET: f64 = 0.03;
    /// and found this far from where it should be.
    const LATE: f64 = 0.01;

    /// Finds `reference` in `heard`, which have the same format.
    pub(super) fn follow(reference: &Clip, heard: &Clip) -> Self {
        let rate = reference.rate;
        let (reference, heard) = (&mixed(reference)[..], &mixed(heard)[..]);
        let coarse = coarse_offset(reference, heard);
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

        let head = Self::head(reference, heard, &found, block, rate);

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
        Self { block, offsets, jumps, head, rate }
    }

    /// Where the sound begins there is no block before the first one to tell of another offset.
    fn head(
        reference: &[f64],
        heard: &[f64],
        found: &[Option<f64>],
        block: usize,
        rate: u32,
    ) -> Option<(usize, f64)> {
        let (i, after) = found.iter().enumerate().find_map(|(i, offset)| Some((i, (*offset)?)))?;
        let sounding = i * block..reference.len().min((i + 1) * block);
        let loudest = sounding.clone().map(|f| reference[f].abs()).fold(0.0, f64::max);
        let start = sounding.clone().find(|f| reference[*f].abs() > 0.01 * loudest)?;
        let piece = reference.get(start..start + (f64::from(rate) * Self::ONSET) as usize)?;
        let reach = (Self::LATE * f64::from(rate)) as i64;
        let (before, likeness) = refine(piece, heard, start as i64, after.round() as i64, reach)?;
        let jumps = (after - before).abs() > Self::JUMP * f64::from(rate);
        (jumps && likeness >= Self::CONVINCING)
            .then(|| (switch(reference, heard, start..sounding.end, before, after), before))
    }

    /// The recording's frame that belongs to the reference's frame.
    fn locate(&self, frame: usize) -> f64 {
        if let Some((_, offset)) = self.head.filter(|(end, _)| frame < *end) {
            return frame as f64 + offset;
        }
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
    pub(super) fn align(&self, reference: &Clip, heard: &Clip) -> Clip {
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

    /// How often the offset jumps.
    pub(super) fn splices(&self) -> usize {
        self.jumps.len() + usize::from(self.head.is_some())
    }

    /// Where the recording has the reference's beginning, in seconds.
    pub(super) fn offset(&self) -> f64 {
        self.locate(0) / f64::from(self.rate)
    }

    /// How far the offset moves, in all.
    pub(super) fn wander_ms(&self) -> f64 {
        let offsets = || self.offsets.iter().copied().chain(self.head.map(|(_, offset)| offset));
        let least = offsets().fold(f64::INFINITY, f64::min);
        let most = offsets().fold(f64::NEG_INFINITY, f64::max);
        (most - least) / f64::from(self.rate) * 1000.0
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
pub(super) fn interpolate(signal: &[f64], at: f64) -> f64 {
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
