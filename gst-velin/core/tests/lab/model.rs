//! The real engine between three clocks and a network, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat, encode_into};
use velin_core::playout::{
    Block, Body, Drift, Insert, Mixer, OutputFormat, PlayoutDelay, Profile, ReceiverHalf,
    RenderTime, RepairWish, StreamCounters, StreamSettings, StreamStats, stream,
};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex, SampleRate};

use crate::clocks::{Clock, S, True};
use crate::ears::Ear;
use crate::measure::Distribution;
use crate::network::Way;

/// The host's clock shows this at the beginning, so that no time is negative.
const EPOCH: i64 = 100 * S;
/// What a block costs on an Ethernet cable besides its payload: 32 bytes of ours, 28 of UDP and
/// IP, 38 of Ethernet.
const OVERHEAD: u64 = 98;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sound {
    /// Silence, and one block with a single hump every so many blocks: the sample-free model,
    /// where each hump tells how old what is heard really is.
    Humps(u64),
    /// A sawtooth so slow that each heard sample tells which frame of the stream it was.
    Saw,
    /// A sine of so many Hz.
    Tone(f64),
}

/// Frames in a period of [`Sound::Saw`].
pub const SAW: u64 = 1 << 16;
/// Amplitude of [`Sound::Saw`] and [`Sound::Tone`].
pub const LOUD: f64 = 0.5;

impl Sound {
    pub fn at(self, frame: u64) -> f32 {
        (match self {
            Self::Humps(_) => 0.0,
            Self::Saw => LOUD * (2.0 * ((frame % SAW) as f64 + 0.5) / SAW as f64 - 1.0),
            Self::Tone(hz) => {
                LOUD * (std::f64::consts::TAU * (hz / 48_000.0 * frame as f64).fract()).sin()
            }
        }) as f32
    }
}

/// What the sender does besides sending block after block; times in seconds of its own clock.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// Sends nothing; its media time goes on, its block numbers do not.
    Nothing { from: f64, to: f64 },
    /// Sends silence.
    Mute { from: f64, to: f64 },
    /// Numbers blocks and frames anew.
    Restart { at: f64 },
    /// Its media time jumps by so many frames.
    Step { at: f64, frames: i64 },
}

/// One sender, one path, one output.
pub struct Scenario {
    pub format: StreamFormat,
    pub output: OutputFormat,
    pub delay: PlayoutDelay,
    pub drift: Drift,
    pub repair: RepairWish,
    /// Output period in frames.
    pub period: usize,
    pub sound: Sound,
    pub turns: Vec<Turn>,
    pub sender: Clock,
    pub host: Clock,
    pub out: Clock,
    pub way: Way,
    /// The receiving machine is off between these true times, in seconds.
    pub asleep: Option<(f64, f64)>,
    pub seconds: f64,
    /// Figures are taken from here on, in seconds.
    pub warm_up: f64,
}

impl Scenario {
    /// What a user gets who says nothing, for so long: S16 stereo in 2.5 ms blocks over a cable.
    pub fn defaults(seconds: f64) -> Self {
        let rate = SampleRate::HZ_48000;
        let map = ChannelMap::stereo();
        Self {
            format: StreamFormat { sample: SampleFormat::S16Le, rate, map, frames_per_block: 120 },
            output: OutputFormat { rate, map },
            delay: PlayoutDelay::Adaptive(Profile::Music),
            drift: Drift::Follow,
            repair: RepairWish::Auto,
            period: 48,
            sound: Sound::Humps(400),
            turns: vec![],
            sender: Clock::exact(),
            host: Clock::exact(),
            out: Clock::exact(),
            way: Way::wired(1),
            asleep: None,
            seconds,
            warm_up: 10.0,
        }
    }

    /// Mono, with the long blocks and periods that make a virtual day short.
    pub fn long(seconds: f64) -> Self {
        let mut scenario = Self::defaults(seconds);
        scenario.format.map = ChannelMap::mono();
        scenario.format.frames_per_block = 480;
        scenario.output.map = ChannelMap::mono();
        scenario.period = 480;
        scenario.sound = Sound::Humps(100);
        scenario
    }

    /// Mono floats that the ear can tell from each other.
    pub fn audible(seconds: f64, sound: Sound) -> Self {
        let mut scenario = Self::defaults(seconds);
        scenario.format.sample = SampleFormat::F32Le;
        scenario.format.map = ChannelMap::mono();
        scenario.output.map = ChannelMap::mono();
        scenario.sound = sound;
        scenario
    }

    pub fn run(self) -> Outcome {
        let (outcome, _) = self.listen(());
        outcome
    }

    /// Runs and lets `ear` hear every sample.
    pub fn listen<E: Ear>(self, ear: E) -> (Outcome, E) {
        let mut run = Run::new(self, ear);
        run.go();
        run.end()
    }
}

