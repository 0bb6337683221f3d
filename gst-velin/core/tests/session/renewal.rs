//! When a session says that another should follow, and how it ends then.

use velin_core::identity::Name;
use velin_core::session::{Ended, Event, OpenStreamError, RENEW_AFTER, Role};
use velin_core::wire::{AudioFlags, CloseCode, CloseReason, Hex, StreamUuid};

use crate::support::pair::{Caller, Listener, Pair, Setup, format};
use crate::support::{at, ms};

fn due(pair: &Pair, role: Role) -> usize {
    pair.end(role).count(|e| *e == Event::RenewalDue)
}

#[test]
fn a_day_is_enough() {
    let mut pair = Setup::new().open();
    pair.run_until(at(0) + RENEW_AFTER - ms(10));
    assert_eq!((due(&pair, Caller), due(&pair, Listener)), (0, 0));
    pair.run_for(ms(1000));
    assert_eq!((due(&pair, Caller), due(&pair, Listener)), (1, 1));
    pair.run_for(ms(3_600_000));
    assert_eq!((due(&pair, Caller), due(&pair, Listener)), (1, 1), "it is said once");
    assert!(pair.end(Caller).ended().is_none(), "and nothing else happens");
}

#[test]
fn used_up_stream_ids_ask_for_a_new_session_and_too_many_streams_do_not() {
    let mut pair = Setup::new().open();
    pair.end_mut(Listener).accepts_streams = false;
    let open = |pair: &mut Pair| {
        let (name, uuid) = (Name::new("x").unwrap(), StreamUuid(Hex([0; 16])));
        pair.session(Caller).open_stream(name, uuid, vec![format()], None)
    };
    while let Ok(id) = open(&mut pair) {
        if id.0 >= 127 {
            pair.session(Caller).remove_stream(id, CloseCode::OK);
        }
        if id.0 > 1000 {
            break;
        }
        // As slowly as a peer can bear.
        pair.run_for(ms(20));
    }
    // 63 are open: one more, and there is no room, but there are ids.
    open(&mut pair).unwrap();
    assert_eq!(open(&mut pair), Err(OpenStreamError::NoRoom));
    pair.run_for(ms(1000));
    assert_eq!(due(&pair, Caller), 0);
    let last = velin_core::units::StreamId(1003);
    pair.session(Caller).remove_stream(last, CloseCode::OK);
    while let Ok(id) = open(&mut pair) {
        pair.session(Caller).remove_stream(id, CloseCode::OK);
        pair.run_for(ms(20));
    }
    pair.run_for(ms(10));
    assert_eq!(due(&pair, Caller), 1);
    assert!(pair.end(Caller).ended().is_none() && pair.end(Listener).ended().is_none());
}

#[test]
fn two_to_the_32_packets_of_a_stream_bring_new_keys_and_no_renewal() {
    for role in [Caller, Listener] {
        let mut pair = Setup::seeded(0x2032 + role as u64).open();
        let id = pair.play(role, ms(5));
        pair.run_until(at(5000));
        let tx = pair.session(role).media_tx(id).unwrap();
        tx.skip_numbers((1 << 32) - 2000);
        pair.run_until(at(10_000));
        let rekeyed = |e: &Event| matches!(e, Event::Rekeyed { .. });
        assert_eq!(pair.end(role).count(rekeyed), 0);
        pair.run_until(at(20_000));
        for role in [Caller, Listener] {
            assert_eq!(pair.end(role).count(rekeyed), 1, "{role:?}");
            assert_eq!(due(&pair, role), 0);
        }
        assert!(pair.send_block(role, &tx, 100_000, AudioFlags::NONE).is_ok());
    }
}

#[test]
fn a_session_that_was_superseded_ends_as_if_closed() {
    let mut pair = Setup::new().open();
    let _ = pair.play(Caller, ms(5));
    pair.session(Listener).close(CloseCode::SUPERSEDED, "");
    pair.run_for(ms(100));
    let reason = CloseReason::new(CloseCode::SUPERSEDED, "");
    assert_eq!(pair.end(Caller).ended(), Some(&Ended::ByPeer(reason)));
}
