//! New keys inside a living session.

use velin_core::session::{Event, Role};
use velin_core::wire::AudioFlags;

use crate::support::pair::{Caller, Listener, Pair, Setup, other, seal};
use crate::support::rng::Rng;
use crate::support::{at, ms};

fn epochs(pair: &Pair, role: Role) -> Vec<u32> {
    let epoch = |event: &Event| match event {
        Event::Rekeyed { epoch } => Some(*epoch),
        _ => None,
    };
    pair.end(role).events.iter().filter_map(|(_, event)| epoch(event)).collect()
}

#[test]
fn keys_change_on_request_of_either_side() {
    for (seed, role) in [(1, Caller), (2, Listener)] {
        let mut pair = Setup::seeded(0x4E4E + seed).open();
        let id = pair.play(Caller, ms(5));
        pair.run_until(at(500));
        let now = pair.now;
        pair.session(role).rekey(now);
        pair.run_until(at(2000));
        assert_eq!(epochs(&pair, Caller), [1]);
        assert_eq!(epochs(&pair, Listener), [1]);
        let sent = pair.stop(Caller)[&id];
        pair.run_for(ms(100));
        assert_eq!(pair.end(Listener).blocks(id).len(), sent as usize);
        for role in [Caller, Listener] {
            assert_eq!(pair.session(role).counters().wrong_epoch, 0);
            assert_eq!(pair.session(role).counters().forged, 0);
        }
    }
}

#[test]
fn both_may_ask_at_once_and_get_one_change() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    pair.run_until(at(500));
    let now = pair.now;
    for role in [Caller, Listener, Caller, Listener] {
        pair.session(role).rekey(now);
    }
    pair.run_until(at(3000));
    assert_eq!(epochs(&pair, Caller), [1]);
    assert_eq!(epochs(&pair, Listener), [1]);
    let sent = pair.stop(Caller)[&id];
    pair.run_for(ms(100));
    assert_eq!(pair.end(Listener).blocks(id).len(), sent as usize);
}

#[test]
fn a_request_may_come_at_any_moment_of_another() {
    // The second side asks at every offset from the first.
    for offset in 0..80_u64 {
        for (first, second) in [(Caller, Listener), (Listener, Caller)] {
            let mut setup = Setup::seeded(0x0FF_0000 + 2 * offset + u64::from(first == Caller));
            setup.tcp_delay = ms(10);
            setup.udp.delay = ms(3 + offset % 5);
            let mut pair = setup.open();
            let up = pair.play(Caller, ms(5));
            let down = pair.play(Listener, ms(5));
            pair.run_until(at(500));
            pair.session(first).rekey(at(500));
            pair.run_until(at(500 + offset));
            pair.session(second).rekey(at(500 + offset));
            pair.run_until(at(3000));
            let (e1, e2) = (epochs(&pair, Caller), epochs(&pair, Listener));
            assert_eq!(e1, e2, "{offset} {first:?}");
            let (a, b) = (pair.stop(Caller)[&up], pair.stop(Listener)[&down]);
            pair.run_for(ms(100));
            assert_eq!(pair.end(Listener).blocks(up).len(), a as usize, "{offset}");
            assert_eq!(pair.end(Caller).blocks(down).len(), b as usize, "{offset}");
        }
    }
}

#[test]
fn a_thousand_changes_under_load_lose_no_block_that_the_network_delivers() {
    let mut setup = Setup::new();
    setup.udp.loss = 0.05;
    setup.udp.reorder = 0.2;
    setup.udp.reorder_by = ms(50);
    setup.udp.duplicate = 0.02;
    let mut pair = setup.open();
    pair.run_until_udp(Caller);
    pair.run_until_udp(Listener);
    let up = pair.play(Caller, ms(5));
    let down = pair.play(Listener, ms(7));
    for change in 0..1000 {
        let role = [Caller, Listener][change % 2];
        let now = pair.now;
        pair.session(role).rekey(now);
        pair.run_for(ms(100));
    }
    pair.stop(Caller);
    pair.stop(Listener);
    pair.run_for(ms(200));
    for (role, id) in [(Caller, down), (Listener, up)] {
        let counters = pair.session(role).counters();
        assert_eq!((counters.forged, counters.malformed), (0, 0));
        assert_eq!(counters.wrong_epoch, 0, "{role:?}");
        assert!(pair.end(role).ended().is_none(), "{:?}", pair.end(role).ended());
        assert!(epochs(&pair, role).len() > 900, "{}", epochs(&pair, role).len());
        assert!(pair.end(role).blocks(id).len() > 13_000);
        assert_eq!(pair.end(role).heard.wrong, 0);
    }
}

