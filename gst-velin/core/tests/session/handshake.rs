//! From two strangers' keys to an open session, and every way that ends before it.

use velin_core::handshake::noise::Responder;
use velin_core::handshake::packets::{
    Carriage, HandshakePacket, Resp, SessionIndex, TYPE_FINI, TYPE_INIT,
};
use velin_core::identity::{Grant, Grants, Identity};
use velin_core::session::{Ended, Event, HANDSHAKE_TIMEOUT, StreamEnd};
use velin_core::wire::{CloseCode, CloseReason, frame_packet};

use crate::support::pair::{Caller, Carrier, Listener, Pair, Setup, Wire};
use crate::support::{at, ms};

fn is_closed(event: &Event) -> bool {
    matches!(event, Event::Closed(_))
}

/// Runs both to their end; gives why the caller and the listener are over.
fn ends(mut pair: Pair) -> (Ended, Ended, Pair) {
    pair.run_until_event(Caller, is_closed);
    pair.run_until_event(Listener, is_closed);
    let [caller, listener] = [Caller, Listener].map(|r| pair.end(r).ended().cloned().unwrap());
    (caller, listener, pair)
}

fn by_peer(code: CloseCode) -> Ended {
    Ended::ByPeer(CloseReason::new(code, ""))
}

#[test]
fn a_handshake_opens_both_ends_in_one_and_a_half_round_trips() {
    let mut setup = Setup::new();
    setup.tcp_delay = ms(10);
    let pair = setup.open();
    let open = |role| pair.end(role).when(|e| matches!(e, Event::Open { .. })).unwrap();
    assert_eq!(open(Listener), at(30));
    assert_eq!(open(Caller), at(40));
    for (role, peer) in [(Caller, Listener), (Listener, Caller)] {
        let grants = Grants::PLAY_TO_ME.with(Grant::CaptureFromMe);
        let proved = Event::Authenticated { peer: pair.key(peer), grants };
        assert_eq!(pair.end(role).events[0].1, proved);
        assert_eq!(pair.end(role).session.peer(), Some(pair.key(peer)));
    }
}

#[test]
fn the_round_trip_time_is_measured() {
    let mut setup = Setup::new();
    setup.tcp_delay = ms(40);
    setup.udp.delay = ms(7);
    let mut pair = setup.open();
    pair.run_for(ms(30_000));
    for role in [Caller, Listener] {
        let rtt = pair.session(role).rtt().unwrap();
        assert!(rtt >= ms(14) && rtt < ms(20), "{rtt:?}");
    }
}

#[test]
fn a_caller_nobody_knows_is_told_that_it_is_untrusted() {
    let mut setup = Setup::new();
    setup.listener.trusts = None;
    let stranger = setup.caller.key();
    let (caller, listener, pair) = ends(setup.build());
    assert_eq!(caller, by_peer(CloseCode::UNTRUSTED));
    assert_eq!(listener, Ended::UnknownPeer(stranger));
    assert_eq!(pair.end(Listener).events.len(), 1, "nothing but the end happened");
}

#[test]
fn a_caller_that_does_not_trust_the_listener_stops_before_it_reveals_itself() {
    let mut setup = Setup::new();
    setup.caller.trusts = None;
    let listener_key = setup.listener.key();
    let mut pair = setup.build();
    pair.record();
    let (caller, listener, mut pair) = ends(pair);
    assert_eq!(caller, Ended::UnknownPeer(listener_key));
    assert_eq!(listener, Ended::Truncated);
    let sent: Vec<u8> = pair
        .recorded()
        .iter()
        .filter(|wire| wire.to == Listener)
        .flat_map(Wire::packets)
        .map(|packet| packet[0])
        .collect();
    assert_eq!(sent, [TYPE_INIT]);
}

#[test]
fn another_key_than_the_expected_one_is_refused_by_the_caller() {
    let mut setup = Setup::new();
    let expected = Identity::from_secret([9; 32]).public();
    setup.caller.expects = Some(expected);
    let got = setup.listener.key();
    let (caller, listener, _) = ends(setup.build());
    assert_eq!(caller, Ended::IdentityMismatch { expected, got });
    assert_eq!(listener, Ended::Truncated);
}

