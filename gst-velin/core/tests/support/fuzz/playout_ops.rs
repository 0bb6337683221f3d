//! Blocks and renders in any order.

use std::sync::Arc;
use std::time::Duration;

use velin_core::codec::{ChannelMap, MIN_BLOCK_FRAMES, SampleFormat, StreamFormat};
use velin_core::playout::{
    Block, Body, Drift, Mixer, OutputFormat, PlayerId, PlayoutDelay, Profile, ReceiverHalf,
    RenderTime, RepairWish, StreamCounters, StreamSettings, stream,
};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, Channels, FrameIndex, SampleRate};

use super::bytes::Bytes;

/// Actions that are followed.
const MAX_ACTIONS: usize = 200;
/// Streams at a time.
const MAX_STREAMS: usize = 4;

/// The output is filled and finite, and every frame that was played has one cause.
pub fn run(data: &[u8]) {
    let mut data = Bytes::new(data);
    let map = if data.bool() { ChannelMap::stereo() } else { ChannelMap::mono() };
    let channels = map.channels().get();
    let mut mixer = Mixer::new(OutputFormat { rate: SampleRate::HZ_48000, map });
    let mut peers: Vec<Peer> = Vec::new();
    let mut now = 1_000_000_000_u64;
    for _ in 0..MAX_ACTIONS {
        if data.is_empty() {
            break;
        }
        let op = data.u8();
        let count = peers.len();
        if count == 0 || (op & 0x3F == 0 && count < MAX_STREAMS) {
            peers.extend(Peer::join(&mut mixer, &mut data));
        } else {
            let peer = &mut peers[usize::from(op >> 6) % count];
            match op & 0x3F {
                0..24 => peer.packet(&mut data, now),
                24..28 => peer.wild(&mut data, now),
                28..32 => peer.silence(&mut data, now),
                32..36 => peer.set(&mut data),
                36 => peer.rx = None,
                37 => mixer.remove(peer.id),
                38..40 => now += u64::from(data.u32()),
                _ => {
                    let frames = usize::from(data.u16() % 600);
                    let mut out = vec![f32::NAN; frames * channels];
                    let when = RenderTime { mono: MonoTime::from_nanos(now) };
                    let rendered = mixer.render(when, &mut out);
                    assert!(out.iter().all(|x| x.is_finite()), "a hole in the output");
                    assert!(rendered.active <= MAX_STREAMS);
                    now += frames as u64 * 1_000_000 / 48;
                }
            }
        }
        for peer in &peers {
            let stats = peer.counters.snapshot();
            assert!(stats.adds_up(), "{stats:?}");
        }
    }
}

struct Peer {
    rx: Option<ReceiverHalf>,
    id: PlayerId,
    counters: Arc<StreamCounters>,
    format: StreamFormat,
    index: u32,
    ts: u64,
}

impl Peer {
    fn join(mixer: &mut Mixer, data: &mut Bytes<'_>) -> Option<Self> {
        const RATES: [u32; 4] = [8_000, 44_100, 48_000, 192_000];
        let output = mixer.output();
        let how = data.u8();
        let rate = SampleRate::new(RATES[usize::from(how & 3)])?;
        let sample = match how >> 2 & 3 {
            0 | 1 => SampleFormat::F32Le,
            2 => SampleFormat::S24Le,
            _ => SampleFormat::S16Le,
        };
        let map = match how >> 4 & 7 {
            0 | 1 => output.map,
            2 => ChannelMap::mono(),
            3 => ChannelMap::stereo(),
            n => ChannelMap::unpositioned(Channels::new(n)?),
        };
        let delay = match data.u8() {
            0..100 => PlayoutDelay::Adaptive(Profile::Music),
            n => PlayoutDelay::Fixed(Duration::from_millis(2 * u64::from(n - 100))),
        };
        let frames = MIN_BLOCK_FRAMES + u32::from(data.u8());
        let format = StreamFormat { coding: sample.into(), rate, map, frames_per_block: frames };
        // A stream holds its delay in blocks; short ones at a high rate only cost time here.
        if format.block_bytes() > 1152 || format.block_duration() < Duration::from_micros(300) {
            return None;
        }
        let exact = how & 0x80 != 0;
        let drift = if exact { Drift::Exact } else { Drift::Follow };
        let repair = RepairWish::Auto;
        let settings = StreamSettings { format: format.clone(), output, delay, drift, repair };
        let (rx, player) = stream(settings).ok()?;
        let counters = rx.counters().clone();
        let id = mixer.add(player).ok()?;
        Some(Self { rx: Some(rx), id, counters, format, index: 0, ts: 0 })
    }

    /// The next block, or one a little displaced in number, time or length.
    fn packet(&mut self, data: &mut Bytes<'_>, now: u64) {
        let flags = data.u8();
        let frames = u64::from(self.format.frames_per_block);
        let step = match flags & 15 {
            0 => -2,
            1 => 0,
            2 => 2,
            3 => i32::from(data.u8()),
            _ => 1,
        };
        self.index = self.index.saturating_add_signed(step);
        self.ts = self.ts.saturating_add_signed(frames as i64 * i64::from(step));
        let mut length = self.format.block_bytes();
        if flags & 0x30 == 0x30 {
            length = usize::from(data.u8());
        }
        let payload = vec![data.u8(); length];
        self.insert(now + 10_000 * u64::from(data.u8()), flags, Body::Audio(&payload));
    }

    fn wild(&mut self, data: &mut Bytes<'_>, now: u64) {
        let place = (self.index, self.ts);
        (self.index, self.ts) = (data.u32(), data.u64());
        let flags = data.u8();
        self.insert(now, flags, Body::Silence { frames: 100 });
        if flags & 1 == 0 {
            (self.index, self.ts) = place;
        }
    }

    fn silence(&mut self, data: &mut Bytes<'_>, now: u64) {
        let frames = data.u16();
        self.index = self.index.saturating_add(1);
        self.insert(now, 0xF0, Body::Silence { frames });
        self.ts = self.ts.saturating_add(u64::from(frames));
    }

    fn insert(&mut self, now: u64, flags: u8, body: Body<'_>) {
        let block = Block {
            index: BlockIndex(self.index),
            ts: FrameIndex(self.ts),
            discontinuity: flags & 0xC0 == 0xC0 && flags & 8 != 0,
            repair: flags & 0xC0 == 0x80,
            body,
        };
        if let Some(rx) = &mut self.rx {
            let before = self.counters.snapshot();
            rx.insert(MonoTime::from_nanos(now), block);
            let after = self.counters.snapshot();
            let named = |s: velin_core::playout::StreamStats| {
                s.blocks + s.duplicate + s.malformed + s.overrun + s.late
            };
            assert_eq!(named(after), named(before) + 1, "one block, one fate: {after:?}");
        }
    }

    fn set(&mut self, data: &mut Bytes<'_>) {
        if let Some(rx) = &self.rx {
            rx.controls().set_volume(f32::from_bits(data.u32()));
            rx.controls().set_mute(data.bool());
            rx.controls().set_pan(f32::from(data.u8()) / 64.0 - 2.0);
            rx.controls().set_solo(data.bool());
        }
    }
}
