//! What a blocked UDP costs: where media goes instead, how long that takes, and when it is back;
//! and sessions that have only TCP by choice.

use std::time::Duration;

use velin_core::session::{Carrier, Event, LOST_AFTER, MediaError, OpenStreamError, Role, Route};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex, StreamId};
use velin_core::wire::{AudioFlags, AudioHeader, Hex, StreamUuid};

use crate::support::pair::{self, Caller, Listener, Pair, Setup, other};
use crate::support::{at, ms};

const BOTH: [Role; 2] = [Caller, Listener];

/// The longest time without a block of `id` at `role` until `end`.
fn longest_gap(pair: &mut Pair, role: Role, id: StreamId, end: MonoTime) -> Duration {
    let (mut last, mut longest) = (pair.now, Duration::ZERO);
    let heard = |pair: &Pair| pair.end(role).heard.blocks.get(&id).map_or(0, Vec::len);
    while pair.now < end {
        let before = heard(pair);
        pair.run_for(ms(1));
        longest = longest.max(pair.now.since(last));
        if heard(pair) > before {
            last = pair.now;
        }
    }
    longest
}

fn assert_no_block_twice(pair: &Pair) {
    for role in BOTH {
        for (id, blocks) in &pair.end(role).heard.blocks {
            assert_eq!(blocks.len(), pair.end(role).blocks(*id).len(), "{role:?}");
        }
    }
}

#[test]
fn with_udp_blocked_from_the_start_media_is_there_after_one_round_trip() {
    for blocked in [[true, true], [true, false], [false, true]] {
        let mut setup = Setup::seeded(0xFA11 + 2 * u64::from(blocked[0]) + u64::from(blocked[1]));
        setup.tcp_delay = ms(10);
        let mut pair = setup.build();
        pair.udp_blocked = blocked;
        pair.run_until_open();
        let id = pair.play(Caller, ms(3));
        let accepted = pair.now;
        while pair.end(Listener).blocks(id).is_empty() {
            pair.run_for(ms(1));
        }
        assert!(pair.now.since(accepted) <= ms(20), "{:?}", pair.now.since(accepted));
        let end = pair.now + ms(10_000);
        assert!(longest_gap(&mut pair, Listener, id, end) <= ms(10));
        assert_no_block_twice(&pair);
    }
}

#[test]
fn udp_blocked_in_mid_stream_costs_less_than_half_a_second_and_is_taken_up_again() {
    for (i, blocked) in [[true, true], [true, false], [false, true]].into_iter().enumerate() {
        for (j, freed) in [20_000, 24_000, 29_900].into_iter().enumerate() {
            let mut setup = Setup::seeded(0xFA_1100 + (3 * i + j) as u64);
            setup.tcp_delay = ms(5);
            setup.udp.delay = ms(5);
            let mut pair = setup.open();
            let up = pair.play(Caller, ms(3));
            let down = pair.play(Listener, ms(3));
            pair.run_until(at(5000));
            assert!(BOTH.iter().all(|r| pair.session(*r).route() != Some(Route::Stream)));
            pair.udp_blocked = blocked;
            // One ear at a time: the same seed does the same again.
            let (ear, id) =
                if blocked[Listener as usize] { (Listener, up) } else { (Caller, down) };
            let gap = longest_gap(&mut pair, ear, id, at(15_000));
            assert!(gap <= ms(450), "{blocked:?} {gap:?}");
            let rest = longest_gap(
                &mut pair,
                other(ear),
                if ear == Listener { down } else { up },
                at(freed),
            );
            assert!(rest <= ms(450), "{blocked:?} {rest:?}");
            pair.udp_blocked = [false; 2];
            let free = pair.now;
            let back = |pair: &mut Pair| {
                BOTH.iter().all(|r| matches!(pair.session(*r).route(), Some(Route::Datagram(_))))
            };
            while !back(&mut pair) {
                pair.run_for(ms(10));
                assert!(pair.now.since(free) <= ms(10_500), "{blocked:?}");
            }
            pair.run_for(ms(1000));
            assert_no_block_twice(&pair);
            for role in BOTH {
                assert!(pair.end(role).ended().is_none());
                let stalls = pair.end(role).count(|e| *e == Event::Stalled);
                assert_eq!(stalls, 0, "{role:?} {blocked:?}");
            }
        }
    }
}

fn on_tcp(seed: u64) -> Setup {
    let mut setup = Setup::seeded(seed);
    setup.caller.carrier = Carrier::Tcp;
    setup.listener.carrier = Carrier::Tcp;
    setup
}

