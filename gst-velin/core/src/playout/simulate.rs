//! How a recorded network would have been played: the real engine on a [`Trace`].

use std::time::Duration;

use super::counters::StreamStats;
use super::trace::{Trace, TracedBlock};
use super::{
    Block, Body, Drift, MAX_PAYLOAD, Mixer, OutputFormat, PlayoutDelay, RenderTime, RepairWish,
    StreamError, StreamSettings, stream,
};
use crate::codec::{ChannelMap, SampleFormat, StreamFormat};
use crate::time::MonoTime;
use crate::units::{BlockIndex, FrameIndex, SampleRate};

/// A step in media time beyond this is a pause of the sender or another timeline, not a loss.
const PAUSE_NS: u64 = 2_000_000_000;
/// No block is shorter or longer.
const PACKET_TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_micros(250)..=Duration::from_millis(80);
/// So that the engine's times are far from zero, whatever the trace's are.
const EPOCH_NS: u64 = 10_000_000_000;

/// How to play a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulationSettings {
    /// The playout delay.
    pub delay: PlayoutDelay,
    /// How long a block lasts, 0.25 to 80 ms; `None`: what the trace says.
    pub packet_time: Option<Duration>,
    /// How much the output asks for at once; 1 ms in `velinsrc`. 0.25 to 100 ms.
    pub output_period: Duration,
}

impl SimulationSettings {
    /// As `velinsrc` would, with this playout delay.
    pub fn new(delay: PlayoutDelay) -> Self {
        Self { delay, packet_time: None, output_period: Duration::from_millis(1) }
    }
}

/// A quantity over the whole trace, weighted by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Least.
    pub least: Duration,
    /// Half of the time it is at most this.
    pub median: Duration,
    /// 99 % of the time it is at most this.
    pub p99: Duration,
    /// Most.
    pub most: Duration,
}

/// A second of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SimulatedSecond {
    /// What the playout delay should be, at its end.
    pub target: Duration,
    /// The playout delay, at its end.
    pub delay: Duration,
    /// Share of what was played in it that was made up, 0 to 1.
    pub concealed: f64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// How long a block lasts.
    pub packet_time: Duration,
    /// From the first arrival to the last.
    pub length: Duration,
    /// Blocks in the trace.
    pub blocks: u64,
    /// Blocks that its media times say are missing.
    pub lost: u64,
    /// From a sample's capture on the fastest path to its playout.
    pub delay: Spread,
    /// What that should have been.
    pub target: Spread,
    /// The engine's counters at the end.
    pub stats: StreamStats,
    /// Each second.
    pub seconds: Vec<SimulatedSecond>,
}

impl Simulation {
    /// Share of what was played that was made up, 0 to 1. Silence of the sender does not count.
    pub fn concealed(&self) -> f64 {
        concealed_share(&StreamStats::default(), &self.stats)
    }

    /// For how long sound was made up.
    pub fn concealed_time(&self) -> Duration {
        rate_for(self.packet_time).duration_of(self.stats.concealed)
    }
}

/// Why a trace cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// Blocks of no possible length.
    #[error(
        "blocks of {0:?} cannot be played, only 250 µs to 80 ms; are the trace's media times in \
         nanoseconds? Else say the packet time"
    )]
    PacketTime(Duration),
    /// An output period of no possible length.
    #[error("an output period of {0:?} cannot be had; use 250 µs to 100 ms")]
    OutputPeriod(Duration),
    /// The engine refuses the settings.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Plays a trace as fast as it goes.
