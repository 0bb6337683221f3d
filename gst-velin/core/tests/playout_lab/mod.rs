//! A sender, a network and an output in virtual time.
// Each test file uses its part of it.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;

use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat, encode_into};
use velin_core::playout::{
    Block, Body, Drift, Insert, Mixer, OutputFormat, PlayerId, PlayoutDelay, Profile, ReceiverHalf,
    RenderTime, RepairWish, StreamCounters, StreamSettings, StreamStats, stream,
};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex, SampleRate};

pub const MS: u64 = 1_000_000;

/// What a user gets who says nothing.
pub const AUTO: PlayoutDelay = PlayoutDelay::Adaptive(Profile::Music);

pub fn rate(hz: u32) -> SampleRate {
    SampleRate::new(hz).unwrap()
}

pub fn output(hz: u32, map: ChannelMap) -> OutputFormat {
    OutputFormat { rate: rate(hz), map }
}

/// 2.5 ms blocks of S16 at 48 kHz.
pub fn s16(map: ChannelMap) -> StreamFormat {
    StreamFormat {
        coding: SampleFormat::S16Le.into(),
        rate: rate(48_000),
        map,
        frames_per_block: 120,
    }
}

/// 2.5 ms blocks of F32 mono at 48 kHz.
pub fn f32_mono() -> StreamFormat {
    StreamFormat { coding: SampleFormat::F32Le.into(), ..s16(ChannelMap::mono()) }
}

pub fn auto(format: &StreamFormat, output: OutputFormat) -> StreamSettings {
    StreamSettings {
        format: format.clone(),
        output,
        delay: AUTO,
        drift: Drift::Follow,
        repair: RepairWish::Auto,
    }
}

/// The same with every frame left as it is.
pub fn plain(format: &StreamFormat, output: OutputFormat) -> StreamSettings {
    StreamSettings { drift: Drift::Ignore, ..auto(format, output) }
}

/// A small generator (splitmix64): every run of a test sees the same network.
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A block on its way.
#[derive(Clone)]
pub struct Packet {
    pub arrival: u64,
    pub index: u32,
    pub ts: u64,
    pub discontinuity: bool,
    pub repair: bool,
    pub payload: Vec<u8>,
    /// Frames of silence instead of the payload.
    pub silence: u16,
}

/// The packets of `samples`, sent when each block is full, at a path delay of zero.
pub fn packets(format: &StreamFormat, samples: &[f32]) -> Vec<Packet> {
    let block = format.frames_per_block as usize * format.channels().get();
    let sample = format.coding.sample().expect("PCM");
    let each = |(i, samples): (usize, &[f32])| {
        let mut payload = vec![0; samples.len() * sample.bytes()];
        encode_into(sample, samples, &mut payload);
        let ts = i as u64 * u64::from(format.frames_per_block);
        let end = ts + u64::from(format.frames_per_block);
        Packet {
            arrival: format.rate.duration_of(end).as_nanos() as u64,
            index: i as u32,
            ts,
            discontinuity: false,
            repair: false,
            payload,
            silence: 0,
        }
    };
    samples.chunks_exact(block).enumerate().map(each).collect()
}

/// One sender and what is on its way.
pub struct Sender {
    pub rx: Option<ReceiverHalf>,
    pub id: PlayerId,
    pub counters: Arc<StreamCounters>,
    pub packets: Vec<Packet>,
    pub at: usize,
    pub results: Vec<Insert>,
    joined: u64,
}

impl Sender {
    pub fn stats(&self) -> StreamStats {
        self.counters.snapshot()
    }
}

/// One output and its senders.
pub struct Lab {
    pub mixer: Mixer,
    pub senders: Vec<Sender>,
    pub period: usize,
    /// When the first frame is due.
    pub start: u64,
    pub frames: u64,
    pub out: Vec<f32>,
    pub active: usize,
}

impl Lab {
    pub fn new(output: OutputFormat, period: usize) -> Self {
        Self {
            mixer: Mixer::new(output),
            senders: vec![],
            period,
            start: 0,
            frames: 0,
            out: vec![],
            active: 0,
        }
    }

    /// Lets a sender join whose packets arrive in the order of their times.
    pub fn join(&mut self, settings: StreamSettings, mut packets: Vec<Packet>) -> usize {
        packets.sort_by_key(|p| p.arrival);
        let (rx, player) = stream(settings).unwrap();
        let counters = Arc::clone(rx.counters());
        let id = self.mixer.add(player).unwrap();
        let joined = self.frames;
        let rx = Some(rx);
        self.senders.push(Sender { rx, id, counters, packets, at: 0, results: vec![], joined });
        self.senders.len() - 1
    }

    pub fn now(&self) -> u64 {
        self.start + self.mixer.output().rate.duration_of(self.frames).as_nanos() as u64
    }

    /// Renders up to `until` (ns); each period hears what arrived before it was due.
    pub fn run(&mut self, until: u64) {
        let channels = self.mixer.output().map.channels().get();
        while self.now() < until {
            let now = self.now();
            for sender in &mut self.senders {
                while let Some(p) = sender.packets.get(sender.at).filter(|p| p.arrival <= now) {
                    sender.at += 1;
                    let body = match p.silence {
                        0 => Body::Audio(&p.payload),
                        frames => Body::Silence { frames },
                    };
                    let block = Block {
                        index: BlockIndex(p.index),
                        ts: FrameIndex(p.ts),
                        discontinuity: p.discontinuity,
                        repair: p.repair,
                        body,
                    };
                    if let Some(rx) = &mut sender.rx {
                        sender.results.push(rx.insert(MonoTime::from_nanos(p.arrival), block));
                    }
                }
            }
            let from = self.out.len();
            self.out.resize(from + self.period * channels, f32::NAN);
            let when = RenderTime { mono: MonoTime::from_nanos(now) };
            self.active = self.mixer.render(when, &mut self.out[from..]).active;
            self.frames += self.period as u64;
        }
        assert!(self.out.iter().all(|x| x.is_finite()), "every sample is written and finite");
        self.assert_adds_up();
    }

    /// Every frame since a sender joined has one cause.
    pub fn assert_adds_up(&self) {
        for sender in &self.senders {
            let stats = sender.stats();
            assert!(stats.adds_up(), "{stats:?}");
            if sender.rx.is_some() {
                assert_eq!(stats.played, self.frames - sender.joined, "{stats:?}");
            }
        }
    }
}

/// A sine of `frames` mono frames, amplitude 0.5.
pub fn sine(hz: f64, rate: u32, frames: usize) -> Vec<f32> {
    let step = std::f64::consts::TAU * hz / f64::from(rate);
    (0..frames).map(|i| (0.5 * (step * i as f64).sin()) as f32).collect()
}

/// Where consecutive samples differ by more than `most`.
pub fn clicks(out: &[f32], most: f32) -> Vec<(usize, f32, f32)> {
    let pairs = out.windows(2).enumerate();
    pairs.filter(|(_, w)| (w[0] - w[1]).abs() > most).map(|(i, w)| (i, w[0], w[1])).collect()
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
