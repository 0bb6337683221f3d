//! Blocks of an Opus stream that hold anything, some of them missing, and their playout.

use velin_core::codec::opus::{LookAhead, OPUS_RATE, OpusFormat, OpusFrameSize, packet_frames};
use velin_core::playout::{
    Block, Body, Drift, Insert, MAX_PAYLOAD, Mixer, OutputFormat, PlayoutDelay, RenderTime,
    RepairWish, StreamSettings, stream,
};
use velin_core::time::MonoTime;
use velin_core::units::{BitRate, BlockIndex, Channels, FrameIndex};

use super::bytes::Bytes;

/// Blocks that are played, at most.
const MAX_BLOCKS: u32 = 60;

/// The first byte chooses the stream's shape; then, block by block, whether it comes and what its
/// payload is. The output is filled, finite and not beyond all measure, and every block has one fate.
pub fn run(data: &[u8]) {
    let mut data = Bytes::new(data);
    let shape = data.u8();
    let size = OpusFrameSize::ALL[usize::from(shape & 7) % 6];
    let channels = if shape & 8 == 0 { Channels::MONO } else { Channels::STEREO };
    let opus = OpusFormat { bit_rate: BitRate::DEFAULT, look_ahead: LookAhead::USUAL };
    let format = opus.stream(channels, size).expect("a legal shape");
    let output = OutputFormat { rate: OPUS_RATE, map: format.map };
    let (rx, player) = stream(StreamSettings {
        format: format.clone(),
        output,
        delay: PlayoutDelay::Fixed(format.block_duration() * 2),
        drift: Drift::Ignore,
        repair: RepairWish::Off,
    })
    .expect("a playable stream");
    let mut rx = rx;
    let mut mixer = Mixer::new(output);
    mixer.add(player).expect("room for one");
    let frames = u64::from(format.frames_per_block);
    for index in 0..MAX_BLOCKS {
        if data.is_empty() {
            break;
        }
        let how = data.u8();
        let now = OPUS_RATE.duration_of((u64::from(index) + 1) * frames).as_nanos() as u64;
        // One in eight is missing, one in eight is silence.
        let length = match how & 7 {
            0 => None,
            7 => Some(usize::from(data.u16()) % (MAX_PAYLOAD + 9)),
            _ => Some(usize::from(data.u8())),
        };
        if let Some(length) = length {
            let payload: Vec<_> = (0..length).map(|_| data.u8()).collect();
            let body = match how & 0x38 {
                0 => Body::Silence { frames: frames as u16 },
                _ => Body::Audio(&payload),
            };
            let block = Block {
                index: BlockIndex(index),
                ts: FrameIndex(u64::from(index) * frames),
                discontinuity: how & 0xC0 == 0xC0,
                repair: how & 0x80 != 0,
                body,
            };
            let fits = packet_frames(&payload) == Some(format.frames_per_block)
                && payload.len() <= MAX_PAYLOAD;
            let insert = rx.insert(MonoTime::from_nanos(now), block);
            let silence = matches!(body, Body::Silence { .. });
            assert_eq!(insert == Insert::Malformed, !fits && !silence, "{length} bytes");
        }
        let mut out = vec![f32::NAN; frames as usize * channels.get()];
        mixer.render(RenderTime { mono: MonoTime::from_nanos(now) }, &mut out);
        assert!(out.iter().all(|x| x.abs() <= 20_000.0), "a hole in the output");
    }
    assert!(rx.counters().snapshot().adds_up());
}
