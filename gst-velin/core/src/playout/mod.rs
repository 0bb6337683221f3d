//! From received blocks to the samples the output needs now.
//!
//! ```text
//! receive thread:   ReceiverHalf::insert(arrival, block) ──ring──▶ PlayerHalf   :streaming thread
//!                                                       ◀─atomics─   Mixer::render
//! ```
//!
//! **One invariant:** a frame of the stream has one due time, `base + frame / rate + margin`,
//! where `base` is the fastest path (a straight line through the least `arrival − media time`) and
//! `margin` is the part of the playout delay beyond the block itself. The player reads on, frame by
//! frame, at a pace that brings its place to that due time and keeps it there: the sender's clock
//! against the host's, the output's clock against the host's, and at most 500 ppm more for what the
//! delay is to change by. It jumps only where that is inaudible or unavoidable: at the first block,
//! inside a gap, and when the delay has grown far beyond its target.
//!
//! Three clocks meet here: the sender's (media time), the host's (arrivals) and the output's
//! (frames asked for). Each of the two that are not the host's is followed by a line of its own
//! (`line`): the sender's in the receiver half, the output's in the mixer (`output_clock`). So a
//! restart of the sender does not disturb what is known about the output, and the other way round.
//!
//! What is replaceable behind this: how late blocks come (`arrivals`), when a
//! frame is due (`due`), what fills a gap (`conceal`), what changes the pace (`resample`).
//!
//! [`stream`] makes both halves of one stream. The receiver half stays on the receive thread; the
//! player half moves into the [`Mixer`] of the streaming thread. Neither half blocks, locks or
//! allocates per packet.

mod arrivals;
mod block;
mod conceal;
mod controls;
mod counters;
mod decoded;
mod due;
mod gain;
mod limiter;
mod line;
mod matrix;
mod mixer;
mod output_clock;
mod pan;
mod player;
mod queue;
mod receiver;
mod repair;
mod resample;
mod simulate;
mod tap;
mod timeline;
mod trace;

pub use block::{Block, Body, MAX_PAYLOAD};
pub use controls::{MixSettings, StreamControls};
pub use counters::{MixCounters, StreamCounters, StreamStats};
pub use mixer::{Mixer, PlayerId, RenderTime, Rendered};
pub use player::PlayerHalf;
pub use receiver::{Insert, ReceiverHalf};
pub use repair::Request;
pub use simulate::{
    SimulatedSecond, Simulation, SimulationError, SimulationSettings, Spread, simulate,
};
pub use tap::{TraceDrain, TraceTap, trace_ring};
pub use trace::{
    MAX_TRACE_BLOCKS, MAX_TRACE_BYTES, MAX_TRACE_LENGTH, Trace, TraceError, TracedBlock,
};

use std::sync::Arc;
use std::time::Duration;

use conceal::Source;
use decoded::Decoded;
use matrix::Matrix;
use queue::Queue;
use repair::Repair;
use resample::Resample;
use timeline::Timeline;

use crate::codec::opus::OpusError;
use crate::codec::{ChannelMap, Coding, StreamFormat};
use crate::units::SampleRate;

/// What the output plays: interleaved `f32` in this rate and these channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputFormat {
    /// Frames per second.
    pub rate: SampleRate,
    /// Where each channel belongs, in order of interleaving.
    pub map: ChannelMap,
}

/// How long a block's first sample waits between its capture (on the fastest path seen) and its
/// playout. The block's own duration is part of it: a block leaves only when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayoutDelay {
    /// Learned from the arrivals, one block to 200 ms; starts at one block + 8 ms.
    Adaptive(Profile),
    /// Exactly this, at most [`MAX_FIXED_DELAY`]; never less than one block.
    Fixed(Duration),
}

/// What an adaptive playout delay is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// As low as most packets allow: for playing together.
    Low,
    /// Hardly ever a gap.
    #[default]
    Music,
    /// Between the two: gaps in speech are concealed well.
    Voice,
}

