//! The frames inside a packet that the peer sealed.

use velin_core::units::StreamId;
use velin_core::wire::{
    CloseReason, Frame, Frames, put_close, put_path_challenge, put_path_response, put_ping,
    put_pong,
};

/// The first byte chooses the stream. Every frame means the same after it was written again.
pub fn run(data: &[u8]) {
    let Some((kind, plaintext)) = data.split_first() else { return };
    let stream = match kind % 3 {
        0 => StreamId::CONTROL,
        1 => StreamId::PATH,
        _ => StreamId(1),
    };
    let (mut written, mut failed) = (Vec::new(), false);
    for frame in Frames::new(stream, plaintext) {
        assert!(!failed, "nothing follows an error");
        match frame {
            Ok(frame) => {
                let again = encode(&frame);
                written.extend_from_slice(&again);
                let decoded: Vec<_> = Frames::new(stream, &again).collect();
                assert_eq!(decoded, [Ok(frame)]);
            }
            Err(e) => {
                failed = true;
                super::assert_printable(&e);
            }
        }
    }
    // A CLOSE may lose characters, and nothing gains any.
    assert!(written.len() <= plaintext.len());
    // Nothing was passed over: then every byte stands where it stood, or is reserved.
    if written.len() == plaintext.len() {
        let stays = |(new, old): (&u8, &u8)| new == old || *new == 0;
        assert!(written.iter().zip(plaintext).all(stays), "{written:?}");
    }
}

/// By the layout in the specification, reserved fields zero.
fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match frame {
        Frame::Audio(audio) => {
            out.extend(audio.header.encode(audio.payload.len() as u16));
            out.extend(audio.payload);
        }
        Frame::Parity { base, payload } => {
            out.extend([2, 0]);
            out.extend((payload.len() as u16).to_be_bytes());
            out.extend(base.0.to_be_bytes());
            out.extend([0; 4]);
            out.extend(*payload);
        }
        Frame::Nack { entries } => {
            out.extend([3, entries.ranges().count() as u8, 0, 0]);
            for range in entries.ranges() {
                out.extend(range.base.0.to_be_bytes());
                out.extend(range.mask.to_be_bytes());
            }
        }
        Frame::Ping { id, t1 } => put_ping(*id, *t1, &mut out),
        Frame::Pong { id, t1, t2, t3 } => put_pong(*id, *t1, *t2, *t3, &mut out),
        Frame::Report(report) => out.extend(report.encode()),
        Frame::Sync(sync) => {
            out.extend([7, 0, 0, 0]);
            out.extend(sync.frame.0.to_be_bytes());
            out.extend(sync.clock_ns.to_be_bytes());
            out.extend(sync.group_latency_us.to_be_bytes());
            out.extend(sync.clock_id.to_be_bytes());
        }
        Frame::PathChallenge(nonce) => put_path_challenge(*nonce, &mut out),
        Frame::PathResponse(nonce) => put_path_response(*nonce, &mut out),
        Frame::Ctrl { offset, bytes } => {
            // Without the padding that `put_ctrl` adds.
            out.extend([0x0A, 0]);
            out.extend((bytes.len() as u16).to_be_bytes());
            out.extend(offset.to_be_bytes());
            out.extend(*bytes);
        }
        Frame::CtrlAck(ack) => {
            out.extend([0x0B, (ack.ranges.len() / 12) as u8, 0, 0]);
            out.extend(ack.next.to_be_bytes());
            out.extend(ack.ranges);
        }
        Frame::Close(reason) => {
            assert!(reason.text.len() <= CloseReason::MAX_TEXT);
            super::assert_printable(reason);
            put_close(reason, &mut out);
        }
    }
    out
}
