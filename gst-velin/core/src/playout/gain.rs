//! Gains of a stream's channels, on their way to where they should be.

use super::matrix::Matrix;
use super::pan::{Gains, Pan};
use crate::units::SampleRate;

/// How long a change of gain takes, in fractions of a second: 1/200 = 5 ms.
const RAMP_PER_S: u32 = 200;

/// What the user, or the mixer in his name, wants of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Aim {
    /// Linear gain.
    pub(super) level: f32,
    /// −1 (left) to 1 (right).
    pub(super) place: f32,
}

/// What became of the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Not a bit was touched.
    None,
    Scaled,
    /// Every sample is zero.
    Silenced,
}

/// Volume and place of one stream.
///
/// A change is a cubic that begins with the slope that the gain has and ends flat: a corner in a
/// gain is heard as a click even where the gain itself does not jump.
#[derive(Debug)]
pub(super) struct Gain {
    pan: Pan,
    channels: usize,
    /// `None` before the first audio.
    aim: Option<Aim>,
    ramp: Ramp,
}

impl Gain {
    /// For a stream that goes to an output at `rate` by way of `matrix`.
    pub(super) fn new(rate: SampleRate, matrix: &Matrix) -> Self {
        let frames = (rate.hz() / RAMP_PER_S).max(1);
        let (pan, channels) = (Pan::new(matrix), matrix.outputs());
        Self { pan, channels, aim: None, ramp: Ramp::new(frames) }
    }

    /// Whether the stream has come to silence.
    pub(super) fn is_zero(&self) -> bool {
        !self.ramp.is_moving() && self.ramp.to[..self.channels].iter().all(|gain| *gain == 0.0)
    }

    /// Is at `aim` at once: before the first audio, and where there is only silence to be scaled.
    pub(super) fn jump(&mut self, aim: Aim) {
        if self.aim != Some(aim) || self.ramp.is_moving() {
            self.ramp.jump(self.gains(aim));
            self.aim = Some(aim);
        }
    }

    /// Scales interleaved frames, moving on towards `aim`.
    pub(super) fn apply(&mut self, aim: Aim, audio: &mut [f32]) -> Effect {
        match self.aim {
            None => self.jump(aim),
            Some(before) if before != aim => {
                self.ramp.head_for(self.gains(aim));
                self.aim = Some(aim);
            }
            Some(_) => {}
        }
        let channels = self.channels;
        let moving = self.ramp.frames_left().min(audio.len() / channels) * channels;
        let (moving, steady) = audio.split_at_mut(moving);
        for frame in moving.chunks_exact_mut(channels) {
            let gains = self.ramp.advance();
            frame.iter_mut().zip(&gains).for_each(|(x, gain)| *x *= gain);
        }
        let effect = self.scale(steady);
        if moving.is_empty() { effect } else { Effect::Scaled }
    }

    /// Scales by gains that do not move.
    fn scale(&self, audio: &mut [f32]) -> Effect {
        let gains = &self.ramp.to[..self.channels];
        if gains.iter().all(|gain| *gain == 1.0) {
            return Effect::None;
        }
        if gains.iter().all(|gain| *gain == 0.0) {
            audio.fill(0.0);
            return Effect::Silenced;
        }
        match *gains {
            [left, right] if left != right => {
                for frame in audio.chunks_exact_mut(2) {
                    frame[0] *= left;
                    frame[1] *= right;
                }
            }
            [first, ..] if gains.iter().all(|gain| *gain == first) => {
                audio.iter_mut().for_each(|x| *x *= first);
            }
            _ => {
                for frame in audio.chunks_exact_mut(self.channels) {
                    frame.iter_mut().zip(gains).for_each(|(x, gain)| *x *= gain);
                }
            }
        }
        Effect::Scaled
    }

    fn gains(&self, aim: Aim) -> Gains {
        self.pan.gains(aim.place).map(|gain| gain * aim.level)
    }
}

/// Gains that move together, each along its own cubic.
#[derive(Debug)]
struct Ramp {
    from: Gains,
    to: Gains,
    /// Slope at the start, per ramp.
    slope: Gains,
    /// Frames done; `frames` when nothing moves.
    at: u32,
    frames: u32,
}

impl Ramp {
    fn new(frames: u32) -> Self {
        let zero = Gains::default();
        Self { from: zero, to: zero, slope: zero, at: frames, frames }
    }

    fn is_moving(&self) -> bool {
        self.at < self.frames
    }

    fn frames_left(&self) -> usize {
        (self.frames - self.at) as usize
    }

    fn jump(&mut self, to: Gains) {
        self.to = to;
        self.at = self.frames;
    }