/// What happens to the difference between the sender's clock and the output's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drift {
    /// Resampling follows it.
    #[default]
    Follow,
    /// Nothing: one frame of the stream is one frame of the output (by their nominal rates), and
    /// the playout's place is set anew now and then.
    Ignore,
    /// As `Ignore`, and the output is bit-identical: same rate and map, alone in the mixer at gain
    /// 1, no limiter, no fade but around gaps.
    Exact,
}

/// Which repair of lost blocks the receiver may ask its sender for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepairWish {
    /// Whatever fits loss, round-trip time and delay best.
    #[default]
    Auto,
    /// Retransmission only.
    Nack,
    /// Time-shifted copies only.
    Copy,
    /// None.
    Off,
}

/// The longest fixed playout delay.
pub const MAX_FIXED_DELAY: Duration = Duration::from_secs(2);

/// The queue holds this much more than the longest delay, so that a late render loses nothing.
const QUEUE_SPARE: Duration = Duration::from_millis(250);
/// The hand-over holds this much more than the longest delay …
const RING_SPARE: Duration = Duration::from_millis(100);
/// … and a block that is this much later than the longest delay is not handed over: after a stall
/// the old would fill the ring before the new.
const STALE: Duration = Duration::from_millis(50);

/// Everything that shapes one stream's playout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// What the blocks hold.
    pub format: StreamFormat,
    /// What the mixer plays.
    pub output: OutputFormat,
    /// The playout delay.
    pub delay: PlayoutDelay,
    /// What becomes of the difference between the clocks.
    pub drift: Drift,
    /// How lost blocks may be repaired.
    pub repair: RepairWish,
}

/// Why a stream cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Unpositioned channels map one to one.
    #[error(
        "the stream has {stream} channels and the output {output}, without positions to map them \
         by; give the output {stream} channels or positioned ones"
    )]
    ChannelCount {
        /// Channels in the stream.
        stream: usize,
        /// Channels in the output.
        output: usize,
    },
    /// Exact playout needs equal rates and equal channels.
    #[error(
        "exact playout needs an output of {rate} Hz with channels {map:?}; set the output's caps \
         to the stream's or leave exact mode"
    )]
    NotExact {
        /// The stream's rate in Hz.
        rate: u32,
        /// The stream's channels.
        map: ChannelMap,
    },
    /// Exact playout needs PCM.
    #[error(
        "exact playout needs PCM, and the stream is Opus, which changes the samples; set codec=pcm at \
         the sender or leave exact mode"
    )]
    NotExactCoded,
    /// The codec has no such streams.
    #[error(transparent)]
    Opus(#[from] OpusError),
    /// Blocks without frames, or larger than [`MAX_PAYLOAD`].
    #[error(
        "a block of {frames} frames ({bytes} bytes) cannot be played; the sender must use 1 to \
         {MAX_PAYLOAD} bytes"
    )]
    BlockSize {
        /// Frames in a block.
        frames: u32,
        /// Bytes in a block.
        bytes: usize,
    },
    /// A fixed delay beyond the maximum.
    #[error("a playout delay of {0:?} is too long; use at most {MAX_FIXED_DELAY:?}")]
    Delay(Duration),
}

