//! From a stream's channels to the output's.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::codec::{ChannelMap, Position};
use crate::units::Channels;

const MAX: usize = Channels::MAX as usize;

/// Mixes channels: each output channel is a weighted sum of the stream's.
///
/// The weights are those of GStreamer's `audioconvert`, so that a stream sounds here as it would
/// behind a decoder: loudspeakers that both sides have are kept; those that only one side has go to,
/// or come from, the nearest row of the other side, the quieter the farther; then all weights are
/// scaled alike, so that full scale in every channel of the stream is full scale in the loudest of
/// the output.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    weights: [[f32; MAX]; MAX],
    from: ChannelMap,
    to: ChannelMap,
    inputs: usize,
    outputs: usize,
    identity: bool,
}

impl Matrix {
    /// `None` when channels without positions cannot be told apart by their count.
    pub(super) fn new(from: ChannelMap, to: ChannelMap) -> Option<Self> {
        let (inputs, outputs) = (from.channels().get(), to.channels().get());
        let weights = [[0.0; MAX]; MAX];
        let mut matrix = Self { weights, from, to, inputs, outputs, identity: from == to };
        if from.is_unpositioned() || to.is_unpositioned() {
            matrix.identity = inputs == outputs;
            (0..inputs.min(outputs)).for_each(|i| matrix.weights[i][i] = 1.0);
            return matrix.identity.then_some(matrix);
        }
        matrix.keep_same(from, to);
        let (from, to) = (Rows::of(from), Rows::of(to));
        matrix.join_pairs(&from, &to);
        matrix.bridge(&from, &to);
        matrix.share_bass(&from, &to);
        matrix.normalise();
        Some(matrix)
    }

    /// The stream's layout.
    pub(super) fn from(&self) -> ChannelMap {
        self.from
    }

    /// The output's layout.
    pub(super) fn to(&self) -> ChannelMap {
        self.to
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

    /// How loud the output channel `output` is when all of the stream's carry the same.
    pub(super) fn row_sum(&self, output: usize) -> f32 {
        self.weights[output].iter().sum()
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

    fn keep_same(&mut self, from: ChannelMap, to: ChannelMap) {
        for (input, position) in from.positions().iter().enumerate() {
            if let Some(output) = to.positions().iter().position(|p| p == position) {
                self.weights[output][input] = 1.0;
            }
        }
    }

    /// Between a pair and the one loudspeaker in its middle.
    fn join_pairs(&mut self, from: &Rows, to: &Rows) {
        for row in [Row::Front, Row::Centre, Row::Rear] {
            let (from, to) = (from.seats(row), to.seats(row));
            for (source, target) in
                [(LEFT, MIDDLE), (RIGHT, MIDDLE), (MIDDLE, LEFT), (MIDDLE, RIGHT)]
            {
                let (Some(input), Some(output)) = (from[source], to[target]) else { continue };
                if from[target].is_none() {
                    self.weights[output][input] = 1.0;
                } else if to[source].is_none() {
                    self.weights[output][input] = 0.5;
                }
            }
        }
    }

    /// Between a row that only one side has and its neighbours on the other side.
    fn bridge(&mut self, from: &Rows, to: &Rows) {
        for (row, steps) in NEAREST {
            match (from.has(row), to.has(row)) {
                (false, true) => {
                    for (neighbour, ratio) in nearest(steps, from) {
                        self.spread(from.seats(neighbour), to.seats(row), ratio);
                    }
                }
                (true, false) => {
                    for (neighbour, ratio) in nearest(steps, to) {
                        self.spread(from.seats(row), to.seats(neighbour), ratio);
                    }
                }
                _ => {}
            }
        }
    }

    /// A low-frequency channel that only one side has belongs to all rows of the other.
    fn share_bass(&mut self, from: &Rows, to: &Rows) {
        for (row, ratio) in BASS {
            match (from.has(Row::Bass), to.has(Row::Bass)) {
                (true, false) => self.spread(from.seats(Row::Bass), to.seats(row), ratio),
                (false, true) => self.spread(from.seats(row), to.seats(Row::Bass), ratio),
                _ => {}
            }
        }
    }

    /// Puts one row into another: each side into its own, the middle into both, and both into the
    /// middle, at half the weight beside one that is there already.
    fn spread(&mut self, from: Seats, to: Seats, ratio: f32) {
        for source in [LEFT, MIDDLE, RIGHT] {
            for target in [LEFT, MIDDLE, RIGHT] {
                let across = source != target;
                let (Some(input), Some(output)) = (from[source], to[target]) else { continue };
                if across && source != MIDDLE && target != MIDDLE {
                    continue;
                }
                let beside = across && from[target].is_some();
                self.weights[output][input] = if beside { 0.5 * ratio } else { ratio };
            }
        }
    }

    fn normalise(&mut self) {
        let rows = self.weights.iter().map(|row| row.iter().sum::<f32>());
        let most = rows.fold(0.0, f32::max);
        if most > 0.0 {
            self.weights.iter_mut().flatten().for_each(|weight| *weight /= most);
        }
    }
}

/// Loudspeakers at one distance from the listener's nose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Front,
    Centre,
    Side,
    Rear,
    Bass,
}

const ROWS: usize = 5;

/// A row's channels, left to right.
type Seats = [Option<usize>; 3];
const LEFT: usize = 0;
const MIDDLE: usize = 1;
const RIGHT: usize = 2;

/// Where a loudspeaker sits.
fn seat(position: Position) -> Option<(Row, usize)> {
    use Position::*;

    Some(match position {
        FrontLeft => (Row::Front, LEFT),
        Mono => (Row::Front, MIDDLE),
        FrontRight => (Row::Front, RIGHT),
        FrontLeftOfCenter => (Row::Centre, LEFT),
        FrontCenter => (Row::Centre, MIDDLE),
        FrontRightOfCenter => (Row::Centre, RIGHT),
        SideLeft => (Row::Side, LEFT),
        SideRight => (Row::Side, RIGHT),
        RearLeft => (Row::Rear, LEFT),
        RearCenter => (Row::Rear, MIDDLE),
        RearRight => (Row::Rear, RIGHT),
        Lfe1 => (Row::Bass, MIDDLE),
        None => return Option::None,
    })
}

/// A layout, row by row.
struct Rows([Seats; ROWS]);

impl Rows {
    fn of(map: ChannelMap) -> Self {
        let mut rows = [[None; 3]; ROWS];
        for (channel, position) in map.positions().iter().enumerate() {
            if let Some((row, seat)) = seat(*position) {
                rows[row as usize][seat] = Some(channel);
            }
        }
        Self(rows)
    }