#[test]
fn carrier_tcp_sends_no_datagram_and_takes_none_even_if_the_other_side_has_udp() {
    for (caller, listener) in
        [(Carrier::Tcp, Carrier::Tcp), (Carrier::Tcp, Carrier::Lan), (Carrier::Lan, Carrier::Tcp)]
    {
        let mut setup = on_tcp(0x7C9 + caller as u64 + 2 * listener as u64);
        (setup.caller.carrier, setup.listener.carrier) = (caller, listener);
        let mut pair = setup.build();
        pair.record();
        pair.run_until_open();
        let up = pair.play(Caller, ms(5));
        let down = pair.play(Listener, ms(5));
        pair.run_until(at(10_000));
        let wires = pair.recorded();
        assert!(wires.iter().all(|w| w.carrier == pair::Carrier::Tcp));
        for (role, id) in [(Caller, down), (Listener, up)] {
            assert_eq!(pair.session(role).route(), Some(Route::Stream));
            assert!(pair.end(role).blocks(id).len() > 1900);
            assert!(pair.session(role).rtt().is_some());
        }
        // A genuine packet that comes by UDP all the same moves nothing.
        let tx = pair.session(Caller).media_tx(up).unwrap();
        let (packet, _) = pair::seal(&tx, 50_000, AudioFlags::NONE).unwrap();
        if listener == Carrier::Tcp {
            let from = pair.end(Caller).address;
            pair.inject_udp(Listener, from, &packet);
            assert!(!pair.end(Listener).blocks(up).contains(&50_000));
        }
    }
}

#[test]
fn an_idle_tcp_session_is_pinged_every_five_seconds_and_stalls_after_ten() {
    let mut pair = on_tcp(0x1D7E).open();
    pair.run_until(at(20_000));
    pair.record();
    pair.run_until(at(120_000));
    let from_caller = pair.recorded().iter().filter(|w| w.to == Listener).count();
    // A PING every five seconds and an answer to the other's.
    assert!((38..=42).contains(&from_caller), "{from_caller}");
    pair.outage(ms(1_000_000));
    pair.run_until(at(240_000));
    for role in BOTH {
        let end = pair.end(role);
        let stalled = end.when(|e| *e == Event::Stalled).unwrap();
        assert!(stalled > at(124_000) && stalled <= at(130_010), "{stalled:?}");
        let lost = end.when(|e| matches!(e, Event::Lost(_))).unwrap();
        assert_eq!(lost.since(stalled), LOST_AFTER);
        let over = end.when(|e| matches!(e, Event::Closed(_))).unwrap();
        assert_eq!(over.since(stalled), ms(50_000));
    }
}

#[test]
fn a_tcp_session_with_media_notices_a_stall_after_a_second() {
    let mut pair = on_tcp(0x57A11).open();
    pair.run_until(at(20_000));
    let id = pair.play(Caller, ms(5));
    pair.run_until(at(30_000));
    assert_eq!(pair.end(Listener).count(|e| *e == Event::Stalled), 0);
    assert_eq!(pair.end(Caller).count(|e| *e == Event::Stalled), 0);
    pair.outage(ms(3000));
    pair.run_until(at(31_100));
    assert_eq!(pair.end(Listener).count(|e| *e == Event::Stalled), 1);
    pair.run_until(at(35_000));
    assert_eq!(pair.end(Listener).count(|e| matches!(e, Event::Recovered(_))), 1);
    let sent = pair.stop(Caller)[&id];
    pair.run_for(ms(100));
    assert_eq!(pair.end(Listener).blocks(id).len(), sent as usize, "TCP is late, not lossy");
    // And back to idle, without a stall on the way.
    pair.session(Caller).remove_stream(id, velin_core::wire::CloseCode::OK);
    pair.run_for(ms(100_000));
    assert_eq!(pair.end(Listener).count(|e| *e == Event::Stalled), 1);
    let _ = pair.play(Caller, ms(5));
    pair.run_for(ms(10_000));
    assert_eq!(pair.end(Listener).count(|e| *e == Event::Stalled), 1);
}

#[test]
fn the_smaller_mtu_of_the_two_bounds_every_block() {
    for (own, peers, expected) in [(1200, 1200, 1200), (1200, 600, 600), (600, 1200, 600)] {
        let mut setup = Setup::seeded(0x3700 + u64::from(peers) + u64::from(own));
        (setup.caller.mtu, setup.listener.mtu) = (own, peers);
        let mut pair = setup.open();
        for role in BOTH {
            assert_eq!(pair.session(role).mtu(), expected);
        }
        // 16 frames of S16 stereo are 64 bytes, and 48 around them.
        let mut format = pair::format();
        format.frames_per_block = (expected as u32 - 48) / 4;
        let mut longer = format.clone();
        longer.frames_per_block += 1;
        let mut open = |formats| {
            let name = velin_core::identity::Name::new("x").unwrap();
            pair.session(Caller).open_stream(name, StreamUuid(Hex([1; 16])), formats, None)
        };
        let refused = open(vec![format.clone(), longer]);
        assert_eq!(refused, Err(OpenStreamError::TooLarge));
        let id = open(vec![format]).unwrap();
        pair.run_until_event(Caller, |e| matches!(e, Event::StreamAccepted { .. }));
        let tx = pair.session(Caller).media_tx(id).unwrap();
        let header =
            AudioHeader { flags: AudioFlags::NONE, block: BlockIndex(0), ts: FrameIndex(0) };
        let mut packet = vec![0; 2000];
        let sealed = tx.seal(&header, expected - 48, &mut packet).map(|(n, _)| n);
        assert_eq!(sealed, Ok(expected));
        let refused = tx.seal(&header, expected - 47, &mut packet);
        assert_eq!(refused.map(|(n, _)| n), Err(MediaError::TooLarge));
        assert_eq!(tx.sent().0, 1, "no number is used up");
    }
}
