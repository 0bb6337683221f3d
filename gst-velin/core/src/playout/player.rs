//! The streaming thread's half of one stream.

use std::sync::Arc;

use super::OutputFormat;
use super::controls::{Gain, StreamControls};
use super::counters::{Cause, FrameCounts, StreamCounters};
use super::matrix::Matrix;
use super::resample::Resample;
use super::timeline::Timeline;

/// Frames rendered at once.
pub(super) const CHUNK: usize = 256;

/// The streaming thread's half of one stream; give it to the mixer.
#[derive(Debug)]
pub struct PlayerHalf {
    timeline: Timeline,
    matrix: Matrix,
    resample: Option<Resample>,
    output: OutputFormat,
    exact: bool,
    gain: Option<Gain>,
    leaving: bool,
    /// Output frames until the resampler has rung out.
    ringing: usize,
    last_cause: Cause,
    causes: Box<[Cause]>,
    /// Frames of the timeline.
    input: Box<[f32]>,
    /// Frames between matrix and resampler, or resampler and matrix.
    between: Box<[f32]>,
    counters: Arc<StreamCounters>,
    controls: Arc<StreamControls>,
}

/// What became of one chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// The chunk is more than silence.
    pub(super) active: bool,
    /// The chunk is the stream's own bits and must stay so.
    pub(super) exact: bool,
    /// The stream has nothing more to say.
    pub(super) finished: bool,
}

impl PlayerHalf {
    pub(super) fn new(
        timeline: Timeline,
        matrix: Matrix,
        resample: Option<Resample>,
        output: OutputFormat,
        exact: bool,
        counters: Arc<StreamCounters>,
        controls: Arc<StreamControls>,
    ) -> Self {
        let frames = resample.as_ref().map_or(CHUNK, Resample::input_max);
        let between = frames.max(CHUNK) * matrix.inputs().min(matrix.outputs());
        Self {
            timeline,
            resample,
            output,
            exact,
            gain: None,
            leaving: false,
            ringing: 0,
            last_cause: Cause::Silence,
            causes: vec![Cause::Silence; frames].into(),
            input: vec![0.0; frames * matrix.inputs()].into(),
            between: vec![0.0; between].into(),
            matrix,
            counters,
            controls,
        }
    }

    /// What the stream is played as.
    pub fn output(&self) -> OutputFormat {
        self.output
    }

    /// The stream's counters, to be read by any thread.
    pub fn counters(&self) -> &Arc<StreamCounters> {
        &self.counters
    }

    /// The stream's volume and mute, to be turned by any thread.
    pub fn controls(&self) -> &Arc<StreamControls> {
        &self.controls
    }

    /// Plays the stream so many times faster than its nominal rate, 0.99 to 1.01. Takes effect
    /// smoothly; without a resampler (equal rates) nothing changes.
    pub fn set_relative_speed(&mut self, speed: f64) {
        if let Some(resample) = &mut self.resample {
            resample.set_relative_ratio(1.0 / speed);
        }
    }

    /// Lets the stream fade out.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Fills `out`, at most [`CHUNK`] frames, with what is due from `due_ns` on, as part of a
    /// render that lasts `period_ns`.
    pub(super) fn render(&mut self, due_ns: i64, period_ns: i64, out: &mut [f32]) -> Heard {
        let frames = out.len() / self.matrix.outputs();
        let needed = self.resample.as_mut().map_or(frames, |r| r.needed(frames));
        let lead_ns = self.resample.as_ref().map_or(0, Resample::lead_ns);
        let input = &mut self.input[..needed * self.matrix.inputs()];
        let causes = &mut self.causes[..needed];
        let pulled = self.timeline.pull(due_ns + lead_ns, period_ns + lead_ns, input, causes);
        self.ringing = if pulled.audible {
            self.resample.as_ref().map_or(0, Resample::ring_out)
        } else {
            self.ringing.saturating_sub(needed)
        };
        self.convert(needed, out);
        self.count(needed, frames);

        let audible = pulled.audible || self.ringing > 0;
        let wanted = if self.leaving { 0.0 } else { self.controls.gain() };
        let gain = self.gain.get_or_insert_with(|| Gain::new(self.output.rate, wanted));
        let exact = self.exact && gain.is_unity() && wanted == 1.0;
        gain.apply(wanted, out, self.matrix.outputs());
        Heard {
            active: audible,
            exact,
            finished: (pulled.finished && !audible)
                || (self.leaving && (gain.is_zero() || !audible)),
        }
    }

    fn convert(&mut self, needed: usize, out: &mut [f32]) {
        let input = &self.input[..needed * self.matrix.inputs()];
        let Some(resample) = &mut self.resample else {
            self.matrix.apply(input, out);
            return;
        };
        if self.matrix.is_identity() {
            resample.process(input, out);
        } else if resample.channels() == self.matrix.outputs() {
            let between = &mut self.between[..needed * self.matrix.outputs()];
            self.matrix.apply(input, between);
            resample.process(between, out);
        } else {
            let frames = out.len() / self.matrix.outputs();
            let between = &mut self.between[..frames * self.matrix.inputs()];
            resample.process(input, between);
            self.matrix.apply(between, out);
        }
    }

    /// Counts each output frame by the cause of the input frame it came from.
    fn count(&mut self, needed: usize, frames: usize) {
        let mut counts = FrameCounts::default();
        let causes = &self.causes[..needed];
        if needed == frames {
            causes.iter().for_each(|cause| counts.add(*cause));
        } else {
            for frame in 0..frames {
                let nearest = causes.get(frame * needed / frames).copied();
                self.last_cause = nearest.unwrap_or(self.last_cause);
                counts.add(self.last_cause);
            }
        }
        self.counters.add_frames(counts, frames as u64);
    }
}
