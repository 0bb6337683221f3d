//! From the stream's rate to the output's.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable, Async, FixedAsync, Resampler, Resizable, SincInterpolationParameters,
    WindowFunction,
};

use super::matrix::Matrix;
use super::player::CHUNK;
use super::{Drift, Profile};
use crate::units::SampleRate;

/// Filter length in frames of the lower rate: delays by 1.33 ms at 48 kHz and is flat within 0.04 dB
/// to 20 kHz; see `docs/protocol.md`, section 4.4.
const LONG: f64 = 128.0;
/// For the lowest delay: 0.67 ms at 48 kHz, −2 dB at 18 kHz.
const SHORT: f64 = 64.0;
/// How far the ratio may be moved away from the nominal one: ±1 %.
const MAX_RELATIVE: f64 = 1.01;

/// A streaming sinc resampler with an adjustable ratio.
pub(super) struct Resample {
    inner: Async<f32>,
    channels: usize,
    lead_ns: i64,
    input_max: usize,
    /// Frames of silence after which the filter has rung out.
    ring_out: usize,
    /// Input frames per output frame, nominally.
    step: f64,
    /// Speed of the last chunk, relative to nominal.
    speed: f64,
    /// Speed of the chunk in hand.
    next_speed: f64,
    /// Input frames taken and not played yet, 0 to 1: what the filter holds beyond its own delay.
    ahead: f64,
}

impl std::fmt::Debug for Resample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resample").field("ratio", &self.inner.resample_ratio()).finish()
    }
}

impl Resample {
    /// `None` when the rates are equal and stay so. Resamples whichever side of the matrix has
    /// fewer channels.
    pub(super) fn new(
        from: SampleRate,
        to: SampleRate,
        matrix: &Matrix,
        drift: Drift,
        profile: Profile,
    ) -> Option<Self> {
        if from == to && drift != Drift::Follow {
            return None;
        }
        let channels = matrix.inputs().min(matrix.outputs());
        let ratio = f64::from(to.hz()) / f64::from(from.hz());
        let taps = if profile == Profile::Low { SHORT } else { LONG };
        // Taps count input frames: a lower output rate needs as many more for the same edge.
        let taps = (taps / ratio.min(1.0)).round() as usize;
        let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris2);
        // All arguments are constants or bounded by `SampleRate` and `Channels`.
        let inner =
            Async::new_sinc(ratio, MAX_RELATIVE, &parameters, CHUNK, channels, FixedAsync::Output)
                .ok()?;
        let lead_ns = to.duration_of(inner.output_delay() as u64).as_nanos() as i64;
        Some(Self {
            input_max: inner.input_frames_max() + 1,
            inner,
            channels,
            lead_ns,
            ring_out: taps,
            step: 1.0 / ratio,
            speed: 1.0,
            next_speed: 1.0,
            ahead: 0.0,
        })
    }

    /// From a frame's way in to its way out, ns.
    pub(super) fn lead_ns(&self) -> i64 {
        self.lead_ns
    }

    /// Most frames that [`needed`](Self::needed) asks for.
    pub(super) fn input_max(&self) -> usize {
        self.input_max
    }

    /// Frames of silence after which nothing comes out any more.
    pub(super) fn ring_out(&self) -> usize {
        self.ring_out
    }

    /// Channels it works on.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Input frames taken and not played yet, 0 to 1.
    pub(super) fn ahead(&self) -> f64 {
        self.ahead
    }

    /// Moves the speed to `speed` times the nominal one over the next chunk; clamped to ±1 %.
    pub(super) fn set_speed(&mut self, speed: f64) {
        self.next_speed = speed.clamp(1.0 / MAX_RELATIVE, MAX_RELATIVE);
    }

    /// Frames it must be given to make `frames`, at most [`CHUNK`].
    pub(super) fn needed(&mut self, frames: usize) -> usize {
        // In bounds by the clamp, and by the callers' chunks.
        let _ = self.inner.set_chunk_size(frames);
        let _ = self.inner.set_resample_ratio_relative(1.0 / self.next_speed, true);
        self.inner.input_frames_next()
    }

    /// Frames to take for `frames` of silence, so that the place in the stream goes on as if they
    /// had been made; within one of `needed`.
    pub(super) fn needed_for_silence(&self, frames: usize, needed: usize) -> usize {
        let through = self.through(frames) - self.ahead;
        let whole = through.ceil().max(0.0) as usize;
        whole.clamp(needed.saturating_sub(1), needed + 1)
    }

    /// Notes that `taken` frames were taken for `frames` made, or passed over in silence.
    pub(super) fn advance(&mut self, frames: usize, taken: usize) {
        let ahead = self.ahead + taken as f64 - self.through(frames);
        // The filter rounds its place a little differently.
        self.ahead = ahead.clamp(0.0, 1.0);
        self.speed = self.next_speed;
    }

    /// Input frames that pass while `frames` are made.
    fn through(&self, frames: usize) -> f64 {
        frames as f64 * self.step * 0.5 * (self.speed + self.next_speed)
    }

    /// Makes the frames announced to [`needed`](Self::needed).
    pub(super) fn process(&mut self, input: &[f32], output: &mut [f32]) {
        let (ch, frames) = (self.channels, output.len() / self.channels);
        let (Ok(from), Ok(mut to)) = (
            InterleavedSlice::new(input, ch, input.len() / ch),
            InterleavedSlice::new_mut(&mut *output, ch, frames),
        ) else {
            return;
        };
        if self.inner.process_into_buffer(&from, &mut to, None).is_err() {
            debug_assert!(false, "buffers were sized by the resampler itself");
            output.fill(0.0);
        }
    }
}