/// Makes the two halves of one stream. Allocates all that the stream will ever need.
///
/// ```
/// use std::time::Duration;
/// use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat};
/// use velin_core::playout::{
///     Block, Body, Drift, Mixer, OutputFormat, PlayoutDelay, RenderTime, RepairWish, StreamSettings,
///     stream,
/// };
/// use velin_core::time::MonoTime;
/// use velin_core::units::{BlockIndex, FrameIndex, SampleRate};
///
/// let (rate, map) = (SampleRate::HZ_48000, ChannelMap::stereo());
/// let coding = SampleFormat::S16Le.into();
/// let format = StreamFormat { coding, rate, map, frames_per_block: 48 };
/// let output = OutputFormat { rate, map };
/// let delay = PlayoutDelay::Fixed(Duration::from_millis(5));
/// let (drift, repair) = (Drift::Exact, RepairWish::Auto);
/// let settings = StreamSettings { format, output, delay, drift, repair };
/// let (mut receiver, player) = stream(settings)?;
/// let mut mixer = Mixer::new(output);
/// mixer.add(player).expect("made for this output");
///
/// // The receive thread, one millisecond after the block's first sample was captured …
/// let block = Block {
///     index: BlockIndex(0),
///     ts: FrameIndex(0),
///     discontinuity: false,
///     repair: false,
///     body: Body::Audio(&[0x40; 192]),
/// };
/// receiver.insert(MonoTime::from_nanos(1_000_000), block);
///
/// // … and the streaming thread, when the output needs what is due five milliseconds after it.
/// let mut out = [0.0; 96];
/// mixer.render(RenderTime { mono: MonoTime::from_nanos(5_000_000) }, &mut out);
/// assert!(out.iter().all(|sample| *sample > 0.5));
/// # Ok::<(), velin_core::playout::StreamError>(())
/// ```
pub fn stream(settings: StreamSettings) -> Result<(ReceiverHalf, PlayerHalf), StreamError> {
    let StreamSettings { format, output, delay, drift, repair } = settings;
    let exact = drift == Drift::Exact;
    let bytes = format.block_bytes();
    if bytes == 0 || bytes > MAX_PAYLOAD {
        return Err(StreamError::BlockSize { frames: format.frames_per_block, bytes });
    }
    if exact && format.coding.sample().is_none() {
        return Err(StreamError::NotExactCoded);
    }
    if exact && (format.rate, format.map) != (output.rate, output.map) {
        return Err(StreamError::NotExact { rate: format.rate.hz(), map: format.map });
    }
    let matrix = Matrix::new(format.map, output.map).ok_or_else(|| StreamError::ChannelCount {
        stream: format.map.channels().get(),
        output: output.map.channels().get(),
    })?;
    let longest = match delay {
        PlayoutDelay::Fixed(fixed) if fixed > MAX_FIXED_DELAY => {
            return Err(StreamError::Delay(fixed));
        }
        PlayoutDelay::Fixed(fixed) => fixed,
        PlayoutDelay::Adaptive(_) => due::MAX_AUTO,
    };
    let block = format.block_duration().as_nanos().max(1);
    let capacity = ((longest + QUEUE_SPARE).as_nanos() / block) as usize + 16;
    let counters = Arc::new(StreamCounters::default());
    let controls = Arc::new(StreamControls::new());
    let (sender, receiver) =
        rtrb::RingBuffer::new(((longest + RING_SPARE).as_nanos() / block) as usize + 16);
    let queue = Queue::new(capacity);
    let source = match format.coding {
        Coding::Pcm(_) => Source::pcm(format.rate, format.channels().get()),
        Coding::Opus(_) => Source::Opus(Decoded::new(&format)?),
    };
    let timeline =
        Timeline::new(receiver, queue, format.clone(), source, delay, exact, Arc::clone(&counters));
    let profile = match delay {
        PlayoutDelay::Adaptive(profile) => profile,
        PlayoutDelay::Fixed(_) => Profile::Music,
    };
    let resample = Resample::new(format.rate, output.rate, &matrix, drift, profile);
    let repair = Repair::new(repair, delay, &format, counters.clone());
    let receiver = ReceiverHalf::new(
        format,
        sender,
        longest + STALE,
        profile,
        repair,
        counters.clone(),
        controls.clone(),
    );
    let player = PlayerHalf::new(timeline, matrix, resample, output, drift, counters, controls);
    Ok((receiver, player))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_and_the_mixer_may_move_between_threads() {
        fn check<T: Send>() {}
        check::<ReceiverHalf>();
        check::<PlayerHalf>();
        check::<Mixer>();
    }
}
