//! The real engine between three clocks and a network, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat, encode_into};
use velin_core::playout::{
    Block, Body, Drift, Insert, Mixer, OutputFormat, PlayoutDelay, Profile, ReceiverHalf,
    RenderTime, RepairWish, StreamCounters, StreamSettings, StreamStats, stream,
};
use velin_core::resend::{Answerer, Budget, HistoryWriter, history};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex, SampleRate};
use velin_core::wire::{AudioFlags, AudioHeader, MAX_NACK_LEN, Nack};

use crate::clocks::{Clock, S, True};
use crate::ears::Ear;
use crate::measure::Distribution;
use crate::network::Way;

/// The host's clock shows this at the beginning, so that no time is negative.
const EPOCH: i64 = 100 * S;
/// What a packet costs on a cable besides its payload: 32 bytes of ours, 28 of UDP and IPv4, 18 of
/// Ethernet.
const OVERHEAD: u64 = 78;
/// Runs of so many seconds have neither loss nor copies, and the laboratory does not count them.
const LONG: f64 = 4_000.0;
/// The sender keeps a second to send again.
const KEPT: Duration = Duration::from_secs(1);

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
            format: StreamFormat {
                coding: SampleFormat::S16Le.into(),
                rate,
                map,
                frames_per_block: 120,
            },
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
        scenario.format.coding = SampleFormat::F32Le.into();
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
    /// Humps sent.
    pub humps: u64,
    /// When a hump was heard, and how long after its capture, ns.
    pub ages: Vec<(True, i64)>,
    /// Payload and headers of blocks on the cable, repairs included.
    pub bytes: u64,
    pub sent: u64,
    /// Requests for missing blocks, as packets.
    pub requests: u64,
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

/// What is to happen.
enum What {
    Arrival(OnTheWay),
    /// A request reaches the sender.
    Request(Nack),
    /// The receiver may want to ask.
    Poll,
}