/// One second of a run.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    pub stats: StreamStats,
    /// Nobody was listening in the middle of this one.
    pub at: True,
}

/// What came of it.
pub struct Outcome {
    pub stats: StreamStats,
    /// As the figures begin.
    pub warm: StreamStats,
    /// Delay and target as the engine says, each period after the warm-up, ns.
    pub delay: Distribution,
    pub target: Distribution,
    /// Delay − target, its squares added up, ns².
    error_squares: f64,
    pub error_most: i64,
    pub seconds: Vec<Second>,
    /// When a hump was heard, and how long after its capture, ns.
    pub ages: Vec<(True, i64)>,
    /// Payload and headers of blocks on the cable, repairs included.
    pub bytes: u64,
    pub sent: u64,
    pub length: f64,
}

impl Outcome {
    /// Concealed frames after the warm-up.
    pub fn concealed(&self) -> u64 {
        self.stats.concealed - self.warm.concealed
    }

    /// Share of concealed frames after the warm-up.
    pub fn concealed_share(&self) -> f64 {
        self.concealed() as f64 / (self.stats.played - self.warm.played).max(1) as f64
    }

    pub fn concealed_ms(&self) -> f64 {
        self.concealed() as f64 / 48.0
    }

    pub fn reanchors(&self) -> u64 {
        self.stats.reanchors - self.warm.reanchors
    }

    /// Root mean square of delay − target, µs.
    pub fn error_rms_us(&self) -> f64 {
        (self.error_squares / self.delay.count().max(1) as f64).sqrt() / 1e3
    }

    /// True ages of humps heard after `from` seconds.
    pub fn ages_after(&self, from: f64) -> Distribution {
        let mut ages = Distribution::default();
        let late = self.ages.iter().filter(|(at, _)| *at as f64 > from * 1e9);
        late.for_each(|(_, age)| ages.add(*age));
        ages
    }

    pub fn kilobytes_per_s(&self) -> f64 {
        self.bytes as f64 / 1e3 / self.length
    }
}

/// A block on its way.
struct OnTheWay {
    index: u32,
    ts: u64,
    frames: u64,
    discontinuity: bool,
    repair: bool,
    /// `None`: silence.
    payload: Option<Arc<[u8]>>,
}

struct Run<E> {
    s: Scenario,
    ear: E,
    rx: ReceiverHalf,
    counters: Arc<StreamCounters>,
    mixer: Mixer,
    /// By arrival; the second number keeps the order.
    coming: BinaryHeap<Reverse<(True, u64)>>,
    blocks: std::collections::HashMap<u64, OnTheWay>,
    ticket: u64,
    /// Frames captured since the beginning, whatever the stream calls them.
    captured: u64,
    index: u32,
    /// Frame index in the stream less frames captured.
    shift: i64,
    discontinuity: bool,
    restarted: bool,
    stepped: bool,
    tally: Tally,
    humps: Humps,
    rendered: u64,
    warm: Option<StreamStats>,
    outcome: Outcome,
}

/// What insert said, to hold against the counters.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    duplicate: u64,
    late: u64,
    malformed: u64,
    overrun: u64,
    arrived: std::collections::HashSet<u32>,
}

impl<E: Ear> Run<E> {
    fn new(s: Scenario, ear: E) -> Self {
        let settings = StreamSettings {
            format: s.format.clone(),
            output: s.output,
            delay: s.delay,
            drift: s.drift,
            repair: s.repair,
        };
        let (rx, player) = stream(settings).unwrap();
        let mut mixer = Mixer::new(s.output);
        mixer.add(player).unwrap();
        let outcome = Outcome {
            stats: StreamStats::default(),
            warm: StreamStats::default(),
            delay: Distribution::default(),
            target: Distribution::default(),
            error_squares: 0.0,
            error_most: 0,
            seconds: vec![],
            ages: vec![],
            bytes: 0,
            sent: 0,
            length: s.seconds,
        };
        Self {
            counters: Arc::clone(rx.counters()),
            rx,
            mixer,
            ear,
            coming: BinaryHeap::new(),
            blocks: std::collections::HashMap::new(),
            ticket: 0,
            captured: 0,
            index: 0,
            shift: 0,
            discontinuity: false,
            restarted: false,
            stepped: false,
            tally: Tally::default(),
            humps: Humps::default(),
            rendered: 0,
            warm: None,
            outcome,
            s,
        }
    }

