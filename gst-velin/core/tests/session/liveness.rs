//! A peer that falls silent is stalled after a second, lost after five, and given up after sixty.

use velin_core::session::{EXPIRED_AFTER, Ended, Event, LOST_AFTER, STALLED_AFTER};

use crate::support::pair::{Caller, Listener, Setup};
use crate::support::{at, ms};

#[test]
fn a_dead_network_is_a_stall_a_loss_and_after_a_minute_the_end() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    pair.run_until(at(3000));
    pair.outage(ms(600_000));
    pair.run_until(at(100_000));
    for role in [Caller, Listener] {
        let end = pair.end(role);
        let stalled = end.when(|e| *e == Event::Stalled).unwrap();
        let lost = end.when(|e| matches!(e, Event::Lost(_))).unwrap();
        let over = end.when(|e| matches!(e, Event::Closed(_))).unwrap();
        assert_eq!(lost.since(stalled), LOST_AFTER - STALLED_AFTER);
        assert_eq!(over.since(stalled), EXPIRED_AFTER - STALLED_AFTER);
        // The last thing heard came before the outage: media, or a PING of every second.
        let silent_from = stalled - STALLED_AFTER;
        assert!(silent_from > at(1900) && silent_from <= at(3001), "{role:?} {silent_from:?}");
        assert!(matches!(end.ended(), Some(Ended::PathLost(_))));
        assert_eq!(end.count(|e| *e == Event::Stalled), 1);
        assert_eq!(end.count(|e| matches!(e, Event::Lost(_))), 1);
    }
    assert!(pair.session(Caller).media_tx(id).is_none());
}

#[test]
fn an_outage_of_almost_five_seconds_needs_no_new_handshake() {
    // The worst moment: right after both heard each other is the best; so take several.
    for (i, start) in [3000, 3100, 3250, 3500, 3750, 3990].into_iter().enumerate() {
        let mut pair = Setup::seeded(0x4900 + i as u64).open();
        let down = pair.play(Listener, ms(5));
        let up = pair.play(Caller, ms(5));
        pair.run_until(at(start));
        pair.outage(ms(4900));
        pair.run_until(at(start + 4900 + 2000));
        for (role, id) in [(Caller, down), (Listener, up)] {
            let end = pair.end(role);
            assert!(end.ended().is_none(), "{start} {role:?}: {:?}", end.events);
            assert_eq!(end.count(|e| matches!(e, Event::Recovered(_))), 1);
            assert_eq!(end.count(|e| matches!(e, Event::Authenticated { .. })), 1);
            // Fresh audio within 200 ms of the end of the outage.
            let fresh = (start + 4900 + 200) as u32 / 5;
            assert!(end.blocks(id).iter().any(|b| *b > fresh - 100 && *b < fresh));
        }
    }
}

#[test]
fn the_first_media_after_an_outage_saves_the_other_direction_too() {
    // Only the listener hears media; the caller lives on the answers, and TCP takes longer.
    let mut pair = Setup::new().open();
    let _ = pair.play(Caller, ms(5));
    pair.run_until(at(4010));
    pair.tcp.outages.push((at(4010), at(20_000)));
    pair.outage(ms(4900));
    pair.run_until(at(12_000));
    for role in [Caller, Listener] {
        assert!(pair.end(role).ended().is_none(), "{role:?} {:?}", pair.end(role).events);
    }
}

#[test]
fn a_stalled_tcp_connection_alone_stops_nothing() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    pair.run_until(at(2000));
    pair.tcp.outages.push((at(2000), at(60_000)));
    pair.run_until(at(50_000));
    let sent = pair.stop(Caller)[&id];
    pair.run_for(ms(100));
    assert_eq!(pair.end(Listener).blocks(id).len(), sent as usize);
    for role in [Caller, Listener] {
        assert_eq!(pair.end(role).count(|e| *e == Event::Stalled), 0);
    }
}

#[test]
fn an_idle_session_is_kept_alive_for_hours() {
    let mut pair = Setup::new().open();
    pair.run_until(at(3 * 3600 * 1000));
    for role in [Caller, Listener] {
        let end = pair.end(role);
        assert!(end.ended().is_none());
        assert_eq!(end.count(|e| *e == Event::Stalled), 0);
        assert!(end.count(|e| matches!(e, Event::Rekeyed { .. })) >= 11);
    }
}

#[test]
fn a_flood_of_pings_is_answered_twenty_times_a_second() {
    use crate::support::rogue::{HELLO, Rogue};
    use velin_core::units::StreamId;
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    rogue.pair.run_until(at(500));
    let before = rogue.listener().counters();
    let pings = [4, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1].repeat(1000);
    rogue.send(StreamId::PATH, &pings);
    let after = rogue.listener().counters();
    assert_eq!(after.sent - before.sent, 20);
    assert_eq!(after.unanswered_pings - before.unanswered_pings, 980);
}