///
/// The blocks are silence; what counts is when they come. What is missing in media time is lost,
/// but for steps of more than two seconds: those are pauses. The output's clock is the one that
/// the arrivals were read from. There is no way back to the sender, so nothing is repaired.
///
/// ```
/// use velin_core::playout::{
///     PlayoutDelay, Profile, SimulationSettings, Trace, TracedBlock, simulate,
/// };
///
/// // Ten seconds of 2.5 ms blocks, of which each hundredth is lost.
/// let sent = (0..4_000_u64).filter(|i| i % 100 != 50);
/// let blocks = sent.map(|i| TracedBlock { arrival_ns: i * 2_500_000, media_ns: i * 2_500_000 });
/// let trace = Trace::new(blocks.collect()).unwrap();
///
/// let settings = SimulationSettings::new(PlayoutDelay::Adaptive(Profile::Music));
/// let simulation = simulate(&trace, &settings)?;
/// assert_eq!(simulation.lost, 40);
/// assert!((simulation.concealed() - 0.01).abs() < 0.001);
/// # Ok::<(), velin_core::playout::SimulationError>(())
/// ```
pub fn simulate(
    trace: &Trace,
    settings: &SimulationSettings,
) -> Result<Simulation, SimulationError> {
    let packet_time = settings.packet_time.unwrap_or_else(|| trace.packet_time());
    if !PACKET_TIMES.contains(&packet_time) {
        return Err(SimulationError::PacketTime(packet_time));
    }
    let periods = Duration::from_micros(250)..=Duration::from_millis(100);
    if !periods.contains(&settings.output_period) {
        return Err(SimulationError::OutputPeriod(settings.output_period));
    }
    let rate = rate_for(packet_time);
    let map = ChannelMap::mono();
    // Rounded up: a block of 128 frames at 44.1 kHz is no whole number of ours.
    let frames = (packet_time.as_nanos() * u128::from(rate.hz())).div_ceil(1_000_000_000) as u32;
    let format = StreamFormat {
        coding: SampleFormat::S16Le.into(),
        rate,
        map,
        frames_per_block: frames.max(1),
    };
    let output = OutputFormat { rate, map };
    let (mut receiver, player) = stream(StreamSettings {
        format,
        output,
        delay: settings.delay,
        drift: Drift::Follow,
        repair: RepairWish::Off,
    })?;
    let counters = receiver.counters().clone();
    let mut mixer = Mixer::new(output);
    // Made for this output a line above.
    let _ = mixer.add(player);

    let blocks = number(trace.blocks(), packet_time, rate);
    let mut coming = blocks.iter().peekable();
    let begin = trace.blocks().first().map_or(0, |block| block.arrival_ns);
    let end = trace.length().as_nanos() as u64;
    let mut out = vec![0.0; rate.frames_in(settings.output_period) as usize];
    let (mut delays, mut targets) = (Histogram::default(), Histogram::default());
    let mut seconds = Vec::new();
    let mut last = StreamStats::default();
    let mut rendered = 0;
    loop {
        let now = rate.duration_of(rendered).as_nanos() as u64;
        while let Some(block) = coming.next_if(|block| block.arrival_ns - begin <= now) {
            if block.restart {
                receiver.restart();
            }
            let arrival = MonoTime::from_nanos(EPOCH_NS + (block.arrival_ns - begin));
            receiver.insert(arrival, block.block());
        }
        if now > end {
            break;
        }
        mixer.render(RenderTime { mono: MonoTime::from_nanos(EPOCH_NS + now) }, &mut out);
        rendered += out.len() as u64;
        let stats = counters.snapshot();
        if stats.received > 0 {
            delays.add(stats.delay);
            targets.add(stats.target);
        }
        if now / 1_000_000_000 > seconds.len() as u64 {
            seconds.push(second(&last, &stats));
            last = stats;
        }
    }
    let stats = counters.snapshot();
    // A moment at the end is no second to compare with others.
    if seconds.is_empty() || stats.played - last.played > u64::from(rate.hz()) / 10 {
        seconds.push(second(&last, &stats));
    }
    Ok(Simulation {
        packet_time,
        length: trace.length(),
        blocks: trace.blocks().len() as u64,
        lost: stats.lost,
        delay: delays.spread(),
        target: targets.spread(),
        stats,
        seconds,
    })
}

/// A rate at which a block of mono S16 fits a packet.
fn rate_for(packet_time: Duration) -> SampleRate {
    let fits = SampleRate::HZ_48000.frames_in(packet_time) * 2 < MAX_PAYLOAD as u64;
    let lowest = SampleRate::new(SampleRate::MIN);
    if fits { SampleRate::HZ_48000 } else { lowest.unwrap_or(SampleRate::HZ_48000) }
}

/// A block as the sender numbered it, as far as the media times tell.
struct Numbered {
    arrival_ns: u64,
    index: u32,
    ts: u64,
    frames: u16,
    restart: bool,
    discontinuity: bool,
}

