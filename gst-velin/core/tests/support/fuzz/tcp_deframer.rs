//! Packets out of a TCP connection.

use velin_core::wire::{
    Deframer, FramingError, MAX_PACKET, MAX_UNAUTHENTICATED_PACKET, frame_packet,
};

use super::bytes::Bytes;

/// The first byte says whether the peer is known and how many bytes tell where the rest is cut;
/// cut there or nowhere, the same packets come out.
pub fn run(data: &[u8]) {
    let mut data = Bytes::new(data);
    let how = data.u8();
    let authenticated = how & 1 == 1;
    let cuts = data.take(usize::from(how >> 1));
    let stream = data.rest();
    let whole = read(authenticated, [stream].into_iter());

    let mut pieces = Vec::new();
    let mut rest = stream;
    for cut in cuts.iter().cycle().take(stream.len()) {
        let (piece, tail) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    assert_eq!(read(authenticated, pieces.into_iter()), whole);

    let (packets, error, mid_packet) = whole;
    let mut again = Vec::new();
    packets.iter().for_each(|packet| frame_packet(packet, &mut again));
    assert_eq!(again, stream[..again.len()]);
    let left = &stream[again.len()..];
    match error {
        Some(e) => {
            super::assert_printable(&e);
            assert_eq!(usize::from(u16::from_be_bytes([left[0], left[1]])), e.length);
        }
        None => {
            assert_eq!(mid_packet, !left.is_empty());
            // What is waited for may come.
            let most = if authenticated { MAX_PACKET } else { MAX_UNAUTHENTICATED_PACKET };
            if let [high, low, ..] = left {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                assert!((1..=most).contains(&length), "{length}");
            }
        }
    }
}

type Read = (Vec<Vec<u8>>, Option<FramingError>, bool);

fn read<'a>(authenticated: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut deframer = Deframer::new();
    let mut most = MAX_UNAUTHENTICATED_PACKET;
    if authenticated {
        deframer.authenticated();
        most = MAX_PACKET;
    }
    let mut packets = Vec::new();
    for mut piece in pieces {
        loop {
            let taken = deframer.push(piece);
            piece = &piece[taken..];
            let before = packets.len();
            loop {
                match deframer.next() {
                    Ok(Some(packet)) => {
                        assert!((1..=most).contains(&packet.len()));
                        packets.push(packet.to_vec());
                    }
                    Ok(None) => break,
                    Err(e) => return (packets, Some(e), false),
                }
            }
            if piece.is_empty() {
                break;
            }
            assert!(taken > 0 || packets.len() > before, "no progress");
        }
    }
    let mid_packet = deframer.is_mid_packet();
    (packets, None, mid_packet)
}
