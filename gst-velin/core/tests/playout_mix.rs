//! Several senders into one output.

mod playout_lab;

use playout_lab::*;
use velin_core::codec::{ChannelMap, StreamFormat};
use velin_core::playout::{Mixer, PlayoutDelay, stream};

/// Level in dB of the component at `hz` in `out` (mono).
fn level(out: &[f32], hz: f64, rate: u32) -> f64 {
    let step = std::f64::consts::TAU * hz / f64::from(rate);
    let (mut re, mut im) = (0.0, 0.0);
    for (i, x) in out.iter().enumerate() {
        re += f64::from(*x) * (step * i as f64).cos();
        im += f64::from(*x) * (step * i as f64).sin();
    }
    20.0 * (2.0 * re.hypot(im) / out.len() as f64).log10()
}

/// Level in dB of everything but the component at `hz`.
fn rest(out: &[f32], hz: f64, rate: u32) -> f64 {
    let step = std::f64::consts::TAU * hz / f64::from(rate);
    let (mut re, mut im) = (0.0, 0.0);
    for (i, x) in out.iter().enumerate() {
        re += f64::from(*x) * (step * i as f64).cos() * 2.0 / out.len() as f64;
        im += f64::from(*x) * (step * i as f64).sin() * 2.0 / out.len() as f64;
    }
    let power: f64 = out
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let t = step * i as f64;
            (f64::from(*x) - re * t.cos() - im * t.sin()).powi(2)
        })
        .sum();
    10.0 * (2.0 * power / out.len() as f64).log10()
}

fn tone(hz: f64, gain: f32, seconds: usize) -> Vec<f32> {
    sine(hz, 48_000, seconds * 48_000).iter().map(|x| x * gain).collect()
}

#[test]
fn a_second_sender_leaves_the_first_ones_level_alone() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let mut lab = Lab::new(out, 48);
    lab.join(plain(&format, out), packets(&format, &tone(440.0, 0.8, 6)));
    lab.run(2_000 * MS);
    let second = lab.join(plain(&format, out), {
        let mut sent = packets(&format, &tone(1_000.0, 0.8, 4));
        sent.iter_mut().for_each(|p| p.arrival += 2_000 * MS);
        sent
    });
    lab.run(3_000 * MS);
    assert_eq!(lab.active, 2);
    // A second's end: the second sender ends, with what it sent played out.
    lab.run(4_000 * MS);
    lab.senders[second].rx = None;
    lab.run(5_500 * MS);
    assert_eq!((lab.active, lab.mixer.len()), (1, 1));
    assert!(lab.mixer.take_finished().is_some());

    let second_of = |from: usize| &lab.out[from * 48..(from + 500) * 48];
    let alone = level(second_of(500), 440.0, 48_000);
    let both = level(second_of(2_500), 440.0, 48_000);
    let again = level(second_of(4_500), 440.0, 48_000);
    assert!((alone - both).abs() < 0.1 && (alone - again).abs() < 0.1, "{alone} {both} {again}");
    assert!((level(second_of(2_500), 1_000.0, 48_000) - alone).abs() < 0.1);
    // Slopes of both tones and a fade.
    let found = clicks(&lab.out, 0.8 * (0.029 + 0.066) + 0.01);
    assert!(found.is_empty(), "{:?}", &found[..found.len().min(4)]);
}

#[test]
fn sixteen_full_scale_senders_stay_within_full_scale() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let mut lab = Lab::new(out, 48);
    for i in 0..16 {
        lab.join(auto(&format, out), packets(&format, &tone(200.0 + 37.0 * f64::from(i), 2.0, 2)));
    }
    lab.run(2_000 * MS);
    assert_eq!(lab.active, 16);
    assert!(lab.out.iter().all(|x| x.abs() <= 1.0));
}

#[test]
fn one_loud_stream_below_full_scale_is_not_touched() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let samples = tone(440.0, 2.0, 2);
    let mut lab = Lab::new(out, 48);
    lab.join(plain(&format, out), packets(&format, &samples));
    lab.run(1_900 * MS);
    let lead = lab.senders[0].stats().silence as usize;
    let faded = 120;
    assert!(lab.out[lead + faded..] == samples[faded..lab.out.len() - lead]);
}