impl Numbered {
    fn block(&self) -> Block<'static> {
        Block {
            index: BlockIndex(self.index),
            ts: FrameIndex(self.ts),
            discontinuity: self.discontinuity,
            repair: false,
            body: Body::Silence { frames: self.frames },
        }
    }
}

/// Gives the blocks, in the order of their arrival, numbers by their media times.
fn number(blocks: &[TracedBlock], packet_time: Duration, rate: SampleRate) -> Vec<Numbered> {
    let packet = packet_time.as_nanos() as u64;
    let frame = |ns: u64| (u128::from(ns) * u128::from(rate.hz()) / 1_000_000_000) as u64;
    // Number and media time of a block that others are counted from.
    let (mut anchor_index, mut anchor) = (0_i64, blocks.first().map_or(0, |b| b.media_ns));
    let (mut highest, mut highest_index) = (anchor, 0_i64);
    // Early ones may be overtaken, so the first is not number 0.
    let first = 1_000;
    let mut base = anchor.saturating_sub(PAUSE_NS);
    let mut numbered = Vec::with_capacity(blocks.len());
    for block in blocks {
        let restart = block.media_ns + PAUSE_NS < highest;
        let pause = block.media_ns > highest + PAUSE_NS;
        if restart {
            (anchor_index, anchor) = (0, block.media_ns);
            base = anchor.saturating_sub(PAUSE_NS);
        } else if pause {
            (anchor_index, anchor) = (highest_index + 1, block.media_ns);
        }
        let step = block.media_ns as i64 - anchor as i64;
        let index = anchor_index + (step + packet as i64 / 2).div_euclid(packet as i64);
        if restart || block.media_ns >= highest {
            (highest, highest_index) = (block.media_ns, index);
        }
        // Blocks too far before the first cannot be told from it; they would be late anyway.
        let Ok(number) = u32::try_from(index + first) else { continue };
        let Some(media) = block.media_ns.checked_sub(base) else { continue };
        let ts = frame(media);
        numbered.push(Numbered {
            arrival_ns: block.arrival_ns,
            index: number,
            ts,
            frames: (frame(media + packet) - ts).max(1) as u16,
            restart,
            discontinuity: restart || pause,
        });
    }
    numbered
}

fn concealed_share(from: &StreamStats, to: &StreamStats) -> f64 {
    let concealed = to.concealed - from.concealed;
    let heard = concealed + to.received - from.received + to.repaired - from.repaired;
    if heard == 0 { 0.0 } else { concealed as f64 / heard as f64 }
}

fn second(from: &StreamStats, to: &StreamStats) -> SimulatedSecond {
    SimulatedSecond { target: to.target, delay: to.delay, concealed: concealed_share(from, to) }
}

/// Steps of 0.1 ms to 3 s.
#[derive(Default)]
struct Histogram {
    counts: Vec<u64>,
    count: u64,
}

const STEP_NS: u128 = 100_000;

impl Histogram {
    fn add(&mut self, time: Duration) {
        let step = ((time.as_nanos() + STEP_NS / 2) / STEP_NS).min(30_000) as usize;
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.count += 1;
    }

