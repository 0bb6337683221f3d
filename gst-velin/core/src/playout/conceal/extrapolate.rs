//! Samples that could follow those that were heard: two linear predictors, one behind the other,
//! and the last period where they fall silent.
//!
//! A **long** one knows tones and chords: it looks back by whole multiples of about 1/8000 s, over
//! 20 ms. A tone is predicted from every sixth sample as well as from every one (one beyond half of
//! 8 kHz is folded, and as regular as before), so this costs a thirty-sixth of a predictor as long
//! at the full rate. It is fitted to the sum of all channels (what predicts a sum of tones predicts
//! each of them, in any mixture) and applied to each channel by itself. What it leaves is predicted
//! by a **short** one at the full rate, so that the first sample follows on the last.
//!
//! What cannot be predicted, noise and the breath of voices, dies away in both. As far as the level
//! falls, the last **period** takes its place.

use std::time::Duration;

use super::Continuation;
use super::burg::Burg;
use super::period::Period;
use super::recent::Recent;
use crate::units::SampleRate;

/// What is remembered.
const HISTORY: Duration = Duration::from_millis(50);
/// The long predictor looks at about so many samples a second …
pub(super) const LONG_RATE: u32 = 8_000;
/// … and back by so many.
const LONG_ORDER: usize = 160;
const SHORT_ORDER: usize = 64;
/// What the short predictor is fitted to, and at most so many samples: time is short.
const REST: Duration = Duration::from_millis(10);
const REST_SAMPLES: usize = 1_024;
/// The level that is to be kept.
const LEVEL: Duration = Duration::from_millis(10);
/// How fast its loss is noticed.
const NOTICE: Duration = Duration::from_micros(2_500);
/// Below half a step of 24 bits there is nothing to go on with.
const QUIET: f32 = 6e-8;
/// The most channels there are.
const CHANNELS: usize = 8;

/// Frames that a continuation is made from.
pub(super) fn history(rate: SampleRate) -> usize {
    (rate.frames_in(HISTORY) as usize).max(2 * LONG_ORDER * stride(rate))
}

/// Frames from one sample of the long predictor to the next.
fn stride(rate: SampleRate) -> usize {
    ((rate.hz() + LONG_RATE / 2) / LONG_RATE).max(1) as usize
}

/// Goes on with what was heard.
#[derive(Debug)]
pub(in super::super) struct Extrapolator {
    channels: usize,
    stride: usize,
    burg: Burg,
    /// One signal of all channels.
    mono: Box<[f32]>,
    long: Box<[f32]>,
    short: Box<[f32]>,
    /// What was heard and goes on, in parts of `scale`.
    sound: Recent,
    /// What the long predictor left of it.
    rest: Recent,
    rest_frames: usize,
    period: Period,
    /// Mean square of what was heard, from sample to sample, and of its continuation.
    level: f32,
    level_now: f32,
    level_frames: usize,
    /// Gain of the period.
    filling: f32,
    /// How much of a frame counts for the level and the gain.
    notice: f32,
    scratch: Box<[f32]>,
    scale: f32,
    /// Nothing goes beyond this, in parts of `scale`.
    bound: f32,
    silent: bool,
}

impl Extrapolator {
    pub(super) fn new(rate: SampleRate, channels: usize) -> Self {
        let stride = stride(rate);
        let history = history(rate);
        let rest_frames = (rate.frames_in(REST) as usize)
            .min(REST_SAMPLES / channels)
            .min(history - LONG_ORDER * stride)
            .max(SHORT_ORDER + 1);
        let sound = LONG_ORDER * stride + rest_frames;
        let mono = (history / stride).max(rest_frames);
        Self {
            channels,
            stride,
            burg: Burg::new(mono, LONG_ORDER.max(SHORT_ORDER)),
            mono: vec![0.0; mono].into(),
            long: vec![0.0; LONG_ORDER].into(),
            short: vec![0.0; SHORT_ORDER].into(),
            sound: Recent::new(sound * channels),
            rest: Recent::new(rest_frames * channels),
            rest_frames,
            period: Period::new(rate, channels, stride),
            level: 0.0,
            level_now: 0.0,
            level_frames: rate.frames_in(LEVEL) as usize,
            filling: 0.0,
            notice: 1.0 / rate.frames_in(NOTICE) as f32,
            scratch: vec![0.0; stride.max(rest_frames) * channels].into(),
            scale: 1.0,
            bound: 1.0,
            silent: true,
        }
    }

