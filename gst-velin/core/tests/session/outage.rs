//! A session outlives outages of up to a minute, its connection, and sleep.

use std::time::Duration;

use velin_core::identity::{Grants, Name};
use velin_core::session::{
    AskError, DETACHED_SILENCE, Ended, Event, MediaError, OpenStreamError, Role, Route, StreamEnd,
    UNRENEWED_AFTER,
};
use velin_core::time::MonoTime;
use velin_core::units::StreamId;
use velin_core::wire::{AudioFlags, CloseCode, Hex, StreamUuid};

use crate::support::netem::Outages;
use crate::support::pair::{Caller, Carrier, Listener, Pair, Setup, Wire, format, other};
use crate::support::{at, ms};

const BOTH: [Role; 2] = [Caller, Listener];

/// Media both ways for three seconds; the stream that each side hears.
fn playing(seed: u64) -> (Pair, [StreamId; 2]) {
    let mut pair = Setup::seeded(seed).open();
    let up = pair.play(Caller, ms(5));
    let down = pair.play(Listener, ms(5));
    pair.run_until(at(3000));
    (pair, [down, up])
}

/// When media towards `to` was first sent at or after `from`.
fn first_media(wires: &[Wire], to: Role, id: StreamId, from: MonoTime) -> Option<MonoTime> {
    let [high, low] = id.0.to_be_bytes();
    wires
        .iter()
        .filter(|w| w.to == to && w.now >= from)
        .find(|w| w.packets().iter().any(|p| p[0] == 0x5D && p[2..4] == [high, low]))
        .map(|w| w.now)
}

/// No handshake: everything happened in the one session.
fn assert_one_session(pair: &Pair) {
    for role in BOTH {
        let end = pair.end(role);
        assert_eq!(end.count(|e| matches!(e, Event::Authenticated { .. })), 1);
        assert!(end.ended().is_none(), "{role:?} {:?}", end.events);
        assert_eq!(end.heard.wrong, 0);
    }
}

#[test]
fn audio_leaves_within_200_ms_of_the_end_of_an_outage_of_any_length_below_a_minute() {
    for (i, length) in [5500, 20_000, 50_000, 59_000].into_iter().enumerate() {
        for dies in [false, true] {
            let (mut pair, ids) = playing(0x0071_0000 + 2 * i as u64 + u64::from(dies));
            pair.outage(ms(length));
            if dies && length > 10_000 {
                // Our systems give the connection up, as with a TCP user timeout.
                pair.run_for(ms(10_000));
                pair.time_tcp_out();
            }
            let back = at(3000 + length);
            pair.run_until(back - ms(100));
            for role in BOTH {
                assert!(pair.session(role).is_lost());
                assert_eq!(pair.session(role).route(), Some(Route::Held));
            }
            pair.record();
            pair.run_until(back + ms(2000));
            let wires = pair.recorded();
            for role in BOTH {
                let id = ids[role as usize];
                let first = first_media(&wires, role, id, at(0)).unwrap();
                assert!(first >= back, "held until the path is back");
                assert!(first.since(back) <= ms(200), "{length} {role:?} {first:?}");
                let blocks = pair.end(role).blocks(id);
                let fresh = blocks.iter().filter(|b| **b > (2900 + length + 200) as u32 / 5);
                assert!(fresh.count() > 300, "{length} {role:?}");
                assert_eq!(pair.end(role).count(|e| matches!(e, Event::Lost(_))), 1);
                let recovered = pair.end(role).count(|e| matches!(e, Event::Recovered(_)));
                assert_eq!(recovered, 1, "{length} {role:?}");
                assert!(!pair.session(role).is_lost());
            }
            assert_one_session(&pair);
        }
    }
}

#[test]
fn an_outage_of_one_direction_ends_as_quickly() {
    for (i, length) in [5500, 20_000, 59_000].into_iter().enumerate() {
        for deaf in BOTH {
            let (mut pair, ids) = playing(0x0D1E_0000 + 2 * i as u64 + deaf as u64);
            let window = (pair.now, pair.now + ms(length));
            pair.udp[deaf as usize].settings.outages = Outages::Windows(vec![window]);
            // Without acknowledgements TCP stands still in both directions.
            pair.tcp.outages.push(window);
            pair.run_until(window.1);
            assert!(pair.session(deaf).is_lost());
            assert!(!pair.session(other(deaf)).is_lost(), "it hears the probes");
            pair.record();
            pair.run_for(ms(1000));
            let wires = pair.recorded();
            for role in BOTH {
                let first = first_media(&wires, role, ids[role as usize], window.1).unwrap();
                assert!(first.since(window.1) <= ms(200), "{length} deaf {deaf:?}, to {role:?}");
            }
            assert_one_session(&pair);
        }
    }
}