#[test]
fn an_init_that_is_meant_for_another_device_gets_no_answer() {
    let pair = Setup::new()
        .attacked(|mut wire| {
            if wire.to == Listener && wire.bytes[2] == TYPE_INIT {
                wire.bytes[2 + 8..2 + 24].fill(0x55);
            }
            vec![wire]
        })
        .build();
    let (caller, listener, pair) = ends(pair);
    assert_eq!(caller, Ended::Truncated);
    assert!(matches!(listener, Ended::Handshake(_)), "{listener:?}");
    assert_eq!(pair.end(Listener).session.counters().malformed, 1);
}

#[test]
fn an_expected_key_needs_no_other_trust() {
    let mut setup = Setup::new();
    setup.caller.trusts = None;
    setup.caller.expects = Some(setup.listener.key());
    let pair = setup.open();
    let Event::Authenticated { grants, .. } = pair.end(Caller).events[0].1 else { panic!() };
    assert_eq!(grants, Grants::NONE);
}

#[test]
fn the_devices_own_key_is_refused_unless_both_say_that_this_is_one_machine() {
    for (caller_accepts, listener_accepts) in [(false, true), (true, false)] {
        let mut setup = Setup::seeded(0x0E0 + u64::from(caller_accepts));
        setup.listener.secret = setup.caller.secret;
        setup.caller.accept_own_key = caller_accepts;
        setup.listener.accept_own_key = listener_accepts;
        let (caller, listener, _) = ends(setup.build());
        if caller_accepts {
            assert_eq!((caller, listener), (by_peer(CloseCode::SELF), Ended::OwnKey));
        } else {
            assert_eq!((caller, listener), (Ended::OwnKey, Ended::Truncated));
        }
    }
    let mut setup = Setup::new();
    setup.listener.secret = setup.caller.secret;
    (setup.caller.trusts, setup.listener.trusts) = (None, None);
    (setup.caller.accept_own_key, setup.listener.accept_own_key) = (true, true);
    let pair = setup.open();
    let Event::Authenticated { grants, .. } = pair.end(Listener).events[0].1 else { panic!() };
    assert_eq!(grants, Grants::ALL);
}

/// Changes the version byte of the handshake packet of `kind`.
fn with_version(kind: u8, version: u8) -> impl FnMut(Wire) -> Vec<Wire> + Send {
    move |mut wire| {
        if wire.bytes.get(2) == Some(&kind) {
            wire.bytes[3] = version;
        }
        vec![wire]
    }
}

#[test]
fn another_version_is_answered_with_the_ones_spoken_here() {
    let (caller, listener, _) = ends(Setup::new().attacked(with_version(TYPE_INIT, 2)).build());
    assert_eq!(caller, Ended::Version { theirs: vec![1] });
    assert_eq!(listener, Ended::Version { theirs: vec![2] });
}

#[test]
fn no_edited_byte_of_a_handshake_packet_goes_unnoticed() {
    let mut pair = Setup::new().build();
    pair.record();
    pair.run_until_open();
    let packets: Vec<_> = pair.recorded().iter().flat_map(Wire::packets).collect();
    assert_eq!(packets[2][0], TYPE_FINI);
    for (nth, packet) in packets.iter().take(3).enumerate() {
        // The token of INIT means nothing on TCP and is bound to nothing.
        let bytes = (0..packet.len()).filter(|byte| nth != 0 || !(24..56).contains(byte));
        for byte in bytes {
            let mut seen = 0;
            let pair = Setup::seeded(0x0ED1_7000 + 1000 * nth as u64 + byte as u64)
                .attacked(move |mut wire| {
                    if seen == nth {
                        wire.bytes[2 + byte] ^= 1;
                    }
                    seen += 1;
                    vec![wire]
                })
                .build();
            let (caller, listener, pair) = ends(pair);
            assert!(!matches!(caller, Ended::ByUs(_)), "{nth} {byte}: {caller:?}");
            for role in [Caller, Listener] {
                let opened = pair.end(role).count(|e| matches!(e, Event::Open { .. }));
                assert_eq!(opened, 0, "{nth} {byte}: {caller:?} {listener:?}");
            }
        }
    }
}