    /// Takes what the predictors look back at, in parts of the loudest sample.
    fn take(&mut self, heard: &[f32], peak: f32) {
        self.scale = peak;
        // A little more than was heard, but not beyond full scale if that was not.
        self.bound = f32::max(1.0, f32::min(1.25, 1.0 / peak));
        let sound = self.sound.all().len();
        for piece in heard[heard.len() - sound..].chunks(self.scratch.len()) {
            let scaled = &mut self.scratch[..piece.len()];
            scaled.iter_mut().zip(piece).for_each(|(y, x)| *y = x / peak);
            self.sound.push(scaled);
        }
        let ch = self.channels;
        let samples = self.sound.all();
        let last = &samples[samples.len() - (self.level_frames + 1) * ch..];
        let steps = last.iter().zip(&last[ch..]);
        let power: f32 = steps.map(|(a, b)| (b - a) * (b - a)).sum();
        self.level = power / (self.level_frames * ch) as f32;
        self.level_now = self.level;
        self.filling = 0.0;
    }

    /// Fits the long predictor, and finds the period.
    fn fit_long(&mut self, heard: &[f32], signs: &[f32]) {
        let ch = self.channels;
        let mono = &mut self.mono[..heard.len() / (self.stride * ch)];
        for (y, piece) in mono.iter_mut().rev().zip(heard.rchunks_exact(self.stride * ch)) {
            *y = sum(&piece[piece.len() - ch..], signs) / self.scale;
        }
        self.period.take(mono, heard);
        self.burg.fit(mono, &mut self.long);
    }

    /// Fits the short predictor to what the long one leaves.
    fn fit_short(&mut self, signs: &[f32]) {
        let ch = self.channels;
        let sound = self.sound.all();
        let rest = &mut self.scratch[..self.rest_frames * ch];
        let from = sound.len() - rest.len();
        rest.fill(0.0);
        predict(rest, &self.long, sound, from, self.stride * ch);
        rest.iter_mut().zip(&sound[from..]).for_each(|(rest, x)| *rest = x - *rest);
        self.rest.push(rest);
        let mono = &mut self.mono[..self.rest_frames];
        for (y, frame) in mono.iter_mut().zip(rest.chunks_exact(ch)) {
            *y = sum(frame, signs);
        }
        self.burg.fit(mono, &mut self.short);
    }

    /// Extrapolates at most one stride into `scratch`.
    fn extrapolate(&mut self, samples: usize) {
        let ch = self.channels;
        let made = &mut self.scratch[..samples];
        for frame in made.chunks_exact_mut(ch) {
            let before = self.rest.all();
            frame.fill(0.0);
            predict(frame, &self.short, before, before.len(), ch);
            self.rest.push(frame);
        }
        let before = self.sound.all();
        predict(made, &self.long, before, before.len(), self.stride * ch);
        for x in made.iter_mut() {
            *x = if x.is_finite() { x.clamp(-self.bound, self.bound) } else { 0.0 };
        }
        self.sound.push(made);
    }
}

impl Continuation for Extrapolator {
    fn begin(&mut self, heard: &[f32]) {
        let recent = &heard[heard.len() - self.sound.all().len()..];
        self.silent = recent.iter().all(|x| x.abs() < QUIET);
        if self.silent {
            return;
        }
        let peak = peak(heard);
        let signs = signs(heard, self.stride * self.channels, self.channels);
        self.take(heard, peak);
        self.fit_long(heard, &signs);
        self.fit_short(&signs);
    }

