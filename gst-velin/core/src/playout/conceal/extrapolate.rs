//! Samples that could follow those that were heard: two linear predictors, one behind the other.
//!
//! A long one knows tones and chords: it looks back by whole multiples of about 1/12000 s, over
//! 10.7 ms. A tone is predicted as well from every fourth sample as from every one, so that this
//! costs a fraction of a predictor as long at the full rate. It is fitted to one signal of all
//! channels (what predicts a sum of tones predicts each of them, in any mixture) and applied to each
//! channel by itself. What it leaves is predicted by a short one at the full rate, which makes that
//! the first sample follows the last.

use std::time::Duration;

use super::Continuation;
use super::burg::Burg;
use super::recent::Recent;
use crate::units::SampleRate;

/// What is remembered.
const HISTORY: Duration = Duration::from_millis(40);
/// The long predictor looks at about so many samples a second …
const LONG_RATE: u32 = 12_000;
/// … and back by so many.
const LONG_ORDER: usize = 128;
const SHORT_ORDER: usize = 32;
/// What the short predictor is fitted to.
const REST: Duration = Duration::from_millis(10);
/// Below half a step of 24 bits there is nothing to go on with.
const QUIET: f32 = 6e-8;

/// Frames that a continuation is made from.
pub(super) fn history(rate: SampleRate) -> usize {
    rate.frames_in(HISTORY).max((LONG_ORDER * 2) as u64 * stride(rate) as u64) as usize
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
        let rest = rate.frames_in(REST).max(2 * SHORT_ORDER as u64) as usize;
        let sound = (LONG_ORDER * stride + rest).min(history);
        let rest_frames = sound - LONG_ORDER * stride;
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
            scratch: vec![0.0; (stride * channels).max(rest_frames * channels)].into(),
            scale: 1.0,
            bound: 1.0,
            silent: true,
        }
    }

    fn fit_long(&mut self, heard: &[f32]) {
        let step = self.stride * self.channels;
        let signs = signs(heard, step, self.channels);
        let pieces = heard.rchunks_exact(step).rev();
        let mono = &mut self.mono[..heard.len() / step];
        for (y, piece) in mono.iter_mut().zip(pieces) {
            let frames = piece.chunks_exact(self.channels);
            let sum: f32 = frames.flat_map(|f| f.iter().zip(&signs).map(|(x, s)| x * s)).sum();
            *y = sum / self.scale;
        }
        self.burg.fit(mono, &mut self.long);
    }

    fn fit_short(&mut self, heard: &[f32]) {
        let ch = self.channels;
        let sound = self.sound.all();
        let rest = &mut self.scratch[..self.rest_frames * ch];
        let from = sound.len() - rest.len();
        rest.fill(0.0);
        predict(rest, &self.long, sound, from, self.stride * ch);
        for (rest, x) in rest.iter_mut().zip(&sound[from..]) {
            *rest = x - *rest;
        }
        self.rest.push(rest);
        let signs = signs(heard, self.stride * ch, ch);
        let mono = &mut self.mono[..self.rest_frames];
        for (y, frame) in mono.iter_mut().zip(rest.chunks_exact(ch)) {
            *y = frame.iter().zip(&signs).map(|(x, s)| x * s).sum();
        }
        self.burg.fit(mono, &mut self.short);
    }
}

impl Continuation for Extrapolator {
    fn begin(&mut self, heard: &[f32]) {
        let peak = heard.iter().fold(0.0, |peak: f32, x| peak.max(x.abs()));
        let sound = self.sound.all().len();
        let recent = &heard[heard.len() - sound..];
        self.silent = recent.iter().all(|x| x.abs() < QUIET);
        if self.silent {
            return;
        }
        self.scale = peak;
        // A little more than was heard, but not beyond full scale if that was not.
        self.bound = f32::max(1.0, f32::min(1.25, 1.0 / peak));
        for piece in recent.chunks(self.scratch.len()) {
            let scaled = &mut self.scratch[..piece.len()];
            scaled.iter_mut().zip(piece).for_each(|(y, x)| *y = x / peak);
            self.sound.push(scaled);
        }
        self.fit_long(heard);
        self.fit_short(heard);
    }

    fn next(&mut self, frames: &mut [f32]) {
        if self.silent {
            frames.fill(0.0);
            return;
        }
        let ch = self.channels;
        for piece in frames.chunks_mut(self.stride * ch) {
            let rest = &mut self.scratch[..piece.len()];
            for frame in rest.chunks_exact_mut(ch) {
                let before = self.rest.all();
                frame.fill(0.0);
                predict(frame, &self.short, before, before.len(), ch);
                self.rest.push(frame);
            }
            let before = self.sound.all();
            predict(rest, &self.long, before, before.len(), self.stride * ch);
            for x in rest.iter_mut() {
                *x = if x.is_finite() { x.clamp(-self.bound, self.bound) } else { 0.0 };
            }
            self.sound.push(rest);
            piece.iter_mut().zip(rest).for_each(|(y, x)| *y = *x * self.scale);
        }
    }

    fn is_silent(&self) -> bool {
        self.silent
    }
}

/// Which way up each channel adds to the others, looking at every `step`th sample.
fn signs(heard: &[f32], step: usize, channels: usize) -> [f32; 8] {
    let mut signs = [1.0; 8];
    for c in 1..channels {
        let agree: f32 = heard
            .chunks_exact(step)
            .map(|frame| {
                let others: f32 = frame[..c].iter().zip(&signs).map(|(x, s)| x * s).sum();
                others * frame[c]
            })
            .sum();
        signs[c] = if agree < 0.0 { -1.0 } else { 1.0 };
    }
    signs
}

/// Adds to `out` what `predictor` makes of `samples`, where `out` lies at `at`: the sample `stride`
/// before it by the first coefficient, and so on.
fn predict(out: &mut [f32], predictor: &[f32], samples: &[f32], at: usize, stride: usize) {
    let (wide, narrow) = out.as_chunks_mut::<8>();
    for (i, out) in wide.iter_mut().enumerate() {
        predict_some(out, predictor, samples, at + 8 * i, stride);
    }
    let at = at + 8 * wide.len();
    let (pairs, single) = narrow.as_chunks_mut::<2>();
    for (i, out) in pairs.iter_mut().enumerate() {
        predict_some(out, predictor, samples, at + 2 * i, stride);
    }
    for out in single.as_chunks_mut::<1>().0 {
        predict_some(out, predictor, samples, at + 2 * pairs.len(), stride);
    }
}

fn predict_some<const N: usize>(
    out: &mut [f32; N],
    predictor: &[f32],
    samples: &[f32],
    at: usize,
    stride: usize,
) {
    let mut sum = *out;
    let mut at = at;
    for c in predictor {
        at -= stride;
        let before = &samples[at..at + N];
        for i in 0..N {
            sum[i] += c * before[i];
        }
    }
    *out = sum;
}
