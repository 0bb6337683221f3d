//! Who may have whose streams: asking, grants, and grants that change.

use velin_core::identity::{Grant, Grants, Name};
use velin_core::session::{AskError, AskId, Ended, Event, MAX_ASKS, OpenStreamError, Role};
use velin_core::units::StreamId;
use velin_core::wire::{CloseCode, Hex, NameGlob, StreamUuid};

use crate::support::pair::{Caller, Listener, Pair, Setup, format, other};
use crate::support::rogue::{HELLO, Rogue};
use crate::support::{at, ms};

fn glob(text: &str) -> NameGlob {
    text.parse().unwrap()
}

fn open(
    pair: &mut Pair,
    role: Role,
    name: &str,
    ask: Option<AskId>,
) -> Result<StreamId, OpenStreamError> {
    let uuid = StreamUuid(Hex([9; 16]));
    pair.session(role).open_stream(Name::new(name).unwrap(), uuid, vec![format()], ask)
}

fn asked(pair: &mut Pair) -> AskId {
    match pair.run_until_event(Listener, |e| matches!(e, Event::StreamAsked { .. })) {
        Event::StreamAsked { ask, .. } => ask,
        _ => unreachable!(),
    }
}

fn ends(pair: &Pair, role: Role) -> Vec<(AskId, CloseCode, bool)> {
    let end = |event: &Event| match event {
        Event::AskEnded { ask, code, ours } => Some((*ask, *code, *ours)),
        _ => None,
    };
    pair.end(role).events.iter().filter_map(|(_, event)| end(event)).collect()
}

fn removed(pair: &Pair, role: Role) -> Vec<(StreamId, CloseCode)> {
    let removed = |event: &Event| match event {
        Event::StreamRemoved { id, reason } => Some((*id, reason.code)),
        _ => None,
    };
    pair.end(role).events.iter().filter_map(|(_, event)| removed(event)).collect()
}

fn offered(pair: &Pair, role: Role) -> Vec<Option<u16>> {
    let ask = |event: &Event| match event {
        Event::StreamOffered(offer) => Some(offer.ask),
        _ => None,
    };
    pair.end(role).events.iter().filter_map(|(_, event)| ask(event)).collect()
}

#[test]
fn a_caller_gets_what_it_asks_for_and_every_stream_that_fits() {
    let mut pair = Setup::new().open();
    let ask = pair.session(Caller).ask(glob("desk*")).unwrap();
    assert_eq!(asked(&mut pair), ask);
    let name = pair.end(Listener).events.iter().find_map(|(_, event)| match event {
        Event::StreamAsked { name, .. } => Some(name.clone()),
        _ => None,
    });
    assert_eq!(name, Some(glob("desk*")));
    for (i, name) in ["desktop", "desk"].into_iter().enumerate() {
        let id = open(&mut pair, Listener, name, Some(ask)).unwrap();
        pair.run_for(ms(10));
        pair.start(Listener, id, ms(5));
        pair.run_for(ms(100));
        assert_eq!(offered(&pair, Caller).len(), i + 1);
        assert!(pair.end(Caller).blocks(id).len() > 10);
    }
    assert_eq!(offered(&pair, Caller), [Some(ask.0); 2]);
    let refused = open(&mut pair, Listener, "microphone", Some(ask));
    assert_eq!(refused, Err(OpenStreamError::NotAsked));
}

#[test]
fn a_listener_cannot_play_to_a_caller_unasked() {
    let mut pair = Setup::new().open();
    let id = open(&mut pair, Listener, "advertisement", None).unwrap();
    pair.run_for(ms(100));
    assert_eq!(removed(&pair, Listener), [(id, CloseCode::PERMISSION)]);
    assert!(offered(&pair, Caller).is_empty() && removed(&pair, Caller).is_empty());
    assert!(pair.end(Caller).ended().is_none());
}

#[test]
fn an_ask_that_is_over_brings_nothing_more_and_leaves_what_it_brought() {
    let mut pair = Setup::new().open();
    let ask = pair.session(Caller).ask(glob("*")).unwrap();
    let _ = asked(&mut pair);
    let first = open(&mut pair, Listener, "one", Some(ask)).unwrap();
    pair.run_for(ms(10));
    // The next offer crosses the withdrawal.
    pair.session(Caller).withdraw_ask(ask, CloseCode::OK);
    let late = open(&mut pair, Listener, "two", Some(ask)).unwrap();
    pair.run_for(ms(10));
    assert_eq!(removed(&pair, Listener), [(late, CloseCode::STREAM_UNKNOWN)]);
    assert_eq!(ends(&pair, Listener), [(ask, CloseCode::OK, false)]);
    assert!(ends(&pair, Caller).is_empty(), "who withdraws knows it");
    assert_eq!(open(&mut pair, Listener, "3", Some(ask)), Err(OpenStreamError::NotAsked));
    assert!(pair.session(Listener).media_tx(first).is_some());
}

