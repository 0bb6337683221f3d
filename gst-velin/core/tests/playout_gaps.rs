//! Loss, bursts, outages and jumps: what is missing is faded, what returns is on time.

mod playout_lab;

use playout_lab::*;
use velin_core::codec::ChannelMap;
use velin_core::playout::PlayoutDelay;

/// A 440 Hz sine of amplitude 0.5 moves by at most 0.029 a sample; a fade adds 1.3 % of 0.5.
const SLOPE: f32 = 0.029 + 0.008;

fn mono() -> Lab {
    Lab::new(output(48_000, ChannelMap::mono()), 48)
}

#[test]
fn lost_packets_are_faded_without_clicks() {
    let format = f32_mono();
    for lost_per_mille in [10, 50, 200, 600] {
        let mut seed = Seed(lost_per_mille);
        let mut sent = packets(&format, &sine(440.0, 48_000, 480_000));
        sent.retain(|p| p.index == 0 || seed.below(1000) >= lost_per_mille);
        let missing = 4_000 - sent.len() as u64;
        let mut lab = mono();
        lab.join(auto(&format, lab.mixer.output()), sent);
        lab.run(9_980 * MS);
        let found = clicks(&lab.out, SLOPE);
        assert!(found.is_empty(), "{lost_per_mille}: {:?}", &found[..found.len().min(5)]);
        let stats = lab.senders[0].stats();
        assert!(stats.lost.abs_diff(missing) <= 10, "{missing} {stats:?}");
        assert!(stats.concealed.abs_diff(missing * 120) <= 1_200, "{missing} {stats:?}");
        assert_eq!((stats.reanchors, stats.late), (0, 0), "{stats:?}");
    }
}