    fn head_for(&mut self, to: Gains) {
        let t = self.at as f32 / self.frames as f32;
        for (i, to) in to.into_iter().enumerate() {
            let [a, b, c, d] = self.cubic(i);
            let slope = b + t * (2.0 * c + t * 3.0 * d);
            self.from[i] = a + t * (b + t * (c + t * d));
            if !self.is_moving() {
                self.from[i] = self.to[i];
            }
            self.slope[i] = if self.is_moving() { slope } else { 0.0 };
            self.to[i] = to;
        }
        self.at = 0;
    }

    /// The gains of the next frame; the last lands on the target exactly.
    fn advance(&mut self) -> Gains {
        self.at += 1;
        if !self.is_moving() {
            return self.to;
        }
        let t = self.at as f32 / self.frames as f32;
        std::array::from_fn(|i| {
            let [a, b, c, d] = self.cubic(i);
            a + t * (b + t * (c + t * d))
        })
    }

    /// The coefficients of one channel's way over the ramp, from 0 to 1.
    fn cubic(&self, i: usize) -> [f32; 4] {
        let (way, slope) = (self.to[i] - self.from[i], self.slope[i]);
        [self.from[i], slope, 3.0 * way - 2.0 * slope, slope - 2.0 * way]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ChannelMap;

    fn gain(map: ChannelMap) -> Gain {
        let matrix = Matrix::new(ChannelMap::mono(), map).unwrap();
        Gain::new(SampleRate::HZ_48000, &matrix)
    }

    fn level(level: f32) -> Aim {
        Aim { level, place: 0.0 }
    }

    /// The largest second difference.
    fn sharpest(gains: &[f32]) -> f32 {
        gains.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_gain_moves_without_a_corner_and_lands_exactly() {
        let mut gain = gain(ChannelMap::mono());
        let mut audio = [1.0; 700];
        assert_eq!(gain.apply(level(1.0), &mut audio[..200]), Effect::None);
        assert_eq!(gain.apply(level(0.25), &mut audio[200..300]), Effect::Scaled);
        assert_eq!(gain.apply(level(0.25), &mut audio[300..]), Effect::Scaled);
        assert_eq!(audio[..200], [1.0; 200]);
        assert_eq!(audio[439..], [0.25; 261]);
        // A cubic from flat to flat: 6 × the way / ramp².
        assert!(sharpest(&audio) <= 6.5 * 0.75 / (240.0 * 240.0), "{}", sharpest(&audio));
    }

    #[test]
    fn a_change_of_mind_on_the_way_has_no_corner() {
        let mut gain = gain(ChannelMap::mono());
        let mut audio = [1.0; 1_000];
        gain.apply(level(1.0), &mut audio[..100]);
        // A slider that is pushed down and thrown back.
        for (i, part) in audio[100..].chunks_mut(60).enumerate() {
            let wanted = [0.9, 0.6, 0.0, 1.0, 0.2, 0.2, 0.2, 0.2, 1.0];
            gain.apply(level(wanted[i.min(8)]), part);
        }
        assert!(sharpest(&audio) < 1e-3, "{}", sharpest(&audio));
        assert!(audio.iter().all(|x| (-0.05..1.05).contains(x)));
        assert_eq!(audio[999], 1.0);
    }

    #[test]
    fn both_sides_move_together_when_the_place_changes() {
        let mut gain = gain(ChannelMap::stereo());
        let mut audio = [1.0; 2 * 600];
        gain.apply(level(0.5), &mut audio[..200]);
        gain.apply(Aim { level: 0.5, place: 1.0 }, &mut audio[200..]);
        let side = |side: usize| audio.iter().skip(side).step_by(2).copied().collect::<Vec<_>>();
        let (left, right) = (side(0), side(1));
        assert_eq!((left[99], right[99]), (0.5, 0.5));
        assert_eq!(left[339..], [0.0; 261]);
        assert!((right[599] - 0.5 * std::f32::consts::SQRT_2).abs() < 1e-6);
        assert!(sharpest(&left).max(sharpest(&right)) < 1e-4);
    }

    #[test]
    fn silence_needs_no_ramp() {
        let mut gain = gain(ChannelMap::mono());
        let mut audio = [1.0; 100];
        assert_eq!(gain.apply(level(0.0), &mut audio), Effect::Silenced);
        assert!(gain.is_zero());
        gain.jump(level(1.0));
        audio.fill(1.0);
        assert_eq!(gain.apply(level(1.0), &mut audio), Effect::None);
        assert_eq!(audio, [1.0; 100]);
        gain.apply(level(0.0), &mut audio);
        assert!(!gain.is_zero());
        gain.jump(level(0.0));
        assert!(gain.is_zero());
    }
}
