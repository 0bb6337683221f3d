//! Nothing is allocated per packet or per render in steady state.

mod playout_lab;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use playout_lab::*;
use velin_core::codec::opus::{AudioType, OpusEncoder, OpusFrameSize, OpusSettings};
use velin_core::codec::{ChannelMap, StreamFormat};
use velin_core::playout::{Block, Body, MixSettings, Mixer, RenderTime, stream};
use velin_core::resend::{Answerer, Budget, history};
use velin_core::time::MonoTime;
use velin_core::units::{BitRate, BlockIndex, Channels, FrameIndex};
use velin_core::wire::{AudioFlags, AudioHeader};

thread_local! {
    /// Allocations and frees of this thread, so that parallel tests do not disturb each other.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // Not there any more while the thread ends.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is ours.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is ours.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn calls() -> u64 {
    CALLS.with(Cell::get)
}

#[test]
fn the_allocator_counts() {
    let before = calls();
    std::hint::black_box(Box::new(1));
    assert_eq!(calls() - before, 2);
}

/// Blocks of 10 ms.
fn opus(audio_type: AudioType) -> OpusEncoder {
    let (channels, size) = (Channels::STEREO, OpusFrameSize::Ms10);
    let bit_rate = BitRate::DEFAULT;
    OpusEncoder::new(OpusSettings { channels, size, bit_rate, audio_type, dtx: false }).unwrap()
}

/// Of a block that is four times as long, and only each fourth time there.
fn quarter(ts: FrameIndex) -> FrameIndex {
    FrameIndex(ts.0 / 4)
}

#[test]
fn packets_and_renders_do_not_allocate() {
    let out = output(48_000, ChannelMap::stereo());
    let mut mixer = Mixer::new(out);
    let formats = [
        s16(ChannelMap::stereo()),
        s16(ChannelMap::mono()),
        StreamFormat { rate: rate(44_100), frames_per_block: 110, ..s16(ChannelMap::stereo()) },
        StreamFormat { rate: rate(96_000), frames_per_block: 240, ..s16(ChannelMap::mono()) },
    ];
    let mut receivers: Vec<_> = formats
        .iter()
        .map(|format| {
            let (rx, player) = stream(auto(format, out)).unwrap();
            mixer.add(player).unwrap();
            (rx, vec![1_u8; format.block_bytes()], u64::from(format.frames_per_block))
        })
        .collect();
    let (mut opus, mut voice) = (opus(AudioType::RestrictedLowDelay), opus(AudioType::Voice));
    for encoder in [&mut opus, &mut voice] {
        let (rx, player) = stream(auto(encoder.format(), out)).unwrap();
        mixer.add(player).unwrap();
        let mut payload = vec![0; encoder.format().block_bytes()];
        encoder.encode(&mut [0.1; 2 * 480], &mut payload).unwrap();
        receivers.push((rx, payload, 480));
    }
    let mut sound = [0.1; 2 * 480];
    let mut coded = [0; 200];
    let mut period = [0.0; 2 * 48];
    let (mut writer, kept) = history(480, ms(5) / 2);
    let mut answerer = Answerer::new(kept, Budget::Lan);
    let (mut asked, mut answered) = (0, 0);
    let mut seed = Seed(1);
    let mut index = 0;
    let before = calls();
    for time in 0..5_000_u64 {
        // 2.5 ms blocks, a hundredth of them lost: gaps and splices do not allocate either.
        while u64::from(index + 1) * 5 <= time * 2 {
            for (rx, payload, frames) in &mut receivers {
                let block = Block {
                    index: BlockIndex(index),
                    ts: FrameIndex(u64::from(index) * *frames),
                    discontinuity: false,
                    repair: false,
                    body: Body::Audio(payload),
                };
                let is_due = *frames != 480 || index.is_multiple_of(4);
                let block = match *frames {
                    480 => Block { index: BlockIndex(index / 4), ts: quarter(block.ts), ..block },
                    _ => block,
                };
                if is_due && seed.below(100) > 0 {
                    rx.insert(MonoTime::from_nanos(time * MS), block);
                }
            }
            let (flags, ts) = (AudioFlags::NONE, FrameIndex(u64::from(index) * 120));
            writer.push(&AudioHeader { flags, block: BlockIndex(index), ts }, &[1; 480]);
            index += 1;
            if index.is_multiple_of(4) {
                for encoder in [&mut opus, &mut voice] {
                    encoder.set_loss(f64::from(index % 30) / 100.0).unwrap();
                    encoder.encode(&mut sound, &mut coded).unwrap();
                }
            }
        }
        let now = MonoTime::from_nanos(time * MS);
        for (rx, ..) in &mut receivers {
            rx.set_rtt(ms(1));
            while let Some(request) = rx.poll_nack(now) {
                asked += 1;
                answerer.answer(now, ms(1), request.nack.blocks(), |_, _, _| answered += 1);
            }
            std::hint::black_box((rx.next_nack(), rx.report()));
        }
        // A user who turns everything, all the time.
        for (i, (rx, ..)) in receivers.iter().enumerate() {
            let at = time + 7 * i as u64;
            rx.controls().set(MixSettings {
                volume: (at % 90) as f32 / 60.0,
                mute: at % 40 < 4,
                pan: (at % 21) as f32 / 10.0 - 1.0,
                solo: at % 100 < 9,
            });
        }
        mixer.render(RenderTime { mono: MonoTime::from_nanos(time * MS) }, &mut period);
    }
    assert_eq!(calls() - before, 0);
    assert!(asked > 50 && answered > 10, "{asked}, {answered}");
    // A stream that ends is put aside, not freed.
    drop(receivers.pop());
    let before = calls();
    for time in 5_000..5_400_u64 {
        mixer.render(RenderTime { mono: MonoTime::from_nanos(time * MS) }, &mut period);
    }
    assert_eq!(calls() - before, 0);
    assert_eq!(mixer.len(), 5);
    assert!(mixer.take_finished().is_some());
}

