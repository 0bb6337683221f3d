//! Peers and people in the middle who try what the protocol's threat model lists and no other file
//! here has: in place of the listener, in place of the caller, inside the connection, or trusted.

use velin_core::session::{Ended, Event};
use velin_core::units::StreamId;
use velin_core::wire::{CloseCode, Frame, FramingError};

use crate::support::pair::{Caller, Carrier, Listener, Pair, Setup, Wire, other};
use crate::support::rogue::{HELLO, Rogue};
use crate::support::{at, ms};

fn offer(id: u16, rest: &str) -> String {
    format!(
        r#"{{"t":"stream-add","id":{id},"uuid":"{}","formats":[{{"c":"pcm","f":"S16LE","rate":48000,"ch":2,"frames":120}}],{rest}}}"#,
        "ab".repeat(16)
    )
}

fn is_open(pair: &Pair, role: velin_core::session::Role) -> bool {
    pair.end(role).count(|e| matches!(e, Event::Authenticated { .. } | Event::Open { .. })) > 0
}

#[test]
fn a_mirror_in_place_of_the_peer_opens_nothing() {
    // Everything a caller says comes back to it.
    let mut pair = Setup::new()
        .attacked(
            |wire| if wire.to == Listener { vec![Wire { to: Caller, ..wire }] } else { vec![] },
        )
        .build();
    pair.run_until(at(10_000));
    assert!(!is_open(&pair, Caller));
    assert!(matches!(pair.end(Caller).ended(), Some(Ended::Handshake(_))));

    // Nor does a caller meet itself when its call is led to its own listener.
    let mut setup = Setup::seeded(0x4057_0006);
    setup.listener.secret = setup.caller.secret;
    let mut pair = setup.build();
    pair.run_until(at(10_000));
    assert_eq!(pair.end(Caller).ended(), Some(&Ended::OwnKey));
    assert!(!is_open(&pair, Caller) && !is_open(&pair, Listener));
}

#[test]
fn everything_a_caller_ever_said_opens_nothing_when_it_is_said_again() {
    let mut old = Setup::seeded(0x4057_0DD1).build();
    old.record();
    old.run_until_open();
    let _ = old.play(Caller, ms(5));
    old.run_for(ms(500));
    let said: Vec<Wire> = old.recorded().into_iter().filter(|w| w.to == Listener).collect();
    assert!(said.len() > 50);

    // The same listener, another day: other numbers are drawn.
    let mut setup = Setup::seeded(0x4057_0DD2);
    let same = Setup::seeded(0x4057_0DD1);
    (setup.caller.secret, setup.listener.secret) = (same.caller.secret, same.listener.secret);
    let mut pair = setup.attacked(|_| Vec::new()).build();
    pair.keep_connection(Caller);
    for wire in &said {
        match wire.carrier {
            Carrier::Tcp => pair.inject_tcp(Listener, &wire.bytes),
            Carrier::Udp { from, .. } => pair.inject_udp(Listener, from, &wire.bytes),
        }
    }
    assert!(!is_open(&pair, Listener));
    assert!(matches!(pair.end(Listener).ended(), Some(Ended::Handshake(_))));
    assert!(pair.end(Listener).heard.blocks.is_empty());
    assert_eq!(pair.session(Listener).counters().received, 0);
}

#[test]
fn packets_pasted_into_the_connection_a_second_time_or_from_the_other_end_are_dropped() {
    let mut pair = Setup::new().build();
    pair.udp_blocked = [true; 2];
    pair.record();
    pair.run_until_open();
    let ids = [pair.play(Caller, ms(5)), pair.play(Listener, ms(5))];
    pair.run_for(ms(500));
    let (up, down) = (pair.stop(Caller)[&ids[0]], pair.stop(Listener)[&ids[1]]);
    pair.run_for(ms(50));
    let data = |w: &Wire| w.carrier == Carrier::Tcp && w.packets()[0][0] == 0x5D;
    let said: Vec<Wire> = pair.recorded().into_iter().filter(data).collect();
    assert!(said.len() > 100);
    for wire in &said {
        for to in [wire.to, other(wire.to)] {
            let before = pair.session(to).counters();
            pair.inject_tcp(to, &wire.bytes);
            let after = pair.session(to).counters();
            assert_eq!(after.received, before.received);
            let named = |c: velin_core::session::SessionCounters| c.replayed + c.malformed;
            assert_eq!(named(after) - named(before), wire.packets().len() as u64);
        }
    }
    // Control and audio still come, each once.
    let third = pair.play(Caller, ms(5));
    pair.run_for(ms(100));
    assert!(pair.stop(Caller)[&third] > 10);
    for (role, id, sent) in [(Listener, ids[0], up), (Caller, ids[1], down)] {
        assert_eq!(pair.end(role).heard.blocks[&id], (0..sent).collect::<Vec<_>>());
        assert!(pair.end(role).ended().is_none());
    }
}

