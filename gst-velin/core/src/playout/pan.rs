//! Where a stream sits between left and right.

use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, SQRT_2};

use super::matrix::Matrix;
use crate::codec::Position;
use crate::units::Channels;

const MAX: usize = Channels::MAX as usize;

/// One gain for each channel of the output; beyond them 1.
pub(super) type Gains = [f32; MAX];

/// Turns a place from −1 (left) over 0 (as sent) to 1 (right) into gains of the output's channels.
///
/// A stream that has a left and a right of its own is balanced: the side it moves away from fades
/// as a cosine, the other is left alone, so nothing becomes louder than it was sent. A stream that
/// comes from the middle alone is moved at constant power (sine and cosine): it is as loud at
/// either side as it was in the middle, where each side plays it, so a side alone plays it 3 dB
/// louder. In the middle both do nothing at all. A stereo balance leaves the centre and the bass of
/// a larger output alone.
#[derive(Clone, Debug)]
pub(super) struct Pan {
    law: Law,
    sides: [Side; MAX],
}

#[derive(Clone, Copy, Debug)]
enum Law {
    /// The output has no left and right.
    Nothing,
    Balance,
    /// With what the stream puts into the left, the middle and the right of the output.
    Power {
        left: f32,
        middle: f32,
        right: f32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Middle,
    Right,
    /// Bass comes from nowhere.
    Everywhere,
}

impl Pan {
    /// For a stream that goes to the output by way of `matrix`.
    pub(super) fn new(matrix: &Matrix) -> Self {
        let (from, to) = (matrix.from(), matrix.to());
        let mut sides = [Side::Everywhere; MAX];
        for (side, position) in sides.iter_mut().zip(to.positions()) {
            *side = side_of(*position);
        }
        let power = |wanted: Side| -> f32 {
            let channels = (0..matrix.outputs()).filter(|o| sides[*o] == wanted);
            channels.map(|o| matrix.row_sum(o).powi(2)).sum()
        };
        let (left, middle, right) = (power(Side::Left), power(Side::Middle), power(Side::Right));
        let sided = |p: &Position| matches!(side_of(*p), Side::Left | Side::Right);
        let law = if !(sides.contains(&Side::Left) && sides.contains(&Side::Right)) {
            Law::Nothing
        } else if from.is_unpositioned() || from.positions().iter().any(sided) {
            Law::Balance
        } else if left > 0.0 && right > 0.0 {
            Law::Power { left, middle, right }
        } else {
            Law::Nothing
        };
        Self { law, sides }
    }