    fn seats(&self, row: Row) -> Seats {
        self.0[row as usize]
    }

    fn has(&self, row: Row) -> bool {
        self.seats(row).iter().any(Option::is_some)
    }
}

/// Rows that stand in for another, and how loud.
type Step = &'static [(Row, f32)];

/// Who stands in for a row: of the first step that has any, all that are there share.
const NEAREST: [(Row, &[Step]); 4] = [
    (
        Row::Centre,
        &[&[(Row::Front, FRAC_1_SQRT_2)], &[(Row::Side, 0.5)], &[(Row::Rear, 0.5 * FRAC_1_SQRT_2)]],
    ),
    (
        Row::Front,
        &[&[(Row::Centre, FRAC_1_SQRT_2), (Row::Side, FRAC_1_SQRT_2)], &[(Row::Rear, 0.5)]],
    ),
    (
        Row::Side,
        &[&[(Row::Front, FRAC_1_SQRT_2), (Row::Rear, FRAC_1_SQRT_2)], &[(Row::Centre, 0.5)]],
    ),
    (
        Row::Rear,
        &[
            &[(Row::Side, FRAC_1_SQRT_2)],
            &[(Row::Front, 0.5)],
            &[(Row::Centre, 0.5 * FRAC_1_SQRT_2)],
        ],
    ),
];

/// Where bass goes to, or comes from.
const BASS: [(Row, f32); 4] = [
    (Row::Centre, FRAC_1_SQRT_2),
    (Row::Front, 1.0),
    (Row::Side, FRAC_1_SQRT_2),
    (Row::Rear, FRAC_1_SQRT_2),
];

/// The rows of `side` that stand in, with their ratios.
fn nearest(steps: &[Step], side: &Rows) -> Vec<(Row, f32)> {
    let there = |step: &Step| -> Vec<_> {
        step.iter().copied().filter(|(row, _)| side.has(*row)).collect()
    };
    let found = steps.iter().map(there).find(|rows| !rows.is_empty()).unwrap_or_default();
    let share = found.len() as f32;
    found.into_iter().map(|(row, ratio)| (row, ratio / share)).collect()
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
        assert_eq!(mapped("FC", "FL FR", &[0.5]), [0.5, 0.5]);
        assert_eq!(mapped("FL FR", "M", &[0.5, 0.25]), [0.375]);
        assert_eq!(mapped("FL FR", "FR FL", &[0.5, 0.25]), [0.25, 0.5]);
    }

    const FIVE_ONE: &str = "FL FR FC LFE RL RR";
    const FIVE_ONE_SIDE: &str = "FL FR FC LFE SL SR";
    const SEVEN_ONE: &str = "FL FR FC LFE RL RR SL SR";