#[test]
fn a_control_packet_taken_out_of_the_connection_ends_the_session_instead_of_changing_its_meaning() {
    let mut pair = Setup::new().open();
    pair.run_for(ms(100));
    let mut taken = false;
    pair.attacker = Some(Box::new(move |wire| {
        let control = wire.carrier == Carrier::Tcp && wire.packets()[0][2..4] == [0, 0];
        if control && !std::mem::replace(&mut taken, true) { vec![] } else { vec![wire] }
    }));
    let _ = pair.offer(Caller);
    pair.run_for(ms(10));
    assert!(pair.end(Listener).ended().is_none(), "nothing shows the gap yet");
    let _ = pair.offer(Caller);
    pair.run_for(ms(100));
    assert!(matches!(pair.end(Listener).ended(), Some(Ended::PeerMisbehaved(_))));
    assert_eq!(pair.end(Listener).count(|e| matches!(e, Event::StreamOffered(_))), 0);
}

#[test]
fn a_trusted_peer_cannot_make_us_send() {
    // It asks for a stream in every way there is a word for, and answers offers nobody made.
    let name = r#""name":"mic""#;
    for (i, ask) in [
        offer(1, &format!(r#"{name},"dir":"recv","kind":"playback""#)),
        offer(1, &format!(r#"{name},"dir":"recv","kind":"capture""#)),
        offer(1, &format!(r#"{name},"dir":"send","kind":"capture""#)),
        r#"{"t":"stream-ok","id":2,"format":0}"#.to_owned(),
        r#"{"t":"stream-ok","id":1,"format":0}"#.to_owned(),
        r#"{"t":"stream-add","ask":1,"dir":"recv","name":"*"}"#.to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let mut rogue = Rogue::new(Setup::seeded(0x4057_0A5C + i as u64), HELLO);
        rogue.say(ask);
        rogue.pair.run_until(at(2_000));
        for id in 0..=u16::MAX {
            assert!(rogue.listener().media_tx(StreamId(id)).is_none(), "{ask}");
        }
        let asked = |e: &Event| matches!(e, Event::StreamOffered(_) | Event::StreamAccepted { .. });
        assert_eq!(rogue.pair.end(Listener).count(asked), 0, "{ask}");
    }
}

#[test]
fn a_request_for_our_microphone_is_refused_in_words() {
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    rogue.pair.record();
    rogue.say(&offer(1, r#""name":"mic","dir":"recv","kind":"capture""#));
    let said = rogue.pair.recorded();
    let mut texts = String::new();
    for wire in said.iter().filter(|w| w.carrier == Carrier::Tcp) {
        rogue.read(&wire.bytes, |frame| {
            if let Frame::Ctrl { bytes, .. } = frame {
                texts.push_str(&String::from_utf8_lossy(bytes));
            }
        });
    }
    let code = CloseCode::CAPS.0;
    assert!(texts.contains(&format!(r#"{{"t":"stream-remove","id":1,"code":{code}}}"#)), "{texts}");
    assert!(rogue.pair.end(Listener).ended().is_none());
}

#[test]
fn no_escape_sequence_of_a_peer_reaches_an_event() {
    for (i, name) in [r"\u001b[2J", r"\u009b31m", r"a\u202eb", r"a\u2028b", r"\u0007", r"a\u200bb"]
        .iter()
        .enumerate()
    {
        let mut rogue = Rogue::new(Setup::seeded(0x4057_E5C0 + i as u64), HELLO);
        rogue.say(&offer(1, &format!(r#""name":"{name}","dir":"send","kind":"playback""#)));
        let ended = rogue.pair.end(Listener).ended();
        assert!(matches!(ended, Some(Ended::PeerMisbehaved(_))), "{name}: {ended:?}");
        assert!(!ended.unwrap().to_string().chars().any(char::is_control));
        assert_eq!(rogue.pair.end(Listener).count(|e| matches!(e, Event::StreamOffered(_))), 0);
    }
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    let words = "bye\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\n";
    let close = [&[0x0C, 0, 0, 0, 0, words.len() as u8][..], words.as_bytes()].concat();
    rogue.send(StreamId::CONTROL, &close);
    let Some(Ended::ByPeer(reason)) = rogue.pair.end(Listener).ended() else { panic!("a goodbye") };
    assert_eq!(reason.text, "bye]0;owned2J");
}

#[test]
fn what_is_larger_than_its_bound_ends_the_session_before_it_is_kept() {
    // A control message that says it is 16 385 bytes long; none of them comes.
    let mut rogue = Rogue::new(Setup::seeded(0x4057_0001), HELLO);
    rogue.send(StreamId::CONTROL, &[0x0A, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01]);
    let ended = rogue.pair.end(Listener).ended();
    assert!(matches!(ended, Some(Ended::PeerMisbehaved(_))), "{ended:?}");

    // A packet that says it is longer than any.
    let mut rogue = Rogue::new(Setup::seeded(0x4057_0002), HELLO);
    rogue.pair.inject_tcp(Listener, &16_401_u16.to_be_bytes());
    let too_long = Ended::NotVelin(FramingError { length: 16_401, limit: 16_400 });
    assert_eq!(rogue.pair.end(Listener).ended(), Some(&too_long));

    // A stranger's may be a quarter of that.
    let mut pair = Setup::seeded(0x4057_0003).attacked(|_| Vec::new()).build();
    pair.inject_tcp(Listener, &4097_u16.to_be_bytes());
    let too_long = Ended::NotVelin(FramingError { length: 4097, limit: 4096 });
    assert_eq!(pair.end(Listener).ended(), Some(&too_long));

    // Nesting is counted before anything is parsed, in a member that would be ignored, too.
    let mut rogue = Rogue::new(Setup::seeded(0x4057_0004), HELLO);
    rogue.say(&format!(r#"{{"t":"path-lost","later":{}{}}}"#, "[".repeat(8), "]".repeat(8)));
    assert!(matches!(rogue.pair.end(Listener).ended(), Some(Ended::PeerMisbehaved(_))));
    let mut rogue = Rogue::new(Setup::seeded(0x4057_0005), HELLO);
    rogue.say(&format!(r#"{{"t":"path-lost","later":{}{}}}"#, "[".repeat(7), "]".repeat(7)));
    assert!(rogue.pair.end(Listener).ended().is_none());
}

#[test]
fn a_known_name_with_another_key_is_a_stranger_to_both_ends() {
    // The trusted device is gone; another one answers at its place and calls itself the same.
    for caller_changed in [false, true] {
        let mut setup = Setup::seeded(0x4057_C400 + u64::from(caller_changed));
        if caller_changed {
            // The listener knows the key the caller had before.
            setup.listener.trusts = None;
        } else {
            setup.caller.trusts = None;
        }
        let mut pair = setup.build();
        pair.record();
        pair.run_until(at(10_000));
        let judge = if caller_changed { Listener } else { Caller };
        let stranger = Ended::UnknownPeer(pair.key(other(judge)));
        assert_eq!(pair.end(judge).ended(), Some(&stranger));
        assert!(!is_open(&pair, judge));
        // Neither name is said: a caller that does not know the key sends no FINI at all.
        if !caller_changed {
            let packets: Vec<_> = pair.recorded().iter().flat_map(Wire::packets).collect();
            assert!(packets.iter().all(|p| p[0] != 0x53), "a FINI");
        }
    }
}