#[test]
fn a_held_block_uses_up_no_number_and_nothing_of_it_leaves() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    pair.run_until(at(3000));
    pair.stop(Caller);
    pair.outage(ms(20_000));
    pair.run_until(at(10_000));
    let tx = pair.session(Caller).media_tx(id).unwrap();
    let before = tx.sent();
    assert_eq!(tx.route(), Route::Held);
    assert_eq!(pair.send_block(Caller, &tx, 9000, AudioFlags::NONE), Err(MediaError::Held));
    assert_eq!(tx.sent(), before);
    assert!(!tx.is_closed());
}

#[test]
fn probes_of_a_lost_session_come_eight_a_second_and_to_known_addresses_only() {
    let (mut pair, _) = playing(0x9806E);
    pair.outage(ms(100_000));
    pair.run_until(at(10_000));
    pair.record();
    pair.run_until(at(20_000));
    let wires = pair.recorded();
    for role in BOTH {
        let to = pair.end(role).address;
        let udp = |w: &&Wire| matches!(w.carrier, Carrier::Udp { to: got, .. } if got == to);
        let probes = wires.iter().filter(udp).count();
        assert!((80..=84).contains(&probes), "{probes}");
        let bytes: usize = wires.iter().filter(|w| w.to == role).map(|w| w.bytes.len()).sum();
        assert!(bytes < 10_000, "{bytes} in ten seconds");
    }
    assert!(pair.astray.is_empty());
}

#[test]
fn a_reset_connection_does_not_interrupt_media() {
    let (mut pair, ids) = playing(0x4E5E7);
    pair.cut_tcp();
    pair.run_for(ms(4900));
    for role in BOTH {
        assert_eq!(pair.end(role).count(|e| *e == Event::Detached), 1);
        assert!(pair.session(role).is_detached() && !pair.session(role).is_closed());
        let blocks = pair.end(role).blocks(ids[role as usize]);
        assert!(blocks.len() > 1550, "{role:?} {}", blocks.len());
        assert!(blocks.windows(2).all(|two| two[1] == two[0] + 1), "no block is missing");
    }
    // Nothing can be said any more.
    let (name, uuid) = (Name::new("x").unwrap(), StreamUuid(Hex([0; 16])));
    let opened = pair.session(Caller).open_stream(name, uuid, vec![format()], None);
    assert_eq!(opened, Err(OpenStreamError::NotOpen));
    assert_eq!(pair.session(Caller).ask("*".parse().unwrap()), Err(AskError::NotOpen));
    // The driver has made another session meanwhile, or has not.
    pair.run_for(ms(200));
    for role in BOTH {
        assert_eq!(pair.end(role).ended(), Some(&Ended::Unrenewed));
    }
    assert_eq!(UNRENEWED_AFTER, Duration::from_secs(5));
}

#[test]
fn a_detached_session_writes_nothing_and_ends_without_a_word() {
    let (mut pair, _) = playing(0x51_1E47);
    pair.cut_tcp();
    pair.run_for(ms(10));
    pair.record();
    pair.run_for(ms(1000));
    let now = pair.now;
    pair.session(Caller).rekey(now);
    pair.session(Listener).update_grants(Grants::NONE);
    pair.session(Caller).close(CloseCode::SHUTDOWN, "");
    pair.run_for(ms(10_000));
    assert!(pair.recorded().iter().all(|wire| wire.carrier != Carrier::Tcp));
    assert!(matches!(pair.end(Caller).ended(), Some(Ended::ByUs(_))));
    assert_eq!(pair.end(Listener).ended(), Some(&Ended::Truncated), "a second of silence");
}

#[test]
fn a_peer_that_died_is_given_up_after_a_second() {
    for survivor in BOTH {
        let (mut pair, _) = playing(0xD1ED + survivor as u64);
        pair.kill(other(survivor));
        pair.run_for(ms(900));
        assert!(pair.session(survivor).is_detached());
        pair.run_for(ms(200));
        assert_eq!(pair.end(survivor).ended(), Some(&Ended::Truncated));
        assert_eq!(DETACHED_SILENCE, Duration::from_secs(1));
    }
}