    fn go(&mut self) {
        let channels = self.s.output.map.channels().get();
        let mut out = vec![0.0; self.s.period * channels];
        let end = (self.s.seconds * 1e9) as True;
        let mut send_at = self.next_send();
        loop {
            let due = self.s.out.true_at(self.nanos_out(self.rendered));
            if due >= end {
                break;
            }
            while send_at <= due {
                self.send(send_at);
                send_at = self.next_send();
            }
            self.deliver(due);
            let mono = MonoTime::from_nanos((EPOCH + self.s.host.shown_at(due)) as u64);
            self.mixer.render(RenderTime { mono }, &mut out);
            self.hear(due, &out, channels);
            self.rendered += self.s.period as u64;
            self.note(due);
        }
    }

    fn nanos_out(&self, frames: u64) -> i64 {
        self.s.output.rate.duration_of(frames).as_nanos() as i64
    }

    fn nanos_in(&self, frames: u64) -> i64 {
        self.s.format.rate.duration_of(frames).as_nanos() as i64
    }

    fn next_send(&mut self) -> True {
        let full = self.captured + u64::from(self.s.format.frames_per_block);
        let full = self.nanos_in(full);
        self.s.sender.true_at(full)
    }

    /// Sends the block that is full now.
    fn send(&mut self, now: True) {
        let frames = u64::from(self.s.format.frames_per_block);
        let first = self.captured;
        self.captured += frames;
        let time = self.nanos_in(first) as f64 / 1e9;
        let within = |from: f64, to: f64| (from..to).contains(&time);
        let mut muted = false;
        for turn in self.s.turns.clone() {
            match turn {
                Turn::Nothing { from, to } if within(from, to) => {
                    self.discontinuity = true;
                    return;
                }
                Turn::Mute { from, to } => muted |= within(from, to),
                Turn::Restart { at } if time >= at && !self.restarted => {
                    self.restarted = true;
                    self.discontinuity = true;
                    self.index = 0;
                    self.shift = -(first as i64);
                    self.tally.arrived.clear();
                    self.rx.restart();
                }
                Turn::Step { at, frames } if time >= at && !self.stepped => {
                    self.stepped = true;
                    self.discontinuity = true;
                    self.shift += frames;
                }
                _ => {}
            }
        }
        let ts = first.checked_add_signed(self.shift).unwrap();
        let payload = if muted { None } else { self.payload(first, now) };
        let block = OnTheWay {
            index: self.index,
            ts,
            frames,
            discontinuity: std::mem::take(&mut self.discontinuity),
            repair: false,
            payload,
        };
        self.index += 1;
        self.outcome.sent += 1;
        self.outcome.bytes += self.s.format.block_bytes() as u64 + OVERHEAD;
        for arrival in self.s.way.send(now).into_iter().flatten() {
            let copy = OnTheWay { payload: block.payload.clone(), ..block };
            self.ticket += 1;
            self.coming.push(Reverse((arrival, self.ticket)));
            self.blocks.insert(self.ticket, copy);
        }
    }

    fn payload(&mut self, first: u64, full: True) -> Option<Arc<[u8]>> {
        let frames = u64::from(self.s.format.frames_per_block);
        let channels = self.s.format.channels().get();
        let sample: Box<dyn Fn(u64) -> f32> = match self.s.sound {
            Sound::Humps(every) if (first / frames).is_multiple_of(every) => {
                let ppm = 1.0 + self.s.sender.error_ppm() * 1e-6;
                let half =
                    (frames as f64 / 2.0 * 1e9 / f64::from(self.s.format.rate.hz()) / ppm) as i64;
                self.humps.sent.push(full - half);
                Box::new(move |i| {
                    let phase = (i as f64 + 0.5) / frames as f64;
                    (0.25 - 0.25 * (std::f64::consts::TAU * phase).cos()) as f32
                })
            }
            Sound::Humps(_) => return None,
            sound => Box::new(move |i| sound.at(first + i)),
        };
        let samples: Vec<f32> =
            (0..frames).flat_map(|i| std::iter::repeat_n(sample(i), channels)).collect();
        let mut payload = vec![0; samples.len() * self.s.format.sample.bytes()];
        encode_into(self.s.format.sample, &samples, &mut payload);
        Some(payload.into())
    }

    /// Inserts what arrives up to `now`.
    fn deliver(&mut self, now: True) {
        while let Some(Reverse((arrival, ticket))) = self.coming.peek().copied() {
            if arrival > now {
                return;
            }
            self.coming.pop();
            let Some(block) = self.blocks.remove(&ticket) else { continue };
            let off = self
                .s
                .asleep
                .is_some_and(|(from, to)| (from..to).contains(&(arrival as f64 / 1e9)));
            if !off {
                self.insert(arrival, &block);
            }
        }
    }