#[test]
fn gaps_do_not_allocate() {
    let out = output(48_000, ChannelMap::stereo());
    let mut mixer = Mixer::new(out);
    let formats = [
        s16(ChannelMap::stereo()),
        StreamFormat { rate: rate(44_100), frames_per_block: 110, ..s16(ChannelMap::mono()) },
        StreamFormat { rate: rate(192_000), frames_per_block: 240, ..s16(ChannelMap::stereo()) },
    ];
    let mut seed = Seed(3);
    let mut noise = |format: &StreamFormat| -> Vec<u8> {
        (0..format.block_bytes()).map(|_| seed.next() as u8).collect()
    };
    let mut receivers: Vec<_> = formats
        .iter()
        .map(|format| {
            let (rx, player) = stream(plain(format, out)).unwrap();
            mixer.add(player).unwrap();
            (rx, noise(format), u64::from(format.frames_per_block))
        })
        .collect();
    let mut period = [0.0; 2 * 48];
    let (mut index, mut missing) = (0_u32, 0);
    let before = calls();
    for time in 0..5_000_u64 {
        while (u64::from(index) + 1) * 5 <= time * 2 {
            // From one block to 37.5 ms.
            if missing == 0 && seed.below(20) == 0 {
                missing = 1 + seed.below(15);
            }
            for (rx, payload, frames) in receivers.iter_mut().filter(|_| missing == 0) {
                // 1.25 ms at 192 kHz: two blocks for one of the others.
                let blocks = if *frames == 240 { 2 } else { 1 };
                for index in index * blocks..(index + 1) * blocks {
                    let block = Block {
                        index: BlockIndex(index),
                        ts: FrameIndex(u64::from(index) * *frames),
                        discontinuity: false,
                        repair: false,
                        body: Body::Audio(payload),
                    };
                    rx.insert(MonoTime::from_nanos(time * MS), block);
                }
            }
            missing = missing.saturating_sub(1);
            index += 1;
        }
        mixer.render(RenderTime { mono: MonoTime::from_nanos(time * MS) }, &mut period);
    }
    assert_eq!(calls() - before, 0);
    for (rx, ..) in &receivers {
        let stats = rx.counters().snapshot();
        assert!(stats.concealed > 48_000 && stats.received > 48_000, "{stats:?}");
    }
}