#[test]
fn one_lost_packet_costs_its_own_frames_and_no_others() {
    let format = f32_mono();
    let samples = sine(440.0, 48_000, 48_000);
    let mut sent = packets(&format, &samples);
    sent.remove(200);
    let mut lab = mono();
    lab.join(plain(&format, lab.mixer.output()), sent);
    lab.run(900 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!(stats.concealed, 120);
    let lead = stats.silence as usize;
    let (gap, back) = (lead + 200 * 120, lead + 201 * 120);
    assert!(lab.out[lead + 120..gap] == samples[120..200 * 120], "up to the gap");
    assert!(lab.out[back + 120..] == samples[201 * 120 + 120..][..lab.out.len() - back - 120]);
}

#[test]
fn chunks_that_come_in_bursts_are_learned_within_a_second() {
    let format = f32_mono();
    let samples = sine(440.0, 48_000, 30 * 48_000);
    for chunk in [10, 20] {
        let per_chunk = chunk * 2 / 5;
        // The first packet heard may be any of its burst, and the bursts lie anyhow to the output.
        for phase in [0, per_chunk / 2, per_chunk - 1] {
            for offset in [0, 300_000, 700_000] {
                let mut sent = packets(&format, &samples);
                for p in &mut sent {
                    let burst = u64::from(p.index) / per_chunk + 1;
                    p.arrival = burst * chunk * MS + offset;
                }
                sent.retain(|p| u64::from(p.index) >= phase);
                let mut lab = mono();
                lab.join(auto(&format, lab.mixer.output()), sent);
                lab.run(1_100 * MS);
                let learned = lab.senders[0].stats();
                lab.run(29_900 * MS);
                let stats = lab.senders[0].stats();
                let what = format!("{chunk} ms, phase {phase}, {offset} ns: {stats:?}");
                assert_eq!(stats.concealed, learned.concealed, "{what}");
                assert_eq!(stats.reanchors, learned.reanchors, "{what}");
                assert_eq!(stats.lost + stats.duplicate, 0, "{what}");
                assert!(stats.delay < ms(2 * chunk + 12), "{what}");
                assert!(clicks(&lab.out, SLOPE).is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn late_packets_raise_the_delay_inside_a_gap() {
    let format = f32_mono();
    let mut seed = Seed(5);
    let mut sent = packets(&format, &sine(440.0, 48_000, 20 * 48_000));
    for p in &mut sent {
        // From the fourth second on the path jitters by up to 25 ms.
        p.arrival += if p.index > 1_600 { seed.below(25 * MS) } else { 0 };
    }
    let mut lab = mono();
    lab.join(auto(&format, lab.mixer.output()), sent);
    lab.run(4_000 * MS);
    assert!(lab.senders[0].stats().delay < ms(13));
    lab.run(6_000 * MS);
    let learned = lab.senders[0].stats();
    assert!((1..20).contains(&learned.reanchors), "{learned:?}");
    lab.run(19_900 * MS);
    let stats = lab.senders[0].stats();
    assert!(stats.concealed - learned.concealed < 1_200, "{stats:?} {learned:?}");
    assert!(stats.delay < ms(35), "{stats:?}");
    assert!(clicks(&lab.out, SLOPE).is_empty());
}

#[test]
fn a_raised_delay_repeats_nothing() {
    let format = f32_mono();
    let mut seed = Seed(11);
    let mut sent = packets(&format, &counting(10 * 48_000));
    for p in &mut sent {
        p.arrival += seed.below(1 + 40 * MS * u64::from(p.index) / 4_000);
    }
    let mut lab = mono();
    lab.join(plain(&format, lab.mixer.output()), sent);
    lab.run(9_900 * MS);
    assert!(lab.senders[0].stats().reanchors > 2);
    // Each frame is one more than the last; all such frames are in order. What is made up in a gap
    // counts on as well, but not to the last bit for long.
    let step = 1.0 / 1_048_576.0;
    let counts = |w: &[f32]| w.windows(2).all(|w| w[1] - w[0] == step);
    let counted: Vec<f32> = lab.out.windows(12).filter(|w| counts(w)).map(|w| w[11]).collect();
    assert!(counted.len() > 9 * 48_000);
    assert!(counted.windows(2).all(|w| w[0] < w[1]));
}

/// The first frame of a stream that counts its frames, so that each tells its own age.
fn counting(frames: usize) -> Vec<f32> {
    (0..frames).map(|i| (i + 1) as f32 / 1_048_576.0).collect()
}

/// Age in ms of each frame heard between two times, its sending at full blocks included.
fn ages(lab: &Lab, from_ms: usize, to_ms: usize) -> Vec<f64> {
    (from_ms * 48..to_ms * 48)
        .map(|i| (i as f64 - (f64::from(lab.out[i]) * 1_048_576.0 - 1.0)) / 48.0)
        .collect()
}

#[test]
fn after_an_outage_nothing_stale_is_played() {
    let format = f32_mono();
    for (burst, what) in [(true, "held back"), (false, "lost")] {
        let mut sent = packets(&format, &counting(5 * 48_000));
        let outage = 2_000 * MS..2_500 * MS;
        sent.retain_mut(|p| {
            if outage.contains(&p.arrival) {
                p.arrival = outage.end;
                return burst;
            }
            true
        });
        let mut lab = mono();
        lab.join(plain(&format, lab.mixer.output()), sent);
        lab.run(2_000 * MS);
        let before = lab.senders[0].stats();
        lab.run(4_900 * MS);
        let stats = lab.senders[0].stats();
        // The first good sample within a packet of the return (what was lost in the outage is
        // due one playout delay later), and at its normal age.
        let back = 2_500 + if burst { 0 } else { 8 } + 3;
        let faded = 3;
        for age in ages(&lab, back + faded, 4_900) {
            assert!((age - before.delay.as_secs_f64() * 1e3).abs() < 0.1, "{what}: {age} ms old");
        }
        assert!(stats.concealed < 505 * 48, "{what}: {stats:?}");
        assert_eq!(stats.reanchors, 0, "{what}: {stats:?}");
        // What was made up has faded after 60 ms.
        assert!(lab.out[2_075 * 48..2_499 * 48].iter().all(|x| *x == 0.0), "{what}");
    }
}

#[test]
fn an_output_that_was_suspended_plays_nothing_stale() {
    let format = f32_mono();
    for pause in [100, 300, 1_500, 3_000] {
        let mut lab = mono();
        lab.join(auto(&format, lab.mixer.output()), packets(&format, &counting(8 * 48_000)));
        lab.run(2_000 * MS);
        lab.start += pause * MS;
        lab.run(7_900 * MS);
        let stats = lab.senders[0].stats();
        assert_eq!(stats.reanchors, 1, "{pause}: {stats:?}");
        assert!(stats.concealed < 20 * 48, "{pause}: {stats:?}");
        // The output has not counted the frames of its pause.
        let pause = pause as usize;
        for age in ages(&lab, 2_020, 7_900 - pause) {
            let age = age + pause as f64;
            assert!((5.0..53.0).contains(&age), "{pause}: {age} ms old");
        }
    }
}

#[test]
fn a_long_outage_ends_in_a_new_anchor() {
    let format = f32_mono();
    let mut sent = packets(&format, &counting(8 * 48_000));
    sent.retain(|p| !(2_000 * MS..5_000 * MS).contains(&p.arrival));
    let mut lab = mono();
    lab.join(auto(&format, lab.mixer.output()), sent);
    lab.run(7_900 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!(stats.reanchors, 1, "{stats:?}");
    // Two seconds are concealed, after that nothing is due.
    assert!(stats.concealed.abs_diff(96_000) < 480, "{stats:?}");
    assert!(stats.silence > 48_000, "{stats:?}");
    for age in ages(&lab, 5_015, 7_900) {
        assert!(age < 13.0, "{age} ms old");
    }
}

#[test]
fn a_jump_of_the_senders_clock_is_spliced() {
    let format = f32_mono();
    for jump in [-90_000_i64, 30_000, 4_800_000] {
        // The sound jumps with the clock: from +0.29 to −0.29.
        let mut samples = sine(440.0, 48_000, 5 * 48_000);
        samples[1_001 * 120..].iter_mut().for_each(|x| *x = -*x);
        let mut sent = packets(&format, &samples);
        for p in sent.iter_mut().filter(|p| p.index >= 1_001) {
            p.ts = p.ts.strict_add_signed(jump);
            p.discontinuity = p.index == 1_001;
        }
        let mut lab = mono();
        lab.join(auto(&format, lab.mixer.output()), sent);
        lab.run(4_900 * MS);
        let stats = lab.senders[0].stats();
        assert_eq!(stats.reanchors, 1, "{jump}: {stats:?}");
        assert!(stats.concealed <= 120, "{jump}: {stats:?}");
        assert!(stats.delay < ms(13), "{jump}: {stats:?}");
        assert!(clicks(&lab.out, SLOPE).is_empty(), "{jump}");
    }
}

#[test]
fn a_sender_that_numbers_anew_is_heard_at_once() {
    let format = f32_mono();
    let mut lab = mono();
    let mut again = packets(&format, &sine(440.0, 48_000, 2 * 48_000));
    again.iter_mut().for_each(|p| p.arrival += 2_100 * MS);
    lab.join(auto(&format, lab.mixer.output()), packets(&format, &counting(2 * 48_000)));
    lab.run(2_050 * MS);
    let sender = &mut lab.senders[0];
    sender.rx.as_mut().unwrap().restart();
    sender.packets.extend(again);
    lab.run(4_000 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!((stats.duplicate, stats.reanchors, stats.late), (0, 1, 0), "{stats:?}");
    assert!(stats.delay < ms(13), "{stats:?}");
    let heard = lab.out[2_115 * 48..].iter().filter(|x| x.abs() > 0.1).count();
    assert!(heard > 48_000);
}

#[test]
fn a_pause_of_the_sender_is_silence_and_its_return_is_on_time() {
    let format = f32_mono();
    let mut sent = packets(&format, &sine(440.0, 48_000, 40 * 48_000));
    // The numbers go on, the clock has moved: nothing was lost.
    sent.retain(|p| !(1_000..1_400).contains(&p.index));
    for p in sent.iter_mut().filter(|p| p.index >= 1_400) {
        p.index -= 400;
    }
    let mut lab = mono();
    lab.join(auto(&format, lab.mixer.output()), sent);
    lab.run(9_000 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!((stats.lost, stats.reanchors, stats.late), (0, 0, 0), "{stats:?}");
    assert!(clicks(&lab.out, SLOPE).is_empty());
}

#[test]
fn a_pause_that_is_known_in_time_is_not_concealed() {
    let format = f32_mono();
    let mut sent = packets(&format, &sine(440.0, 48_000, 2 * 48_000));
    for p in sent.iter_mut().filter(|p| p.index >= 400) {
        p.ts += 240;
        p.arrival += 5 * MS;
    }
    let mut lab = mono();
    let mut settings = auto(&format, lab.mixer.output());
    settings.delay = PlayoutDelay::Fixed(ms(40));
    lab.join(settings, sent);
    lab.run(500 * MS);
    let before = lab.senders[0].stats();
    lab.run(1_900 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!((stats.concealed, stats.reanchors), (0, 0), "{stats:?}");
    assert_eq!(stats.silence - before.silence, 240);
}

#[test]
fn silence_frames_count_as_received() {
    let format = f32_mono();
    let mut sent = packets(&format, &sine(440.0, 48_000, 2 * 48_000));
    for p in sent.iter_mut().filter(|p| (300..500).contains(&p.index)) {
        p.silence = 120;
    }
    let mut lab = mono();
    lab.join(plain(&format, lab.mixer.output()), sent);
    lab.run(1_900 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!(stats.concealed, 0, "{stats:?}");
    let lead = stats.silence as usize;
    assert!(lab.out[lead + 300 * 120..lead + 500 * 120].iter().all(|x| *x == 0.0));
}

#[test]
fn copies_that_fill_a_hole_count_as_repaired() {
    let format = f32_mono();
    let mut sent = packets(&format, &sine(440.0, 48_000, 2 * 48_000));
    for p in sent.iter_mut().filter(|p| p.index % 10 == 9) {
        p.arrival += 5 * MS;
        p.repair = true;
    }
    let mut lab = mono();
    lab.join(auto(&format, lab.mixer.output()), sent);
    lab.run(1_990 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!(stats.concealed, 0, "{stats:?}");
    assert!(stats.repaired.abs_diff(9_600) < 240, "{stats:?}");
}

/// A minute of a sender whose clock is this much fast, at what time it arrives.
fn drifting(format: &velin_core::codec::StreamFormat, ppm: i64) -> Vec<Packet> {
    let mut sent = packets(format, &sine(440.0, 48_000, 60 * 48_000));
    for p in &mut sent {
        p.arrival = p.arrival.saturating_add_signed(-(p.arrival as i64) / 1_000_000 * ppm);
    }
    sent
}

#[test]
fn clocks_that_drift_apart_are_followed_without_a_seam() {
    let format = f32_mono();
    for ppm in [-1_500, -300, 20, 300, 1_500] {
        let mut lab = mono();
        lab.join(auto(&format, lab.mixer.output()), drifting(&format, ppm));
        lab.run(15_000 * MS);
        for second in 20..57 {
            lab.run(second * 1_000 * MS);
            let stats = lab.senders[0].stats();
            let off = stats.delay.as_secs_f64() - stats.target.as_secs_f64();
            assert!(off.abs() < 100e-6, "{ppm} {second}: {stats:?}");
            // A clock that is slow by this much is so of its own second, not of ours.
            let drift = ppm * 1_000_000 / (1_000_000 - ppm) * 1_000;
            assert!((stats.drift_ppb - drift).abs() < 2_000, "{ppm} {second}: {stats:?}");
        }
        let stats = lab.senders[0].stats();
        assert_eq!((stats.reanchors, stats.concealed, stats.late), (0, 0, 0), "{ppm}: {stats:?}");
        assert!(clicks(&lab.out, SLOPE).is_empty(), "{ppm}");
    }
}

#[test]
fn clocks_that_nobody_follows_never_pile_up_delay() {
    let format = f32_mono();
    // Beyond any crystal, so that a minute shows what 100 ppm do in ten.
    for ppm in [-1_500, 1_500] {
        let mut lab = mono();
        lab.join(plain(&format, lab.mixer.output()), drifting(&format, ppm));
        for second in 1..57 {
            lab.run(second * 1_000 * MS);
            let stats = lab.senders[0].stats();
            assert!(stats.delay < ms(65), "{ppm} {second}: {stats:?}");
        }
        let stats = lab.senders[0].stats();
        assert!(stats.reanchors >= 1 && stats.reanchors < 60, "{ppm}: {stats:?}");
        assert!(clicks(&lab.out, SLOPE).is_empty(), "{ppm}");
    }
}

#[test]
fn a_fixed_delay_is_kept() {
    let format = f32_mono();
    // 5 ms are the block, the filter and the period; 2 ms the network.
    for delay in [7, 40, 250, 2_000] {
        let mut sent = packets(&format, &counting(6 * 48_000));
        let mut seed = Seed(delay);
        for p in &mut sent {
            p.arrival += if p.index == 0 { 0 } else { seed.below(2 * MS) };
        }
        let mut lab = mono();
        let mut settings = auto(&format, lab.mixer.output());
        settings.delay = PlayoutDelay::Fixed(ms(delay));
        lab.join(settings, sent);
        lab.run(5_900 * MS);
        for age in ages(&lab, 3_000, 5_900) {
            assert!((age - delay as f64).abs() < 0.05, "{age} ms at {delay}");
        }
        assert_eq!(lab.senders[0].stats().concealed, 0);
    }
}
