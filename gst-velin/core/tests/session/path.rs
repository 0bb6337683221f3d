//! Which way media goes: TCP at once, UDP when it is proved, back when it is blocked, and after
//! the peer when it moves.

use std::net::SocketAddr;

use velin_core::session::{Event, Route};
use velin_core::units::StreamId;

use crate::support::pair::{Caller, Carrier, Listener, Pair, Setup, Wire};
use crate::support::rogue::{HELLO, Rogue};
use crate::support::{at, ms};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn media(wires: &[Wire], id: StreamId) -> Vec<&Wire> {
    let [high, low] = id.0.to_be_bytes();
    wires
        .iter()
        .filter(|wire| wire.packets().iter().any(|p| p[0] == 0x5D && p[2..4] == [high, low]))
        .collect()
}

fn assert_nothing_missing(pair: &Pair, id: StreamId, sent: u32) {
    assert_eq!(pair.end(Listener).blocks(id), (0..sent).collect::<Vec<_>>());
    assert_eq!(pair.end(Listener).heard.wrong, 0);
}

#[test]
fn media_starts_on_tcp_and_moves_to_udp_with_the_first_answer() {
    let mut setup = Setup::new();
    setup.udp.delay = ms(50);
    let mut pair = setup.open();
    pair.record();
    let id = pair.play(Caller, ms(5));
    pair.run_until_event(Caller, |e| matches!(e, Event::RouteChanged(Route::Datagram(_))));
    // The caller's first challenge left with its Open; the answer took 100 ms.
    assert_eq!(pair.now, at(4 + 100));
    let before = pair.recorded();
    pair.run_until(at(500));
    let sent = pair.stop(Caller)[&id];
    pair.run_for(ms(100));
    let after = pair.recorded();
    assert!(media(&before, id).iter().all(|w| w.carrier == Carrier::Tcp));
    assert!(media(&before, id).len() > 10);
    assert!(media(&after, id).iter().all(|w| w.carrier != Carrier::Tcp));
    assert_nothing_missing(&pair, id, sent);
}

#[test]
fn media_stays_on_tcp_without_udp() {
    for (i, (caller, listener)) in [(false, true), (true, false), (false, false)].iter().enumerate()
    {
        let mut setup = Setup::seeded(0x0DD0 + i as u64);
        (setup.caller.udp, setup.listener.udp) = (*caller, *listener);
        let mut pair = setup.open();
        let id = pair.play(Caller, ms(5));
        pair.run_until(at(20_000));
        assert_eq!(pair.session(Caller).route(), Some(Route::Stream));
        let sent = pair.stop(Caller)[&id];
        pair.run_for(ms(100));
        assert_nothing_missing(&pair, id, sent);
    }
}

#[test]
fn challenges_follow_the_schedule_while_udp_is_blocked() {
    let mut setup = Setup::new();
    setup.caller.udp = true;
    let mut pair = setup.build();
    pair.udp_blocked = [true; 2];
    pair.record();
    pair.run_until(at(26_000));
    let open = pair.end(Caller).when(|e| matches!(e, Event::Open { .. })).unwrap();
    let times: Vec<_> = pair
        .recorded()
        .iter()
        .filter(|w| w.to == Listener && w.carrier != Carrier::Tcp)
        .map(|w| w.now.since(open).as_millis())
        .collect();
    let schedule = [0, 10, 20, 40, 80, 200, 1000, 2000, 3000, 4000, 5000, 15_000, 25_000];
    assert_eq!(times, schedule);
}

