//! The control stream, message by message, and the Hello of the handshake.

use velin_core::wire::{ControlDecoder, ControlError, FormatOffer, Hello, Message, encode_control};

use super::assert_printable;

/// The first byte chooses: a Hello, one message, or a control stream, which then says the same
/// however it is cut.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind {
        0 => hello(bytes),
        1 => message(bytes),
        // The rest is the length of the pieces.
        cut => stream(bytes, usize::from(*cut)),
    }
}

fn hello(bytes: &[u8]) {
    match Hello::decode(bytes) {
        Ok(hello) => {
            assert!(bytes.len() <= Hello::MAX);
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }
        Err(e) => assert_printable(&e),
    }
}

fn message(bytes: &[u8]) {
    match Message::decode(bytes) {
        Ok(message) => same_again(&message),
        Err(e) => assert_printable(&e),
    }
}

fn same_again(message: &Message) {
    assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(message));
    let mut decoder = ControlDecoder::default();
    let mut got = Vec::new();
    if message.encode().len() <= velin_core::wire::MAX_CONTROL_MESSAGE {
        decoder.push(0, &encode_control(message), |m| got.push(m)).expect("our own message");
        assert_eq!(got, std::slice::from_ref(message));
    }
    let Message::StreamAdd(offer) = message else { return };
    for format in offer.formats.iter().filter_map(|f| f.to_format(1200)) {
        assert!(format.block_bytes() <= 1200);
        assert_eq!(FormatOffer::of(&format).to_format(1200), Some(format));
    }
}

fn stream(bytes: &[u8], cut: usize) {
    let whole = read([bytes].into_iter());
    assert_eq!(read(bytes.chunks(cut)), whole);
    for message in &whole.0 {
        same_again(message);
    }
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<ControlError>) {
    let mut decoder = ControlDecoder::default();
    let (mut messages, mut offset) = (Vec::new(), 0);
    for piece in pieces {
        if let Err(e) = decoder.push(offset, piece, |m| messages.push(m)) {
            assert_printable(&e);
            return (messages, Some(e));
        }
        offset += piece.len() as u64;
    }
    (messages, None)
}
