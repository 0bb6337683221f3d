//! How far what was heard is from what was sent.

use std::f64::consts::{PI, TAU};
use std::ops::Range;

use crate::sounds::RATE;

/// A window of 10.7 ms, which is a power of two.
const WINDOW: usize = 512;
const HOP: usize = 240;

/// The distances of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    /// Mean over the gaps of power over power of the error, within −10 to 60 dB each.
    pub snr: f64,
    /// Root mean square of the levels' differences in bands of hearing, mean over windows, dB.
    pub spectral: f64,
    /// The sharpest bend beside the sharpest of the sound itself around it, the gap in ten that is
    /// worst, dB.
    pub click: f64,
}

/// Compares around `gaps`, each with its joins.
pub fn distance(sent: &[f32], heard: &[f32], gaps: &[Range<usize>]) -> Distance {
    let bands = Bands::new(sent);
    let mut snr = 0.0;
    let (mut spectral, mut windows) = (0.0, 0);
    let mut clicks = vec![];
    for gap in gaps {
        snr += snr_of(&sent[gap.clone()], &heard[gap.clone()]);
        let mut from = gap.start + HOP - WINDOW;
        while from + HOP < gap.end {
            spectral += bands.difference(&sent[from..from + WINDOW], &heard[from..from + WINDOW]);
            windows += 1;
            from += HOP;
        }
        let around = gap.start.saturating_sub(960)..(gap.end + 960).min(sent.len());
        let own = bend(&sent[around]).max(1e-4);
        clicks.push(20.0 * (bend(&heard[gap.start - 2..gap.end + 2]) / own).log10());
    }
    clicks.sort_by(f64::total_cmp);
    Distance {
        snr: snr / gaps.len() as f64,
        spectral: spectral / f64::from(windows),
        click: clicks[clicks.len() * 9 / 10],
    }
}

fn snr_of(sent: &[f32], heard: &[f32]) -> f64 {
    let power = |x: f64| x * x;
    let signal: f64 = sent.iter().map(|x| power(f64::from(*x))).sum();
    let error: f64 = sent.iter().zip(heard).map(|(a, b)| power(f64::from(a - b))).sum();
    // What cannot be heard is no error: −80 dB.
    let floor = 1e-8 * sent.len() as f64;
    (10.0 * ((signal + floor) / (error + floor)).log10()).clamp(-10.0, 60.0)
}

/// The greatest second difference.
fn bend(samples: &[f32]) -> f64 {
    let bends = samples.windows(3).map(|w| f64::from(w[0] - 2.0 * w[1] + w[2]).abs());
    bends.fold(0.0, f64::max)
}

/// Bands one equivalent rectangular bandwidth wide (B. R. Glasberg and B. C. J. Moore, 1990).
struct Bands {
    window: Vec<f64>,
    edges: Vec<usize>,
    /// What is not heard beside the rest of the sound: 60 dB below its mean, in each band.
    floor: f64,
}

impl Bands {
    fn new(sent: &[f32]) -> Self {
        let window = (0..WINDOW)
            .map(|i| 0.5 - 0.5 * (TAU * (i as f64 + 0.5) / WINDOW as f64).cos())
            .collect();
        let hz_per_line = RATE as f64 / WINDOW as f64;
        let mut edges = vec![1];
        let mut hz = hz_per_line / 2.0;
        while hz < 16_000.0 {
            hz += 24.7 * (4.37 * hz / 1000.0 + 1.0);
            let line = (hz / hz_per_line).round() as usize;
            if line > *edges.last().unwrap() {
                edges.push(line);
            }
        }
        let mean = sent.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / sent.len() as f64;
        // A tone of power 1 is 3/8 · WINDOW² / 2 in its band.
        let floor = 1e-6 * mean * (WINDOW * WINDOW) as f64 * 3.0 / 16.0;
        Self { window, edges, floor }
    }

    fn levels(&self, samples: &[f32]) -> Vec<f64> {
        let mut re: Vec<f64> =
            samples.iter().zip(&self.window).map(|(x, w)| f64::from(*x) * w).collect();
        let mut im = vec![0.0; WINDOW];
        transform(&mut re, &mut im);
        let power = |line: usize| re[line] * re[line] + im[line] * im[line];
        let bands = self.edges.windows(2);
        bands.map(|w| 10.0 * ((w[0]..w[1]).map(power).sum::<f64>() + self.floor).log10()).collect()
    }

    fn difference(&self, a: &[f32], b: &[f32]) -> f64 {
        let (a, b) = (self.levels(a), self.levels(b));
        let sum: f64 = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum();
        (sum / a.len() as f64).sqrt()
    }
}

/// The discrete Fourier transform of a power of two of samples, in place (Cooley and Tukey, 1965).
fn transform(re: &mut [f64], im: &mut [f64]) {
    let n = re.len();
    let bits = n.trailing_zeros();
    for i in 0..n {
        let j = i.reverse_bits() >> (usize::BITS - bits);
        if i < j {
            re.swap(i, j);
            im.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        for k in 0..half {
            let (sin, cos) = (-PI * k as f64 / half as f64).sin_cos();
            for i in (k..n).step_by(2 * half) {
                let j = i + half;
                let (x, y) = (re[j] * cos - im[j] * sin, re[j] * sin + im[j] * cos);
                (re[j], im[j]) = (re[i] - x, im[i] - y);
                (re[i], im[i]) = (re[i] + x, im[i] + y);
            }
        }
        half *= 2;
    }
}

#[test]
fn the_measures_see_what_is_there() {
    let tone = |i: usize, hz: f64| (TAU * hz * i as f64 / RATE as f64).sin() as f32 * 0.5;
    let sent: Vec<f32> = (0..RATE).map(|i| tone(i, 1_000.0)).collect();
    let gap = std::slice::from_ref(&(10_000..10_480));
    let same = distance(&sent, &sent, gap);
    assert!(same.snr == 60.0 && same.spectral == 0.0 && same.click.abs() < 0.1, "{same:?}");
    let mut heard = sent.clone();
    heard[10_000..10_480].iter_mut().for_each(|x| *x *= -0.9);
    let turned = distance(&sent, &heard, gap);
    assert!((turned.snr + 5.6).abs() < 0.1 && turned.click > 20.0, "{turned:?}");
    heard[10_000..10_480].fill(0.0);
    let nothing = distance(&sent, &heard, gap);
    assert!(nothing.snr.abs() < 0.1 && nothing.spectral > 5.0, "{nothing:?}");
    // Another phase is heard no differently.
    let other: Vec<f32> = (0..RATE).map(|i| tone(i + 12, 1_000.0)).collect();
    assert!(distance(&sent, &other, gap).spectral < 0.5);
}
