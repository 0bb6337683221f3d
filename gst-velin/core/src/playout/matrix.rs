//! From a stream's channels to the output's.

use crate::codec::{ChannelMap, Position};
use crate::units::Channels;

const MAX: usize = Channels::MAX as usize;
/// −3 dB.
const HALF_POWER: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// Mixes channels: each output channel is a weighted sum of the stream's.
///
/// Loudspeakers that both sides have are kept; those the output lacks go to the nearest it has,
/// the centre and the surrounds at −3 dB as in ITU-R BS.775; a missing LFE is left out. When a
/// sum of full-scale channels could clip, all weights are reduced alike.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    weights: [[f32; MAX]; MAX],
    inputs: usize,
    outputs: usize,
    identity: bool,
}

impl Matrix {
    /// `None` when channels without positions cannot be told apart by their count.
    pub(super) fn new(from: ChannelMap, to: ChannelMap) -> Option<Self> {
        let (inputs, outputs) = (from.channels().get(), to.channels().get());
        let mut matrix = Self { weights: [[0.0; MAX]; MAX], inputs, outputs, identity: from == to };
        if from.is_unpositioned() || to.is_unpositioned() {
            matrix.identity = inputs == outputs;
            return matrix.identity.then_some(matrix);
        }
        for (input, position) in from.positions().iter().enumerate() {
            for (output, weight) in routes(*position, to) {
                matrix.weights[output][input] += weight;
            }
        }
        matrix.normalise();
        Some(matrix)
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether the output's channels are the stream's, in the same order.
    pub(super) fn is_identity(&self) -> bool {
        self.identity
    }

    /// Maps interleaved frames.
    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        if self.identity {
            output.copy_from_slice(input);
            return;
        }
        let frames = input.chunks_exact(self.inputs).zip(output.chunks_exact_mut(self.outputs));
        for (from, to) in frames {
            for (x, weights) in to.iter_mut().zip(&self.weights) {
                *x = from.iter().zip(weights).map(|(sample, weight)| sample * weight).sum();
            }
        }
    }

    fn normalise(&mut self) {
        let rows = self.weights.iter().map(|row| row.iter().sum::<f32>());
        let most = rows.fold(0.0, f32::max);
        if most > 1.0 {
            self.weights.iter_mut().flatten().for_each(|weight| *weight /= most);
        }
    }
}

/// Where a channel goes: output channels and weights.
fn routes(position: Position, to: ChannelMap) -> Vec<(usize, f32)> {
    use Position::*;

    let seat = |wanted: Position| to.positions().iter().position(|p| *p == wanted);
    if let Some(output) = seat(position) {
        return vec![(output, 1.0)];
    }
    if to.channels() == Channels::MONO {
        return match position {
            Lfe1 => vec![],
            RearLeft | RearRight | RearCenter | SideLeft | SideRight => vec![(0, HALF_POWER)],
            _ => vec![(0, 1.0)],
        };
    }
    // In order of preference: the first group whose loudspeakers all exist.
    let groups: &[(&[Position], f32)] = match position {
        Mono => &[(&[FrontCenter], 1.0), (&[FrontLeft, FrontRight], 1.0)],
        FrontCenter => &[(&[FrontLeft, FrontRight], HALF_POWER)],
        FrontLeft => &[(&[FrontLeftOfCenter], 1.0), (&[FrontCenter], HALF_POWER)],
        FrontRight => &[(&[FrontRightOfCenter], 1.0), (&[FrontCenter], HALF_POWER)],
        FrontLeftOfCenter => &[(&[FrontLeft], 1.0), (&[FrontCenter], HALF_POWER)],
        FrontRightOfCenter => &[(&[FrontRight], 1.0), (&[FrontCenter], HALF_POWER)],
        SideLeft => &[(&[RearLeft], 1.0), (&[FrontLeft], HALF_POWER)],
        SideRight => &[(&[RearRight], 1.0), (&[FrontRight], HALF_POWER)],
        RearLeft => &[(&[SideLeft], 1.0), (&[FrontLeft], HALF_POWER)],
        RearRight => &[(&[SideRight], 1.0), (&[FrontRight], HALF_POWER)],
        RearCenter => &[
            (&[RearLeft, RearRight], HALF_POWER),
            (&[SideLeft, SideRight], HALF_POWER),
            (&[FrontLeft, FrontRight], 0.5),
        ],
        Lfe1 | None => &[],
    };
    for (seats, weight) in groups {
        let found: Vec<_> = seats.iter().filter_map(|p| seat(*p)).map(|o| (o, *weight)).collect();
        if found.len() == seats.len() {
            return found;
        }
    }
    vec![]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(names: &str) -> ChannelMap {
        let positions: Vec<_> =
            names.split(' ').map(|name| Position::from_name(name).unwrap()).collect();
        ChannelMap::new(&positions).unwrap()
    }

    fn mapped(from: &str, to: &str, input: &[f32]) -> Vec<f32> {
        let matrix = Matrix::new(map(from), map(to)).unwrap();
        let mut out = vec![9.0; matrix.outputs()];
        matrix.apply(input, &mut out);
        out
    }

    #[test]
    fn mono_becomes_both_sides_and_stereo_their_mean() {
        assert_eq!(mapped("M", "FL FR", &[0.5]), [0.5, 0.5]);
        assert_eq!(mapped("FL FR", "M", &[0.5, 0.25]), [0.375]);
        assert_eq!(mapped("FL FR", "FR FL", &[0.5, 0.25]), [0.25, 0.5]);
        assert_eq!(mapped("FL FR", "FL FR FC LFE RL RR", &[0.5, 0.25])[..3], [0.5, 0.25, 0.0]);
    }

    #[test]
    fn surround_folds_down_without_clipping() {
        for from in ["FL FR FC LFE RL RR", "FL FR FC LFE RL RR SL SR"] {
            let full = vec![1.0; from.split(' ').count()];
            let out = mapped(from, "FL FR", &full);
            assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-6), "{out:?}");
        }
        let left = mapped("FL FR FC LFE RL RR", "FL FR", &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let centre = mapped("FL FR FC LFE RL RR", "FL FR", &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert!((centre[0] / left[0] - HALF_POWER).abs() < 1e-6);
        assert_eq!(centre[0], centre[1]);
        assert_eq!(left[1], 0.0);
    }

    #[test]
    fn channels_without_positions_need_equal_counts() {
        let bare = |n| ChannelMap::unpositioned(Channels::new(n).unwrap());
        assert!(Matrix::new(bare(2), ChannelMap::stereo()).unwrap().is_identity());
        assert!(Matrix::new(bare(3), ChannelMap::stereo()).is_none());
        assert!(Matrix::new(ChannelMap::mono(), bare(2)).is_none());
    }
}