#[test]
fn packets_of_the_epoch_before_are_taken_for_five_seconds_and_not_longer() {
    for (seed, asks) in [(1, Caller), (2, Listener)] {
        let mut pair = Setup::seeded(0x01D0 + seed).open();
        let id = pair.play(Caller, ms(1000));
        pair.run_until_udp(Caller);
        pair.run_until(at(500));
        let tx = pair.session(Caller).media_tx(id).unwrap();
        let old: Vec<_> = (0..4).map(|i| seal(&tx, 100 + i, AudioFlags::NONE).unwrap().0).collect();
        pair.session(asks).rekey(at(500));
        pair.run_until(at(600));
        let from = pair.end(Caller).address;
        let first_new = pair.end(Listener).when(|e| matches!(e, Event::Rekeyed { .. })).unwrap();
        pair.inject_udp(Listener, from, &old[0]);
        pair.run_until(first_new + ms(4990));
        pair.inject_udp(Listener, from, &old[1]);
        pair.run_until(first_new + ms(5020));
        let before = pair.session(Listener).counters();
        pair.inject_udp(Listener, from, &old[2]);
        pair.run_for(ms(10_000));
        pair.inject_udp(Listener, from, &old[3]);
        let heard = pair.end(Listener).blocks(id);
        assert_eq!(heard.into_iter().filter(|b| *b >= 100).collect::<Vec<_>>(), [100, 101]);
        let after = pair.session(Listener).counters();
        assert_eq!(after.wrong_epoch - before.wrong_epoch, 2, "asked by {asks:?}");
    }
}

#[test]
fn keys_change_by_themselves_every_quarter_of_an_hour() {
    let mut pair = Setup::new().open();
    pair.run_until(at(61 * 60 * 1000));
    assert_eq!(epochs(&pair, Caller), [1, 2, 3, 4]);
    assert_eq!(epochs(&pair, Listener), [1, 2, 3, 4]);
}

#[test]
fn a_change_that_waits_for_a_stalled_connection_happens_when_it_flows_again() {
    for (seed, role) in [(1, Caller), (2, Listener)] {
        let mut pair = Setup::seeded(0x57A1 + seed).open();
        let up = pair.play(Caller, ms(20));
        let down = pair.play(Listener, ms(20));
        pair.run_until(at(1000));
        pair.tcp.outages.push((at(1000), at(31_000)));
        pair.session(role).rekey(at(1000));
        pair.run_until(at(40_000));
        assert_eq!(epochs(&pair, Caller), [1]);
        assert_eq!(epochs(&pair, Listener), [1]);
        for (role, id) in [(Caller, up), (Listener, down)] {
            assert!(pair.end(role).ended().is_none(), "{:?}", pair.end(role).ended());
            let sent = pair.stop(role)[&id];
            pair.run_for(ms(100));
            assert_eq!(pair.end(other(role)).blocks(id).len(), sent as usize);
        }
    }
}

#[test]
fn a_stream_opened_or_removed_during_a_change_works() {
    let mut setup = Setup::new();
    setup.tcp_delay = ms(10);
    let mut pair = setup.open();
    for i in 0..40_u64 {
        let now = pair.now;
        pair.session([Caller, Listener][(i % 2) as usize]).rekey(now);
        pair.run_for(ms(i));
        let id = pair.play(Caller, ms(5));
        pair.run_for(ms(200));
        let sent = pair.stop(Caller)[&id];
        pair.run_for(ms(50));
        assert_eq!(pair.end(Listener).blocks(id).len(), sent as usize, "{i}");
        pair.session(Caller).remove_stream(id, velin_core::wire::CloseCode::OK);
        pair.run_for(ms(1500));
    }
    assert_eq!(epochs(&pair, Caller).len(), 40);
}

