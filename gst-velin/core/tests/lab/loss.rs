//! Lost packets.

use crate::clocks::MS;
use crate::model::{Outcome, Scenario};
use crate::network::{Delay, Loss, Way};

/// Ten minutes of defaults with 0–2 ms of jitter each way and this loss.
fn ten_minutes(loss: Loss) -> Outcome {
    let mut s = Scenario::defaults(610.0);
    s.way = Way::wired(21).delay(Delay::Uniform(2 * MS)).loss(loss);
    s.run()
}

/// `most` is the share that may be concealed.
fn check(row: &str, o: &Outcome, most: f64, most_ms: f64) {
    let ages = o.ages_after(10.0);
    println!(
        "row: {row}: concealed {:.4} % = {:.1} ms per 10 min at {:.2} ms (p99 {:.2}, true age \
         {:.2}), {:.1} kB/s, repaired {:.2} %",
        o.concealed_share() * 100.0,
        o.concealed_ms(),
        o.delay.median_ms(),
        o.delay.p99_ms(),
        ages.median_ms(),
        o.kilobytes_per_s(),
        o.stats.repaired as f64 / o.stats.played as f64 * 100.0,
    );
    assert!(o.concealed_share() <= most, "{:?}", o.stats);
    assert!(o.delay.median_ms() <= most_ms, "{:?}", o.stats);
    assert!(ages.median_ms() <= most_ms + 2.2, "{:?}", o.stats);
}

#[test]
fn five_percent_of_random_loss_is_not_heard() {
    let o = ten_minutes(Loss::Random(0.05));
    check("5 % random loss", &o, 5.0 / 600e3, 18.0);
    assert!(o.kilobytes_per_s() <= 255.0);
}

#[test]
fn ten_percent_of_random_loss_is_hardly_heard() {
    check("10 % random loss", &ten_minutes(Loss::Random(0.1)), 0.000_2, 25.0);
}

#[test]
fn twenty_percent_of_random_loss_is_hardly_heard() {
    check("20 % random loss", &ten_minutes(Loss::Random(0.2)), 0.001, 40.0);
}

#[test]
fn loss_in_bursts_is_mostly_repaired() {
    let o = ten_minutes(Loss::Bursts { share: 0.05, burst: 3.0 });
    check("Gilbert-Elliott 5 %, mean burst 3", &o, 0.005, 25.0);
}

#[test]
fn outages_of_twenty_milliseconds_each_second_are_repaired() {
    let o = ten_minutes(Loss::Outages { every: 980e6, length: 20e6 });
    check("20 ms outages each second", &o, 0.001, 75.0);
}

#[test]
fn without_repair_what_is_lost_is_concealed_and_nothing_else() {
    let mut s = Scenario::defaults(120.0);
    s.repair = velin_core::playout::RepairWish::Off;
    s.way = Way::wired(22).loss(Loss::Random(0.02));
    let o = s.run();
    println!(
        "row: 2 % random loss, repair off: lost {} blocks, concealed {:.3} %",
        o.stats.lost,
        o.concealed_share() * 100.0
    );
    let lost = o.stats.lost as f64 * 120.0;
    assert!((o.stats.concealed as f64 - lost).abs() < lost * 0.02 + 480.0, "{:?}", o.stats);
    assert_eq!(o.stats.repaired, 0);
}
