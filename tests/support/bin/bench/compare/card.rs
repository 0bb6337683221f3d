//! A sound card that plays what a receiver hands out: exactly as many frames a second as it has, whether
//! more come or fewer. It shows what becomes of a drift that nobody corrects.

use super::RATE;
use super::recording::Recording;

/// A card on the machine's own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Card {
    /// It begins with so much in its buffer, also after it ran dry; nanoseconds.
    prefill: f64,
    /// With more than this in its buffer it skips to its prefill; nanoseconds.
    most: f64,
}

impl Card {
    /// Two periods of 5 ms to begin with; GStreamer's sinks let time stamps go astray by 40 ms.
    pub(crate) const USUAL: Self = Self { prefill: 10e6, most: 50e6 };

    /// Plays a recording.
    pub(crate) fn play(self, recording: &Recording) -> Played {
        let mut played = Played { runs: Vec::new(), dry: 0, full: 0 };
        let ends = recording.pieces.iter().skip(1).map(|(first, _)| *first);
        let ends = ends.chain([recording.samples.len() as u64]);
        for ((first, at), end) in recording.pieces.iter().copied().zip(ends) {
            let now = at as f64;
            match played.runs.last() {
                None => played.runs.push(Run { first, at: now + self.prefill }),
                Some(run) if run.due(first) < now => {
                    played.dry += 1;
                    played.runs.push(Run { first, at: now + self.prefill });
                }
                Some(run) if run.due(end) > now + self.most => {
                    played.full += 1;
                    let kept = (self.prefill * RATE as f64 / 1e9) as u64;
                    played.runs.push(Run { first: end.saturating_sub(kept), at: now });
                }
                Some(_) => {}
            }
        }
        played
    }
}

/// What was heard when.
#[derive(Debug)]
pub(crate) struct Played {
    runs: Vec<Run>,
    /// How often the card had nothing to play,
    pub(crate) dry: u32,
    /// and too much.
    pub(crate) full: u32,
}

impl Played {
    /// When the frame was heard; none if it was skipped.
    pub(crate) fn came_out(&self, frame: usize) -> Option<u64> {
        let frame = frame as u64;
        let after = self.runs.partition_point(|run| run.first <= frame);
        let due = self.runs.get(after.checked_sub(1)?)?.due(frame);
        let cut = self.runs.get(after).is_some_and(|next| due >= next.at);
        (!cut).then_some(due as u64)
    }
}

/// Frames from `first` on, heard from `at` on.
#[derive(Debug)]
struct Run {
    first: u64,
    at: f64,
}

impl Run {
    fn due(&self, frame: u64) -> f64 {
        self.at + (frame as f64 - self.first as f64) * 1e9 / RATE as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of 240 frames, each `period` nanoseconds after the one before.
    fn arriving(period: u64, pieces: u64) -> Recording {
        Recording {
            pieces: (0..pieces).map(|k| (k * 240, k * period)).collect(),
            samples: vec![0; (pieces * 240) as usize],
        }
    }

    #[test]
    fn what_comes_at_the_cards_pace_is_heard_after_the_prefill() {
        let played = Card::USUAL.play(&arriving(5_000_000, 2_000));
        assert_eq!((played.dry, played.full), (0, 0));
        assert_eq!(played.came_out(0), Some(10_000_000));
        assert_eq!(played.came_out(48_000), Some(1_010_000_000));
    }

    #[test]
    fn a_source_that_is_too_slow_runs_it_dry_and_one_that_is_too_fast_fills_it() {
        // 500 ppm for 60 s make 30 ms: three times the prefill, three quarters of what is too much.
        let slow = Card::USUAL.play(&arriving(5_002_500, 12_000));
        assert_eq!((slow.dry, slow.full), (2, 0));
        let fast = Card::USUAL.play(&arriving(4_997_500, 12_000));
        assert_eq!((fast.dry, fast.full), (0, 0));
        let late = fast.came_out(11_999 * 240).unwrap() - 11_999 * 4_997_500;
        assert!((39_000_000..41_000_000).contains(&late), "{late}");
        let faster = Card::USUAL.play(&arriving(4_990_000, 12_000));
        assert_eq!((faster.dry, faster.full), (0, 3));
        let skipped = (0..faster.runs.last().unwrap().first as usize)
            .filter(|frame| faster.came_out(*frame).is_none())
            .count();
        assert!((3 * 1_650..3 * 1_950).contains(&skipped), "{skipped}");
    }
}
