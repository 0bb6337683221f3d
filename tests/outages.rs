//! What goes wrong in real life, and how the sound comes back by itself: never stale, never with a
//! pop. The machines are network namespaces.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use velin::launch::{SOON, alone};
use velin::net::{self, Side};
use velin::scene::{Scene, cut, pass};
use velin::skipped;

/// A real input cannot give later what it did not give in time; a file can, so its sender is told to
/// leave out what is late.
const LIKE_A_MICROPHONE: &str = "max-lateness=50000000";

#[test]
fn a_receiver_that_is_killed_and_restarted_plays_on_within_two_seconds() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(secs(9));
    let mut first = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(first.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let before = first.began();
    first.process().signal(Signal::KILL);
    first.process().wait(SOON).unwrap();
    let heard_before = first.heard();
    drop(first);
    // Long enough for a first attempt in vain.
    pass(Duration::from_millis(500));

    let second = scene.machines.receiver().unwrap();
    let restarted = Instant::now();
    let sound = second.wait_for_sound(0, SOON);
    let took = restarted.elapsed();
    println!("sound {took:?} after the restart");
    let said = format!("{}\n{}", sender.output(), second.output());
    assert!(sound.is_some() && took < secs(2), "{took:?}\n{said}");
    pass(secs(2));
    let after = second.began();
    let heard_after = second.heard();

    // In the time of the wall, the tune goes on where it would be without the outage.
    scene.assert_in_step((&heard_before, before), (&heard_after, after), &said);
    scene.assert_no_pop(&heard_after);
}

#[test]
fn sound_returns_after_five_seconds_without_a_network() {
    sound_returns_after(secs(5));
}

#[test]
fn sound_returns_after_twelve_seconds_when_the_connection_is_given_up() {
    // Linux gives a connection up that was not acknowledged for 10 s (the link sets that).
    sound_returns_after(secs(12));
}

#[test]
#[ignore = "takes a minute; the keys of a session live for 60 s"]
fn sound_returns_after_fifty_seconds_without_a_network() {
    sound_returns_after(secs(50));
}

fn sound_returns_after(outage: Duration) {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(outage + secs(8));
    let receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let out = receiver.frames();
    scene.machines.net.unplug(Side::A).unwrap();
    pass(outage);
    let back = receiver.frames();
    scene.machines.net.plug(Side::A).unwrap();
    scene.assert_returns(&receiver, &sender, out, back, secs(1));
    // The keys outlived the outage: for whoever listens, the stream never ended.
    assert_goes_on(&sender.output(), &receiver.output());
}

/// Neither a new peer nor a new stream.
#[track_caller]
fn assert_goes_on(sender: &str, receiver: &str) {
    for event in ["velin/peer-lost", "velin/stream-removed"] {
        assert!(!sender.contains(event) && !receiver.contains(event), "{sender}\n{receiver}");
    }
    assert_eq!(receiver.matches("velin/stream-added").count(), 1, "{sender}\n{receiver}");
}

#[test]
fn sound_returns_after_the_sender_got_another_address() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(secs(14));
    let receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let now = receiver.frames();
    scene.machines.net.readdress(Side::A, Ipv4Addr::new(192, 0, 2, 77)).unwrap();
    scene.assert_returns(&receiver, &sender, now, now, secs(8));
}

#[test]
fn sound_returns_when_the_sender_wakes_after_eight_seconds() {
    sound_returns_when_the_sender_wakes(secs(8));
}

#[test]
#[ignore = "takes over a minute; the keys of a session live for 60 s"]
fn sound_returns_when_the_sender_wakes_after_its_keys_have_run_out() {
    sound_returns_when_the_sender_wakes(secs(65));
}

#[test]
fn sound_returns_when_the_receiver_wakes_after_eight_seconds() {
    sound_returns_when_the_receiver_wakes(secs(8));
}

#[test]
#[ignore = "takes over a minute; the keys of a session live for 60 s"]
fn sound_returns_when_the_receiver_wakes_after_its_keys_have_run_out() {
    sound_returns_when_the_receiver_wakes(secs(65));
}

fn sound_returns_when_the_sender_wakes(sleep: Duration) {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(sleep + secs(8));
    let receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender_with(LIKE_A_MICROPHONE);
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let out = receiver.frames();
    sender.signal(Signal::STOP);
    pass(sleep);
    let back = receiver.frames();
    sender.signal(Signal::CONT);
    scene.assert_returns(&receiver, &sender, out, back, secs(1));
}

fn sound_returns_when_the_receiver_wakes(sleep: Duration) {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let scene = Scene::new(sleep + secs(8));
    let mut receiver = scene.machines.receiver().unwrap();
    let sender = scene.sender();
    assert!(receiver.wait_for_sound(0, SOON).is_some(), "{}", sender.output());
    pass(secs(2));
    let began = receiver.began();
    receiver.process().signal(Signal::STOP);
    // A write may be under way.
    pass(Duration::from_millis(50));
    let stopped = receiver.frames();
    pass(sleep);
    receiver.process().signal(Signal::CONT);
    let woke = Instant::now();
    let sound = receiver.wait_for_sound(stopped, SOON);
    let took = woke.elapsed();
    println!("sound {took:?} after waking");
    let said = || format!("{}\n{}", sender.output(), receiver.output());
    let Some(sound) = sound else { panic!("no sound came back:\n{}", said()) };
    println!("{:?} after the last frame before", velin::scene::frames(sound - stopped));
    assert!(took < secs(1), "{took:?}\n{}", said());
    pass(secs(2));
    // The recording has a hole where the receiver slept: as if another one had begun.
    let again = receiver.began();
    let heard = receiver.heard();
    let before = cut(&heard, 0, stopped);
    let after = cut(&heard, sound, heard.frames());
    scene.assert_in_step((&before, began), (&after, again), &said());
    scene.assert_no_pop(&after);
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
