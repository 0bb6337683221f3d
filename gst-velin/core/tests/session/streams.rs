//! Offers, answers, limits, and what a trusted peer may not do.

use velin_core::identity::{Grants, Name};
use velin_core::session::{Ended, Event, MAX_STREAMS, OpenStreamError};
use velin_core::units::StreamId;
use velin_core::wire::{AudioFlags, CloseCode, FormatOffer, Hex, StreamUuid};

use crate::support::pair::{Caller, Listener, Setup, format, seal};
use crate::support::rogue::{HELLO, Rogue};
use crate::support::{at, ms};

fn removed(event: &Event) -> Option<(StreamId, CloseCode)> {
    match event {
        Event::StreamRemoved { id, reason } => Some((*id, reason.code)),
        _ => None,
    }
}

fn offer(id: u32, codec: &str) -> String {
    let format = match codec {
        "pcm" => r#"{"c":"pcm","f":"S16LE","rate":48000,"ch":2,"frames":120}"#.to_owned(),
        other => format!(r#"{{"c":"{other}","rate":48000}}"#),
    };
    format!(
        r#"{{"t":"stream-add","id":{id},"dir":"send","name":"x","uuid":"{}","kind":"playback","formats":[{format}]}}"#,
        "ab".repeat(16)
    )
}

fn misbehaved(rogue: &Rogue) -> bool {
    matches!(rogue.pair.end(Listener).ended(), Some(Ended::PeerMisbehaved(_)))
}

#[test]
fn an_accepted_stream_carries_every_block_both_ways() {
    let mut pair = Setup::new().open();
    let up = pair.play(Caller, ms(2));
    let down = pair.play(Listener, ms(3));
    assert_eq!((up.0 % 2, down.0 % 2), (1, 0));
    pair.run_until(at(5000));
    let (sent_up, sent_down) = (pair.stop(Caller)[&up], pair.stop(Listener)[&down]);
    pair.run_for(ms(100));
    assert_eq!(pair.end(Listener).blocks(up), (0..sent_up).collect::<Vec<_>>());
    assert_eq!(pair.end(Caller).blocks(down), (0..sent_down).collect::<Vec<_>>());
    assert_eq!((pair.end(Caller).heard.wrong, pair.end(Listener).heard.wrong), (0, 0));
}

#[test]
fn a_caller_without_the_grant_may_not_play() {
    let mut setup = Setup::new();
    setup.listener.trusts = Some(Grants::NONE);
    let mut pair = setup.open();
    let id = pair.offer(Caller);
    let answer = pair.run_until_event(Caller, |e| removed(e).is_some());
    assert_eq!(removed(&answer), Some((id, CloseCode::PERMISSION)));
    let offered = pair.end(Listener).count(|e| matches!(e, Event::StreamOffered(_)));
    assert_eq!(offered, 0, "the listener's application is not even asked");
    assert!(pair.end(Caller).ended().is_none());
}

#[test]
fn at_most_64_streams_are_open_at_a_time() {
    let mut pair = Setup::new().open();
    for _ in 0..MAX_STREAMS {
        let _ = pair.play(Caller, ms(1000));
    }
    let name = Name::new("one more").unwrap();
    let uuid = StreamUuid(Hex([0; 16]));
    let refused = pair.session(Caller).open_stream(name.clone(), uuid, vec![format()], None);
    assert_eq!(refused, Err(OpenStreamError::NoRoom));
    let refused = pair.session(Listener).open_stream(name, uuid, vec![format()], None);
    assert_eq!(refused, Err(OpenStreamError::NoRoom));
    pair.session(Caller).remove_stream(StreamId(1), CloseCode::OK);
    let next = pair.play(Caller, ms(1000));
    assert_eq!(next, StreamId(129));
}

#[test]
fn a_peer_that_offers_more_is_told_the_limit_and_nothing_else_happens() {
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    for i in 0..70 {
        rogue.say(&offer(1 + 2 * i, "pcm"));
        rogue.pair.run_for(ms(10));
    }
    let offered = rogue.pair.end(Listener).count(|e| matches!(e, Event::StreamOffered(_)));
    assert_eq!(offered, MAX_STREAMS);
    assert!(rogue.pair.end(Listener).ended().is_none());
}

#[test]
fn an_id_of_the_wrong_parity_used_before_or_reserved_ends_the_session() {
    for (i, ids) in [&[2][..], &[1, 1], &[5, 3], &[0], &[0xFFFF], &[65_536]].iter().enumerate() {
        let mut rogue = Rogue::new(Setup::seeded(0x1D00 + i as u64), HELLO);
        for id in *ids {
            rogue.say(&offer(*id, "pcm"));
        }
        assert!(misbehaved(&rogue), "{ids:?}");
    }
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    rogue.say(&offer(1, "pcm"));
    rogue.say(r#"{"t":"stream-remove","id":1,"code":0}"#);
    rogue.say(&offer(1, "pcm"));
    assert!(misbehaved(&rogue));
}

#[test]
fn a_codec_nobody_knows_is_refused_and_the_session_goes_on() {
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    rogue.say(&offer(1, "flac"));
    rogue.pair.run_until(at(100));
    let offered = rogue.pair.end(Listener).events.iter().find_map(|(_, e)| match e {
        Event::StreamOffered(offer) => Some(offer.formats.clone()),
        _ => None,
    });
    assert_eq!(offered, Some(vec![FormatOffer::Unknown]));
    assert!(rogue.pair.end(Listener).ended().is_none());
    rogue.say(&offer(3, "pcm"));
    rogue.send(StreamId(3), &[1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rogue.pair.end(Listener).blocks(StreamId(3)), [9]);
    // Stream 1 was refused: nothing of it is opened.
    rogue.send(StreamId(1), &[1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(rogue.pair.end(Listener).blocks(StreamId(1)).is_empty());
    assert_eq!(rogue.listener().counters().unknown_stream, 1);
}

#[test]
fn audio_for_a_stream_that_is_not_there_is_not_heard() {
    let mut setup = Setup::new();
    setup.listener.accepts_streams = false;
    let mut rogue = Rogue::new(setup, HELLO);
    rogue.say(&offer(1, "pcm"));
    for stream in [1, 2, 3, 77] {
        rogue.send(StreamId(stream), &[1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(rogue.listener().counters().unknown_stream, 4);
    assert!(rogue.pair.end(Listener).heard.blocks.is_empty());
    assert!(rogue.pair.end(Listener).ended().is_none());
}

#[test]
fn a_sink_that_restarts_on_a_living_link_gets_a_new_id() {
    // The nonce guard of test builds would panic if a number repeated under its key.
    let mut pair = Setup::new().open();
    let mut ids = Vec::new();
    for _ in 0..20 {
        let id = pair.play(Caller, ms(5));
        pair.run_for(ms(100));
        let tx = pair.session(Caller).media_tx(id).unwrap();
        pair.session(Caller).remove_stream(id, CloseCode::OK);
        assert!(pair.send_block(Caller, &tx, 1000, AudioFlags::NONE).is_err());
        ids.push(id.0);
    }
    assert_eq!(ids, (0..20).map(|i| 1 + 2 * i).collect::<Vec<_>>());
    let gone = pair.end(Listener).count(|e| removed(e).is_some());
    pair.run_for(ms(10));
    assert!(gone >= 19);
}

#[test]
fn a_retransmitted_block_is_a_new_packet() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(1000));
    pair.run_until_udp(Caller);
    let tx = pair.session(Caller).media_tx(id).unwrap();
    let packets: Vec<_> =
        (0..3).map(|_| seal(&tx, 7, AudioFlags::RETRANSMISSION).unwrap().0).collect();
    assert!(packets[0] != packets[1] && packets[1] != packets[2]);
    let from = pair.end(Caller).address;
    for packet in &packets {
        pair.inject_udp(Listener, from, packet);
        pair.inject_udp(Listener, from, packet);
    }
    // The block comes as often as it was sealed, the copies of packets do not.
    let heard = pair.end(Listener).heard.blocks[&id].iter().filter(|b| **b == 7).count();
    assert_eq!(heard, 3);
    assert_eq!(pair.session(Listener).counters().replayed, 3);
}

#[test]
fn many_threads_on_one_stream_never_share_a_number() {
    let mut pair = Setup::new().open();
    let id = pair.play(Caller, ms(1000));
    let tx = pair.session(Caller).media_tx(id).unwrap();
    let before = tx.sent().0;
    let packets: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u32)
            .map(|thread| {
                let tx = tx.clone();
                scope.spawn(move || {
                    let block = |i| seal(&tx, 10_000 + 2000 * thread + i, AudioFlags::NONE);
                    (0..2000).map(|i| block(i).unwrap().0).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let mut numbers: Vec<_> = packets.iter().map(|p| p[8..16].to_vec()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8000);
    assert_eq!(tx.sent().0, before + 8000);
}

#[test]
fn broken_control_messages_and_frames_end_the_session() {
    let deep = format!("{}1{}", r#"{"t":"#.repeat(9), "}".repeat(9));
    for (i, json) in [
        "{",
        "[]",
        "null",
        r#"{"t":1}"#,
        r#"{"t":"rekey"}"#,
        &deep,
        r#"{"t":"accept","versions":[1]}"#,
        r#"{"t":"rekey","epoch":9,"pub":"00"}"#,
        &format!(r#"{{"t":"rekey","epoch":7,"pub":"{}"}}"#, "ab".repeat(32)),
        // A key of low order.
        &format!(r#"{{"t":"rekey","epoch":1,"pub":"{}"}}"#, "00".repeat(32)),
    ]
    .iter()
    .enumerate()
    {
        let mut rogue = Rogue::new(Setup::seeded(0x75_0000 + i as u64), HELLO);
        rogue.say(json);
        assert!(misbehaved(&rogue), "{json}");
    }
    let long_close = [&[0x0C, 0, 0, 0, 1, 1][..], &[b'x'; 257]].concat();
    for (i, (stream, frame)) in [
        (StreamId::CONTROL, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]),
        (StreamId::PATH, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (StreamId::PATH, &[0x3F, 0, 0, 0]),
        (StreamId::PATH, &[4, 0]),
        (StreamId::CONTROL, &[0x0A, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0]),
        (StreamId::CONTROL, &[0x0A, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
        (StreamId::CONTROL, &long_close),
    ]
    .into_iter()
    .enumerate()
    {
        let mut rogue = Rogue::new(Setup::seeded(0x76_0000 + i as u64), HELLO);
        rogue.say(r#"{"t":"future","anything":1}"#);
        assert!(rogue.pair.end(Listener).ended().is_none());
        rogue.send(stream, frame);
        assert!(misbehaved(&rogue), "{stream:?} {frame:?} {:?}", rogue.pair.end(Listener).ended());
    }
}

#[test]
fn a_hello_of_another_time_is_refused_in_words() {
    for (i, (hello, code)) in [
        (r#"{"versions":[2],"intent":"stream"}"#, CloseCode::DOWNGRADE),
        (r#"{"versions":[],"intent":"stream"}"#, CloseCode::DOWNGRADE),
        (r#"{"versions":[1],"intent":"stream","critical":["x"]}"#, CloseCode::PROTOCOL),
        (r#"{"versions":[1],"intent":"dance"}"#, CloseCode::PROTOCOL),
        ("", CloseCode::PROTOCOL),
        ("{\"versions\":[1],\"intent\":\"stream\",\"name\":\"\\u001b[31m\"}", CloseCode::PROTOCOL),
    ]
    .into_iter()
    .enumerate()
    {
        let mut rogue = Rogue::new(Setup::seeded(0x4E_0000 + i as u64), hello);
        let mut sent = Vec::new();
        while let Some(t) = rogue.listener().poll_transmit() {
            if let velin_core::session::Transmit::Stream(bytes) = t {
                sent.extend(bytes)
            }
        }
        let codes = rogue.read(&sent, |frame| match frame {
            velin_core::wire::Frame::Close(reason) => Some(reason.code),
            _ => None,
        });
        assert_eq!(codes, [Some(code)], "{hello}");
        assert!(rogue.listener().is_closed());
    }
}

#[test]
fn a_flood_of_control_messages_is_bounded() {
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    let mut said = 0_usize;
    while rogue.pair.end(Listener).ended().is_none() {
        assert!(said < 1 << 20, "a mebibyte of control messages was taken at once");
        let message = offer(1, "pcm").replace("stream-add", "no-such-thing");
        said += message.len();
        rogue.say(&message);
    }
    assert!(said >= 64 * 1024, "an honest burst passes");
}

#[test]
fn an_honest_amount_of_control_messages_passes_for_ever() {
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    for i in 0..2000 {
        rogue.say(&offer(1 + 2 * i, "pcm"));
        rogue.say(&format!(r#"{{"t":"stream-remove","id":{},"code":0}}"#, 1 + 2 * i));
        rogue.pair.run_for(ms(10));
    }
    assert!(rogue.pair.end(Listener).ended().is_none());
}

#[test]
fn an_offer_that_the_peer_would_not_take_is_not_made() {
    let mut pair = Setup::new().open();
    for formats in [Vec::new(), vec![format(); 17]] {
        let name = Name::new("x").unwrap();
        let offered =
            pair.session(Caller).open_stream(name, StreamUuid(Hex([0; 16])), formats, None);
        assert_eq!(offered, Err(OpenStreamError::Formats));
    }
    let _ = pair.play(Caller, ms(5));
}

#[test]
fn reports_count_for_our_streams_and_audio_for_the_peers_only() {
    let mut rogue = Rogue::new(Setup::new(), HELLO);
    let ours = rogue.pair.offer_for(Listener, None);
    rogue.say(r#"{"t":"stream-ok","id":2,"format":0}"#);
    rogue.say(&offer(1, "pcm"));
    let theirs = StreamId(1);
    let report = velin_core::wire::Report { lost: 5, ..Default::default() };
    for stream in [ours, theirs] {
        rogue.send(stream, &report.encode());
        rogue.send(stream, &[1, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(rogue.pair.end(Listener).heard.reports, [(ours, report)]);
    assert_eq!(rogue.pair.end(Listener).heard.blocks.keys().collect::<Vec<_>>(), [&theirs]);
    // A second answer, or one with a format that was never offered.
    rogue.say(r#"{"t":"stream-ok","id":2,"format":0}"#);
    assert!(rogue.pair.end(Listener).ended().is_none());
    let _ = rogue.pair.offer_for(Listener, None);
    rogue.say(r#"{"t":"stream-ok","id":4,"format":1}"#);
    assert!(misbehaved(&rogue));
}
