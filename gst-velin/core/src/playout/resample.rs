//! From the stream's rate to the output's.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable, Async, FixedAsync, Resampler, Resizable, SincInterpolationParameters,
    WindowFunction,
};

use super::matrix::Matrix;
use super::player::CHUNK;
use crate::units::SampleRate;

/// Filter length in frames of the lower rate: 1.33 ms at 48 kHz, flat within 0.04 dB to 20 kHz;
/// see `docs/protocol.md`, section 4.4.
const SINC: f64 = 128.0;
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
}

impl std::fmt::Debug for Resample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resample").field("ratio", &self.inner.resample_ratio()).finish()
    }
}

impl Resample {
    /// `None` when the rates are equal. Resamples whichever side of the matrix has fewer channels.
    pub(super) fn new(from: SampleRate, to: SampleRate, matrix: &Matrix) -> Option<Self> {
        if from == to {
            return None;
        }
        let channels = matrix.inputs().min(matrix.outputs());
        let ratio = f64::from(to.hz()) / f64::from(from.hz());
        // Taps count input frames: a lower output rate needs as many more for the same edge.
        let taps = (SINC / ratio.min(1.0)).round() as usize;
        let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris2);
        // All arguments are constants or bounded by `SampleRate` and `Channels`.
        let inner =
            Async::new_sinc(ratio, MAX_RELATIVE, &parameters, CHUNK, channels, FixedAsync::Output)
                .ok()?;
        let lead_ns = to.duration_of(inner.output_delay() as u64).as_nanos() as i64;
        Some(Self { input_max: inner.input_frames_max(), inner, channels, lead_ns, ring_out: taps })
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

    /// Moves the ratio to `relative` times the nominal one over the next chunk; clamped to ±1 %.
    pub(super) fn set_relative_ratio(&mut self, relative: f64) {
        let relative = relative.clamp(1.0 / MAX_RELATIVE, MAX_RELATIVE);
        // In bounds by the clamp.
        let _ = self.inner.set_resample_ratio_relative(relative, true);
    }

    /// Frames it must be given to make `frames`, at most [`CHUNK`].
    pub(super) fn needed(&mut self, frames: usize) -> usize {
        // In bounds by the callers' chunks.
        let _ = self.inner.set_chunk_size(frames);
        self.inner.input_frames_next()
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
