//! Other ways to fill a gap, to be compared with.

use std::f64::consts::PI;

/// Makes samples that follow those that were heard.
pub trait Method {
    fn begin(&mut self, heard: &[f32]);
    fn next(&mut self) -> f32;

    /// It fades by itself, and what returns is faded in over it.
    fn fades(&self) -> bool {
        false
    }
}

/// Frames of a join.
pub const JOIN: usize = 120;
const HOLD: usize = 480;
const FADE: usize = 2_400;

fn rising(t: f64) -> f32 {
    (0.5 - 0.5 * (PI * t.clamp(0.0, 1.0)).cos()) as f32
}

/// What is heard when these blocks of `sent` are lost: the method under the envelope of the player,
/// and with its joins.
pub fn play(method: &mut dyn Method, sent: &[f32], lost: &[bool], block: usize) -> Vec<f32> {
    let mut heard = Vec::with_capacity(sent.len());
    let (mut in_gap, mut since, mut join) = (false, 0, JOIN);
    for (samples, lost) in sent.chunks(block).zip(lost) {
        if *lost && !in_gap {
            method.begin(&heard);
            since = 0;
        }
        if in_gap && !lost {
            join = 0;
        }
        in_gap = *lost;
        for sample in samples {
            let mut made = || {
                let level = rising((since as f64 - HOLD as f64) / FADE as f64);
                since += 1;
                method.next() * if method.fades() { 1.0 } else { 1.0 - level }
            };
            if *lost {
                heard.push(made());
            } else if join < JOIN {
                join += 1;
                let gain = rising(join as f64 / (JOIN + 1) as f64);
                let made = made();
                let beneath = if method.fades() { 1.0 } else { 1.0 - gain };
                heard.push(sample * gain + made * beneath);
            } else {
                heard.push(*sample);
            }
        }
    }
    heard
}

/// Silence, after the last 2.5 ms were played backwards under a falling cosine.
#[derive(Default)]
pub struct Silence {
    tail: Vec<f32>,
}

impl Method for Silence {
    fn begin(&mut self, heard: &[f32]) {
        let last = heard.iter().rev().take(JOIN).enumerate();
        self.tail =
            last.map(|(i, x)| x * (1.0 - rising((i + 1) as f64 / (JOIN + 1) as f64))).collect();
        self.tail.reverse();
    }

    fn next(&mut self) -> f32 {
        self.tail.pop().unwrap_or(0.0)
    }

    fn fades(&self) -> bool {
        true
    }
}

/// The last 2.5 ms again and again.
#[derive(Default)]
pub struct Repeat {
    block: Vec<f32>,
    at: usize,
}

impl Method for Repeat {
    fn begin(&mut self, heard: &[f32]) {
        self.block = heard[heard.len() - 120..].to_vec();
        self.at = 0;
    }

    fn next(&mut self) -> f32 {
        self.at += 1;
        self.block[(self.at - 1) % self.block.len()]
    }
}

/// The period that fits best, again and again, cross-faded with itself: after ITU-T G.711
/// Appendix I, with periods of 2.5 to 15 ms and without its delay.
#[derive(Default)]
pub struct Pitch {
    period: Vec<f32>,
    at: usize,
    /// What is missing to the last sample heard, which fades.
    step: f32,
}

impl Method for Pitch {
    fn begin(&mut self, heard: &[f32]) {
        const TEMPLATE: usize = 960;
        let end = heard.len();
        let last = &heard[end - TEMPLATE..];
        let fit = |lag: usize| {
            let before = &heard[end - TEMPLATE - lag..end - lag];
            let cross: f32 = last.iter().zip(before).map(|(a, b)| a * b).sum();
            let power: f32 = before.iter().map(|x| x * x).sum();
            cross / (power + 1e-9).sqrt()
        };
        let lag = (120..720).max_by(|a, b| fit(*a).total_cmp(&fit(*b))).unwrap();
        self.period = heard[end - lag..].to_vec();
        let overlap = lag / 4;
        for j in 0..overlap {
            let gain = rising((j + 1) as f64 / (overlap + 1) as f64);
            let earlier = heard[end - lag - overlap + j];
            let x = &mut self.period[lag - overlap + j];
            *x += (earlier - *x) * gain;
        }
        self.step = heard[end - 1] - heard[end - lag - 1];
        self.at = 0;
    }

    fn next(&mut self) -> f32 {
        let step = self.step * (1.0 - rising(self.at as f64 / 60.0));
        self.at += 1;
        self.period[(self.at - 1) % self.period.len()] + step
    }
}

/// A linear predictor by Burg's method at the full rate, in double precision.
pub struct Burg {
    order: usize,
    length: usize,
    predictor: Vec<f64>,
    last: Vec<f64>,
}

impl Burg {
    pub fn new(order: usize, length: usize) -> Self {
        Self { order, length, predictor: vec![], last: vec![] }
    }
}

impl Method for Burg {
    fn begin(&mut self, heard: &[f32]) {
        let x: Vec<f64> =
            heard[heard.len() - self.length..].iter().map(|x| f64::from(*x)).collect();
        let (mut forward, mut backward) = (x.clone(), x.clone());
        let mut a = vec![1.0];
        for m in 0..self.order {
            let (mut cross, mut power) = (0.0, 1e-12);
            for n in m + 1..x.len() {
                cross += forward[n] * backward[n - 1];
                power += forward[n] * forward[n] + backward[n - 1] * backward[n - 1];
            }
            let k = -2.0 * cross / power;
            for n in (m + 1..x.len()).rev() {
                let (f, b) = (forward[n], backward[n - 1]);
                (forward[n], backward[n]) = (f + k * b, b + k * f);
            }
            a.push(0.0);
            let before = a.clone();
            for i in 0..a.len() {
                a[i] += k * before[a.len() - 1 - i];
            }
        }
        self.predictor = a[1..].iter().map(|a| -a).collect();
        self.last = x[x.len() - self.order..].to_vec();
    }

    fn next(&mut self) -> f32 {
        let x = self.predictor.iter().zip(self.last.iter().rev()).map(|(c, x)| c * x).sum();
        self.last.push(x);
        if self.last.len() > 8 * self.order {
            self.last.drain(..7 * self.order);
        }
        x as f32
    }
}