#[test]
fn keys_live_a_minute_after_the_last_packet_without_a_connection() {
    let (mut pair, _) = playing(0x60);
    pair.outage(ms(300_000));
    pair.run_for(ms(10_000));
    pair.time_tcp_out();
    pair.run_until(at(62_900));
    for role in BOTH {
        assert!(pair.end(role).ended().is_none(), "{:?}", pair.end(role).events);
    }
    pair.run_until(at(63_100));
    for role in BOTH {
        assert!(matches!(pair.end(role).ended(), Some(Ended::PathLost(_))));
    }
}

#[test]
fn a_path_that_comes_back_without_a_connection_must_be_renewed_in_five_seconds() {
    let (mut pair, _) = playing(0x4E4E3);
    pair.outage(ms(30_000));
    pair.run_for(ms(10_000));
    pair.time_tcp_out();
    pair.run_until(at(37_900));
    assert_one_session(&pair);
    pair.run_until(at(38_200));
    for role in BOTH {
        assert_eq!(pair.end(role).ended(), Some(&Ended::Unrenewed));
    }
}

#[test]
fn udp_may_still_be_proved_after_the_connection_is_gone() {
    let mut pair = Setup::new().build();
    pair.udp_blocked = [true; 2];
    pair.run_until_open();
    let id = pair.play(Caller, ms(5));
    pair.run_until(at(4500));
    assert_eq!(pair.session(Caller).route(), Some(Route::Stream));
    pair.time_tcp_out();
    pair.run_until(at(6000));
    assert_eq!(pair.session(Caller).route(), Some(Route::Held));
    let heard = pair.end(Listener).blocks(id).len();
    pair.udp_blocked = [false; 2];
    pair.run_until(at(6200));
    assert!(matches!(pair.session(Caller).route(), Some(Route::Datagram(_))));
    assert!(pair.end(Listener).blocks(id).len() > heard);
}

#[test]
fn one_side_alone_may_lose_the_connection() {
    for role in BOTH {
        let (mut pair, ids) = playing(0x0A10 + role as u64);
        pair.end_tcp(role, StreamEnd::Closed);
        pair.run_for(ms(4500));
        assert_one_session(&pair);
        assert!(pair.session(role).is_detached() && !pair.session(other(role)).is_detached());
        for role in BOTH {
            assert!(pair.end(role).blocks(ids[role as usize]).len() > 1450);
        }
        pair.run_for(ms(3000));
        assert_eq!(pair.end(role).ended(), Some(&Ended::Unrenewed));
    }
}

#[test]
fn a_process_that_was_stopped_goes_on_where_it_was() {
    for (i, seconds) in [4, 10, 50, 55].into_iter().enumerate() {
        for sleeper in BOTH {
            let (mut pair, ids) = playing(0x51E0 + 2 * i as u64 + sleeper as u64);
            pair.suspend(sleeper, Duration::from_secs(seconds));
            pair.run_for(Duration::from_secs(seconds));
            let before = pair.end(sleeper).blocks(ids[sleeper as usize]).len();
            pair.run_for(ms(200));
            let end = pair.end(sleeper);
            let slept = end.events.iter().find_map(|(_, e)| match e {
                Event::Woke(slept) => Some(slept.as_secs()),
                _ => None,
            });
            assert!(slept >= Some(seconds - 2) && slept <= Some(seconds), "{:?}", end.events);
            assert_eq!(end.count(|e| matches!(e, Event::Woke(_))), 1, "{:?}", end.events);
            assert!(end.blocks(ids[sleeper as usize]).len() > before);
            pair.run_for(ms(2000));
            for role in BOTH {
                assert!(!pair.session(role).is_lost());
                assert!(matches!(pair.session(role).route(), Some(Route::Datagram(_))));
            }
            assert_one_session(&pair);
        }
    }
}

#[test]
fn who_slept_for_an_hour_has_five_seconds_to_find_the_peer() {
    let (mut pair, _) = playing(0x51EE9);
    pair.suspend(Listener, Duration::from_secs(1 << 20));
    pair.suspend(Caller, Duration::from_secs(3600));
    let awake = at(3000 + 3_600_000);
    // What came while it slept is lost with the network it slept in.
    pair.outage(ms(3_600_000 * 2));
    pair.run_until(awake + ms(4900));
    assert!(pair.end(Caller).ended().is_none(), "{:?}", pair.end(Caller).events);
    pair.run_until(awake + ms(5100));
    assert!(matches!(pair.end(Caller).ended(), Some(Ended::PathLost(_))));
}

