//! All streams of one output, added up.

use super::OutputFormat;
use super::player::PlayerHalf;
use crate::time::MonoTime;

/// A player's name within its mixer; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlayerId(u64);

/// When the rendered frames are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderTime {
    /// Host monotonic time at which the first frame of the output is due.
    pub mono: MonoTime,
}

/// What a render did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rendered {
    /// Streams that had a part in the output.
    pub active: usize,
    /// The largest absolute sample written, linear.
    pub peak: f32,
    /// The limiter's gain at the end, 1.0 when it is not acting.
    pub limiter_gain: f32,
}

/// Mixes any number of streams into one output, on the streaming thread.
#[derive(Debug)]
pub struct Mixer {
    output: OutputFormat,
}

impl Mixer {
    /// A mixer that plays silence until a player is added.
    pub fn new(output: OutputFormat) -> Self {
        Self { output }
    }

    /// What it plays.
    pub fn output(&self) -> OutputFormat {
        self.output
    }

    /// Lets a stream join. It must have been made for this mixer's output; else it comes back.
    ///
    /// May allocate.
    pub fn add(&mut self, player: PlayerHalf) -> Result<PlayerId, PlayerHalf> {
        let _ = player;
        Ok(PlayerId(0))
    }

    /// Fades a stream out within 5 ms, then moves it to [`take_finished`](Self::take_finished).
    pub fn remove(&mut self, _id: PlayerId) {}

    /// Hands back a player that was removed or whose stream has ended, to be dropped where
    /// freeing memory does no harm.
    pub fn take_finished(&mut self) -> Option<PlayerHalf> {
        None
    }

    /// How many streams are in the mixer, playing or not.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether no stream is in the mixer.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Fills `out`, interleaved frames of the output format, with what is due from `when` on.
    ///
    /// Every sample is written and finite. Does not allocate, lock or call the system. A tail of
    /// `out` shorter than a frame is zeroed.
    pub fn render(&mut self, _when: RenderTime, out: &mut [f32]) -> Rendered {
        out.fill(0.0);
        Rendered::default()
    }
}