    fn spread(&self) -> Spread {
        // The least value that at least `share` of all do not exceed.
        let quantile = |share: f64| {
            let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
            let mut below = 0;
            let place = self.counts.iter().position(|n| {
                below += n;
                below >= wanted
            });
            Duration::from_nanos(place.unwrap_or(0) as u64 * STEP_NS as u64)
        };
        let (least, median, p99) = (quantile(0.0), quantile(0.5), quantile(0.99));
        Spread { least, median, p99, most: quantile(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::*;

    const MS: u64 = 1_000_000;

    /// `seconds` of blocks of `packet` ns that arrive so late; `None` is lost.
    fn trace(seconds: u64, packet: u64, late: impl Fn(u64) -> Option<u64>) -> Trace {
        let blocks = (0..seconds * 1_000 * MS / packet).filter_map(|i| {
            let sent = i * packet;
            Some(TracedBlock { arrival_ns: sent + late(i)?, media_ns: 77 + sent })
        });
        Trace::new(blocks.collect()).unwrap()
    }

    fn music() -> SimulationSettings {
        SimulationSettings::new(PlayoutDelay::Adaptive(Profile::Music))
    }

    #[test]
    fn a_clean_trace_plays_without_a_gap() {
        let simulation = simulate(&trace(30, 2_500_000, |_| Some(0)), &music()).unwrap();
        assert_eq!(simulation.concealed(), 0.0);
        assert_eq!((simulation.lost, simulation.blocks), (0, 12_000));
        assert_eq!(simulation.packet_time, Duration::from_micros(2_500));
        assert_eq!(simulation.seconds.len(), 30);
        assert!(simulation.delay.most < Duration::from_millis(15), "{:?}", simulation.delay);
        assert!(simulation.stats.adds_up());
    }

    #[test]
    fn packets_of_any_length_can_be_played() {
        // 128 frames at 44.1 kHz, and what Opus uses.
        for packet in [250_000, 1_000_000, 2_902_494, 5_000_000, 20_000_000, 60_000_000] {
            let simulation = simulate(&trace(20, packet, |_| Some(0)), &music()).unwrap();
            assert_eq!((simulation.lost, simulation.concealed()), (0, 0.0), "{packet}");
            assert_eq!(simulation.packet_time.as_nanos() as u64, packet);
        }
    }

    #[test]
    fn missing_media_time_is_lost_and_concealed() {
        let lossy = trace(60, 5 * MS, |i| (i % 50 != 20).then_some(0));
        let simulation = simulate(&lossy, &music()).unwrap();
        assert_eq!(simulation.lost, 240);
        assert!((simulation.concealed() - 0.02).abs() < 0.001, "{}", simulation.concealed());
        let shares = &simulation.seconds[2..58];
        assert!(shares.iter().all(|s| (s.concealed - 0.02).abs() < 0.006), "{shares:?}");
    }

    #[test]
    fn jitter_raises_the_target_and_a_fixed_delay_stays() {
        let jittery = trace(60, 5 * MS, |i| Some(i * 7_919 % 20 * MS));
        let simulation = simulate(&jittery, &music()).unwrap();
        let target = simulation.target.median.as_millis();
        assert!((20..35).contains(&target), "{target}");
        let fixed = PlayoutDelay::Fixed(Duration::from_millis(12));
        let simulation = simulate(&jittery, &SimulationSettings::new(fixed)).unwrap();
        assert_eq!(simulation.target.most, Duration::from_millis(12));
        assert!(simulation.concealed() > 0.1, "{}", simulation.concealed());
    }

    #[test]
    fn a_pause_and_a_restart_are_no_losses() {
        let (pause, packet) = (20 * 1_000 * MS, 5 * MS);
        let mut blocks = Vec::new();
        for i in 0..1_000 {
            let sent = i * packet;
            blocks.push(TracedBlock { arrival_ns: sent, media_ns: sent });
            let later = sent + 5_000 * MS + pause;
            blocks.push(TracedBlock { arrival_ns: later, media_ns: later });
            // The sender starts anew.
            blocks.push(TracedBlock { arrival_ns: sent + 30_000 * MS, media_ns: 3 + sent });
        }
        let simulation = simulate(&Trace::new(blocks).unwrap(), &music()).unwrap();
        assert_eq!(simulation.lost, 0);
        let played = simulation.stats.received as f64 / 48_000.0;
        assert!(played > 14.7, "{:?}", simulation.stats);
        assert!(simulation.stats.concealed < 2 * 96_000, "{:?}", simulation.stats);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let slow = trace(10, 500 * MS, |_| Some(0));
        let error = simulate(&slow, &music()).unwrap_err();
        assert_eq!(error, SimulationError::PacketTime(Duration::from_millis(500)));
        let settings = SimulationSettings { output_period: Duration::ZERO, ..music() };
        let clean = trace(1, 5 * MS, |_| Some(0));
        assert!(matches!(simulate(&clean, &settings), Err(SimulationError::OutputPeriod(_))));
        let fixed = PlayoutDelay::Fixed(Duration::from_secs(60));
        let error = simulate(&clean, &SimulationSettings::new(fixed)).unwrap_err();
        assert!(matches!(error, SimulationError::Stream(StreamError::Delay(_))));
    }
}