    fn insert(&mut self, arrival: True, block: &OnTheWay) {
        let body = match &block.payload {
            Some(payload) => Body::Pcm(payload),
            None => Body::Silence { frames: block.frames as u16 },
        };
        let host = EPOCH + self.s.host.shown_at(arrival);
        let inserted = self.rx.insert(
            MonoTime::from_nanos(host as u64),
            Block {
                index: BlockIndex(block.index),
                ts: FrameIndex(block.ts),
                discontinuity: block.discontinuity,
                repair: block.repair,
                body,
            },
        );
        // The longest runs do without: they have neither loss nor copies.
        if self.s.seconds < 4_000.0 {
            self.tally.arrived.insert(block.index);
        }
        let count = match inserted {
            Insert::Accepted => &mut self.tally.accepted,
            Insert::Duplicate => &mut self.tally.duplicate,
            Insert::TooLate => &mut self.tally.late,
            Insert::Malformed => &mut self.tally.malformed,
            Insert::Overrun => &mut self.tally.overrun,
        };
        *count += 1;
    }

    fn hear(&mut self, due: True, out: &[f32], channels: usize) {
        let step = 1e9 / f64::from(self.s.output.rate.hz()) / (1.0 + self.s.out.error_ppm() * 1e-6);
        if let Sound::Humps(_) = self.s.sound {
            self.humps.hear(due, step, out, channels, &mut self.outcome.ages);
        }
        self.ear.hear(due, step, out);
    }

    /// Takes the figures after a period.
    fn note(&mut self, now: True) {
        let stats = self.counters.snapshot();
        assert!(stats.adds_up(), "{stats:?}");
        assert_eq!(stats.played, self.rendered, "{stats:?}");
        self.ear.note(now, &stats);
        if now / S >= self.outcome.seconds.len() as i64 {
            self.outcome.seconds.push(Second { stats, at: now });
        }
        if (now as f64) < self.s.warm_up * 1e9 {
            return;
        }
        self.warm.get_or_insert(stats);
        let (delay, target) = (stats.delay.as_nanos() as i64, stats.target.as_nanos() as i64);
        self.outcome.delay.add(delay);
        self.outcome.target.add(target);
        self.outcome.error_squares += ((delay - target) as f64).powi(2);
        self.outcome.error_most = self.outcome.error_most.max((delay - target).abs());
    }

    fn end(mut self) -> (Outcome, E) {
        let stats = self.counters.snapshot();
        let tally = &self.tally;
        assert_eq!(stats.blocks, tally.accepted, "{stats:?} {tally:?}");
        assert_eq!(stats.duplicate, tally.duplicate, "{stats:?}");
        assert_eq!(stats.malformed + tally.malformed, 0, "{stats:?}");
        assert_eq!(stats.overrun, tally.overrun, "{stats:?}");
        // The player too finds blocks late.
        assert!(stats.late >= tally.late, "{stats:?}");
        if self.s.seconds < 4_000.0 && !self.restarted {
            let first = tally.arrived.iter().min().copied().unwrap_or(0);
            let last = tally.arrived.iter().max().copied().unwrap_or(0);
            let missing = u64::from(last - first) + 1 - tally.arrived.len() as u64;
            assert_eq!(stats.lost, missing, "{stats:?}");
        }
        self.outcome.stats = stats;
        self.outcome.warm = self.warm.unwrap_or(stats);
        (self.outcome, self.ear)
    }
}

/// Finds humps in what is heard and says how old they are.
#[derive(Default)]
struct Humps {
    /// True capture times of the middles of those sent.
    sent: Vec<True>,
    /// Weight, weight × time since `begin`, and when the last loud sample was.
    weight: f64,
    moment: f64,
    begin: True,
    quiet: u32,
}

impl Humps {
    fn hear(
        &mut self,
        due: True,
        step: f64,
        out: &[f32],
        channels: usize,
        ages: &mut Vec<(True, i64)>,
    ) {
        if out.iter().all(|x| *x == 0.0) {
            self.quiet += 1;
            // Long enough that the resampler has rung out.
            if self.weight > 0.0 && self.quiet as f64 * step * out.len() as f64 > 5e6 {
                self.close(ages);
            }
            return;
        }
        self.quiet = 0;
        if self.weight == 0.0 {
            self.begin = due;
        }
        for (i, frame) in out.chunks_exact(channels).enumerate() {
            let x = f64::from(frame[0]);
            self.weight += x;
            self.moment += x * ((due - self.begin) as f64 + i as f64 * step);
        }
    }

    fn close(&mut self, ages: &mut Vec<(True, i64)>) {
        let middle = self.begin + (self.moment / self.weight) as i64;
        self.weight = 0.0;
        self.moment = 0.0;
        let before = self.sent.partition_point(|at| *at < middle);
        if let Some(captured) = before.checked_sub(1).map(|i| self.sent[i]) {
            ages.push((middle, middle - captured));
        }
        // Older ones will not come any more.
        self.sent.drain(..before.saturating_sub(1));
    }
}
