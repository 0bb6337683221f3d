//! More than one stream on a link, and more than one device: both directions between two machines,
//! and several listeners of one sender. The machines are network namespaces.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use velin::audio::{Clip, compare, melody, rustle};
use velin::launch::{Device, RATE, Receiver, SOON, alone, framed, sending};
use velin::machines::Machines;
use velin::net::{self, Side};
use velin::proc::{self, Process};
use velin::scene::pass;
use velin::skipped;
use velin_core::identity::{Grant, Grants};

#[test]
fn two_machines_talk_both_ways_over_one_connection() {
    let both = "--may play-to-me,capture-from-me";
    let device = Device::new().unwrap();
    if skipped(net::available().and_then(|()| device.pipe("version").map(drop))) {
        return;
    }
    let _alone = alone();
    let machines = Machines::strangers().unwrap();
    let (a, b) = (&machines.a, &machines.b);
    for (device, other, name) in [(a, b, "living-room"), (b, a, "laptop")] {
        let command = format!("trust add {} --name {name} {both}", other.key().recipient());
        proc::run(device.pipe(&command).unwrap(), SOON).unwrap();
    }

    let length = Duration::from_secs(4);
    let (from_a, from_b) = (melody(RATE, 2, length), rustle(7, RATE, 2, length, 0.3));
    let send = |device: &Device, clip: &Clip, properties: &str| {
        let wav = device.folder().join("played.wav");
        let pause = Duration::from_millis(2500);
        framed(clip, pause, Duration::from_millis(300)).write_16(&wav).unwrap();
        sending(&wav, properties)
    };
    let place = |side| {
        let machines = &machines;
        move |command: Command| machines.on(side, &command)
    };
    let beside = send(b, &from_b, "mode=listener");
    let at_b = Receiver::start_beside(b, "", &beside, place(Side::B)).unwrap();
    let to_b = format!("host={}", Side::B.ipv4());
    let beside = send(a, &from_a, &to_b);
    let calling = format!("mode=caller {to_b}");
    let at_a = Receiver::start_beside(a, &calling, &beside, place(Side::A)).unwrap();
    assert!(at_b.wait_for_sound(0, SOON).is_some(), "{}\n{}", at_a.output(), at_b.output());
    let connections = machines.net.tcp_connections(Side::A).unwrap();
    let said = || format!("{}\n{}", at_a.output(), at_b.output());
    assert_eq!(connections, 1, "{}", said());
    assert!(at_a.wait_for_sound(0, SOON).is_some(), "{}", said());
    pass(length + Duration::from_millis(500));

    for (tune, heard) in [(&from_a, &at_b), (&from_b, &at_a)] {
        let result = compare(tune, &heard.heard()).unwrap_or_else(|e| panic!("{e}\n{}", said()));
        println!("{result}");
        assert!(result.correlation >= 0.99, "{result}\n{}", said());
        assert_eq!(result.gaps, [], "{result}\n{}", said());
        assert!(result.lost_at_end < Duration::from_millis(50), "{result}\n{}", said());
    }
}

#[test]
fn one_who_hears_misses_nothing_when_others_die_or_stop_reading() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let machines = Machines::strangers().unwrap();
    let devices: Vec<Device> = (0..4).map(|_| Device::new().unwrap()).collect();
    let start = |(i, device): (usize, &Device)| {
        device.trust(machines.a.key(), "laptop");
        let hears = Grants::NONE.with(Grant::CaptureFromMe);
        machines.a.grant(device.key(), &format!("listener-{i}"), hears);
        // The last one has all of it on the connection that it does not read.
        let carrier = if i == 3 { "carrier=tcp" } else { "" };
        let properties = format!("mode=caller host={} {carrier}", Side::A.ipv4());
        Receiver::start_beside(device, &properties, "", |c| machines.on(Side::B, &c)).unwrap()
    };
    let mut receivers: Vec<Receiver> = devices.iter().enumerate().map(start).collect();

    let tune = melody(RATE, 2, Duration::from_secs(6));
    let pause = Duration::from_millis(2500);
    let wav: PathBuf = machines.wav(&framed(&tune, pause, Duration::from_millis(300)));
    let sender = machines.sender(&wav, "mode=listener").unwrap();
    let said = |r: &[Receiver], sender: &Process| {
        let outputs: Vec<String> = r.iter().map(Receiver::output).collect();
        format!("{}\n{}", sender.output(), outputs.join("\n"))
    };
    for receiver in &receivers {
        let sound = receiver.wait_for_sound(0, SOON);
        assert!(sound.is_some(), "{}", said(&receivers, &sender));
    }
    pass(Duration::from_millis(500));
    receivers[1].process().signal(Signal::KILL);
    receivers[2].process().signal(Signal::STOP);
    receivers[3].process().signal(Signal::STOP);
    let mut sender = sender;
    assert!(sender.wait(SOON).unwrap().success(), "{}", sender.output());
    receivers[0].wait_for("velin/stream-removed", SOON).unwrap();

    let result = compare(&tune, &receivers[0].heard()).unwrap();
    println!("{result}");
    let said = said(&receivers[..1], &sender);
    assert!(result.correlation >= 0.99, "{result}\n{said}");
    assert_eq!(result.gaps, [], "{result}\n{said}");
    assert!(result.lost_at_start <= Duration::from_millis(5), "{result}\n{said}");
    assert!(result.lost_at_end <= Duration::from_millis(5), "{result}\n{said}");
}