    /// The gains at `place`, −1 to 1.
    pub(super) fn gains(&self, place: f32) -> Gains {
        if place == 0.0 {
            return [1.0; MAX];
        }
        // Towards the edge the cosine is not quite 0.
        let away = if place.abs() < 1.0 { (place.abs() * FRAC_PI_2).cos() } else { 0.0 };
        let (left, middle, right) = match self.law {
            Law::Nothing => return [1.0; MAX],
            Law::Balance if place < 0.0 => (1.0, 1.0, away),
            Law::Balance => (away, 1.0, 1.0),
            Law::Power { left, middle, right } => {
                let (sin, cos) = ((place + 1.0) * FRAC_PI_4).sin_cos();
                let l = if place < 1.0 { SQRT_2 * cos } else { 0.0 };
                let r = if place > -1.0 { SQRT_2 * sin } else { 0.0 };
                let now = left * l * l + middle * away * away + right * r * r;
                let same = ((left + middle + right) / now).sqrt();
                (same * l, same * away, same * r)
            }
        };
        self.sides.map(|side| match side {
            Side::Left => left,
            Side::Middle => middle,
            Side::Right => right,
            Side::Everywhere => 1.0,
        })
    }
}

fn side_of(position: Position) -> Side {
    use Position::*;

    match position {
        FrontLeft | FrontLeftOfCenter | SideLeft | RearLeft => Side::Left,
        FrontRight | FrontRightOfCenter | SideRight | RearRight => Side::Right,
        Mono | FrontCenter | RearCenter => Side::Middle,
        Lfe1 | None => Side::Everywhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ChannelMap;

    fn map(names: &str) -> ChannelMap {
        let positions: Vec<_> =
            names.split(' ').map(|name| Position::from_name(name).unwrap()).collect();
        ChannelMap::new(&positions).unwrap()
    }

    fn pan(from: &str, to: &str) -> (Pan, Matrix) {
        let matrix = Matrix::new(map(from), map(to)).unwrap();
        (Pan::new(&matrix), matrix)
    }

    const PLACES: [f32; 9] = [-1.0, -0.99, -0.5, -0.01, 0.0, 0.1, 0.5, 0.9, 1.0];

    #[test]
    fn the_middle_is_left_alone() {
        for (from, to) in [("M", "FL FR"), ("FL FR", "FL FR"), ("M", "FL FR FC LFE RL RR")] {
            assert_eq!(pan(from, to).0.gains(0.0), [1.0; MAX]);
        }
    }

    #[test]
    fn mono_is_as_loud_everywhere() {
        for to in ["FL FR", "FL FR FC LFE RL RR", "FL FR FC LFE RL RR SL SR"] {
            let (pan, matrix) = pan("M", to);
            let power = |place| -> f32 {
                let gains = pan.gains(place);
                let heard = (0..matrix.outputs()).map(|o| (gains[o] * matrix.row_sum(o)).powi(2));
                heard.sum()
            };
            for place in PLACES {
                assert!((power(place) / power(0.0) - 1.0).abs() < 1e-4, "{to} at {place}");
            }
            assert_eq!(pan.gains(-1.0)[1], 0.0);
            assert_eq!(pan.gains(1.0)[0], 0.0);
        }
        let left = pan("M", "FL FR").0.gains(-1.0);
        assert!((left[0] - SQRT_2).abs() < 1e-6 && left[1] == 0.0);
    }

    #[test]
    fn stereo_is_balanced_and_never_louder() {
        let (pan, _) = pan("FL FR", "FL FR");
        for place in PLACES {
            let gains = pan.gains(place);
            assert!(gains.iter().all(|g| (0.0..=1.0).contains(g)), "{gains:?}");
            assert_eq!(gains[usize::from(place > 0.0)], 1.0);
        }
        assert_eq!(pan.gains(-1.0)[..2], [1.0, 0.0]);
        assert_eq!(pan.gains(1.0)[..2], [0.0, 1.0]);
        assert!((pan.gains(-0.5)[1] - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-4);
    }

    #[test]
    fn a_place_is_mirrored_on_the_other_side() {
        for from in ["M", "FL FR"] {
            let (pan, _) = pan(from, "FL FR FC LFE RL RR");
            for place in PLACES {
                let (there, here) = (pan.gains(place), pan.gains(-place));
                for (l, r) in [(0, 1), (2, 2), (3, 3), (4, 5)] {
                    assert!((there[l] - here[r]).abs() < 1e-6, "{from} at {place}");
                }
            }
        }
    }

    #[test]
    fn an_output_without_left_and_right_has_no_place() {
        for (from, to) in [("M", "M"), ("FL FR", "M"), ("M", "FC LFE")] {
            assert_eq!(pan(from, to).0.gains(-0.7), [1.0; MAX]);
        }
        let bare = ChannelMap::unpositioned(Channels::STEREO);
        let matrix = Matrix::new(bare, bare).unwrap();
        assert_eq!(Pan::new(&matrix).gains(0.7), [1.0; MAX]);
        // Two channels in the places of left and right are balanced.
        let matrix = Matrix::new(bare, ChannelMap::stereo()).unwrap();
        assert_eq!(Pan::new(&matrix).gains(1.0)[..2], [0.0, 1.0]);
    }
}
