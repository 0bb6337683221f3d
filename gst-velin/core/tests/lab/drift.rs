//! Clocks that run at different rates.

use std::time::Duration;

use velin_core::playout::PlayoutDelay;

use crate::clocks::{Clock, Law, MS, S};
use crate::measure::Distribution;
use crate::model::{Outcome, Scenario, Sound};
use crate::network::{Delay, Way};

/// Five milliseconds of jitter, a fixed delay (so that its error is the loop's alone).
fn under_jitter(seconds: f64) -> Scenario {
    let mut s = Scenario::long(seconds);
    s.format.frames_per_block = 120;
    s.sound = Sound::Humps(400);
    s.delay = PlayoutDelay::Fixed(Duration::from_millis(30));
    s.way = Way::wired(31).delay(Delay::Uniform(5 * MS));
    s
}

/// What the true ages say.
struct Truth {
    /// Of ages after 10 s from their mean, µs.
    rms_us: f64,
    most_us: f64,
    /// Change of age over ten seconds, after 20 s, as the error of the ratio, ppm.
    ratio_most: f64,
    /// The same soon after 20 s.
    ratio_soon: f64,
    ratio_sd: f64,
    heard: u64,
}

fn truth(o: &Outcome) -> Truth {
    let ages = o.ages_after(10.0);
    let mean = ages.mean_ms() * 1e6;
    let off = |age: &i64| (*age as f64 - mean).abs() / 1e3;
    let late = o.ages.iter().filter(|(at, _)| *at > 10_000 * MS);
    let most_us = late.map(|(_, age)| off(age)).fold(0.0, f64::max);
    let after = &o.ages[o.ages.partition_point(|(at, _)| *at < 20 * S)..];
    let slopes = after.iter().filter_map(|(at, age)| {
        let later = after.get(after.partition_point(|(other, _)| *other < at + 10 * S - MS))?;
        Some((later.1 - age) as f64 / (later.0 - at) as f64 * 1e6)
    });
    let slopes: Vec<f64> = slopes.collect();
    let ratio_soon = slopes.iter().take(8).fold(0.0, |most: f64, x| most.max(x.abs()));
    let n = slopes.len().max(1) as f64;
    let ratio_sd = (slopes.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
    let ratio_most = slopes.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    Truth {
        rms_us: ages.deviation_us(),
        most_us,
        ratio_most,
        ratio_soon,
        ratio_sd,
        heard: ages.count(),
    }
}

fn check(row: &str, o: &Outcome, rms_us: f64, most_us: f64) -> Truth {
    let t = truth(o);
    println!(
        "row: {row}: true delay error {:.1} us RMS, {:.1} us at most from 10 s on (engine's own \
         {:.1}), ratio error from 20 s on {:.2} ppm RMS, {:.2} at most, {} frames concealed, {} \
         re-anchors",
        t.rms_us,
        t.most_us,
        o.error_rms_us(),
        t.ratio_sd,
        t.ratio_most,
        o.stats.concealed,
        o.stats.reanchors,
    );
    assert!(t.heard as f64 > o.humps as f64 * 0.9 - 12.0, "humps were lost: {}", t.heard);
    assert_eq!(o.stats.concealed + o.stats.reanchors + o.stats.late + o.stats.overrun, 0);
    assert!(t.rms_us <= rms_us, "{}", t.rms_us);
    assert!(t.most_us <= most_us, "{}", t.most_us);
    t
}

#[test]
fn a_day_of_a_fast_sender_drops_and_repeats_nothing() {
    a_day(300.0);
}

#[test]
fn a_day_of_a_slow_sender_drops_and_repeats_nothing() {
    a_day(-300.0);
}

fn a_day(ppm: f64) {
    let mut s = under_jitter(86_400.0);
    s.sound = Sound::Humps(2_000);
    s.sender = Clock::ppm(ppm);
    let o = s.run();
    let t = check(&format!("{ppm:+} ppm under 5 ms jitter, 24 h"), &o, 50.0, 300.0);
    println!("row: {ppm:+} ppm: ratio within {:.2} ppm soon after 20 s", t.ratio_soon);
    assert!(t.ratio_soon <= 5.0 && t.ratio_sd <= 2.0);
}

#[test]
fn it_does_not_matter_which_clock_is_wrong() {
    type Set = fn(&mut Scenario);
    let clocks: [(&str, Set); 3] = [
        ("output +200 ppm", |s| s.out = Clock::ppm(200.0)),
        ("host +150 ppm", |s| s.host = Clock::ppm(150.0)),
        ("sender +250, host -200, output -250 ppm", |s| {
            (s.sender, s.host, s.out) = (Clock::ppm(250.0), Clock::ppm(-200.0), Clock::ppm(-250.0));
        }),
    ];
    for (row, set) in clocks {
        let mut s = under_jitter(3_600.0);
        set(&mut s);
        let o = s.run();
        check(&format!("{row}, 1 h"), &o, 50.0, 300.0);
    }
}

#[test]
fn ramps_of_a_ppm_a_second_are_followed() {
    let mut s = under_jitter(7_200.0);
    s.sender = Clock::new(Law::Ramp { ppm_per_s: 1.0, limit: 300.0 });
    let o = s.run();
    check("ramps of 1 ppm/s to ±300, 2 h", &o, 300.0, 300.0);
}

#[test]
fn a_wandering_clock_is_followed() {
    let mut s = under_jitter(7_200.0);
    s.out = Clock::new(Law::Wander { step: 0.2, limit: 100.0, seed: 32 });
    let o = s.run();
    check("output wandering within ±100 ppm, 2 h", &o, 50.0, 300.0);
}

#[test]
fn a_step_of_the_rate_is_followed_without_a_gap() {
    let mut s = under_jitter(600.0);
    s.sender = Clock::new(Law::Steps(vec![(100.0, 300.0), (300.0, -300.0)]));
    let o = s.run();
    let t = truth(&o);
    println!(
        "row: steps 0, +300, -300 ppm: delay off by {:.2} ms at most, {} frames concealed, {} \
         re-anchors",
        t.most_us / 1e3,
        o.stats.concealed,
        o.stats.reanchors
    );
    let mut settled = Distribution::default();
    let again = o.ages.iter().filter(|(at, _)| (380..600).contains(&(at / 1_000_000_000)));
    again.for_each(|(_, age)| settled.add(*age));
    assert_eq!(o.stats.concealed + o.stats.reanchors, 0);
    assert!(t.most_us < 5_000.0 && settled.deviation_us() < 50.0);
}

#[test]
fn the_learned_delay_too_stays_where_it_is() {
    let mut s = Scenario::long(1_800.0);
    s.way = Way::wired(33).delay(Delay::Uniform(5 * MS));
    s.sender = Clock::ppm(-100.0);
    s.warm_up = 30.0;
    let o = s.run();
    println!(
        "row: learned delay, -100 ppm, 5 ms jitter, 30 min: delay {:.2} ms, target {:.2} to {:.2} \
         ms, error {:.0} us RMS, {} frames concealed, {} re-anchors",
        o.delay.median_ms(),
        o.target.quantile_ms(0.0),
        o.target.most_ms(),
        o.error_rms_us(),
        o.concealed(),
        o.reanchors()
    );
    assert!(o.error_rms_us() < 600.0);
    assert_eq!(o.concealed() + o.reanchors(), 0);
}
