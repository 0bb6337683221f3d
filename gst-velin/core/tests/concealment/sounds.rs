//! What is played: synthesised, seeded, mono at 48 kHz, within full scale.

use std::f64::consts::TAU;

use crate::playout_lab::Seed;

pub const RATE: usize = 48_000;

/// A sound and its name.
pub struct Sound {
    pub name: &'static str,
    pub samples: Vec<f32>,
}

/// One of each kind, so many seconds long.
pub fn all(seconds: usize) -> Vec<Sound> {
    let n = seconds * RATE;
    vec![
        Sound { name: "speech", samples: speech(n) },
        Sound { name: "music", samples: music(n) },
        Sound { name: "tones", samples: tones(n) },
        Sound { name: "noise", samples: rain(n) },
    ]
}

/// −1..1.
fn noise(seed: &mut Seed) -> f64 {
    (seed.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// 0..1.
fn chance(seed: &mut Seed) -> f64 {
    0.5 + 0.5 * noise(seed)
}

fn normalised(samples: Vec<f64>, peak: f64) -> Vec<f32> {
    let most = samples.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    samples.iter().map(|x| (x * peak / most) as f32).collect()
}

/// A resonance of two poles.
#[derive(Default)]
struct Resonator {
    y: [f64; 2],
}

impl Resonator {
    fn next(&mut self, x: f64, hz: f64, width: f64) -> f64 {
        let r = (-std::f64::consts::PI * width / RATE as f64).exp();
        let step = TAU * hz / RATE as f64;
        let y = (1.0 - r) * x + 2.0 * r * step.cos() * self.y[0] - r * r * self.y[1];
        self.y = [y, self.y[0]];
        y
    }
}

/// Vowels that glide into each other, fricatives and pauses: a source of pulses and breath whose
/// pitch moves and trembles, behind four formants (after D. H. Klatt, 1980, much simplified).
fn speech(n: usize) -> Vec<f32> {
    const VOWELS: [[f64; 4]; 6] = [
        [730.0, 1090.0, 2440.0, 3400.0],
        [270.0, 2290.0, 3010.0, 3700.0],
        [300.0, 870.0, 2240.0, 3300.0],
        [530.0, 1840.0, 2480.0, 3500.0],
        [570.0, 840.0, 2410.0, 3300.0],
        [440.0, 1020.0, 2240.0, 3400.0],
    ];
    const WIDTHS: [f64; 4] = [80.0, 100.0, 140.0, 250.0];
    let mut seed = Seed(1);
    let mut out = Vec::with_capacity(n);
    let mut formants: [Resonator; 4] = Default::default();
    let mut hiss = Resonator::default();
    let mut at = VOWELS[0];
    let (mut phase, mut pulse) = (0.0, 0.0);
    let (mut voiced, mut rustling) = (0.0, 0.0);
    let mut base = 120.0;
    while out.len() < n {
        // A sound of 60 to 260 ms; a new voice now and then.
        let length = (0.06 + 0.2 * chance(&mut seed)) * RATE as f64;
        let kind = seed.below(10);
        let (voice, rustle) = match kind {
            0 => (0.0, 0.0),
            1 | 2 => (0.0, 1.0),
            3 => (0.7, 0.5),
            _ => (1.0, 0.0),
        };
        if kind == 0 {
            base = 85.0 + 130.0 * chance(&mut seed);
        }
        let aim = VOWELS[seed.below(6) as usize];
        let bend = 0.8 + 0.5 * chance(&mut seed);
        for i in 0..length as usize {
            for (f, aim) in at.iter_mut().zip(aim) {
                *f += (aim - *f) * 0.000_7;
            }
            voiced += (voice - voiced) * 0.001_5;
            rustling += (rustle - rustling) * 0.001;
            let t = i as f64 / length;
            let pitch = base * (1.0 + (bend - 1.0) * (t * std::f64::consts::PI).sin());
            phase += pitch / RATE as f64;
            if phase >= 1.0 {
                // Each period a little longer or shorter, louder or softer.
                phase -= 1.0 + 0.012 * noise(&mut seed);
                pulse = 1.0 + 0.06 * noise(&mut seed);
            }
            // A glottis: open for 60 % of the period, closing quickly; its derivative.
            let open = phase / 0.6;
            let flow = if (0.0..1.0).contains(&open) { open * (2.0 - 3.0 * open) } else { 0.0 };
            let breath = noise(&mut seed);
            let source = voiced * (pulse * flow + 0.02 * breath);
            let tract: f64 = formants
                .iter_mut()
                .zip(at.iter().zip(WIDTHS))
                .zip([1.0, 0.6, 0.3, 0.15])
                .map(|((f, (hz, width)), gain)| gain * f.next(source, *hz, width))
                .sum();
            let rustle = rustling * hiss.next(breath, 5_200.0, 3_500.0) * 0.2;
            out.push(tract + rustle);
        }
    }
    out.truncate(n);
    normalised(out, 0.7)
}

/// A tune of plucked strings, chords that are held with some vibrato, a bass and a brushed drum.
fn music(n: usize) -> Vec<f32> {
    const STEPS: [i32; 10] = [0, 2, 4, 7, 9, 12, 14, 16, 19, 21];
    const CHORDS: [[i32; 4]; 4] = [[0, 4, 7, 12], [-3, 0, 4, 9], [-7, -3, 0, 5], [-5, -1, 2, 7]];
    let hz = |step: i32| 261.63 * 2_f64.powf(f64::from(step) / 12.0);
    let mut seed = Seed(2);
    let mut out = vec![0.0; n];
    let mut string = |from: usize, pitch: f64, gain: f64, decay: f64| {
        let to = n.min(from + RATE);
        for (i, x) in out[from.min(to)..to].iter_mut().enumerate() {
            let t = i as f64 / RATE as f64;
            let attack = (t / 0.003).min(1.0);
            for k in 1..=8 {
                let k = f64::from(k);
                // Stiff strings: partials are a little sharp.
                let f = pitch * k * (1.0 + 0.000_3 * k * k).sqrt();
                *x += gain * attack * (TAU * f * t).sin() * (-t * decay * k).exp() / k;
            }
        }
    };
    let note = RATE / 4;
    for (i, from) in (0..n).step_by(note).enumerate() {
        // The players are not quite together.
        let late = seed.below(400) as usize;
        string(from + late, hz(STEPS[seed.below(10) as usize]), 0.25, 3.0);
        if i % 2 == 0 {
            string(from, hz(CHORDS[i / 8 % 4][0] - 24), 0.5, 1.5);
        }
    }
    for (i, x) in out.iter_mut().enumerate() {
        let t = i as f64 / RATE as f64;
        let chord = CHORDS[i / (2 * RATE) % 4];
        for (voice, step) in chord.into_iter().enumerate() {
            let vibrato = 0.08 * (TAU * (4.5 + 0.3 * voice as f64) * t).sin();
            for k in 1..=5 {
                let k = f64::from(k);
                *x += 0.06 * (TAU * hz(step) * k * t + k * vibrato).sin() / (k * k);
            }
        }
        let brush = (i % (RATE / 2)) as f64 / RATE as f64;
        *x += 0.05 * noise(&mut seed) * (-brush * 30.0).exp();
        *x += 0.000_3 * noise(&mut seed);
    }
    normalised(out, 0.7)
}

/// Steady tones: one, a few, many, and one that glides; a second of each.
fn tones(n: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(n);
    let mut phase = 0.0;
    for i in 0..n {
        let t = i as f64 / RATE as f64;
        let sum = |tones: &[f64]| -> f64 {
            tones.iter().map(|hz| (TAU * hz * t).sin()).sum::<f64>() / (tones.len() as f64).sqrt()
        };
        phase += TAU * (300.0 + 900.0 * t.fract()) / RATE as f64;
        out.push(match i / RATE % 5 {
            0 => sum(&[440.0]),
            1 => sum(&[997.0, 3_130.0, 7_411.0]),
            2 => sum(&[110.0, 220.3, 330.9, 441.7, 553.0, 665.0, 1_331.0, 2_668.0]),
            3 => phase.sin(),
            _ => sum(&[61.0, 5_003.0, 12_007.0]),
        });
    }
    normalised(out, 0.6)
}

/// Rain and wind: noise that is softer towards the top and swells.
fn rain(n: usize) -> Vec<f32> {
    let mut seed = Seed(3);
    let mut low = 0.0;
    let swell = |i: usize| 0.6 + 0.4 * (TAU * 0.7 * i as f64 / RATE as f64).sin();
    let each = |i| {
        let white = noise(&mut seed);
        low += (white - low) * 0.1;
        swell(i) * (low + 0.15 * white)
    };
    normalised((0..n).map(each).collect(), 0.5)
}
