//! What goes in comes out, bit for bit.

mod playout_lab;

use std::time::Duration;

use playout_lab::*;
use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat, block_frames};
use velin_core::playout::{Drift, PlayoutDelay, RepairWish, StreamSettings};
use velin_core::units::Channels;

/// Samples that survive their own format, and for floats some that only exactness keeps.
fn samples(format: &StreamFormat, blocks: usize) -> Vec<f32> {
    let mut seed = Seed(u64::from(format.rate.hz()));
    let n = blocks * format.frames_per_block as usize * format.channels().get();
    let one = |i: usize| match format.coding.sample().unwrap() {
        SampleFormat::S16Le => f32::from(seed.next() as i16) / 32_768.0,
        SampleFormat::S24Le => ((seed.next() as i32) >> 8) as f32 / 8_388_608.0,
        SampleFormat::F32Le => match i % 7 {
            0 => -0.0,
            1 => f32::from_bits(1 + (seed.next() as u32 >> 10)),
            2 => -17.25,
            3 => f32::MAX,
            _ => (seed.next() as i32) as f32 / 2_147_483_648.0,
        },
    };
    (0..n).map(one).collect()
}

fn check(format: &StreamFormat, delay: PlayoutDelay, period: usize) {
    let what = format!("{format:?} {delay:?} {period}");
    let samples = samples(format, 400);
    let settings = StreamSettings {
        format: format.clone(),
        output: output(format.rate.hz(), format.map),
        delay,
        drift: Drift::Exact,
        repair: RepairWish::Auto,
    };
    let mut lab = Lab::new(settings.output, period);
    lab.join(settings, packets(format, &samples));
    lab.run(2_000 * MS);
    let stats = lab.senders[0].stats();
    let channels = format.channels().get();
    let before = stats.silence as usize * channels;
    // Everything before the first frame and after the end is silence; the end looks like a loss.
    let lead = lab.out.iter().position(|x| x.to_bits() != 0).unwrap();
    let lead = lead / channels * channels;
    assert!(lead <= before, "{what}");
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(&lab.out[lead..lead + samples.len()]) == bits(&samples), "{what}: {stats:?}");
    assert_eq!(stats.received as usize * channels, samples.len(), "{what}");
    assert_eq!(stats.reanchors + stats.late + stats.lost + stats.duplicate, 0, "{what}");
    if let PlayoutDelay::Fixed(delay) = delay {
        let due = format.rate.frames_in(delay) as usize;
        assert!((lead / channels).abs_diff(due) <= 1, "{what}: {} {due}", lead / channels);
    }
}

#[test]
fn pcm_passes_bit_for_bit_in_every_format() {
    for sample in [SampleFormat::S16Le, SampleFormat::S24Le, SampleFormat::F32Le] {
        for hz in [44_100, 48_000, 96_000, 192_000] {
            for channels in [1, 2, 8] {
                let channels = Channels::new(channels).unwrap();
                let map = match channels.get() {
                    1 => ChannelMap::mono(),
                    2 => ChannelMap::stereo(),
                    _ => ChannelMap::unpositioned(channels),
                };
                let wish = Duration::from_micros(2_500);
                let frames_per_block = block_frames(sample, rate(hz), channels, wish, 1200);
                let format =
                    StreamFormat { coding: sample.into(), rate: rate(hz), map, frames_per_block };
                let period = hz as usize / 1000;
                check(&format, AUTO, period);
                check(&format, PlayoutDelay::Fixed(ms(20)), period);
            }
        }
    }
}

#[test]
fn pcm_passes_bit_for_bit_at_any_output_period() {
    for period in [16, 37, 120, 480, 700] {
        check(&s16(ChannelMap::stereo()), PlayoutDelay::Fixed(ms(40)), period);
    }
}

#[test]
fn reordered_and_doubled_packets_change_nothing() {
    let format = s16(ChannelMap::stereo());
    let samples = samples(&format, 800);
    let mut sent = packets(&format, &samples);
    let mut seed = Seed(7);
    let mut copies = vec![];
    for p in &mut sent {
        p.arrival += seed.below(6 * MS);
        if seed.below(3) == 0 && p.arrival < 1_900 * MS {
            let arrival = p.arrival + seed.below(20 * MS);
            copies.push(Packet { arrival, repair: true, ..p.clone() });
        }
    }
    let doubled = copies.len() as u64;
    sent.extend(copies);
    let settings = StreamSettings {
        format: format.clone(),
        output: output(48_000, format.map),
        delay: PlayoutDelay::Fixed(ms(20)),
        drift: Drift::Exact,
        repair: RepairWish::Auto,
    };
    let mut lab = Lab::new(settings.output, 48);
    lab.join(settings, sent);
    lab.run(1_990 * MS);
    let stats = lab.senders[0].stats();
    let lead = lab.out.iter().position(|x| *x != 0.0).unwrap() / 2 * 2;
    let n = lab.out.len() - lead;
    assert!(lab.out[lead..] == samples[..n]);
    assert_eq!((stats.duplicate, stats.lost, stats.late, stats.concealed), (doubled, 0, 0, 0));
    assert!(stats.reordered > 100, "{stats:?}");
}

#[test]
fn the_first_block_is_whole_although_the_output_starts_late() {
    let format = s16(ChannelMap::mono());
    let samples = samples(&format, 100);
    let settings =
        StreamSettings { drift: Drift::Exact, ..auto(&format, output(48_000, format.map)) };
    let mut lab = Lab::new(settings.output, 48);
    lab.start = 35 * MS;
    lab.join(settings, packets(&format, &samples));
    lab.run(200 * MS);
    assert!(lab.out[..4_800] == samples[..4_800]);
}

#[test]
fn exact_playout_needs_the_same_format() {
    let format = s16(ChannelMap::stereo());
    for output in [output(44_100, ChannelMap::stereo()), output(48_000, ChannelMap::mono())] {
        let settings = StreamSettings {
            format: format.clone(),
            output,
            delay: AUTO,
            drift: Drift::Exact,
            repair: RepairWish::Auto,
        };
        let error = velin_core::playout::stream(settings).unwrap_err();
        assert!(error.to_string().contains("48000 Hz"), "{error}");
    }
}
