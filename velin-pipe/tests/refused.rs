//! What users are told when a link cannot be had: what happened, the next step, the exit code.

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::{Home, SOON, text};

/// A receiver on a port that the system picks.
const RECEIVE: &str = "schema = 1\n[receive]\nbind = \"127.0.0.1\"\nport = 0\naudio-port = 0\n\
                       [[playback]]\nkind = \"none\"\n";

fn sender(home: &Home, to: &str) -> PathBuf {
    let preset = format!("schema = 1\n[[capture]]\nkind = \"test\"\n[[send]]\nto = \"{to}\"\n");
    home.write("send.toml", &preset)
}

#[test]
fn a_sender_that_does_not_trust_the_receiver_is_told_the_receivers_key_and_ends() {
    let (here, there) = (Home::new(), Home::new());
    let receiver = there.start(&["run", text(&there.write("receive.toml", RECEIVE))]);
    let preset = sender(&here, &format!("127.0.0.1:{}", receiver.port()));
    let (code, said) = here.run(&["run", text(&preset)]);
    assert_eq!(code, Some(77), "{said}");
    let command = format!("velin-pipe trust add {} --name NAME\n", there.recipient());
    assert!(said.ends_with(&command), "{said}");
}

#[test]
fn a_receiver_that_does_not_trust_the_sender_tells_both_and_goes_on() {
    let (here, there) = (Home::new(), Home::new());
    here.trusts(&there);
    let mut receiver = there.start(&["run", text(&there.write("receive.toml", RECEIVE))]);
    let preset = sender(&here, &format!("127.0.0.1:{}", receiver.port()));
    let (code, said) = here.run(&["run", text(&preset)]);
    assert_eq!(code, Some(77), "{said}");
    let command = format!("velin-pipe trust add {} --name NAME", here.recipient());
    assert!(said.ends_with(&format!("Run there: {command}\n")), "{said}");

    let warning = receiver.wait_for("an unknown device calls");
    assert!(warning.contains(&command), "{warning}");
    assert_eq!(receiver.said().matches(&command).count(), 1, "{}", receiver.said());
    receiver.signal("-INT");
    assert_eq!(receiver.ends_within(SOON), Some(0), "{}", receiver.said());
}

#[test]
fn a_device_other_than_the_one_asked_for_is_named() {
    let (here, there, other) = (Home::new(), Home::new(), Home::new());
    let receiver = there.start(&["run", text(&there.write("receive.toml", RECEIVE))]);
    let preset = sender(&here, &format!("127.0.0.1:{}", receiver.port()));
    let peer = format!("send.peer={}", other.recipient());
    let (code, said) = here.run(&["run", text(&preset), "--set", &peer]);
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains(&there.recipient()) && said.contains("\nCheck the address"), "{said}");
}

#[test]
fn a_taken_port_is_named_and_nothing_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let home = Home::new();
    let preset = home.write("receive.toml", RECEIVE);
    let (code, said) = home.run(&["run", text(&preset), "--set", &format!("receive.port={port}")]);
    assert_eq!(code, Some(69), "{said}");
    let words = format!("playback0-receive: TCP port {port} is already in use\nstop the other");
    assert!(said.contains(&words), "{said}");
}

#[test]
fn a_receiver_that_is_not_there_is_warned_about_once_and_called_until_it_is() {
    let (here, there) = (Home::new(), Home::new());
    here.trusts(&there);
    there.trusts(&here);
    let preset = sender(&here, &there.address().to_string());
    let run = here.start(&["run", text(&preset)]);
    let warning = run.wait_for("warning: ");
    assert!(warning.contains("nothing listens at 127."), "{warning}");
    assert!(warning.contains("; start the receiver there"), "{warning}");
    assert!(warning.ends_with("(trying again until it works)"), "{warning}");

    let late =
        format!("schema = 1\n[receive]\n{}[[playback]]\nkind = \"none\"\n", there.listening());
    let receiver = there.start(&["run", text(&there.write("receive.toml", &late))]);
    receiver.wait_for("stream added: test from peer (age1…");
    run.wait_for("peer connected: peer (age1…");
    assert_eq!(run.said().matches("warning: ").count(), 1, "{}", run.said());
}

#[test]
fn a_name_without_an_address_is_warned_about_with_the_next_step() {
    let home = Home::new();
    // Reserved never to exist (RFC 6761).
    let run = home.start(&["run", text(&sender(&home, "nosuch.invalid"))]);
    let warning = run.wait_for("warning: ");
    assert!(warning.contains("the name \"nosuch.invalid\" does not resolve"), "{warning}");
    assert!(warning.contains("; check its spelling or use an address"), "{warning}");
}

#[test]
fn an_identity_that_cannot_be_used_is_named_with_the_next_step() {
    for (content, mode, words) in
        [("nonsense\n", 0o600, "is no usable identity file"), ("", 0o644, "\nrun: chmod 600 ")]
    {
        let home = Home::new();
        let identity = home.config().join("identity.txt");
        home.recipient();
        if !content.is_empty() {
            fs::write(&identity, content).unwrap();
        }
        fs::set_permissions(&identity, fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = home.run(&["run", text(&home.write("receive.toml", RECEIVE))]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("identity.txt") && said.contains(words), "{said}");
    }
}
