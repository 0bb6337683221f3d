//! Senders that stop, start anew or jump, and machines that sleep.

use crate::clocks::{Clock, S};
use crate::ears::Notes;
use crate::model::{Outcome, Scenario, Sound, Turn};
use crate::network::{Loss, Way};

/// The engine's figures at so many seconds of true time.
fn at(notes: &Notes, seconds: f64) -> velin_core::playout::StreamStats {
    let i = notes.0.partition_point(|(due, _)| (*due as f64) < seconds * 1e9);
    notes.0[i.min(notes.0.len() - 1)].1
}

/// After `back` (s) sound is there soon, at the old delay within 10 s, and whole.
fn check(row: &str, o: &Outcome, notes: &Notes, back: f64, tolerated_ms: f64) {
    check_within(row, o, notes, back, tolerated_ms, 1_000);
}

/// The delay is as before but for `moved_us`.
fn check_within(
    row: &str,
    o: &Outcome,
    notes: &Notes,
    back: f64,
    tolerated_ms: f64,
    moved_us: u128,
) {
    let real = |s: f64| at(notes, s).received;
    let first =
        notes.0.iter().find(|(due, stats)| *due as f64 > back * 1e9 && stats.received > real(back));
    let silent = first.map_or(f64::INFINITY, |(due, _)| *due as f64 / 1e6 - back * 1e3);
    let (before, after) = (at(notes, back - 35.0).delay, at(notes, back + 10.0).delay);
    let holes = at(notes, back + 60.0).concealed - at(notes, back + 1.0).concealed;
    println!(
        "row: {row}: sound {silent:.1} ms after, delay {:.2} ms before and {:.2} ms 10 s after, {} \
         re-anchors, concealed {:.1} ms in the first second and {:.1} ms in the minute after it",
        before.as_secs_f64() * 1e3,
        after.as_secs_f64() * 1e3,
        o.stats.reanchors,
        (at(notes, back + 1.0).concealed - at(notes, back).concealed) as f64 / 48.0,
        holes as f64 / 48.0,
    );
    assert!(silent <= tolerated_ms, "{silent}");
    assert!(after.abs_diff(before).as_micros() < moved_us, "{before:?} {after:?}");
    assert_eq!(holes, 0, "{:?}", o.stats);
}

fn two_minutes() -> Scenario {
    let mut s = Scenario::defaults(180.0);
    s.way = Way::wired(41).delay(crate::network::Delay::Exponential(100e3));
    s
}

#[test]
fn a_suspended_sender_is_heard_again_at_once() {
    let mut s = two_minutes();
    s.sender = Clock::ppm(50.0).asleep(60.0, 90.0);
    let (o, notes) = s.listen(Notes::default());
    check("sender suspended for 30 s", &o, &notes, 90.0, 200.0);
}

#[test]
fn a_suspended_receiver_hears_again_at_once() {
    let mut s = two_minutes();
    s.host = Clock::exact().asleep(60.0, 90.0);
    s.out = Clock::ppm(-50.0).asleep(60.0, 90.0);
    s.asleep = Some((60.0, 90.0));
    let (o, notes) = s.listen(Notes::default());
    check("receiver suspended for 30 s", &o, &notes, 90.0, 200.0);
}

#[test]
fn a_sender_that_starts_anew_is_heard_at_once() {
    let mut s = two_minutes();
    s.turns = vec![Turn::Restart { at: 90.0 }];
    let (o, notes) = s.listen(Notes::default());
    check("sender restarted", &o, &notes, 90.0, 20.0);
}

#[test]
fn a_media_clock_may_jump() {
    for frames in [48_000 * 20, -48_000 * 20, 4_800, -4_800] {
        let mut s = two_minutes();
        s.turns = vec![Turn::Step { at: 90.0, frames }];
        let (o, notes) = s.listen(Notes::default());
        check(&format!("media clock stepped by {frames} frames"), &o, &notes, 90.0, 60.0);
    }
}

#[test]
fn nothing_sent_for_thirty_seconds_and_then_sound() {
    let mut s = two_minutes();
    s.turns = vec![Turn::Nothing { from: 60.0, to: 90.0 }];
    let (o, notes) = s.listen(Notes::default());
    check("nothing sent for 30 s, then sound", &o, &notes, 90.0, 20.0);
    // The pause is the sender's own: but for what could have been a loss at first, silence.
    let pause = at(&notes, 90.0).concealed - at(&notes, 60.0).concealed;
    println!("row: nothing sent for 30 s: {:.1} ms of it concealed", pause as f64 / 48.0);
    assert!(pause <= 2 * 48_000 + 480, "{pause}");
}

#[test]
fn the_first_sample_after_a_long_pause_is_intact() {
    let mut s = Scenario::audible(120.0, Sound::Saw);
    s.turns = vec![Turn::Nothing { from: 60.0, to: 90.0 }];
    let (_, tape) = s.listen(crate::ears::Tape::default());
    let first = 90 * 48_000_u64;
    let sent: Vec<f32> = (first..first + 4_800).map(|i| Sound::Saw.at(i)).collect();
    let from = 48_000 * 89;
    let begin = tape.samples[from..].iter().position(|x| *x != 0.0).unwrap() + from;
    // The filter may ring a little before the first.
    let best = (begin..begin + 400).map(|at| {
        let heard = &tape.samples[at..at + 4_800];
        heard.iter().zip(&sent).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    });
    let off = best.fold(f32::INFINITY, f32::min);
    println!("row: first sample after 30 s of nothing: off by {off:.4} of full scale at most");
    assert!(off < 0.05, "{off}");
}

#[test]
fn a_mute_gap_followed_by_a_loss_does_not_stall_the_stream() {
    let mut s = two_minutes();
    s.turns = vec![Turn::Mute { from: 60.0, to: 80.0 }, Turn::Nothing { from: 80.0, to: 85.0 }];
    s.way = s.way.loss(Loss::Between(84_950_000_000, 85 * S + 50_000_000));
    let (o, notes) = s.listen(Notes::default());
    // What was lost may ask for a little more.
    check_within("mute, nothing, and the first packets lost", &o, &notes, 85.05, 50.0, 1_500);
}
