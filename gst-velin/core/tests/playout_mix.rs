//! Several senders into one output.

mod playout_lab;

use playout_lab::*;
use velin_core::codec::{ChannelMap, StreamFormat};
use velin_core::playout::{Mixer, PlayoutDelay, StreamControls, stream};

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

/// The largest second difference: what a corner in a curve sounds by.
fn sharpest(out: &[f32]) -> f32 {
    out.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
}

/// The largest second difference of a sine of `amplitude`.
fn own_sharpness(hz: f32, amplitude: f32) -> f32 {
    amplitude * (std::f32::consts::TAU * hz / 48_000.0).powi(2)
}

#[test]
fn a_second_sender_comes_and_goes_without_a_corner_in_the_sum() {
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
    lab.run(4_000 * MS);
    assert_eq!(lab.active, 2);
    lab.mixer.remove(lab.senders[second].id);
    lab.senders[second].rx = None;
    lab.run(5_500 * MS);
    assert_eq!((lab.active, lab.mixer.len()), (1, 1));

    let at = |from: usize| level(&lab.out[from * 48..(from + 500) * 48], 440.0, 48_000);
    let (alone, both, again) = (at(1_000), at(3_000), at(5_000));
    assert!((alone - both).abs() < 0.01 && (alone - again).abs() < 0.01, "{alone} {both} {again}");
    // From the first one's own fade-in on.
    let own = own_sharpness(440.0, 0.4) + own_sharpness(1_000.0, 0.4);
    let sharpest = sharpest(&lab.out[1_000 * 48..]);
    assert!(sharpest < 1.25 * own, "{sharpest}, the tones alone {own}");
}

#[test]
fn settings_made_before_the_first_sample_hold_from_it_on() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::stereo());
    let run = |set: &dyn Fn(&StreamControls, usize)| {
        let mut lab = Lab::new(out, 48);
        let mut sent = packets(&format, &tone(440.0, 1.0, 1));
        sent.iter_mut().for_each(|p| p.arrival += 100 * MS);
        lab.join(plain(&format, out), sent);
        let controls = lab.senders[0].rx.as_ref().unwrap().controls().clone();
        set(&controls, 0);
        // It is in the mixer, and nothing was heard of it.
        lab.run(50 * MS);
        set(&controls, 1);
        lab.run(1_000 * MS);
        assert!(lab.out.iter().any(|x| *x != 0.0));
        lab.out
    };
    let as_sent = run(&|_, _| ());
    for when in [0, 1] {
        let quarter = run(&|controls, now| {
            if now == when {
                controls.set_volume(0.25);
            }
        });
        assert!(quarter.iter().zip(&as_sent).all(|(x, y)| *x == y * 0.25));
        let left = run(&|controls, now| {
            if now == when {
                controls.set_pan(-1.0);
            }
        });
        assert!(left.chunks(2).zip(as_sent.chunks(2)).all(|(x, y)| {
            x[1] == 0.0 && (x[0] - y[0] * std::f32::consts::SQRT_2).abs() < 1e-6
        }));
    }
}

/// Interleaved stereo of two tones.
fn two_tones(left: f64, right: f64, seconds: usize) -> Vec<f32> {
    let (left, right) = (tone(left, 0.8, seconds), tone(right, 0.8, seconds));
    left.into_iter().zip(right).flat_map(|(l, r)| [l, r]).collect()
}

fn side(out: &[f32], side: usize) -> Vec<f32> {
    out.iter().skip(side).step_by(2).copied().collect()
}

#[test]
fn pan_moves_mono_at_the_same_loudness_and_balances_stereo() {
    let out = output(48_000, ChannelMap::stereo());
    let stereo = StreamFormat { map: ChannelMap::stereo(), frames_per_block: 120, ..f32_mono() };
    let cases = [(f32_mono(), tone(440.0, 0.8, 5)), (stereo.clone(), two_tones(440.0, 440.0, 5))];
    for (format, samples) in cases {
        let mono = format != stereo;
        let mut lab = Lab::new(out, 48);
        lab.join(plain(&format, out), packets(&format, &samples));
        let controls = lab.senders[0].rx.as_ref().unwrap().controls().clone();
        for (second, pan) in [0.0, -1.0, 0.5, 1.0].into_iter().enumerate() {
            controls.set_pan(pan);
            lab.run((second as u64 + 1) * 1_000 * MS);
        }
        let (left, right) = (side(&lab.out, 0), side(&lab.out, 1));
        let power = |second: usize, channel: &[f32]| -> f64 {
            let part = &channel[second * 48_000 + 9_600..(second + 1) * 48_000];
            2.0 * part.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / part.len() as f64
        };
        let each = |second| (power(second, &left), power(second, &right));
        let centre = 0.4 * 0.4;
        let near = |x: f64, y: f64| (x - y).abs() < 1e-3 * centre;
        for second in 0..4 {
            let (l, r) = each(second);
            if mono {
                assert!(near(l + r, 2.0 * centre), "{second}: {l} {r}");
            } else {
                assert!(near(l.max(r), centre), "{second}: {l} {r}");
            }
        }
        assert!(near(each(0).0, each(0).1));
        assert_eq!(each(1).1, 0.0);
        assert!(each(2).1 > each(2).0 && each(2).0 > 0.0);
        assert_eq!(each(3).0, 0.0);
        // A move is a gain that changes: it may bend the tone a little more than the tone itself.
        let own = own_sharpness(440.0, 0.4 * std::f32::consts::SQRT_2);
        for channel in [left, right] {
            let sharpest = sharpest(&channel[480..]);
            assert!(sharpest < 1.5 * own, "mono {mono}: {sharpest}, the tone alone {own}");
        }
    }
}