#[test]
fn three_epochs_are_open_while_a_change_is_under_way() {
    let mut setup = Setup::new();
    setup.tcp_delay = ms(50);
    let mut pair = setup.open();
    let id = pair.play(Caller, ms(1000));
    pair.run_until_udp(Caller);
    let tx = pair.session(Caller).media_tx(id).unwrap();
    let (late, _) = seal(&tx, 100, AudioFlags::NONE).unwrap();
    pair.run_until(at(500));
    pair.session(Caller).rekey(at(500));
    pair.run_until(at(1000));
    assert_eq!(epochs(&pair, Listener), [1]);
    pair.session(Caller).rekey(at(1000));
    // The listener has agreed to epoch 2 and has not heard a packet of it.
    pair.run_until(at(1075));
    let from = pair.end(Caller).address;
    pair.inject_udp(Listener, from, &late);
    assert!(pair.end(Listener).blocks(id).contains(&100));
    pair.run_until(at(2000));
    assert_eq!(epochs(&pair, Listener), [1, 2]);
}

#[test]
fn a_thousand_changes_over_a_stalling_connection_lose_nothing_at_all() {
    let mut setup = Setup::new();
    // UDP loses nothing and keeps no order: 20 ms, 20 ms more or less.
    setup.udp.delay = ms(0);
    setup.udp.reorder = 1.0;
    setup.udp.reorder_by = ms(40);
    let mut rng = Rng::new(0x57A11);
    let mut pair = setup.open();
    pair.run_until_udp(Caller);
    pair.run_until_udp(Listener);
    let up = pair.play(Caller, ms(10));
    let down = pair.play(Listener, ms(13));
    let mut asked = 0;
    while epochs(&pair, Caller).len() < 1000 {
        let now = pair.now;
        pair.tcp.outages = vec![(now, now + ms(rng.below(900)))];
        if rng.chance(0.7) {
            pair.session([Caller, Listener][asked % 2]).rekey(now);
            asked += 1;
        }
        pair.run_for(ms(20 + rng.below(600)));
        assert!(asked < 20_000, "{:?}", epochs(&pair, Caller).len());
    }
    pair.tcp.outages.clear();
    let (sent_up, sent_down) = (pair.stop(Caller)[&up], pair.stop(Listener)[&down]);
    pair.run_for(ms(2000));
    for (role, id, sent) in [(Caller, down, sent_down), (Listener, up, sent_up)] {
        let end = pair.end(role);
        assert!(end.ended().is_none(), "{:?}", end.ended());
        assert_eq!(end.heard.blocks[&id].len(), sent as usize, "each block once, {role:?}");
        assert_eq!((end.blocks(id).len(), end.heard.wrong), (sent as usize, 0));
        let counters = end.session.counters();
        assert_eq!((counters.wrong_epoch, counters.forged, counters.replayed), (0, 0, 0));
        assert_eq!(end.count(|e| matches!(e, Event::Stalled)), 0);
    }
}

#[test]
fn who_did_not_ask_waits_for_the_new_keys_however_long_its_answer_takes() {
    for (seed, asks) in [(1, Caller), (2, Listener)] {
        let mut pair = Setup::seeded(0xACC0 + seed).open();
        let ids = [pair.play(Listener, ms(5)), pair.play(Caller, ms(5))];
        pair.run_until(at(2000));
        pair.session(asks).rekey(at(2000));
        // The request arrives; the answer is held back for twenty seconds.
        pair.run_until(at(2001));
        pair.tcp.outages.push((at(2001), at(22_000)));
        pair.run_until(at(21_900));
        for role in [Caller, Listener] {
            assert!(epochs(&pair, role).is_empty(), "{role:?}");
            let late = pair.end(role).blocks(ids[role as usize]);
            assert!(late.last() > Some(&3900), "{role:?} still hears everything");
            assert_eq!(pair.session(role).counters().wrong_epoch, 0);
        }
        pair.run_until(at(22_100));
        for role in [Caller, Listener] {
            assert_eq!(epochs(&pair, role), [1]);
        }
    }
}
