//! What the beginning of a gap costs on the thread that plays.

use std::time::Instant;

use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat};
use velin_core::playout::{
    Block, Body, Mixer, PlayoutDelay, RenderTime, RepairWish, StreamSettings, stream,
};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, Channels, FrameIndex};

use crate::playout_lab::{MS, Seed, ms, output, plain, rate, s16};

/// Median costs of rendering a millisecond, ns.
struct Cost {
    usual: u64,
    /// The one in which a gap begins.
    first: u64,
    /// Another one of the gap.
    later: u64,
}

fn cost(hz: u32, channels: u8) -> Cost {
    let map = match channels {
        1 => ChannelMap::mono(),
        2 => ChannelMap::stereo(),
        n => ChannelMap::unpositioned(Channels::new(n).unwrap()),
    };
    // Blocks of a millisecond or, where that does not fit, of half or a quarter.
    let parts = (hz / 48_000).max(1);
    let format = StreamFormat {
        coding: SampleFormat::S16Le.into(),
        rate: rate(hz),
        frames_per_block: hz / 1_000 / parts,
        ..s16(map)
    };
    let output = output(hz, map);
    let settings = StreamSettings {
        delay: PlayoutDelay::Fixed(ms(10)),
        repair: RepairWish::Off,
        ..plain(&format, output)
    };
    let (mut rx, player) = stream(settings).unwrap();
    let mut mixer = Mixer::new(output);
    mixer.add(player).unwrap();
    let mut out = vec![0.0; (hz / 1_000) as usize * usize::from(channels)];
    let mut seed = Seed(4);
    let mut payload = vec![0; format.block_bytes()];
    let (mut usual, mut first, mut later) = (vec![], vec![], vec![]);
    for time in 0..8_000_u64 {
        // Five of every forty milliseconds are missing.
        if time % 40 < 35 {
            for part in 0..u64::from(parts) {
                let index = time * u64::from(parts) + part;
                for (i, x) in payload.chunks_exact_mut(2).enumerate() {
                    let frame = index * u64::from(format.frames_per_block) + i as u64;
                    let phase = frame as f32 / f32::from(channels) * 440.0 / hz as f32;
                    let sample = (phase.fract() - 0.5) * 20_000.0 + seed.below(2_000) as f32;
                    x.copy_from_slice(&(sample as i16).to_le_bytes());
                }
                let block = Block {
                    index: BlockIndex(index as u32),
                    ts: FrameIndex(index * u64::from(format.frames_per_block)),
                    discontinuity: false,
                    repair: false,
                    body: Body::Audio(&payload),
                };
                rx.insert(MonoTime::from_nanos((time + 1) * MS), block);
            }
        }
        let before = Instant::now();
        let when = RenderTime { mono: MonoTime::from_nanos((time + 1) * MS) };
        let concealed = mixer.render(when, &mut out).concealed;
        let took = before.elapsed().as_nanos() as u64;
        let since = (time + 40 - 9) % 40;
        match since {
            _ if time < 100 => {}
            35 => first.push((took, concealed)),
            36..=38 => later.push((took, concealed)),
            10..=30 => usual.push((took, 1 - concealed.min(1))),
            _ => {}
        }
    }
    let median = |mut of: Vec<(u64, u64)>| {
        // What was expected is what happened.
        assert!(of.iter().all(|(_, as_expected)| *as_expected > 0));
        of.sort_unstable();
        of[of.len() / 2].0
    };
    Cost { usual: median(usual), first: median(first), later: median(later) }
}

/// Prints, since a machine that is busy with something else is no bug.
#[test]
fn the_cost_of_a_gap() {
    println!("| rate, channels | a millisecond | … in which a gap begins | … in a gap |");
    println!("|---|---|---|---|");
    for (hz, channels) in
        [(48_000, 1), (48_000, 2), (48_000, 8), (96_000, 2), (192_000, 2), (192_000, 8)]
    {
        let Cost { usual, first, later } = cost(hz, channels);
        let us = |ns: u64| ns as f64 / 1e3;
        println!(
            "| {} kHz, {channels} | {:.1} µs | {:.1} µs | {:.1} µs |",
            hz / 1_000,
            us(usual),
            us(first),
            us(later)
        );
    }
}