#[test]
fn the_listening_side_may_refuse_an_ask() {
    let mut pair = Setup::new().open();
    let ask = pair.session(Caller).ask(glob("nothing like that")).unwrap();
    let _ = asked(&mut pair);
    pair.session(Listener).refuse_ask(ask, CloseCode::STREAM_UNKNOWN);
    pair.run_for(ms(10));
    assert_eq!(ends(&pair, Caller), [(ask, CloseCode::STREAM_UNKNOWN, true)]);
    assert!(ends(&pair, Listener).is_empty());
    let next = pair.session(Caller).ask(glob("*")).unwrap();
    assert!(next > ask, "numbers are never used again");
}

#[test]
fn both_may_end_an_ask_at_once() {
    let mut pair = Setup::new().open();
    let ask = pair.session(Caller).ask(glob("*")).unwrap();
    let _ = asked(&mut pair);
    pair.session(Caller).withdraw_ask(ask, CloseCode::OK);
    pair.session(Listener).refuse_ask(ask, CloseCode::STREAM_UNKNOWN);
    pair.run_for(ms(100));
    assert!(ends(&pair, Caller).is_empty() && ends(&pair, Listener).is_empty());
    assert!(pair.end(Caller).ended().is_none() && pair.end(Listener).ended().is_none());
}

#[test]
fn neither_side_withdraws_or_refuses_what_is_the_others() {
    let mut pair = Setup::new().open();
    let ask = pair.session(Caller).ask(glob("*")).unwrap();
    let _ = asked(&mut pair);
    pair.session(Caller).refuse_ask(ask, CloseCode::OK);
    pair.session(Listener).withdraw_ask(ask, CloseCode::OK);
    pair.run_for(ms(10));
    let id = open(&mut pair, Listener, "still", Some(ask)).unwrap();
    pair.run_for(ms(10));
    assert!(pair.session(Listener).media_tx(id).is_some());
}

#[test]
fn asking_needs_the_grant_capture_from_me_of_the_listener() {
    let mut setup = Setup::new();
    setup.listener.trusts = Some(Grants::PLAY_TO_ME);
    let mut pair = setup.open();
    assert_eq!(pair.session(Listener).peer_grants(), Some(Grants::PLAY_TO_ME));
    let ask = pair.session(Caller).ask(glob("*")).unwrap();
    pair.run_for(ms(10));
    assert_eq!(ends(&pair, Caller), [(ask, CloseCode::PERMISSION, true)]);
    let heard = pair.end(Listener).count(|e| matches!(e, Event::StreamAsked { .. }));
    assert_eq!(heard, 0, "the listener's application is not even asked");
    let refused = open(&mut pair, Listener, "x", None);
    assert_eq!(refused, Err(OpenStreamError::NotPermitted));
    // Playing to it is another matter.
    let _ = pair.play(Caller, ms(5));
}

#[test]
fn a_caller_does_not_serve_asks() {
    let mut setup = Setup::new();
    setup.caller.trusts = Some(Grants::ALL);
    let mut pair = setup.open();
    let ask = pair.session(Listener).ask(glob("*")).unwrap();
    assert_eq!(ask.0 % 2, 0);
    pair.run_for(ms(10));
    assert_eq!(ends(&pair, Listener), [(ask, CloseCode::PERMISSION, true)]);
    assert_eq!(pair.end(Caller).count(|e| matches!(e, Event::StreamAsked { .. })), 0);
}

#[test]
fn an_ask_needs_an_open_session_and_one_of_sixteen_places() {
    let mut pair = Setup::new().build();
    assert_eq!(pair.session(Caller).ask(glob("*")), Err(AskError::NotOpen));
    pair.run_until_event(Caller, |e| matches!(e, Event::Authenticated { .. }));
    assert_eq!(pair.session(Caller).ask(glob("*")), Err(AskError::NotOpen));
    pair.run_until_open();
    let asks: Vec<_> =
        (0..MAX_ASKS).map(|_| pair.session(Caller).ask(glob("*")).unwrap()).collect();
    assert_eq!(pair.session(Caller).ask(glob("*")), Err(AskError::NoRoom));
    pair.session(Caller).withdraw_ask(asks[0], CloseCode::OK);
    assert!(pair.session(Caller).ask(glob("*")).is_ok());
    pair.session(Caller).close(CloseCode::OK, "");
    assert_eq!(pair.session(Caller).ask(glob("*")), Err(AskError::NotOpen));
}

