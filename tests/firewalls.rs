//! Firewalls, and connections that somebody else cuts: the sound finds the way that is left. The
//! machines are network namespaces.

use std::time::{Duration, Instant};

use velin::audio::compare;
use velin::firewall::{self, Rule};
use velin::launch::{Receiver, SOON, alone};
use velin::net::{self, Side};
use velin::scene::{Scene, frames, pass, wait_for_count};
use velin::skipped;

const BY_UDP: &str = "route=(string)udp";
const BY_TCP: &str = "route=(string)tcp";

#[test]
fn where_a_firewall_drops_udp_the_sound_begins_on_tcp() {
    if skipped(net::available().and_then(|()| firewall::available())) {
        return;
    }
    let _alone = alone();
    let mut scene = Scene::new(secs(3));
    scene.silence_before = Duration::ZERO;
    let _rule = scene.machines.net.drop_udp_to(Side::B).unwrap();
    let place = |command| scene.machines.on(Side::B, &command);
    let receiver = Receiver::start(&scene.machines.b, "latency=20", place).unwrap();
    let began = receiver.began();
    let mut sender = scene.sender();
    // Before its first state change: keys, the connection and the file are still to come.
    sender.wait_for_line("Setting pipeline to PAUSED", SOON).unwrap();
    let start = Instant::now();
    let sound = receiver.wait_for_sound(0, SOON);
    let Some(sound) = sound else { panic!("no sound:\n{}", sender.output()) };
    let took = (began + frames(sound)).saturating_duration_since(start);
    println!("sound {took:?} after the start");
    let line = sender.wait_for_line("velin/route-changed", SOON).unwrap();
    // gst-launch escapes blanks.
    assert!(line.contains(BY_TCP) && line.contains("UDP\\ does\\ not\\ answer"), "{line}");
    assert!(sender.wait(SOON).unwrap().success());
    receiver.wait_for("velin/stream-removed", SOON).unwrap();

    let said = format!("{}\n{}", sender.output(), receiver.output());
    assert!(!sender.output().contains(BY_UDP), "{said}");
    let result = compare(&scene.tune, &receiver.heard()).unwrap_or_else(|e| panic!("{e}\n{said}"));
    println!("{result}");
    assert!(took < secs(1), "{took:?}\n{said}");
    assert!(result.correlation > 0.98, "{result}\n{said}");
}

#[test]
fn a_firewall_that_drops_udp_in_the_middle_costs_less_than_a_second() {
    blocked_in_the_middle(&[Side::A, Side::B], secs(2));
}

#[test]
fn udp_that_is_blocked_only_towards_the_receiver_is_noticed_by_the_sender() {
    blocked_in_the_middle(&[Side::B], secs(2));
}

#[test]
#[ignore = "takes half a minute; UDP that was blocked for long is tried every ten seconds"]
fn sound_is_on_udp_again_within_fifteen_seconds_after_a_long_block() {
    blocked_in_the_middle(&[Side::A, Side::B], secs(8));
}

/// UDP to `sides` is dropped for `time`.
fn blocked_in_the_middle(sides: &[Side], time: Duration) {
    if skipped(net::available().and_then(|()| firewall::available())) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(time + secs(17));
    let receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    wait_for_count(&sender, BY_UDP, 1, SOON);
    pass(secs(1));
    let block = |side: &Side| scene.machines.net.drop_udp_to(*side).unwrap();
    let rules: Vec<Rule<'_>> = sides.iter().map(block).collect();
    pass(time);
    drop(rules);
    let took = wait_for_count(&sender, BY_UDP, 2, secs(15));
    println!("on UDP again {took:?} after it was free");
    pass(secs(1));
    let said = format!("{}\n{}", sender.output(), receiver.output());
    assert!(sender.output().contains(BY_TCP), "{said}");
    // Pieces that were sent both ways are heard once: the rest of the tune is where it belongs.
    let result = compare(&scene.tune, &receiver.heard()).unwrap_or_else(|e| panic!("{e}\n{said}"));
    println!("{result}\n{:?}", result.gaps);
    assert!(result.missing() < secs(1), "{result}\n{said}");
    assert!(result.wrong < Duration::from_millis(100), "{result}\n{said}");
    assert!(result.wander_ms < 40.0, "{result}\n{said}");
    scene.assert_no_pop(&receiver.heard());
}

#[test]
fn a_connection_that_somebody_cuts_is_replaced_without_a_gap() {
    if skipped(net::available().and_then(|()| firewall::can_reset())) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(secs(8));
    let receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    wait_for_count(&sender, BY_UDP, 1, SOON);
    let net = &scene.machines.net;
    for side in [Side::A, Side::B] {
        pass(secs(1));
        assert_eq!(net.reset_tcp(side).unwrap(), 1);
        let start = Instant::now();
        let replaced = || net.tcp_connections(Side::A) == Ok(1);
        assert!(velin::proc::wait_until(secs(2), replaced), "{}", sender.output());
        println!("a new connection {:?} after the old one was cut", start.elapsed());
    }
    pass(secs(2));
    let said = format!("{}\n{}", sender.output(), receiver.output());
    let heard = receiver.heard();
    let result = compare(&scene.tune, &heard).unwrap_or_else(|e| panic!("{e}\n{said}"));
    println!("{result}");
    assert_eq!(result.gaps, [], "{result}\n{said}");
    assert!(result.correlation > 0.99, "{result}\n{said}");
    assert!(result.wrong < Duration::from_millis(5), "{result}\n{said}");
    // Whoever listens is not told of a loss that nobody hears.
    assert!(!said.contains("velin/stream-removed") && !said.contains("velin/stalled"), "{said}");
    let lost = said.lines().filter(|line| line.contains("velin/peer-lost"));
    assert!(lost.clone().count() == 2 && lost.clone().all(|l| l.contains("SUPERSEDED")), "{said}");
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