#[test]
fn a_silent_connection_dies_after_five_seconds() {
    let mut pair = Setup::new().attacked(|_| Vec::new()).build();
    pair.run_until(at(4999));
    assert!(!pair.session(Caller).is_closed() && !pair.session(Listener).is_closed());
    pair.run_until(at(5000));
    for role in [Caller, Listener] {
        let ended = pair.end(role).ended().unwrap();
        assert_eq!(*ended, Ended::HandshakeTimeout(HANDSHAKE_TIMEOUT));
    }
}

#[test]
fn one_byte_per_second_does_not_stretch_the_deadline() {
    let mut pair = Setup::new().attacked(|_| Vec::new()).build();
    for (second, byte) in (1..5).zip([0, 88, TYPE_INIT, 1]) {
        pair.run_until(at(second * 1000));
        pair.inject_tcp(Listener, &[byte]);
    }
    pair.run_until(at(5000));
    let ended = pair.end(Listener).ended().cloned();
    assert_eq!(ended, Some(Ended::HandshakeTimeout(HANDSHAKE_TIMEOUT)));
}

#[test]
fn a_listener_that_never_accepts_is_given_up_after_five_seconds() {
    // The handshake passes, the rest is held back.
    let mut pair = Setup::new()
        .attacked(|wire| {
            let keep = wire.to == Listener || wire.bytes[2] < 0x5D;
            if keep { vec![wire] } else { Vec::new() }
        })
        .build();
    let ended = pair.run_until_event(Caller, is_closed);
    assert_eq!(ended, Event::Closed(Ended::HandshakeTimeout(HANDSHAKE_TIMEOUT)));
    assert_eq!(pair.now, at(5000));
}

/// What a listener makes of these bytes on a fresh connection.
fn listener_given(seed: u64, bytes: &[u8]) -> (Option<Ended>, u64, Pair) {
    let mut pair = Setup::seeded(seed).attacked(|_| Vec::new()).build();
    for chunk in bytes.chunks(1000) {
        pair.inject_tcp(Listener, chunk);
    }
    let malformed = pair.session(Listener).counters().malformed;
    (pair.end(Listener).ended().cloned(), malformed, pair)
}

#[test]
fn what_is_not_velin_is_named_and_ends_the_connection() {
    let velin_0_2 = {
        let json = br#"{"type":"Hello","source_name":"old","stream_id":1,"sample_rate":48000}"#;
        [&(json.len() as u32).to_le_bytes()[..], json].concat()
    };
    let http = b"GET / HTTP/1.1\r\nHost: velin\r\n\r\n".to_vec();
    let giant = u32::MAX.to_be_bytes().to_vec();
    let empty = vec![0, 0];
    let tls = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03];
    for (i, bytes) in [velin_0_2, http, giant, empty, tls].iter().enumerate() {
        let (ended, malformed, _) = listener_given(0xBAD + i as u64, bytes);
        assert!(matches!(ended, Some(Ended::NotVelin(_))), "{i}: {ended:?}");
        assert_eq!(malformed, 1, "{i}");
    }
}

#[test]
fn random_bytes_and_plaintext_audio_open_nothing() {
    use velin_core::entropy::Entropy;
    for seed in 0..200 {
        let mut garbage = vec![0; 5000];
        crate::support::rng::Rng::new(seed).fill(&mut garbage);
        // An acceptable length half of the time, so that the packet itself is looked at.
        if seed % 2 == 0 {
            garbage[0] = 0;
            garbage[2] = 0x51 + (seed / 2 % 5) as u8;
        }
        let (ended, malformed, mut pair) = listener_given(0xDA7A_0000 + seed, &garbage);
        assert!(matches!(
            ended,
            Some(Ended::NotVelin(_) | Ended::Handshake(_) | Ended::Version { .. })
        ));
        assert!(malformed <= 1);
        assert!(pair.session(Listener).poll_timeout().is_none());
    }
    let plaintext = [&[0, 200, 0x5D][..], &[0; 199]].concat();
    let (ended, _, _) = listener_given(0xDA7B, &plaintext);
    assert!(matches!(ended, Some(Ended::Handshake(_))), "{ended:?}");
}

#[test]
fn a_handshake_packet_cut_short_waits_and_then_is_truncated() {
    let mut pair = Setup::new().build();
    pair.record();
    pair.run_until(at(0));
    let init = pair.recorded().remove(0);
    assert_eq!(init.carrier, Carrier::Tcp);
    for cut in 0..init.bytes.len() {
        let (ended, _, mut pair) = listener_given(0xC07_0000 + cut as u64, &init.bytes[..cut]);
        assert_eq!(ended, None);
        pair.session(Listener).handle_stream_end(at(0), StreamEnd::Closed);
        pair.run_until(at(1));
        assert_eq!(pair.end(Listener).ended(), Some(&Ended::Truncated));
    }
}