#[test]
fn a_driver_that_knows_of_a_sleep_has_everything_probed_at_once() {
    let mut pair = Setup::new().open();
    pair.run_until(at(10_050));
    pair.record();
    let now = pair.now;
    pair.session(Caller).wake(now);
    pair.run_for(ms(4000));
    let wires = pair.recorded();
    let probes = |from: u64, to: u64| {
        let within = |w: &&Wire| w.now >= now + ms(from) && w.now < now + ms(to);
        let from_caller = |w: &&Wire| w.to == Listener && w.carrier != Carrier::Tcp;
        wires.iter().filter(within).filter(from_caller).count()
    };
    assert!(probes(0, 1) >= 1);
    assert!(probes(0, 2000) >= 16);
    assert!(probes(2200, 4000) <= 6, "{}", probes(2200, 4000));
    assert_eq!(pair.end(Caller).count(|e| matches!(e, Event::Woke(_))), 0);
    assert_one_session(&pair);
}

#[test]
fn a_peer_that_moved_during_the_outage_is_followed() {
    for mover in BOTH {
        let (mut pair, ids) = playing(0x30_7E + mover as u64);
        pair.outage(ms(20_000));
        pair.run_for(ms(10_000));
        let new = pair.rebind(mover, "198.51.100.7:4321");
        // Its TCP connection died with its address.
        pair.time_tcp_out();
        pair.run_until(at(23_500));
        let stays = other(mover);
        assert_eq!(pair.session(stays).route(), Some(Route::Datagram(new)));
        for role in BOTH {
            let fresh = pair.end(role).blocks(ids[role as usize]);
            assert!(fresh.iter().any(|b| *b > 4100), "to {role:?}");
        }
    }
}

#[test]
fn udp_that_was_proved_before_carries_media_in_the_moment_it_is_heard_again() {
    let mut setup = Setup::new();
    setup.udp.delay = ms(40);
    let mut pair = setup.open();
    let _ = pair.play(Caller, ms(5));
    let _ = pair.play(Listener, ms(5));
    pair.run_until(at(3000));
    pair.outage(ms(20_000));
    // The connection takes longer to come back, as TCP does.
    pair.tcp.outages.push((at(3000), at(40_000)));
    pair.run_until(at(25_000));
    for role in BOTH {
        let address = pair.end(other(role)).address;
        let recovered = |(_, e): &&(MonoTime, Event)| matches!(e, Event::Recovered(_));
        let events = &pair.end(role).events;
        let (time, _) = events.iter().find(recovered).unwrap();
        let way = Event::RouteChanged(Route::Datagram(address));
        let back = events.iter().rfind(|(_, e)| matches!(e, Event::RouteChanged(_))).unwrap();
        assert_eq!(back, &(*time, way), "{role:?} {events:?}");
    }
}

#[test]
fn what_a_side_missed_asleep_is_not_held_against_udp() {
    for sleeper in BOTH {
        // It only hears: the other side misses nothing, and says nothing.
        let mut pair = Setup::seeded(0x51EE + sleeper as u64).open();
        let _ = pair.play(other(sleeper), ms(5));
        pair.run_until(at(3000));
        let window = (pair.now, pair.now + ms(3500));
        // A machine that sleeps does not keep what is sent to it.
        pair.udp[sleeper as usize].settings.outages = Outages::Windows(vec![window]);
        pair.suspend(sleeper, ms(3500));
        let before = pair.end(sleeper).count(|e| matches!(e, Event::RouteChanged(_)));
        pair.run_for(ms(5000));
        let end = pair.end(sleeper);
        assert_eq!(end.count(|e| matches!(e, Event::Woke(_))), 1);
        let after = end.count(|e| matches!(e, Event::RouteChanged(_)));
        assert_eq!(after, before, "{:?}", end.events);
    }
}

#[test]
fn without_a_connection_a_deaf_side_goes_on_sending() {
    for deaf in BOTH {
        let (mut pair, ids) = playing(0xDEAF + deaf as u64);
        pair.cut_tcp();
        pair.udp_blocked[deaf as usize] = true;
        let heard = pair.end(other(deaf)).blocks(ids[other(deaf) as usize]).len();
        pair.run_for(ms(900));
        let more = pair.end(other(deaf)).blocks(ids[other(deaf) as usize]).len();
        assert!(more - heard >= 178, "{deaf:?}: {}", more - heard);
        pair.udp_blocked = [false; 2];
        pair.run_for(ms(1000));
        assert_one_session(&pair);
    }
}