#[test]
fn in_the_middle_not_a_bit_is_touched_nor_in_an_output_without_sides() {
    let stereo = StreamFormat { map: ChannelMap::stereo(), ..f32_mono() };
    let cases = [
        (stereo.clone(), ChannelMap::stereo(), 0.0, two_tones(440.0, 1_000.0, 1)),
        (f32_mono(), ChannelMap::mono(), -0.8, tone(440.0, 1.0, 1)),
    ];
    for (format, map, pan, samples) in cases {
        let out = output(48_000, map);
        let mut lab = Lab::new(out, 48);
        lab.join(plain(&format, out), packets(&format, &samples));
        lab.senders[0].rx.as_ref().unwrap().controls().set_pan(pan);
        lab.run(900 * MS);
        let channels = map.channels().get();
        let (lead, faded) = (lab.senders[0].stats().silence as usize * channels, 120 * channels);
        assert!(lab.out[lead + faded..] == samples[faded..lab.out.len() - lead]);
    }
}

#[test]
fn who_is_not_soloed_is_silent_and_stays_in_time() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let run = |soloing: bool| {
        let mut lab = Lab::new(out, 48);
        for hz in [300.0, 700.0, 1_100.0] {
            lab.join(plain(&format, out), packets(&format, &tone(hz, 0.4, 8)));
        }
        let solo = |lab: &Lab, sender: usize, solo: bool| {
            lab.senders[sender].rx.as_ref().unwrap().controls().set_solo(solo && soloing);
        };
        lab.run(1_000 * MS);
        solo(&lab, 0, true);
        lab.run(2_000 * MS);
        solo(&lab, 1, true);
        lab.run(3_000 * MS);
        let late = packets(&format, &tone(1_500.0, 0.4, 8));
        let late = late.into_iter().map(|p| Packet { arrival: p.arrival + 3_000 * MS, ..p });
        lab.join(plain(&format, out), late.collect());
        lab.run(4_000 * MS);
        solo(&lab, 0, false);
        solo(&lab, 1, false);
        lab.run(5_000 * MS);
        lab
    };
    let (lab, reference) = (run(true), run(false));
    let heard = |lab: &Lab, from: usize| {
        let part = &lab.out[(from + 300) * 48..(from + 800) * 48];
        [300.0, 700.0, 1_100.0, 1_500.0].map(|hz| level(part, hz, 48_000) > -60.0)
    };
    assert_eq!(heard(&lab, 0), [true, true, true, false]);
    assert_eq!(heard(&lab, 1_000), [true, false, false, false]);
    assert_eq!(heard(&lab, 2_000), [true, true, false, false]);
    // The late one is not heard for a sample.
    assert_eq!(heard(&lab, 3_000), [true, true, false, false]);
    let two: Vec<f32> = (lab.out[2_100 * 48..4_000 * 48]).to_vec();
    assert!(sharpest(&two) < 1.1 * (own_sharpness(300.0, 0.2) + own_sharpness(700.0, 0.2)));
    assert_eq!(heard(&lab, 4_000), [true; 4]);
    // Afterwards everything is where it would have been, and was counted all the time.
    assert!(lab.out[4_010 * 48..] == reference.out[4_010 * 48..]);
    for (sender, other) in lab.senders.iter().zip(&reference.senders) {
        assert_eq!(sender.stats(), other.stats());
        assert_eq!((sender.stats().concealed, sender.stats().reanchors), (0, 0));
    }
}

#[test]
fn a_solo_ends_with_its_stream() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let mut lab = Lab::new(out, 48);
    for hz in [300.0, 700.0] {
        lab.join(plain(&format, out), packets(&format, &tone(hz, 0.4, 4)));
    }
    lab.senders[0].rx.as_ref().unwrap().controls().set_solo(true);
    lab.run(1_000 * MS);
    assert!(level(&lab.out[500 * 48..], 700.0, 48_000) < -60.0);
    lab.senders[0].rx = None;
    lab.run(2_000 * MS);
    assert!(level(&lab.out[1_500 * 48..], 700.0, 48_000) > -20.0);
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
    let counters = lab.mixer.counters();
    assert!(counters.limiter_gain() < 0.5 && counters.limited() > 48_000, "{counters:?}");
}

#[test]
fn sixteen_senders_below_full_scale_are_added_and_nothing_else() {
    let format = f32_mono();
    let out = output(48_000, ChannelMap::mono());
    let mut lab = Lab::new(out, 48);
    // Together 0.96 of full scale, in steps that a float adds without rounding.
    let samples: Vec<f32> =
        tone(440.0, 0.12, 2).iter().map(|x| (x * 65_536.0).round() / 65_536.0).collect();
    for _ in 0..16 {
        lab.join(plain(&format, out), packets(&format, &samples));
    }
    lab.run(1_900 * MS);
    let lead = lab.senders[0].stats().silence as usize;
    let faded = 120;
    let heard = &lab.out[lead + faded..];
    assert!(heard.iter().zip(&samples[faded..]).all(|(sum, x)| *sum == 16.0 * x));
    let counters = lab.mixer.counters();
    assert_eq!((counters.limiter_gain(), counters.limited()), (1.0, 0));
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
    // In 5 ms a gain bends this tone by a third of its own bend more.
    assert!(sharpest(&lab.out[480..]) < 1.4 * own_sharpness(440.0, 0.5));
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
