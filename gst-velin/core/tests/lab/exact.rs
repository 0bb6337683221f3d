//! Ten minutes with audio: what was really heard, sample by sample.

use crate::clocks::Clock;
use crate::ears::SawEar;
use crate::model::{Outcome, Scenario, Sound};
use crate::network::{Delay, Loss, Way};

fn listen(s: Scenario) -> (Outcome, SawEar) {
    let ear = SawEar::new(&s.sender, 10.0);
    s.listen(ear)
}

fn say(row: &str, o: &Outcome, ear: &SawEar) {
    println!(
        "row: {row}: true age median {:.3} ms, p99 {:.3} ms, deviation {:.1} us; engine says {:.3} \
         ms; {} of {} samples marred, {} jumps, concealed {}",
        ear.ages.median_ms(),
        ear.ages.p99_ms(),
        ear.ages.deviation_us(),
        o.delay.median_ms(),
        ear.marred,
        ear.heard,
        ear.jumps.len(),
        o.concealed(),
    );
}

#[test]
fn every_sample_of_ten_minutes_follows_the_one_before_it() {
    for ppm in [0.0, 100.0, -100.0] {
        let mut s = Scenario::audible(600.0, Sound::Saw);
        s.sender = Clock::ppm(ppm);
        s.way = Way::wired(51).delay(Delay::Exponential(100e3));
        let (o, ear) = listen(s);
        say(&format!("audio, wired, {ppm:+} ppm, 10 min"), &o, &ear);
        assert_eq!((ear.marred, ear.jumps.len()), (0, 0), "{:?}", ear.jumps);
        assert_eq!(o.concealed() + o.reanchors(), 0);
        // The path's own 0.1 ms, and what its jitter hides.
        assert!((ear.ages.median_ms() - o.delay.median_ms() - 0.1).abs() < 0.15);
    }
}

#[test]
fn what_is_marred_is_what_was_concealed_and_its_joins() {
    let mut s = Scenario::audible(600.0, Sound::Saw);
    s.repair = velin_core::playout::RepairWish::Off;
    s.sender = Clock::ppm(40.0);
    s.way = Way::wired(52).loss(Loss::Random(0.01));
    let (o, ear) = listen(s);
    say("audio, 1 % random loss, repair off", &o, &ear);
    let gaps = o.stats.lost as f64 * 0.98;
    let joins = ear.marred as f64 - o.concealed() as f64;
    // A gap that continues the waveform well is not even marred; a join is 2.5 ms long.
    assert!(joins < gaps * 2.0 * 120.0, "{joins} {gaps}");
    // Behind the edge of a sawtooth what is made up may go on at a wrong slope: an ear that follows
    // it is led astray by less than the gap, and finds back.
    let astray = |jump: &&(i64, f64)| jump.1.abs() >= 120.0;
    assert!(ear.jumps.iter().find(astray).is_none() || o.reanchors() > 0, "{:?}", ear.jumps);
    assert!(ear.jumps.len() as f64 <= gaps / 500.0, "{:?}", ear.jumps);
}
