//! The streaming thread's half of one stream.

use std::sync::Arc;

use super::controls::StreamControls;
use super::counters::{Cause, FrameCounts, StreamCounters};
use super::gain::{Aim, Effect, Gain};
use super::matrix::Matrix;
use super::resample::Resample;
use super::timeline::{Pace, Timeline};
use super::{Drift, OutputFormat};

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
    follow: bool,
    gain: Gain,
    leaving: bool,
    /// Frames of the timeline since the last that was more than silence.
    quiet: usize,
    last_cause: Cause,
    causes: Box<[Cause]>,
    /// A frame of silence, then frames of the timeline.
    input: Box<[f32]>,
    /// Frames between matrix and resampler, or resampler and matrix.
    between: Box<[f32]>,
    counters: Arc<StreamCounters>,
    controls: Arc<StreamControls>,
}

/// When a chunk is heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// Host time of its first frame, ns.
    pub(super) start_ns: i64,
    /// How long the render lasts that it is a part of, ns.
    pub(super) period_ns: i64,
    /// How much slower the output's clock runs than the host's.
    pub(super) drift: f64,
}

/// What became of one chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// The chunk is more than silence.
    pub(super) active: bool,
    /// Every sample is zero.
    pub(super) silent: bool,
    /// The chunk is the stream's own bits and must stay so.
    pub(super) exact: bool,
    /// The stream has nothing more to say.
    pub(super) finished: bool,
    /// Frames that were made up.
    pub(super) concealed: u64,
    /// How late the stream is, if that is left to the output to mend, ns.
    pub(super) behind_ns: Option<i64>,
}

impl PlayerHalf {
    pub(super) fn new(
        timeline: Timeline,
        matrix: Matrix,
        resample: Option<Resample>,
        output: OutputFormat,
        drift: Drift,
        counters: Arc<StreamCounters>,
        controls: Arc<StreamControls>,
    ) -> Self {
        let frames = resample.as_ref().map_or(CHUNK, Resample::input_max);
        let between = frames.max(CHUNK) * matrix.inputs().min(matrix.outputs());
        Self {
            timeline,
            resample,
            output,
            exact: drift == Drift::Exact,
            follow: drift == Drift::Follow,
            gain: Gain::new(output.rate, &matrix),
            leaving: false,
            quiet: usize::MAX,
            last_cause: Cause::Silence,
            causes: vec![Cause::Silence; frames].into(),
            input: vec![0.0; (frames + 1) * matrix.inputs()].into(),
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

    /// The stream's settings in the mix, to be turned by any thread.
    pub fn controls(&self) -> &Arc<StreamControls> {
        &self.controls
    }

    /// Lets the stream fade out.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Fills `out`, at most [`CHUNK`] frames, with what is heard at `due`, while some stream of the
    /// mixer is `soloed` or none is.
    pub(super) fn render(&mut self, due: Due, soloed: bool, out: &mut [f32]) -> Heard {
        let frames = out.len() / self.matrix.outputs();
        let (lead_ns, ahead_ns) = self
            .resample
            .as_ref()
            .map_or((0, 0), |r| (r.lead_ns(), self.timeline.nanos(r.ahead())));
        let heard_ns = due.start_ns + lead_ns;
        let Pace { speed, behind_ns } = self.timeline.pace(heard_ns, ahead_ns, due.drift);
        let needed = self.resample.as_mut().map_or(frames, |resample| {
            resample.set_speed(if self.follow { speed } else { 1.0 });
            resample.needed(frames)
        });
        // In silence the filter has nothing to do.
        let rung_out = self.quiet >= self.resample.as_ref().map_or(0, Resample::ring_out);
        let taken = match &self.resample {
            Some(resample) if rung_out => resample.needed_for_silence(frames, needed),
            _ => needed,
        };
        let ch = self.matrix.inputs();
        let input = &mut self.input[ch..(taken + 1) * ch];
        let causes = &mut self.causes[..taken];
        let pulled = self.timeline.pull(heard_ns, due.period_ns + lead_ns, input, causes);
        if let Some(resample) = &mut self.resample {
            resample.advance(frames, taken);
        }
        self.quiet = if pulled.silent { self.quiet.saturating_add(taken) } else { 0 };
        let silent = rung_out && pulled.silent;
        if silent {
            out.fill(0.0);
        } else {
            // One frame more or less than the filter asks for, where sound begins.
            let first = (taken + 1).saturating_sub(needed);
            self.convert(first, needed, out);
        }
        let concealed = self.count(taken, frames);

        let audible = pulled.audible || !silent;
        let effect = self.scale(soloed, silent, out);
        Heard {
            active: audible,
            silent: effect == Effect::Silenced,
            exact: self.exact && effect == Effect::None,
            finished: (pulled.finished && !audible)
                || (self.leaving && (self.gain.is_zero() || !audible)),
            concealed,
            behind_ns: behind_ns.filter(|_| !self.follow),
        }
    }

    /// Brings `out`, or the silence that it is, to the volume and place that are wanted.
    fn scale(&mut self, soloed: bool, silent: bool, out: &mut [f32]) -> Effect {
        let mut aim = self.controls.aim(soloed);
        if self.leaving {
            aim = Aim { level: 0.0, ..aim };
        }
        if silent {
            self.gain.jump(aim);
            return Effect::Silenced;
        }
        self.gain.apply(aim, out)
    }

    /// Makes output of `needed` frames from the input's frame `first` on.
    fn convert(&mut self, first: usize, needed: usize, out: &mut [f32]) {
        let ch = self.matrix.inputs();
        let input = &self.input[first * ch..(first + needed) * ch];
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
            let between = &mut self.between[..frames * ch];
            resample.process(input, between);
            self.matrix.apply(between, out);
        }
    }

    /// Counts each output frame by the cause of the input frame it came from; gives how many were
    /// made up.
    fn count(&mut self, needed: usize, frames: usize) -> u64 {
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
        counts.of(Cause::Concealed)
    }
}
