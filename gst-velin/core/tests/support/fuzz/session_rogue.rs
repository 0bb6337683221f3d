//! A peer that is trusted and says what the bytes say.

use velin_core::session::nonce_guard::isolated;
use velin_core::session::{Event, Role};
use velin_core::units::StreamId;
use velin_core::wire::{AudioFlags, CloseCode};

use super::bytes::Bytes;
use crate::support::ms;
use crate::support::pair::{Listener, Setup};
use crate::support::rogue::{HELLO, Rogue};

/// Actions that are followed.
const MAX_ACTIONS: usize = 200;

/// The first byte is the length of the Hello, zero for a good one. Whatever the peer says, the
/// listener does not panic, holds at most 64 streams, answers little, and ends once.
pub fn run(data: &[u8]) {
    isolated(|| follow(&mut Bytes::new(data)));
}

fn follow(data: &mut Bytes<'_>) {
    let hello = match data.short() {
        [] => HELLO.into(),
        bytes => String::from_utf8_lossy(bytes),
    };
    let mut rogue = Rogue::new(Setup::seeded(0xF0_1000), &hello);
    rogue.pair.record();
    let mut actions = 0;
    let mut ours = Vec::new();
    while !data.is_empty() && actions < MAX_ACTIONS {
        actions += 1;
        act(&mut rogue, data, &mut ours);
    }
    rogue.pair.run_for(ms(80_000));

    let answers: usize = rogue.pair.recorded().iter().map(|wire| wire.bytes.len()).sum();
    let blocks: u32 = ours.iter().map(|(_, sent)| sent).sum();
    // Eight PINGs a second, and a few messages for each action.
    assert!(answers < 80_000 + 2_000 * actions + 200 * blocks as usize, "{answers} bytes");
    let end = rogue.pair.end(Listener);
    assert!(end.session.is_closed(), "a peer that says nothing is gone");
    assert_eq!(end.count(|e| matches!(e, Event::Closed(_))), 1);
    for (_, event) in &end.events {
        match event {
            Event::Closed(ended) => super::assert_printable(ended),
            Event::StreamOffered(offer) => super::assert_printable(&offer.name),
            Event::StreamRemoved { reason, .. } => super::assert_printable(reason),
            _ => {}
        }
    }
    for stream in end.heard.blocks.keys() {
        assert!(stream.0 % 2 == 1, "only the caller's streams are heard");
        let offered = |e: &Event| matches!(e, Event::StreamOffered(o) if o.id == stream.0);
        assert_eq!(end.count(offered), 1);
    }
    for (stream, _) in &end.heard.reports {
        assert!(ours.iter().any(|(id, _)| id == stream), "a report on a stream that is not ours");
    }
}

fn act(rogue: &mut Rogue, data: &mut Bytes<'_>, ours: &mut Vec<(StreamId, u32)>) {
    let op = data.u8();
    let role: Role = Listener;
    match op & 0x1F {
        0 => rogue.pair.run_for(ms(u64::from(data.u8()))),
        1 => rogue.pair.run_for(ms(20 * u64::from(data.u8()))),
        2..6 => rogue.say(&String::from_utf8_lossy(data.short())),
        6..9 => {
            let id = data.u16() % 140;
            let frames = data.u16();
            rogue.say(&format!(
                r#"{{"t":"stream-add","id":{id},"dir":"send","name":"x","uuid":"{}","kind":"playback","formats":[{{"c":"pcm","f":"S16LE","rate":48000,"ch":2,"frames":{frames}}}]}}"#,
                "0a".repeat(16)
            ));
        }
        9 => {
            let id = data.u16() % 140;
            rogue.say(&format!(r#"{{"t":"stream-remove","id":{id},"code":{}}}"#, data.u16()));
        }
        10 => {
            let (id, format) = (data.u16() % 140, data.u8() % 3);
            rogue.say(&format!(r#"{{"t":"stream-ok","id":{id},"format":{format}}}"#));
        }
        11 | 12 => {
            let kind = if op & 0x20 == 0 { "rekey" } else { "rekey-ack" };
            let (epoch, byte) = (data.u8() % 4, data.u8());
            let public = format!("{byte:02x}").repeat(32);
            rogue.say(&format!(r#"{{"t":"{kind}","epoch":{epoch},"pub":"{public}"}}"#));
        }
        13 => rogue.say(r#"{"t":"path-lost"}"#),
        14..20 => {
            let (stream, frames) = (stream(data), data.short());
            rogue.send(stream, frames);
        }
        20..24 => {
            let (stream, frames) = (stream(data), data.short());
            rogue.send_udp(stream, frames);
        }
        24 => {
            let bytes = data.short();
            rogue.pair.inject_tcp(role, bytes);
        }
        25 => {
            let now = rogue.pair.now;
            rogue.listener().rekey(now);
        }
        26 => {
            let name = velin_core::identity::Name::new("y").expect("a name");
            let uuid = velin_core::wire::StreamUuid(velin_core::wire::Hex([2; 16]));
            let formats = vec![crate::support::pair::format()];
            if let Ok(id) = rogue.listener().open_stream(name, uuid, formats, None) {
                ours.push((id, 0));
            }
        }
        27 | 28 => {
            for (id, sent) in ours {
                let Some(tx) = rogue.listener().media_tx(*id) else { continue };
                if rogue.pair.send_block(role, &tx, *sent, AudioFlags::NONE).is_ok() {
                    *sent += 1;
                }
            }
        }
        29 => {
            let id = StreamId(data.u16() % 140);
            rogue.listener().remove_stream(id, CloseCode::OK);
        }
        30 => rogue.pair.end_mut(role).accepts_streams = data.bool(),
        _ => rogue.listener().close(CloseCode::SHUTDOWN, ""),
    }
    rogue.pair.run_for(ms(0));
}

/// Mostly those that mean something.
fn stream(data: &mut Bytes<'_>) -> StreamId {
    match data.u8() {
        0..60 => StreamId::CONTROL,
        60..140 => StreamId::PATH,
        n => StreamId(u16::from(n) - 140),
    }
}
