//! Linear prediction by Burg's method.
//!
//! J. P. Burg, *Maximum Entropy Spectral Analysis*, 1975; S. M. Kay, *Modern Spectral Estimation*,
//! 1988, section 7.5. Of all usual methods it is the one whose predictor is both stable and sharp
//! from few samples: a tone goes on for as long as is asked, and nothing grows.

/// Sums are kept in so many parts, which are added side by side.
const LANES: usize = 16;
/// White noise that is taken to be in every signal, as a part of its power: 55 dB below it. A signal
/// with less would be predicted from its rounding errors, where it has nothing else.
const NOISE: f32 = 3e-6;

/// Finds predictors; made once, for signals up to some length.
#[derive(Debug)]
pub(super) struct Burg {
    forward: Box<[f32]>,
    backward: Box<[f32]>,
    polynomial: Box<[f64]>,
}

impl Burg {
    pub(super) fn new(longest: usize, order: usize) -> Self {
        Self {
            forward: vec![0.0; longest].into(),
            backward: vec![0.0; longest].into(),
            polynomial: vec![0.0; order].into(),
        }
    }

    /// Fits `predictor` to `signal`: a sample is about the sum of `predictor[k]` times the sample
    /// `k + 1` before it. What the signal does not need is zero.
    pub(super) fn fit(&mut self, signal: &[f32], predictor: &mut [f32]) {
        predictor.fill(0.0);
        let pairs = signal.len().saturating_sub(1);
        let (forward, backward) = (&mut self.forward[..pairs], &mut self.backward[..pairs]);
        forward.copy_from_slice(&signal[signal.len() - pairs..]);
        backward.copy_from_slice(&signal[..pairs]);
        let polynomial = &mut self.polynomial[..predictor.len()];
        let mut order = 0;
        let summed = |f: &[f32], b: &[f32]| dot(f, f) + dot(b, b);
        let mut power = summed(forward, backward);
        let noise = power * NOISE;
        // The power follows from order to order; summed anew before rounding has added up.
        let (mut exact, mut since) = (power, 0);
        while order < polynomial.len() && order < pairs {
            let forward = &mut forward[order..];
            let backward = &mut backward[..pairs - order];
            if since == 8 || power < 0.5 * exact {
                power = summed(forward, backward);
                (exact, since) = (power, 0);
            }
            let cross = dot(forward, backward);
            let reflection = -2.0 * cross / (power + noise);
            // Nothing, or beyond what can be reckoned with.
            if !reflection.is_finite() {
                break;
            }
            let reflection = reflection.clamp(-1.0, 1.0);
            for (f, b) in forward.iter_mut().zip(backward.iter_mut()) {
                (*f, *b) = (*f + reflection * *b, *b + reflection * *f);
            }
            let ends = [forward[0], backward[backward.len() - 1]];
            power += reflection * (reflection * power + 4.0 * cross);
            power -= ends[0] * ends[0] + ends[1] * ends[1];
            since += 1;
            let reflection = f64::from(reflection);
            for i in 0..order.div_ceil(2) {
                let j = order - 1 - i;
                let (a, b) = (polynomial[i], polynomial[j]);
                polynomial[i] = a + reflection * b;
                polynomial[j] = b + reflection * a;
            }
            polynomial[order] = reflection;
            order += 1;
        }
        for (c, a) in predictor.iter_mut().zip(&polynomial[..order]) {
            *c = -a as f32;
        }
    }
}

/// The sum of the products of two signals.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predict(predictor: &[f32], signal: &[f32], frames: usize) -> Vec<f32> {
        let mut all = signal.to_vec();
        for _ in 0..frames {
            let next = predictor.iter().zip(all.iter().rev()).map(|(c, x)| c * x).sum();
            all.push(next);
        }
        all.split_off(signal.len())
    }

    #[test]
    fn tones_go_on() {
        let tone = |i: usize| {
            (i as f32 * 0.2).sin() + 0.5 * (i as f32 * 0.33).cos() + 0.1 * (i as f32 * 1.7).sin()
        };
        let signal: Vec<f32> = (0..480).map(tone).collect();
        let mut predictor = [0.0; 64];
        Burg::new(480, 64).fit(&signal, &mut predictor);
        for (i, x) in predict(&predictor, &signal, 60).into_iter().enumerate() {
            assert!((x - tone(480 + i)).abs() < 0.15, "{i}: {x} for {}", tone(480 + i));
        }
    }

    #[test]
    fn nothing_is_predicted_of_nothing_or_of_too_little() {
        let mut burg = Burg::new(100, 8);
        for signal in [&[0.0; 100][..], &[], &[1.0], &[1.0, -1.0]] {
            let mut predictor = [1.0; 8];
            burg.fit(signal, &mut predictor);
            assert!(predictor[2..].iter().all(|c| *c == 0.0), "{signal:?}");
        }
    }
}