/// A block on its way.
#[derive(Clone)]
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
    /// What is to happen, by its time; the second number keeps the order.
    coming: BinaryHeap<Reverse<(True, u64)>>,
    whats: HashMap<u64, What>,
    /// The way back, and what the sender keeps to send again; without loss nothing.
    back: Way,
    repairs: bool,
    history: HistoryWriter,
    answerer: Answerer,
    kept: VecDeque<OnTheWay>,
    /// The earliest poll that is planned.
    polled: True,
    rtt: Duration,
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
    arrived: HashSet<u32>,
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
        let (mut rx, player) = stream(settings).unwrap();
        let rtt = Duration::from_nanos(2 * s.way.mean() as u64);
        rx.set_rtt(rtt);
        let (history, kept) = history(s.format.block_bytes(), s.format.block_duration());
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
            humps: 0,
            ages: vec![],
            bytes: 0,
            sent: 0,
            requests: 0,
            length: s.seconds,
        };
        Self {
            counters: Arc::clone(rx.counters()),
            rx,
            mixer,
            ear,
            coming: BinaryHeap::new(),
            whats: HashMap::new(),
            back: s.way.back(),
            repairs: !s.way.losses.is_empty() || s.seconds < LONG,
            history,
            answerer: Answerer::new(kept, Budget::Lan),
            kept: VecDeque::new(),
            polled: 0,
            rtt,
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
        loop {
            let due = self.s.out.true_at(self.nanos_out(self.rendered));
            if due >= end {
                break;
            }
            self.go_on_until(due);
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
        let arrivals = self.s.way.send(now);
        for arrival in arrivals.into_iter().flatten() {
            self.at(arrival, What::Arrival(block.clone()));
        }
        if self.repairs {
            self.send_copies(&block, arrivals[0]);
            self.keep(block);
        }
    }

    /// Older blocks that travel in the same packet once more.
    fn send_copies(&mut self, block: &OnTheWay, arrival: Option<True>) {
        for distance in self.rx.copies().distances() {
            let wanted = block.index.checked_sub(*distance);
            let copy = self.kept.iter().rev().find(|kept| Some(kept.index) == wanted);
            let Some(copy) = copy.cloned() else { continue };
            self.outcome.bytes += self.s.format.block_bytes() as u64;
            if let Some(arrival) = arrival {
                self.at(arrival, What::Arrival(OnTheWay { repair: true, ..copy }));
            }
        }
    }

    fn keep(&mut self, block: OnTheWay) {
        let header = AudioHeader {
            flags: AudioFlags::NONE,
            block: BlockIndex(block.index),
            ts: FrameIndex(block.ts),
        };
        // Silence is sound here: the budget is a share of what sound costs.
        self.history.push(&header, &vec![0; self.s.format.block_bytes()]);
        self.kept.push_back(block);
        let most = KEPT.as_nanos() / self.s.format.block_duration().as_nanos();
        if self.kept.len() > most as usize {
            self.kept.pop_front();
        }
    }

    /// A request has reached the sender.
    fn answer(&mut self, now: True, nack: &Nack) {
        let mut again = vec![];
        let mono = MonoTime::from_nanos((EPOCH + now) as u64);
        self.answerer.answer(mono, self.rtt, nack.blocks(), |header, length, _| {
            again.push((header.block.0, length));
        });
        for (index, length) in again {
            self.outcome.bytes += length as u64 + OVERHEAD;
            let Some(kept) = self.kept.iter().rev().find(|kept| kept.index == index) else {
                continue;
            };
            let block = OnTheWay { repair: true, ..kept.clone() };
            for arrival in self.s.way.send(now).into_iter().flatten() {
                self.at(arrival, What::Arrival(block.clone()));
            }
        }
    }

    /// Lets the receiver ask for what it misses.
    fn poll(&mut self, now: True) {
        if !self.repairs {
            return;
        }
        let host = EPOCH + self.s.host.shown_at(now);
        while let Some(request) = self.rx.poll_nack(MonoTime::from_nanos(host as u64)) {
            let length = request.nack.encode(&mut [0; MAX_NACK_LEN]);
            for _ in 0..1 + usize::from(request.twice) {
                self.outcome.bytes += length as u64 + OVERHEAD;
                self.outcome.requests += 1;
                for arrival in self.back.send(now).into_iter().flatten() {
                    self.at(arrival, What::Request(request.nack));
                }
            }
        }
        let Some(next) = self.rx.next_nack() else { return };
        // A little early by the host's clock, whose error may be anything: then once more.
        let wait = (next.as_nanos() as i64 - host).max(1_000);
        let next = now + wait - wait / 1_000;
        if self.polled <= now || next < self.polled {
            self.polled = next;
            self.at(next, What::Poll);
        }
    }

    fn at(&mut self, time: True, what: What) {
        self.ticket += 1;
        self.coming.push(Reverse((time, self.ticket)));
        self.whats.insert(self.ticket, what);
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
                self.outcome.humps += 1;
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
        let sample = self.s.format.coding.sample().expect("PCM");
        let mut payload = vec![0; samples.len() * sample.bytes()];
        encode_into(sample, &samples, &mut payload);
        Some(payload.into())
    }

    /// Whatever happens up to `until`, in its order.
    fn go_on_until(&mut self, until: True) {
        loop {
            let send_at = self.next_send();
            let next = self.coming.peek().map(|Reverse(next)| *next);
            let Some((now, ticket)) = next.filter(|(at, _)| *at < send_at) else {
                if send_at > until {
                    return;
                }
                self.send(send_at);
                continue;
            };
            if now > until {
                return;
            }
            self.coming.pop();
            match self.whats.remove(&ticket) {
                Some(What::Arrival(block)) => {
                    let s = now as f64 / 1e9;
                    if self.s.asleep.is_none_or(|(from, to)| !(from..to).contains(&s)) {
                        self.insert(now, &block);
                        self.poll(now);
                    }
                }
                Some(What::Request(nack)) => self.answer(now, &nack),
                Some(What::Poll) => self.poll(now),
                None => {}
            }
        }
    }

    fn insert(&mut self, arrival: True, block: &OnTheWay) {
        let body = match &block.payload {
            Some(payload) => Body::Audio(payload),
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
        if self.s.seconds < LONG {
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
        if self.s.seconds < LONG && !self.restarted {
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
        // As bits, so that it is fast; the sign of a zero does not matter.
        if out.iter().fold(0, |all, x| all | x.to_bits()) << 1 == 0 {
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