    fn next(&mut self, frames: &mut [f32]) {
        if self.silent {
            frames.fill(0.0);
            return;
        }
        let ch = self.channels;
        let bound = self.bound * self.scale;
        for piece in frames.chunks_mut(self.stride * ch) {
            self.extrapolate(piece.len());
            let sound = self.sound.all();
            let made = &sound[sound.len() - piece.len() - ch..];
            for (i, out) in piece.chunks_exact_mut(ch).enumerate() {
                let (before, frame) = made[i * ch..][..2 * ch].split_at(ch);
                let steps = frame.iter().zip(before).map(|(x, b)| (x - b) * (x - b));
                let power = steps.sum::<f32>() / ch as f32;
                self.level_now += (power - self.level_now) * self.notice;
                // Nothing is filled up before half of the power has gone: sounds beat and pulse.
                let missing = 1.0 - 2.0 * self.level_now / self.level;
                // Comparing so, NaN is none.
                let wanted = if missing > 0.0 { missing.sqrt() } else { 0.0 };
                self.filling += (wanted - self.filling) * self.notice;
                for ((y, x), period) in out.iter_mut().zip(frame).zip(self.period.next()) {
                    *y = (x * self.scale + self.filling * period).clamp(-bound, bound);
                }
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.silent
    }
}

/// Which way up each channel adds to the others, looking at one frame in every `step` samples.
fn signs(heard: &[f32], step: usize, channels: usize) -> [f32; CHANNELS] {
    let mut signs = [1.0; CHANNELS];
    for c in 1..channels {
        let agree = |frame: &[f32]| sum(&frame[..c], &signs) * frame[c];
        if heard.chunks_exact(step).map(agree).sum::<f32>() < 0.0 {
            signs[c] = -1.0;
        }
    }
    signs
}

fn sum(frame: &[f32], signs: &[f32]) -> f32 {
    frame.iter().zip(signs).map(|(x, sign)| x * sign).sum()
}

/// The loudest sample.
fn peak(samples: &[f32]) -> f32 {
    let (chunks, rest) = samples.as_chunks::<16>();
    let mut most = [0.0; 16];
    for chunk in chunks {
        for (most, x) in most.iter_mut().zip(chunk) {
            *most = if x.abs() > *most { x.abs() } else { *most };
        }
    }
    most.iter().chain(rest).fold(0.0, |most, x| most.max(x.abs()))
}

/// Adds to `out`, which lies at `at` of `samples`, what `predictor` makes of those: of the sample
/// `stride` before by its first coefficient, and so on.
fn predict(out: &mut [f32], predictor: &[f32], samples: &[f32], at: usize, stride: usize) {
    let past = Past { predictor, samples, stride };
    let (out, at) = past.add::<32, 1>(out, at);
    let (out, at) = past.add::<8, 2>(out, at);
    let (out, at) = past.add::<4, 4>(out, at);
    let (out, at) = past.add::<2, 4>(out, at);
    past.add::<1, 4>(out, at);
}

struct Past<'a> {
    predictor: &'a [f32],
    samples: &'a [f32],
    stride: usize,
}

impl Past<'_> {
    /// Predicts `N` samples at a time, each in `P` partial sums, so that the processor always has
    /// something to add; gives what is left over. The order is a multiple of `P`.
    fn add<'o, const N: usize, const P: usize>(
        &self,
        out: &'o mut [f32],
        mut at: usize,
    ) -> (&'o mut [f32], usize) {
        let (chunks, rest) = out.as_chunks_mut::<N>();
        for out in chunks {
            let mut sums = [[0.0; N]; P];
            let mut from = at;
            for some in self.predictor.as_chunks::<P>().0 {
                for (sum, c) in sums.iter_mut().zip(some) {
                    from -= self.stride;
                    let before = &self.samples[from..from + N];
                    for (sum, x) in sum.iter_mut().zip(before) {
                        *sum += c * x;
                    }
                }
            }
            for (i, x) in out.iter_mut().enumerate() {
                *x += sums.iter().map(|sum| sum[i]).sum::<f32>();
            }
            at += N;
        }
        (rest, at)
    }
}