#[test]
fn media_returns_to_tcp_when_udp_is_blocked_and_back_when_it_is_free() {
    for (seed, blocked) in [(1, [true, true]), (2, [false, true]), (3, [true, false])] {
        let mut pair = Setup::seeded(0xB10C + seed).open();
        let id = pair.play(Caller, ms(5));
        pair.run_until(at(1000));
        assert!(matches!(pair.session(Caller).route(), Some(Route::Datagram(_))));
        pair.udp_blocked = blocked;
        let heard = pair.end(Listener).blocks(id).len();
        pair.run_until(at(1400));
        if blocked[Listener as usize] {
            assert_eq!(pair.session(Caller).route(), Some(Route::Stream), "{blocked:?}");
            assert!(pair.end(Listener).blocks(id).len() > heard + 10, "{blocked:?}");
        }
        pair.run_until(at(30_000));
        for role in [Caller, Listener] {
            assert!(!pair.session(role).is_closed(), "{blocked:?} {:?}", pair.end(role).events);
        }
        let heard = pair.end(Listener).blocks(id).len();
        assert!(heard > 5900, "{blocked:?}: at most 300 ms are missing, {heard}");
        pair.udp_blocked = [false; 2];
        // Probes come every ten seconds.
        pair.run_until(at(41_000));
        for role in [Caller, Listener] {
            let route = pair.session(role).route();
            assert!(matches!(route, Some(Route::Datagram(_))), "{role:?} {blocked:?}");
        }
    }
}

#[test]
fn an_idle_session_survives_blocked_udp() {
    for (seed, blocked) in [(1, [true, true]), (2, [false, true]), (3, [true, false])] {
        let mut pair = Setup::seeded(0x1D1E + seed).open();
        pair.run_until(at(3000));
        pair.udp_blocked = blocked;
        pair.run_until(at(60_000));
        for role in [Caller, Listener] {
            let events = &pair.end(role).events;
            assert!(pair.end(role).ended().is_none(), "{blocked:?} {events:?}");
            let stalls = pair.end(role).count(|e| *e == Event::Stalled);
            assert!(stalls <= 2, "{role:?} {blocked:?} {events:?}");
        }
    }
}

#[test]
fn udp_that_dies_before_any_media_came_over_it_is_given_up_too() {
    let mut pair = Setup::new().open();
    let id = pair.offer(Caller);
    pair.run_until(at(2000));
    assert!(matches!(pair.session(Caller).route(), Some(Route::Datagram(_))));
    pair.udp_blocked = [true; 2];
    pair.start(Caller, id, ms(5));
    pair.run_until(at(10_000));
    assert!(pair.end(Caller).ended().is_none(), "{:?}", pair.end(Caller).events);
    assert!(pair.end(Listener).blocks(id).len() > 1000);
}

#[test]
fn a_real_change_of_address_moves_the_path_and_media_goes_on() {
    for (seed, mover) in [(1, Caller), (2, Listener)] {
        let mut pair = Setup::seeded(0x40AD + seed).open();
        let id = pair.play(Caller, ms(5));
        pair.run_until(at(5000));
        let new = pair.rebind(mover, "198.51.100.7:4321");
        let stays = crate::support::pair::other(mover);
        pair.run_until(at(7500));
        assert_eq!(pair.session(stays).route(), Some(Route::Datagram(new)), "{mover:?}");
        let sent = pair.stop(Caller)[&id];
        pair.run_for(ms(100));
        let missing = sent as usize - pair.end(Listener).blocks(id).len();
        // The receiver that moved says after 300 ms that nothing comes any more.
        let most = if mover == Caller { 0 } else { 310 / 5 };
        assert!(missing <= most, "{mover:?}: {missing}");
        let late = pair.end(Listener).blocks(id).into_iter().filter(|b| *b > sent - 100).count();
        assert_eq!(late, 99, "{mover:?}");
        assert!(pair.end(Caller).ended().is_none() && pair.end(Listener).ended().is_none());
    }
}

