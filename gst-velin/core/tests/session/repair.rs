//! What receivers say to their senders: NACK, REPORT, and which copies they want.

use velin_core::session::{Event, FeedbackTx, Route};
use velin_core::units::{BlockIndex, StreamId};
use velin_core::wire::{CloseCode, Copies, MAX_NACK_LEN, Nack, Report};

use crate::support::ms;
use crate::support::pair::{Caller, Listener, Pair, Setup};
use crate::support::rogue::{HELLO, Rogue};

fn nack(blocks: &[u32]) -> Vec<u8> {
    let mut nack = Nack::default();
    assert!(blocks.iter().all(|b| nack.push(BlockIndex(*b))));
    let mut bytes = [0; MAX_NACK_LEN];
    let n = nack.encode(&mut bytes);
    bytes[..n].to_vec()
}

/// Sends `frame` from the listener, which plays, to the caller.
fn say(pair: &mut Pair, feedback: &FeedbackTx, frame: &[u8]) {
    let mut packet = [0; 256];
    let (n, route) = feedback.seal(frame, &mut packet).expect("open");
    assert!(matches!(route, Route::Datagram(_)));
    let from = pair.end(Listener).address;
    pair.inject_udp(Caller, from, &packet[..n]);
}

#[test]
fn the_side_that_plays_asks_and_reports_on_the_streams_own_id() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    pair.run_until_udp(Listener);
    let feedback = pair.session(Listener).feedback_tx(id).expect("it plays");
    assert!(pair.session(Caller).feedback_tx(id).is_none(), "its sender does not");
    say(&mut pair, &feedback, &nack(&[1, 2, 40]));
    let report = Report { lost: 3, ..Report::default() };
    say(&mut pair, &feedback, &report.encode());
    let heard = &pair.end(Caller).heard;
    assert_eq!(heard.asked, [(id, 1), (id, 2), (id, 40)]);
    assert_eq!(heard.reports, [(id, report)]);
}

#[test]
fn requests_follow_new_keys_and_end_with_the_stream() {
    // The nonce guard of test builds would panic if a number repeated under its key.
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    pair.run_until_udp(Listener);
    let feedback = pair.session(Listener).feedback_tx(id).expect("it plays");
    for round in 0..4 {
        let asker = if round % 2 == 0 { Caller } else { Listener };
        for block in 0..20 {
            say(&mut pair, &feedback, &nack(&[100 * round + block]));
        }
        let now = pair.now;
        pair.session(asker).rekey(now);
        pair.run_for(ms(200));
    }
    assert_eq!(pair.end(Caller).heard.asked.len(), 80);
    let rekeyed = pair.end(Caller).count(|e| matches!(e, Event::Rekeyed { .. }));
    assert_eq!(rekeyed, 4);
    pair.session(Listener).remove_stream(id, CloseCode::OK);
    assert!(feedback.seal(&nack(&[1]), &mut [0; 256]).is_err());
}

#[test]
fn copies_are_asked_for_by_the_side_that_plays_and_nobody_else() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(5));
    pair.session(Caller).want_copies(id, Copies::Next);
    pair.session(Listener).want_copies(id, Copies::SecondAndFourth);
    pair.session(Listener).want_copies(StreamId(77), Copies::Next);
    pair.run_for(ms(100));
    let wanted = |e: &Event| match e {
        Event::CopiesWanted { id, copies } => Some((*id, *copies)),
        _ => None,
    };
    let at_caller: Vec<_> = pair.end(Caller).events.iter().filter_map(|(_, e)| wanted(e)).collect();
    assert_eq!(at_caller, [(id, Copies::SecondAndFourth)]);
    assert_eq!(pair.end(Listener).count(|e| wanted(e).is_some()), 0);
}

#[test]
fn a_request_from_the_side_that_sends_or_for_no_stream_is_passed_over() {
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    rogue.say(
        r#"{"t":"stream-add","id":1,"dir":"send","name":"x","uuid":"abababababababababababababababab","kind":"playback","formats":[{"c":"pcm","f":"S16LE","rate":48000,"ch":2,"frames":120}]}"#,
    );
    rogue.send(StreamId(1), &nack(&[1]));
    rogue.send(StreamId(9), &nack(&[1]));
    rogue.say(r#"{"t":"stream-repair","id":1,"copies":[2]}"#);
    rogue.say(r#"{"t":"stream-repair","id":9,"copies":[2]}"#);
    let end = rogue.pair.end(Listener);
    assert!(end.heard.asked.is_empty());
    assert_eq!(end.count(|e| matches!(e, Event::CopiesWanted { .. })), 0);
    assert!(end.ended().is_none());
}

#[test]
fn copies_outside_the_vocabulary_end_the_session() {
    for (i, copies) in ["[3]", "[2,4,6]", "7"].iter().enumerate() {
        let mut rogue = Rogue::new(Setup::seeded(0x2E00 + i as u64), HELLO);
        rogue.say(&format!(r#"{{"t":"stream-repair","id":1,"copies":{copies}}}"#));
        assert!(rogue.pair.end(Listener).ended().is_some(), "{copies}");
    }
}
