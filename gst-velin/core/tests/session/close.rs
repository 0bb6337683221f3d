//! How sessions end when both ends agree that they should, and when the connection just breaks.

use velin_core::session::{Ended, Event, MediaError, StreamEnd, UNRENEWED_AFTER};
use velin_core::wire::{AudioFlags, CloseCode, CloseReason};

use crate::support::pair::{Caller, Listener, Setup, other};
use crate::support::{at, ms};

#[test]
fn close_says_goodbye_and_the_peer_reports_it() {
    for (seed, role) in [(1, Caller), (2, Listener)] {
        let mut pair = Setup::seeded(0xC105E + seed).open();
        pair.session(role).close(CloseCode::SHUTDOWN, "going \u{1b}[31mhome");
        pair.run_until(at(1000));
        let reason = CloseReason::new(CloseCode::SHUTDOWN, "going [31mhome");
        assert_eq!(pair.end(role).ended(), Some(&Ended::ByUs(reason.clone())));
        assert_eq!(pair.end(other(role)).ended(), Some(&Ended::ByPeer(reason)));
        for role in [Caller, Listener] {
            let end = pair.end(role);
            assert!(matches!(end.events.last(), Some((_, Event::Closed(_)))));
            assert_eq!(end.count(|e| matches!(e, Event::Closed(_))), 1);
            assert_eq!(end.session.poll_timeout(), None);
            assert!(end.session.is_closed());
        }
    }
}

#[test]
fn a_connection_cut_without_goodbye_is_truncated_where_there_is_no_udp() {
    let mut setup = Setup::new();
    (setup.caller.udp, setup.listener.udp) = (false, false);
    let mut pair = setup.open();
    pair.cut_tcp();
    pair.run_until(at(100));
    for role in [Caller, Listener] {
        assert_eq!(pair.end(role).ended(), Some(&Ended::Truncated));
        assert_eq!(pair.end(role).count(|e| *e == Event::Detached), 0);
    }
}

#[test]
fn a_forged_goodbye_ends_nothing() {
    let mut pair = Setup::new().open();
    pair.record();
    pair.session(Caller).close(CloseCode::OK, "");
    let mut other_pair = Setup::new().open();
    pair.run_until(at(100));
    for wire in pair.recorded() {
        for packet in wire.packets() {
            let from = other_pair.end(Caller).address;
            other_pair.inject_udp(Listener, from, &packet);
        }
    }
    other_pair.run_until(at(1000));
    assert!(other_pair.end(Listener).ended().is_none());
}

#[test]
fn no_block_is_sealed_after_the_end_however_it_came() {
    for ending in 0..4 {
        let mut pair = Setup::seeded(0x5EA1 + ending).open();
        let id = pair.play(Caller, ms(5));
        pair.run_until(at(200));
        let tx = pair.session(Caller).media_tx(id).unwrap();
        assert!(!tx.is_closed());
        match ending {
            0 => pair.session(Caller).close(CloseCode::OK, ""),
            1 => pair.session(Listener).close(CloseCode::OK, ""),
            2 => pair.cut_tcp(),
            _ => pair.session(Caller).remove_stream(id, CloseCode::OK),
        }
        pair.run_until(at(300) + UNRENEWED_AFTER);
        assert!(tx.is_closed());
        let sealed = pair.send_block(Caller, &tx, 1, AudioFlags::NONE);
        assert_eq!(sealed, Err(MediaError::Closed));
    }
}

#[test]
fn a_dropped_session_takes_its_senders_with_it() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    let tx = pair.session(Caller).media_tx(id).unwrap();
    drop(pair);
    assert!(tx.is_closed());
}

#[test]
fn nothing_moves_a_closed_session() {
    let mut pair = Setup::new().open();
    pair.record();
    let _ = pair.play(Caller, ms(5));
    pair.run_until(at(300));
    let wires = pair.recorded();
    pair.session(Listener).close(CloseCode::OK, "");
    pair.run_until(at(400));
    let (events, counters) = (pair.end(Listener).events.len(), pair.session(Listener).counters());
    for wire in wires {
        let from = pair.end(Caller).address;
        pair.inject_udp(Listener, from, &wire.bytes);
        pair.inject_tcp(Listener, &wire.bytes);
    }
    pair.session(Listener).handle_stream_end(at(500), StreamEnd::Closed);
    pair.session(Listener).handle_timeout(at(100_000));
    pair.session(Listener).close(CloseCode::OK, "again");
    pair.run_until(at(500));
    assert_eq!(pair.end(Listener).events.len(), events);
    assert_eq!(pair.session(Listener).counters(), counters);
    assert_eq!(pair.session(Listener).poll_transmit(), None);
}
