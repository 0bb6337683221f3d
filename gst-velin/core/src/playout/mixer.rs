//! All streams of one output, added up.

use std::sync::Arc;

use super::OutputFormat;
use super::counters::MixCounters;
use super::limiter::{Limiter, peak};
use super::output_clock::OutputClock;
use super::player::{CHUNK, Due, PlayerHalf};
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
    /// Frames of all streams that were made up, because what was due was missing.
    pub concealed: u64,
    /// By how much the first stream with [`Drift::Ignore`](super::Drift) or
    /// [`Drift::Exact`](super::Drift) plays later than it should, in ns; negative: earlier. An output
    /// that can choose its pace follows the sender's clock by it.
    pub behind_ns: Option<i64>,
}

/// Mixes any number of streams into one output, on the streaming thread.
///
/// The first active stream is copied and the others are added to it; the sum is never divided by
/// their number, so who joins or leaves does not change the level of who stays. As long as any
/// stream's controls say solo, those that do not are silent, and play on unheard.
#[derive(Debug)]
pub struct Mixer {
    output: OutputFormat,
    clock: OutputClock,
    limiter: Limiter,
    counters: Arc<MixCounters>,
    players: Vec<Entry>,
    finished: Vec<PlayerHalf>,
    next_id: u64,
    /// One chunk of one stream.
    scratch: Box<[f32]>,
}

#[derive(Debug)]
struct Entry {
    id: PlayerId,
    player: PlayerHalf,
    finished: bool,
}

impl Mixer {
    /// A mixer that plays silence until a player is added.
    pub fn new(output: OutputFormat) -> Self {
        Self {
            output,
            clock: OutputClock::new(output.rate),
            limiter: Limiter::new(output.rate),
            counters: Arc::default(),
            players: Vec::new(),
            finished: Vec::new(),
            next_id: 0,
            scratch: vec![0.0; CHUNK * output.map.channels().get()].into(),
        }
    }

    /// What it plays.
    pub fn output(&self) -> OutputFormat {
        self.output
    }

    /// What the mixer counts, to be read by any thread.
    pub fn counters(&self) -> &Arc<MixCounters> {
        &self.counters
    }

    /// Lets a stream join. It must have been made for this mixer's output; else it comes back.
    ///
    /// May allocate, and drops what waits in [`take_finished`](Self::take_finished).
    // The error is the argument itself: boxing it would help nobody.
    #[allow(clippy::result_large_err)]
    pub fn add(&mut self, player: PlayerHalf) -> Result<PlayerId, PlayerHalf> {
        if player.output() != self.output {
            return Err(player);
        }
        let id = PlayerId(self.next_id);
        self.next_id += 1;
        self.players.push(Entry { id, player, finished: false });
        self.finished.clear();
        // Every player can retire without an allocation.
        self.finished.reserve(self.players.len());
        Ok(id)
    }

    /// Fades a stream out within 5 ms, then moves it to [`take_finished`](Self::take_finished).
    pub fn remove(&mut self, id: PlayerId) {
        if let Some(entry) = self.players.iter_mut().find(|entry| entry.id == id) {
            entry.player.leave();
        }
    }

    /// Hands back a player that was removed or whose stream has ended, to be dropped where
    /// freeing memory does no harm.
    pub fn take_finished(&mut self) -> Option<PlayerHalf> {
        self.finished.pop()
    }

    /// How many streams are in the mixer, playing or not.
    pub fn len(&self) -> usize {
        self.players.len()
    }

    /// Whether no stream is in the mixer.
    pub fn is_empty(&self) -> bool {
        self.players.is_empty()
    }

    /// A stream's player, for settings that are not in its controls.
    pub fn player_mut(&mut self, id: PlayerId) -> Option<&mut PlayerHalf> {
        self.players.iter_mut().find(|entry| entry.id == id).map(|entry| &mut entry.player)
    }

    /// Fills `out`, interleaved frames of the output format, with what is due from `when` on.
    ///
    /// Every sample is written and finite. Does not allocate, lock or call the system. A tail of
    /// `out` shorter than a frame is zeroed.
    pub fn render(&mut self, when: RenderTime, out: &mut [f32]) -> Rendered {
        let channels = self.output.map.channels().get();
        let whole = out.len() / channels * channels;
        let (out, rest) = out.split_at_mut(whole);
        rest.fill(0.0);
        let nanos = |samples: usize| {
            self.output.rate.duration_of((samples / channels) as u64).as_nanos() as i64
        };
        let mono_ns = i64::try_from(when.mono.as_nanos()).unwrap_or(i64::MAX / 2);
        let start_ns = self.clock.next(mono_ns, (out.len() / channels) as u64);
        let drift = self.clock.drift();
        let period_ns = nanos(out.len());
        let soloed = self.players.iter().any(|e| !e.finished && e.player.controls().solo());

        let mut rendered = Rendered { limiter_gain: 1.0, ..Rendered::default() };
        let mut done = 0;
        for chunk in out.chunks_mut(CHUNK * channels) {
            let nominal = nanos(done);
            let start_ns = start_ns.saturating_add(nominal + (nominal as f64 * drift) as i64);
            done += chunk.len();
            let due = Due { start_ns, period_ns, drift };
            let Sum { active, exact, concealed, behind_ns } =
                sum(&mut self.players, due, soloed, chunk, &mut self.scratch);
            let peak = if exact { peak(chunk) } else { self.limiter.process(chunk, channels) };
            rendered.active = rendered.active.max(active);
            rendered.concealed += concealed;
            rendered.behind_ns = rendered.behind_ns.or(behind_ns);
            rendered.peak = rendered.peak.max(peak);
        }
        rendered.limiter_gain = self.limiter.gain();
        self.counters.set(rendered.limiter_gain, self.limiter.limited());
        self.retire();
        rendered
    }

    /// Moves finished players out of the way without freeing anything.
    fn retire(&mut self) {
        let mut i = 0;
        while i < self.players.len() {
            if self.players[i].finished {
                let entry = self.players.remove(i);
                self.finished.push(entry.player);
            } else {
                i += 1;
            }
        }
    }
}

/// What a sum is.
struct Sum {
    /// How many players had a part in it.
    active: usize,
    /// It is one stream's own bits.
    exact: bool,
    /// Frames that were made up.
    concealed: u64,
    /// Of the first stream that is not resampled.
    behind_ns: Option<i64>,
}

/// Writes the sum of all players; if some are `soloed`, of these.
fn sum(players: &mut [Entry], due: Due, soloed: bool, out: &mut [f32], scratch: &mut [f32]) -> Sum {
    let mut active = 0;
    let mut written = false;
    let mut exact = false;
    let mut concealed = 0;
    let mut behind_ns = None;
    for entry in players.iter_mut().filter(|entry| !entry.finished) {
        let scratch = &mut scratch[..out.len()];
        let heard = entry.player.render(due, soloed, scratch);
        entry.finished = heard.finished;
        concealed += heard.concealed;
        behind_ns = behind_ns.or(heard.behind_ns);
        if !heard.active {
            continue;
        }
        active += 1;
        exact = heard.exact && active == 1;
        if heard.silent {
            continue;
        }
        if !std::mem::replace(&mut written, true) {
            out.copy_from_slice(scratch);
        } else {
            out.iter_mut().zip(scratch).for_each(|(sum, x)| *sum += *x);
        }
    }
    if !written {
        out.fill(0.0);
    }
    Sum { active, exact, concealed, behind_ns }
}
