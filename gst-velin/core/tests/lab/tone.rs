//! What the resampler does to a tone.

use velin_core::playout::{PlayoutDelay, Profile};

use crate::clocks::{Clock, Law};
use crate::ears::Tape;
use crate::model::{Scenario, Sound};

/// A sine fitted by least squares, its frequency too (four parameters, as in IEEE 1057).
struct Fit {
    amplitude: f64,
    /// Residue, RMS, over the sine's own.
    thd_n: f64,
}

fn fit(samples: &[f32], hz: f64) -> Fit {
    let mut w = std::f64::consts::TAU * hz / 48_000.0;
    let (mut a, mut b, mut c) = (0.0, 0.0, 0.0);
    let middle = samples.len() as f64 / 2.0;
    for round in 0..6 {
        let mut normal = [[0.0; 5]; 4];
        for (i, x) in samples.iter().enumerate() {
            let t = i as f64 - middle;
            let (sin, cos) = (w * t).sin_cos();
            let row = [cos, sin, 1.0, t * (b * cos - a * sin), f64::from(*x)];
            // The frequency has no effect before there is an amplitude.
            for j in 0..4 {
                for k in 0..5 {
                    normal[j][k] += row[j] * row[k];
                }
            }
        }
        if round == 0 {
            normal[3] = [0.0, 0.0, 0.0, 1.0, 0.0];
        }
        let solved = solve(normal);
        (a, b, c) = (solved[0], solved[1], solved[2]);
        w += solved[3];
    }
    let residue = samples.iter().enumerate().map(|(i, x)| {
        let (sin, cos) = (w * (i as f64 - middle)).sin_cos();
        (f64::from(*x) - a * cos - b * sin - c).powi(2)
    });
    let residue = (residue.sum::<f64>() / samples.len() as f64).sqrt();
    let amplitude = a.hypot(b);
    Fit { amplitude, thd_n: 20.0 * (residue / (amplitude / 2f64.sqrt())).log10() }
}

/// Gauss with pivots.
fn solve(mut m: [[f64; 5]; 4]) -> [f64; 4] {
    for i in 0..4 {
        let pivot = (i..4).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs())).unwrap();
        m.swap(i, pivot);
        for j in 0..4 {
            if j != i && m[i][i] != 0.0 {
                let pivot = m[i];
                let factor = m[j][i] / pivot[i];
                m[j].iter_mut().zip(pivot).for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    std::array::from_fn(|i| m[i][4] / m[i][i])
}

/// The worst THD+N and the mean amplitude in windows of 0.2 s from 30 s on.
fn through(profile: Profile, hz: f64, clock: Clock) -> Fit {
    let mut s = Scenario::audible(40.0, Sound::Tone(hz));
    s.delay = PlayoutDelay::Adaptive(profile);
    s.sender = clock;
    let (o, tape) = s.listen(Tape::default());
    assert_eq!(o.concealed() + o.reanchors(), 0, "{:?}", o.stats);
    let fits: Vec<Fit> =
        tape.samples[30 * 48_000..].chunks_exact(9_600).map(|w| fit(w, hz)).collect();
    let amplitude = fits.iter().map(|f| f.amplitude).sum::<f64>() / fits.len() as f64;
    Fit { amplitude, thd_n: fits.iter().map(|f| f.thd_n).fold(f64::MIN, f64::max) }
}

#[test]
fn the_measurement_sees_what_is_there() {
    let pure = |i: u64| Sound::Tone(997.0).at(i);
    let samples: Vec<f32> = (0..9_600).map(pure).collect();
    assert!(fit(&samples, 997.0).thd_n < -140.0);
    assert!(fit(&samples, 997.2).thd_n < -140.0);
    let hum: Vec<f32> = (0..9_600).map(|i| pure(i) + 1e-4 * Sound::Tone(50.0).at(i)).collect();
    assert!((fit(&hum, 997.0).thd_n + 80.0).abs() < 0.5, "{}", fit(&hum, 997.0).thd_n);
}

#[test]
fn tones_stay_clean_while_the_clocks_drift() {
    let mut worst = f64::MIN;
    for profile in [Profile::Music, Profile::Low] {
        for hz in [1_000.0, 10_000.0] {
            let laws = [
                Law::Constant(-200.0),
                Law::Constant(0.0),
                Law::Constant(200.0),
                Law::Ramp { ppm_per_s: 1.0, limit: 200.0 },
            ];
            let each = laws.map(|law| through(profile, hz, Clock::new(law)).thd_n);
            println!(
                "row: THD+N of {hz} Hz, {profile:?}, at -200, 0, +200 ppm and ramps of 1 ppm/s: \
                 {each:.1?} dB"
            );
            // A ramp moves the tone's own frequency too: that figure is only printed.
            if profile == Profile::Music {
                worst = each[..3].iter().copied().fold(worst, f64::max);
            }
        }
    }
    assert!(worst <= -100.0, "{worst}");
}

#[test]
fn the_response_is_flat_to_twenty_kilohertz() {
    for profile in [Profile::Music, Profile::Low] {
        let gain = |hz| through(profile, hz, Clock::ppm(100.0)).amplitude;
        let reference = gain(1_000.0);
        let mut worst: f64 = 0.0;
        let mut text = String::new();
        for hz in [20.0, 100.0, 5_000.0, 10_000.0, 15_000.0, 18_000.0, 20_000.0] {
            let db = 20.0 * (gain(hz) / reference).log10();
            worst = worst.max(db.abs());
            text += &format!(" {hz} Hz {db:+.3}");
        }
        println!("row: response, {profile:?}, +100 ppm, dB:{text}");
        assert!(profile != Profile::Music || worst <= 0.1, "{text}");
    }
}
