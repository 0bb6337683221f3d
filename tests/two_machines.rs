//! Two machines with users of their own: one `trust add` on each, then sound. The machines are network
//! namespaces.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use velin::audio::{compare, melody};
use velin::launch::{Device, RATE, SOON, alone, first_sound, framed};
use velin::machines::Machines;
use velin::net::{self, Namespaces, Side};
use velin::proc::{Process, wait_until};
use velin::skipped;

#[test]
fn sound_crosses_two_machines_by_ipv4() {
    sound_crosses(|_| Side::B.ipv4().to_string());
}

#[test]
fn sound_crosses_two_machines_by_ipv6() {
    sound_crosses(|_| Side::B.ipv6().to_string());
}

#[test]
fn sound_crosses_two_machines_by_name() {
    sound_crosses(|net| {
        net.name_hosts(&[(Side::B.ipv4(), "living-room.test")]).unwrap();
        "living-room.test".into()
    });
}

fn sound_crosses(host: impl Fn(&Namespaces) -> String) {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let machines = Machines::friends().unwrap();
    let host = host(&machines.net);

    let tune = melody(RATE, 2, Duration::from_secs(4));
    let pause = Duration::from_millis(800);
    let wav = machines.wav(&framed(&tune, pause, Duration::from_millis(300)));
    let receiver = machines.receiver().unwrap();
    let mut sender = machines.sender(&wav, &format!("host={host}")).unwrap();
    assert!(sender.wait(SOON).unwrap().success(), "{}", sender.output());
    receiver.wait_for("velin/stream-removed", SOON).unwrap();
    let said = format!("{}\n{}", sender.output(), receiver.output());

    let result = compare(&tune, &receiver.heard()).unwrap_or_else(|e| panic!("{e}\n{said}"));
    println!("{host}:\n{result}");
    assert!(result.correlation >= 0.99, "{result}\n{said}");
    assert_eq!(result.gaps, [], "{result}\n{said}");
    assert!(result.lost_at_start <= Duration::from_millis(5), "{result}\n{said}");
    assert!(result.level_db.abs() < 0.2, "{result}\n{said}");
    // The names are those that each user gave the other.
    assert!(receiver.output().contains("laptop"), "{said}");
    assert!(sender.output().contains("living-room"), "{said}");
    assert!(sender.output().contains("route=(string)udp"), "the media went by TCP:\n{said}");
}

#[test]
fn strangers_are_refused_with_the_command_that_makes_them_known() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let machines = Machines::strangers().unwrap();
    let (a, b) = (machines.a.key().recipient(), machines.b.key().recipient());
    let wav = machines.wav(&melody(RATE, 2, Duration::from_secs(2)));
    let to_b = format!("host={}", Side::B.ipv4());
    let receiver = machines.receiver().unwrap();

    // Nobody knows anybody: the caller stops first, and does not say who it is.
    let mut sender = machines.sender(&wav, &to_b).unwrap();
    assert!(!sender.wait(SOON).unwrap().success());
    let said = sender.output();
    assert!(said.contains("This device does not trust the receiver at 192.0.2.2:49000"), "{said}");
    assert!(said.contains(&format!("velin-pipe trust add {b} --name NAME")), "{said}");
    assert_eq!(said.matches("ERROR: from element").count(), 1, "{said}");
    assert!(!receiver.output().contains(&a), "the caller gave itself away:\n{}", receiver.output());

    // The caller knows the receiver, which now learns who called.
    machines.a.trust(machines.b.key(), "living-room");
    let mut sender = machines.sender(&wav, &to_b).unwrap();
    assert!(!sender.wait(SOON).unwrap().success());
    let said = sender.output();
    assert!(said.contains("The receiver at 192.0.2.2:49000 does not trust this device"), "{said}");
    assert!(said.contains(&format!("Run there: velin-pipe trust add {a}")), "{said}");
    let line = receiver.wait_for("an unknown device calls", SOON).unwrap();
    assert!(line.contains(&format!("velin-pipe trust add {a} --name NAME")), "{line}");

    // Until here nothing was played.
    assert_eq!(first_sound(&receiver.heard(), 0), None);

    // Both know each other: the receiver, which never stopped, lets it in.
    machines.b.trust(machines.a.key(), "laptop");
    let from = receiver.frames();
    let sender = machines.sender(&wav, &to_b).unwrap();
    let heard = receiver.wait_for_sound(from, SOON);
    assert!(heard.is_some(), "{}\n{}", sender.output(), receiver.output());
}