#[test]
fn a_spoofed_source_gets_at_most_three_times_what_it_sent_and_no_media() {
    let victim = address("203.0.113.9:9");
    let received = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = received.clone();
    // From 2 s on, what the caller sends by UDP arrives with the victim's address.
    let mut pair = Setup::new()
        .attacked(move |mut wire| {
            if let Carrier::Udp { from, .. } = &mut wire.carrier
                && wire.to == Listener
                && wire.now >= at(2000)
            {
                *from = victim;
                count.fetch_add(wire.bytes.len(), std::sync::atomic::Ordering::Relaxed);
            }
            vec![wire]
        })
        .open();
    let up = pair.play(Caller, ms(5));
    let down = pair.play(Listener, ms(5));
    let home = pair.end(Caller).address;
    pair.run_until(at(10_000));
    assert_eq!(pair.session(Listener).route(), Some(Route::Datagram(home)));
    let hit: usize = pair.astray.iter().map(|w| w.bytes.len()).sum();
    assert!(!pair.astray.is_empty(), "the new address is challenged");
    assert!(hit <= 3 * received.load(std::sync::atomic::Ordering::Relaxed));
    for wire in &pair.astray {
        assert_eq!(wire.carrier, Carrier::Udp { from: pair.end(Listener).address, to: victim });
    }
    assert!(media(&pair.astray, down).is_empty() && media(&pair.astray, up).is_empty());
    let sent = pair.stop(Listener)[&down];
    pair.run_for(ms(100));
    assert_eq!(pair.end(Caller).blocks(down).len(), sent as usize);
}

#[test]
fn no_packet_is_answered_with_more_than_three_times_its_size() {
    let victim = address("203.0.113.9:9");
    let challenges = |n: usize| [8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(n);
    for n in [1, 2, 97] {
        let mut rogue = Rogue::new(Setup::seeded(0x3A3A + n as u64), HELLO);
        rogue.pair.run_until(at(500));
        rogue.pair.record();
        let packet = rogue.packet(StreamId::PATH, &challenges(n));
        rogue.pair.inject_udp(Listener, victim, &packet);
        rogue.pair.run_until(at(2000));
        let answered: usize = rogue
            .pair
            .recorded()
            .iter()
            .filter(|w| matches!(w.carrier, Carrier::Udp { to, .. } if to == victim))
            .map(|w| w.bytes.len())
            .sum();
        assert!(answered > 0 && answered <= 3 * packet.len(), "{n}: {answered}");
    }
}

#[test]
fn an_old_packet_from_a_new_address_moves_nothing() {
    let mut pair = Setup::new().open();
    pair.run_until(at(2000));
    pair.record();
    pair.run_until(at(6000));
    let old: Vec<_> = pair.recorded().into_iter().filter(|w| w.to == Listener).collect();
    let before = pair.session(Listener).counters();
    for wire in old.iter().filter(|w| w.carrier != Carrier::Tcp) {
        pair.inject_udp(Listener, address("203.0.113.9:9"), &wire.bytes);
    }
    pair.run_until(at(7000));
    assert!(pair.astray.is_empty(), "nothing was sent there");
    let after = pair.session(Listener).counters();
    assert!(after.replayed > before.replayed);
}

#[test]
fn udp_that_dies_on_our_way_alone_is_noticed_without_media() {
    // The caller moves before it knows a path of its own: it is heard by TCP all the time, and
    // nobody misses media that never came.
    let mut pair = Setup::new().open();
    pair.run_until_udp(Listener);
    pair.rebind(Caller, "198.51.100.1:4000");
    pair.rebind(Listener, "198.51.100.2:4000");
    pair.run_until(at(20));
    let id = pair.play(Listener, ms(5));
    pair.run_until(at(10_000));
    assert!(pair.end(Caller).blocks(id).iter().filter(|b| **b > 1000).count() > 900);
}

#[test]
fn a_genuine_packet_that_was_held_back_does_not_make_a_new_path() {
    let held = std::sync::Arc::new(std::sync::Mutex::new(None));
    let keep = held.clone();
    let mut pair = Setup::new()
        .attacked(move |wire| {
            let mut held = keep.lock().unwrap();
            let udp = wire.to == Listener && wire.carrier != Carrier::Tcp;
            if udp && wire.now >= at(2000) && held.is_none() {
                *held = Some(wire.bytes);
                return Vec::new();
            }
            vec![wire]
        })
        .open();
    pair.run_until(at(6000));
    let packet = held.lock().unwrap().clone().unwrap();
    let before = pair.session(Listener).counters();
    pair.inject_udp(Listener, address("203.0.113.9:9"), &packet);
    assert_eq!(pair.session(Listener).counters().received, before.received + 1);
    pair.run_until(at(9000));
    assert!(pair.astray.is_empty(), "{:?}", pair.astray);
    assert_eq!(pair.session(Listener).counters().unproved_addresses, 0);
}