#[test]
fn only_the_packet_that_is_due_is_taken() {
    // Each kind of handshake packet at a listener that awaits INIT.
    let mut pair = Setup::new().build();
    pair.record();
    pair.run_until_open();
    let sent: Vec<Vec<u8>> = pair.recorded().iter().flat_map(Wire::packets).collect();
    for (i, packet) in sent.iter().filter(|p| p[0] != TYPE_INIT).enumerate() {
        let mut framed = Vec::new();
        frame_packet(packet, &mut framed);
        let (ended, malformed, _) = listener_given(0x0DE_0000 + i as u64, &framed);
        assert!(matches!(ended, Some(Ended::Handshake(_))));
        assert_eq!(malformed, 1);
    }
    assert!(sent.iter().any(|p| {
        matches!(HandshakePacket::decode(p, Carriage::Stream), Ok(HandshakePacket::Fini(_)))
            && p[0] == TYPE_FINI
    }));
}

#[test]
fn a_reconnect_makes_new_keys_from_the_same_devices() {
    let streams: Vec<_> = (0..2)
        .map(|i| {
            let mut setup = Setup::seeded(0x4EC0 + i);
            (setup.caller.secret, setup.listener.secret) = ([1; 32], [2; 32]);
            let mut pair = setup.open();
            pair.record();
            let _ = pair.play(Caller, ms(5));
            pair.run_for(ms(100));
            pair.recorded().iter().flat_map(Wire::packets).collect::<Vec<_>>()
        })
        .collect();
    for a in &streams[0] {
        assert!(!streams[1].contains(a));
    }
}

#[test]
fn a_connection_may_come_in_any_pieces() {
    for size in [1, 2, 7, 100] {
        let mut pair = Setup::seeded(0x51CE + size as u64)
            .attacked(move |wire| {
                if wire.carrier != Carrier::Tcp {
                    return Vec::new();
                }
                let piece = |bytes: &[u8]| Wire { bytes: bytes.to_vec(), ..wire.clone() };
                wire.bytes.chunks(size).map(piece).collect()
            })
            .open();
        let id = pair.play(Caller, ms(5));
        pair.run_until(at(1000));
        let sent = pair.stop(Caller)[&id];
        pair.run_for(ms(100));
        assert_eq!(pair.end(Listener).blocks(id).len(), sent as usize, "{size}");
    }
}

#[test]
fn a_listener_that_hides_versions_is_found_out_before_the_caller_reveals_itself() {
    for (payload, ended) in [
        (&br#"{"versions":[2]}"#[..], Ended::Downgrade),
        (br#"{"versions":[]}"#, Ended::Downgrade),
        (b"", Ended::PeerMisbehaved("its list of versions".into())),
        (b"[1]", Ended::PeerMisbehaved("its list of versions".into())),
    ] {
        let setup = Setup::seeded(payload.len() as u64);
        let identity = Identity::from_secret(setup.listener.secret);
        let mut pair = setup.attacked(|_| Vec::new()).build();
        pair.record();
        pair.run_until(at(1));
        let init = pair.recorded().remove(0).packets().remove(0);
        let Ok(HandshakePacket::Init(init)) = HandshakePacket::decode(&init, Carriage::Stream)
        else {
            panic!("an INIT")
        };
        let mut rng = crate::support::rng::Rng::new(1);
        let responder =
            Responder::new(&identity, init.head(), &init.message, payload, &mut rng).unwrap();
        let resp = Resp {
            initiator: init.initiator,
            responder: SessionIndex::new(5).unwrap(),
            message: responder.message2(),
        };
        let (mut packet, mut framed) = (Vec::new(), Vec::new());
        resp.encode(Carriage::Stream, &mut packet).unwrap();
        frame_packet(&packet, &mut framed);
        pair.inject_tcp(Caller, &framed);
        assert_eq!(pair.end(Caller).ended(), Some(&ended));
        assert!(pair.recorded().is_empty(), "no FINI");
    }
}