    /// What `audioconvert` of GStreamer 1.22 makes of a one in each input channel.
    #[test]
    fn the_weights_are_those_of_audioconvert() {
        let cases: [(&str, &str, &[&[f32]]); 12] = [
            ("M", FIVE_ONE, &[&[1.0, 1.0, FRAC_1_SQRT_2, 1.0, 0.5, 0.5]]),
            (
                "M",
                SEVEN_ONE,
                &[&[1.0, 1.0, FRAC_1_SQRT_2, 1.0, 0.5, 0.5, FRAC_1_SQRT_2, FRAC_1_SQRT_2]],
            ),
            ("M", "FL FR RL RR", &[&[1.0, 1.0, 0.5, 0.5]]),
            (
                "FL FR",
                FIVE_ONE,
                &[&[0.5, 0.0, 0.3536, 0.5, 0.25, 0.0], &[0.0, 0.5, 0.3536, 0.5, 0.0, 0.25]],
            ),
            (
                FIVE_ONE,
                "FL FR",
                &[
                    &[0.3118, 0.0],
                    &[0.0, 0.3118],
                    &[0.2205, 0.2205],
                    &[0.3118, 0.3118],
                    &[0.1559, 0.0],
                    &[0.0, 0.1559],
                ],
            ),
            (
                SEVEN_ONE,
                "FL FR",
                &[
                    &[0.2555, 0.0],
                    &[0.0, 0.2555],
                    &[0.1807, 0.1807],
                    &[0.2555, 0.2555],
                    &[0.1277, 0.0],
                    &[0.0, 0.1277],
                    &[0.1807, 0.0],
                    &[0.0, 0.1807],
                ],
            ),
            (
                SEVEN_ONE,
                FIVE_ONE,
                &[
                    &[0.7388, 0.0, 0.0, 0.0, 0.0, 0.0],
                    &[0.0, 0.7388, 0.0, 0.0, 0.0, 0.0],
                    &[0.0, 0.0, 0.7388, 0.0, 0.0, 0.0],
                    &[0.0, 0.0, 0.0, 0.7388, 0.0, 0.0],
                    &[0.0, 0.0, 0.0, 0.0, 0.7388, 0.0],
                    &[0.0, 0.0, 0.0, 0.0, 0.0, 0.7388],
                    &[0.2612, 0.0, 0.0, 0.0, 0.2612, 0.0],
                    &[0.0, 0.2612, 0.0, 0.0, 0.0, 0.2612],
                ],
            ),
            (FIVE_ONE, "M", &[&[0.2124], &[0.2124], &[0.1502], &[0.2124], &[0.1062], &[0.1062]]),
            (
                FIVE_ONE,
                SEVEN_ONE,
                &[
                    &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3536, 0.0],
                    &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3536],
                    &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                    &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
                    &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.3536, 0.0],
                    &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.3536],
                ],
            ),
            (
                FIVE_ONE_SIDE,
                FIVE_ONE,
                &[
                    &[0.7388, 0.0, 0.0, 0.0, 0.0, 0.0],
                    &[0.0, 0.7388, 0.0, 0.0, 0.0, 0.0],
                    &[0.0, 0.0, 0.7388, 0.0, 0.0, 0.0],
                    &[0.0, 0.0, 0.0, 0.7388, 0.0, 0.0],
                    &[0.2612, 0.0, 0.0, 0.0, 0.5224, 0.0],
                    &[0.0, 0.2612, 0.0, 0.0, 0.0, 0.5224],
                ],
            ),
            ("FL FR LFE", "FL FR", &[&[0.5, 0.0], &[0.0, 0.5], &[0.5, 0.5]]),
            ("FL FR FC", "FL FR", &[&[0.5858, 0.0], &[0.0, 0.5858], &[0.4142, 0.4142]]),
        ];
        for (from, to, expected) in cases {
            for (input, row) in expected.iter().enumerate() {
                let mut one = vec![0.0; expected.len()];
                one[input] = 1.0;
                let out = mapped(from, to, &one);
                let close = out.iter().zip(*row).all(|(x, y)| (x - y).abs() < 1e-4);
                assert!(close && out.len() == row.len(), "{from} {input} to {to}: {out:?} {row:?}");
            }
        }
    }

    #[test]
    fn no_layout_clips_in_another_and_none_is_lost() {
        let layouts = [
            "M",
            "FC",
            "FL FR",
            "FL FR LFE",
            "RL RR",
            "SL SR",
            FIVE_ONE,
            FIVE_ONE_SIDE,
            SEVEN_ONE,
            "FL FR FC RC",
            "FLC FRC",
        ];
        for from in layouts {
            for to in layouts {
                let matrix = Matrix::new(map(from), map(to)).unwrap();
                let loudest = (0..matrix.outputs()).map(|o| matrix.row_sum(o)).fold(0.0, f32::max);
                assert!((loudest - 1.0).abs() < 1e-6, "{from} to {to}: {loudest}");
                for input in 0..matrix.inputs() {
                    let heard = matrix.weights.iter().any(|row| row[input] > 0.0);
                    assert!(heard, "channel {input} of {from} is not heard in {to}");
                }
            }
        }
    }

    #[test]
    fn channels_without_positions_need_equal_counts() {
        let bare = |n| ChannelMap::unpositioned(Channels::new(n).unwrap());
        assert!(Matrix::new(bare(2), ChannelMap::stereo()).unwrap().is_identity());
        assert!(Matrix::new(bare(3), ChannelMap::stereo()).is_none());
        assert!(Matrix::new(ChannelMap::mono(), bare(2)).is_none());
    }
}