#[test]
fn a_peer_that_asks_for_too_much_or_out_of_order_is_told_or_left() {
    let ask = |n: u32| format!(r#"{{"t":"stream-ask","ask":{n},"dir":"recv","name":"*"}}"#);
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    for n in 0..20 {
        rogue.say(&ask(1 + 2 * n));
        rogue.pair.run_for(ms(10));
    }
    let heard = rogue.pair.end(Listener).count(|e| matches!(e, Event::StreamAsked { .. }));
    assert_eq!(heard, MAX_ASKS);
    assert!(rogue.pair.end(Listener).ended().is_none());
    for (i, ids) in [&[2][..], &[1, 1], &[5, 3], &[0], &[65_535], &[65_536]].iter().enumerate() {
        let mut rogue = Rogue::new(Setup::seeded(0xA5C0 + i as u64), HELLO);
        for id in *ids {
            rogue.say(&ask(*id));
        }
        let ended = rogue.pair.end(Listener).ended();
        assert!(matches!(ended, Some(Ended::PeerMisbehaved(_))), "{ids:?}");
    }
    // An offer for an ask that was never made is refused, and that is all.
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    rogue.say(&format!(
        r#"{{"t":"stream-add","id":1,"dir":"send","name":"x","uuid":"{}","kind":"playback","ask":2,"formats":[{{"c":"pcm","f":"S16LE","rate":48000,"ch":2,"frames":120}}]}}"#,
        "ab".repeat(16)
    ));
    rogue.say(r#"{"t":"ask-end","ask":7,"code":0}"#);
    assert!(offered(&rogue.pair, Listener).is_empty());
    assert!(rogue.pair.end(Listener).ended().is_none());
}

#[test]
fn grants_taken_away_end_what_they_permitted_at_once_and_nothing_else() {
    for (seed, left) in [
        (1, Grants::NONE),
        (2, Grants::PLAY_TO_ME),
        (3, Grants::NONE.with(Grant::CaptureFromMe)),
        (4, Grants::ALL),
    ] {
        let mut pair = Setup::seeded(0x64A7 + seed).open();
        let up = pair.play(Caller, ms(5));
        let down = pair.play(Listener, ms(5));
        let ask = pair.end(Listener).asked.unwrap();
        pair.run_until(at(500));
        pair.session(Listener).update_grants(left);
        assert_eq!(pair.session(Listener).peer_grants(), Some(left));
        pair.run_until(at(520));
        let hears = left.contains(Grant::PlayToMe);
        let gives = left.contains(Grant::CaptureFromMe);
        let mut gone = Vec::new();
        gone.extend((!hears).then_some((up, CloseCode::PERMISSION)));
        gone.extend((!gives).then_some((down, CloseCode::PERMISSION)));
        for role in [Caller, Listener] {
            assert_eq!(removed(&pair, role), gone, "{left:?} {role:?}");
        }
        let asks: Vec<_> = (!gives).then_some(ask).into_iter().collect();
        let ended =
            |ours| asks.iter().map(|a| (*a, CloseCode::PERMISSION, ours)).collect::<Vec<_>>();
        assert_eq!(ends(&pair, Listener), ended(false));
        assert_eq!(ends(&pair, Caller), ended(true));
        let heard = [pair.end(Listener).blocks(up).len(), pair.end(Caller).blocks(down).len()];
        pair.run_until(at(1000));
        let more = [pair.end(Listener).blocks(up).len(), pair.end(Caller).blocks(down).len()];
        assert_eq!(more[0] > heard[0], hears, "{left:?}");
        assert_eq!(more[1] > heard[1], gives, "{left:?}");
        assert!(pair.end(Caller).ended().is_none() && pair.end(Listener).ended().is_none());
    }
}

#[test]
fn an_offer_that_crosses_the_loss_of_its_grant_is_refused() {
    let mut pair = Setup::new().open();
    pair.run_until(at(100));
    let id = pair.offer(Caller);
    pair.session(Listener).update_grants(Grants::NONE);
    pair.run_for(ms(10));
    assert_eq!(removed(&pair, Caller), [(id, CloseCode::PERMISSION)]);
    // And given back, it counts from then on.
    pair.session(Listener).update_grants(Grants::PLAY_TO_ME);
    let _ = pair.play(Caller, ms(5));
}

#[test]
fn a_caller_has_consented_whatever_its_grants_become() {
    let mut pair = Setup::new().open();
    let ids = [pair.play(Caller, ms(5)), pair.play(Listener, ms(5))];
    pair.session(Caller).update_grants(Grants::NONE);
    pair.run_for(ms(100));
    for role in [Caller, Listener] {
        assert!(removed(&pair, role).is_empty() && ends(&pair, role).is_empty());
        let id = ids[other(role) as usize];
        assert!(pair.end(role).blocks(id).len() > 10);
    }
}