#[test]
fn volume_and_mute_move_without_clicks() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let mut lab = Lab::new(out, 48);
    lab.join(plain(&format, out), packets(&format, &tone(440.0, 1.0, 4)));
    lab.run(1_000 * MS);
    let controls = lab.senders[0].rx.as_ref().unwrap().controls().clone();
    controls.set_volume(0.25);
    lab.run(2_000 * MS);
    controls.set_mute(true);
    lab.run(3_000 * MS);
    controls.set_mute(false);
    controls.set_volume(1.0);
    lab.run(3_900 * MS);
    let at = |from: usize| level(&lab.out[from * 48..(from + 500) * 48], 440.0, 48_000);
    assert!((at(300) - at(1_300) - 12.04).abs() < 0.1);
    assert!(lab.out[2_010 * 48..3_000 * 48].iter().all(|x| *x == 0.0));
    assert!((at(300) - at(3_300)).abs() < 0.1);
    assert!(clicks(&lab.out, 0.037).is_empty());
}

#[test]
fn a_removed_stream_fades_and_is_handed_back() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let mut lab = Lab::new(out, 48);
    lab.join(auto(&format, out), packets(&format, &tone(440.0, 1.0, 4)));
    lab.run(1_000 * MS);
    let id = lab.senders[0].id;
    lab.mixer.remove(id);
    // Counting frames ends with the removal.
    lab.senders[0].rx = None;
    lab.run(1_100 * MS);
    assert!(lab.mixer.is_empty());
    assert!(lab.mixer.take_finished().is_some());
    assert!(clicks(&lab.out, 0.037).is_empty());
    assert!(lab.out[1_007 * 48..].iter().all(|x| *x == 0.0));
}

#[test]
fn tones_of_other_rates_stay_clean() {
    for (from, to) in [(44_100, 48_000), (96_000, 48_000), (48_000, 44_100), (192_000, 48_000)] {
        let block = (from / 400).min(288);
        let format = StreamFormat { rate: rate(from), frames_per_block: block, ..f32_mono() };
        let out = output(to, ChannelMap::mono());
        let mut lab = Lab::new(out, to as usize / 1000);
        let samples = sine(1_000.0, from, 3 * from as usize);
        lab.join(plain(&format, out), packets(&format, &samples));
        lab.run(2_900 * MS);
        let heard = &lab.out[to as usize..2 * to as usize];
        let (tone, noise) = (level(heard, 1_000.0, to), rest(heard, 1_000.0, to));
        assert!((tone + 6.02).abs() < 0.05, "{from} to {to}: {tone} dB");
        assert!(noise - tone < -90.0, "{from} to {to}: {noise} dB");
        let stats = lab.senders[0].stats();
        assert_eq!((stats.concealed, stats.reanchors), (0, 0), "{from} to {to}: {stats:?}");
    }
}

#[test]
fn a_resampled_stream_is_on_time() {
    for (from, to) in [(44_100, 48_000), (96_000, 44_100)] {
        let format = StreamFormat { rate: rate(from), frames_per_block: 110, ..f32_mono() };
        let out = output(to, ChannelMap::mono());
        let mut lab = Lab::new(out, 48);
        let mut settings = auto(&format, out);
        settings.delay = PlayoutDelay::Fixed(ms(20));
        lab.join(settings, packets(&format, &sine(100.0, from, 2 * from as usize)));
        lab.run(1_000 * MS);
        let delay = to as usize / 50;
        let due = sine(100.0, to, 2 * to as usize);
        for i in to as usize / 2..to as usize * 9 / 10 {
            // A tenth of a millisecond of this tone is 0.031.
            let (heard, due) = (lab.out[i], due[i - delay]);
            assert!((heard - due).abs() < 0.031, "{from} to {to}: {heard} for {due}");
        }
    }
}

#[test]
fn loss_in_a_resampled_stream_is_faded_and_counted() {
    let format = StreamFormat { rate: rate(44_100), frames_per_block: 110, ..f32_mono() };
    let out = output(48_000, ChannelMap::stereo());
    let mut seed = Seed(3);
    let mut sent = packets(&format, &sine(440.0, 44_100, 441_000));
    let all = sent.len();
    sent.retain(|_| seed.below(20) > 0);
    let lost = (all - sent.len()) as f64;
    let mut lab = Lab::new(out, 48);
    lab.join(auto(&format, out), sent);
    lab.run(9_900 * MS);
    let stats = lab.senders[0].stats();
    let expected = lost * 110.0 * 48_000.0 / 44_100.0;
    assert!((stats.concealed as f64 - expected).abs() < 0.02 * expected, "{expected} {stats:?}");
    let left: Vec<f32> = lab.out.iter().step_by(2).copied().collect();
    assert!(lab.out.chunks(2).all(|frame| frame[0] == frame[1]));
    assert!(clicks(&left, 0.04).is_empty());
}

#[test]
fn streams_for_another_output_are_handed_back() {
    let format = s16(ChannelMap::stereo());
    let settings = auto(&format, output(44_100, ChannelMap::stereo()));
    let (_rx, player) = stream(settings).unwrap();
    assert!(Mixer::new(output(48_000, ChannelMap::stereo())).add(player).is_err());
}