#[test]
fn a_receiver_with_another_key_than_the_named_one_gets_nothing() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let machines = Machines::friends().unwrap();
    let somebody = Device::new().unwrap().key().recipient();
    let wav = machines.wav(&melody(RATE, 2, Duration::from_secs(1)));
    let receiver = machines.receiver().unwrap();
    let sender =
        machines.sender(&wav, &format!("host={} peer={somebody}", Side::B.ipv4())).unwrap();
    let line = sender.wait_for_line("ERROR", SOON).unwrap();
    assert!(line.contains("Another device than the one in peer= answered"), "{line}");
    assert!(!receiver.output().contains("velin/stream-added"), "{}", receiver.output());
    assert_eq!(first_sound(&receiver.heard(), 0), None);
}

#[test]
fn a_machine_without_a_receiver_is_named_once_with_the_next_step() {
    // Long enough for several attempts.
    let Some(text) = complaint(&Side::B.ipv4().to_string(), 3) else { return };
    assert!(text.contains("nothing listens at 192.0.2.2:49000"), "{text}");
    assert!(text.contains("start the receiver there") && text.contains("check host and port"));
}

#[test]
fn a_missing_route_is_named_once_with_the_next_step() {
    let nowhere: IpAddr = Ipv4Addr::new(203, 0, 113, 1).into();
    let Some(text) = complaint(&nowhere.to_string(), 3) else { return };
    assert!(text.contains("there is no route to 203.0.113.1:49000"), "{text}");
    assert!(text.contains("check the network cable"), "{text}");
}

#[test]
fn a_name_that_does_not_resolve_is_named_once_with_the_next_step() {
    let Some(text) = complaint("no-such-room.test", 2) else { return };
    assert!(text.contains("the name \"no-such-room.test\" does not resolve"), "{text}");
    assert!(text.contains("check its spelling or use an address"), "{text}");
}

/// Calls `host`, where nobody answers, until `attempts` were made; gives the one warning that was
/// printed, and checks that the pipeline lives on. Nothing on a machine without namespaces.
fn complaint(host: &str, attempts: usize) -> Option<String> {
    if skipped(net::available()) {
        return None;
    }
    let _alone = alone();
    let machines = Machines::strangers().unwrap();
    let command = machines.a.quietly(&format!("audiotestsrc is-live=true ! velinsink host={host}"));
    let mut sender = Process::spawn(machines.on(Side::A, &command)).unwrap();
    let tried = |said: &str| said.matches("Trying again in").count() >= attempts;
    assert!(wait_until(SOON * 2, || tried(&sender.output())), "{}", sender.output());
    let said = sender.output();
    assert!(sender.is_running(), "{said}");
    let warnings: Vec<&str> = said.lines().filter(|l| l.starts_with("WARNING")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    assert!(!said.contains("ERROR"), "{said}");
    println!("{}", warnings[0]);
    Some(warnings[0].to_owned())
}

#[test]
fn a_taken_port_is_named_once_with_the_next_step() {
    if skipped(net::available()) {
        return;
    }
    let _alone = alone();
    let machines = Machines::strangers().unwrap();
    let _first = machines.receiver().unwrap();
    let command = machines.b.quietly("velinsrc ! fakesink");
    let mut second = Process::spawn(machines.on(Side::B, &command)).unwrap();
    assert!(!second.wait(SOON).unwrap().success());
    let said = second.output();
    let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("ERROR: from")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    println!("{}", errors[0]);
    assert!(errors[0].contains("49000") && errors[0].contains("port="), "{said}");
}
