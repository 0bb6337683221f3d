//! Delay that varies, and paths that stand still.

use velin_core::playout::{PlayoutDelay, Profile, RepairWish};

use crate::clocks::{MS, S};
use crate::ears::Notes;
use crate::model::{Outcome, Scenario};
use crate::network::{Delay, Stalls, Way};

/// A cable and a switch. What a host's scheduling adds, kernel stamps take away.
fn cable(seed: u64) -> Way {
    Way::wired(seed).delay(Delay::Exponential(50e3)).delay(Delay::Spikes { share: 1e-4, mean: 5e5 })
}

fn say(row: &str, o: &Outcome) {
    let ages = o.ages_after(10.0);
    println!(
        "row: {row}: median {:.2} ms, p99 {:.2} ms (true age {:.2}/{:.2}), concealed {:.4} % = \
         {:.1} ms, {} re-anchors",
        o.delay.median_ms(),
        o.delay.p99_ms(),
        ages.median_ms(),
        ages.p99_ms(),
        o.concealed_share() * 100.0,
        o.concealed_ms(),
        o.reanchors(),
    );
}

#[test]
fn a_cable_needs_little_delay_and_has_no_gap() {
    let mut s = Scenario::defaults(600.0);
    s.way = cable(11);
    let o = s.run();
    say("wired, defaults", &o);
    assert_eq!(o.concealed() + o.reanchors(), 0);
    let ages = o.ages_after(10.0);
    assert!(o.delay.median_ms() <= 8.0 && o.delay.p99_ms() <= 10.0);
    assert!(ages.median_ms() <= 8.0 && ages.p99_ms() <= 10.0);
}

#[test]
fn short_packets_on_a_cable_are_heard_within_four_milliseconds() {
    for (repair, median, p99) in [(RepairWish::Off, 3.5, 4.5), (RepairWish::Auto, 5.0, 5.0)] {
        let mut s = Scenario::defaults(600.0);
        s.way = cable(12);
        s.format.frames_per_block = 48;
        s.delay = PlayoutDelay::Adaptive(Profile::Low);
        s.repair = repair;
        let o = s.run();
        say(&format!("wired, 1 ms packets, profile low, repair {repair:?}"), &o);
        let ages = o.ages_after(10.0);
        assert!(ages.median_ms() <= median && ages.p99_ms() <= p99);
    }
}

#[test]
fn twenty_milliseconds_of_jitter_are_learned_within_two_seconds() {
    for in_order in [false, true] {
        let mut s = Scenario::defaults(600.0);
        s.way = Way::wired(13).delay(Delay::Uniform(20 * MS));
        s.way.in_order = in_order;
        s.warm_up = 2.0;
        let o = s.run();
        let order = if in_order { "kept" } else { "lost" };
        say(&format!("20 ms jitter (uniform), order {order}"), &o);
        assert_eq!(o.concealed(), 0, "{in_order}");
        assert!(o.delay.median_ms() <= 35.0 && o.ages_after(10.0).median_ms() <= 35.0);
    }
}

#[test]
fn after_a_stall_sound_is_back_within_a_packet_and_the_target_within_ten_seconds() {
    let mut s = Scenario::defaults(600.0);
    let stalls = Stalls { every: 30 * S, random: false, length: (100 * MS, 500 * MS) };
    s.way = Way::wired(14).delay(Delay::Exponential(200e3)).stalls(stalls);
    let spans = s.way.stalled(600 * S);
    assert!(spans.len() > 15);
    let (o, Notes(notes)) = s.listen(Notes::default());
    let at = |time: i64| notes.partition_point(|(due, _)| *due < time);
    let (mut silent, mut late) = (0, 0);
    for (begin, end) in spans.iter().filter(|(_, end)| end + 11 * S < 600 * S) {
        // Sound is due again with the first period after the burst.
        let burst = at(end + MS / 10);
        let real = |i: usize| notes[i].1.received + notes[i].1.repaired;
        let heard = (burst..notes.len()).find(|i| real(*i) > real(burst - 1)).unwrap();
        silent = silent.max(notes[heard].0 - end);
        let (before, after) = (notes[at(*begin) - 1].1.target, notes[at(end + 10 * S)].1.target);
        late += u32::from(after > before + std::time::Duration::from_millis(1));
    }
    say("stalls of 100-500 ms every 30 s", &o);
    println!(
        "row: stalls: first good sample at most {:.2} ms after the stall, {late} of {} targets not \
         back in 10 s",
        silent as f64 / 1e6,
        spans.len() - 1
    );
    // A packet, and the output's own period.
    assert!(silent <= 3_600_000, "{silent}");
    assert_eq!(late, 0);
}

#[test]
fn reordered_and_doubled_packets_do_no_harm() {
    let mut s = Scenario::defaults(300.0);
    s.way = cable(15);
    s.way.reordered = 0.05;
    s.way.duplicates = 0.05;
    let o = s.run();
    say("5 % overtaken and 5 % doubled, by up to 5 ms", &o);
    assert!(o.stats.reordered > 2_000 && o.stats.duplicate > 2_000, "{:?}", o.stats);
    assert!(o.concealed_share() < 1e-3, "{:?}", o.stats);
}
