//! The control stream: JSON messages, each `u16 length ‖ JSON`, carried in order by CTRL frames.

use super::message::{Message, MessageError};

/// Largest control message, in bytes of JSON.
pub const MAX_CONTROL_MESSAGE: usize = 16 * 1024;

/// Puts CTRL chunks together and cuts messages out.
///
/// Chunks must arrive in order (a TCP carrier does that): a chunk that does not start where the
/// last one ended is an error. Holds at most one message.
#[derive(Debug, Default)]
pub struct ControlDecoder {
    next_offset: u64,
    buffer: Vec<u8>,
}

impl ControlDecoder {
    /// Takes one CTRL frame; gives every message that became whole to `each`.
    pub fn push(
        &mut self,
        offset: u64,
        mut bytes: &[u8],
        mut each: impl FnMut(Message),
    ) -> Result<(), ControlError> {
        if offset != self.next_offset {
            return Err(ControlError::OutOfOrder { expected: self.next_offset, got: offset });
        }
        self.next_offset += bytes.len() as u64;
        loop {
            let wanted = match *self.buffer {
                [high, low, ..] => {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if length > MAX_CONTROL_MESSAGE {
                        return Err(ControlError::TooLarge(length));
                    }
                    2 + length
                }
                _ => 2,
            };
            let take = (wanted - self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.buffer.len() < wanted {
                return Ok(());
            }
            if wanted > 2 {
                let message = Message::decode(&self.buffer[2..]);
                self.buffer.clear();
                match message {
                    Ok(message) => each(message),
                    Err(MessageError::UnknownType) => {}
                    Err(e) => return Err(e.into()),
                }
            } else if self.buffer == [0, 0] {
                return Err(ControlError::Empty);
            }
        }
    }
}

/// The bytes of one message on the control stream.
pub fn encode_control(message: &Message) -> Vec<u8> {
    let json = message.encode();
    debug_assert!(json.len() <= MAX_CONTROL_MESSAGE);
    let mut out = Vec::with_capacity(2 + json.len());
    out.extend_from_slice(&(json.len() as u16).to_be_bytes());
    out.extend_from_slice(&json);
    out
}

/// Why a peer's control stream cannot be followed. Each is the peer's fault and ends the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A message of no bytes.
    #[error("an empty control message")]
    Empty,
    /// The message is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A chunk is missing or came twice.
    #[error("control bytes from {got} where {expected} was next")]
    OutOfOrder {
        /// Where the next chunk should start.
        expected: u64,
        /// Where it started.
        got: u64,
    },
    /// Above the bound.
    #[error("a control message of {0} bytes; at most 16 KiB are allowed")]
    TooLarge(usize),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_survive_any_cut() {
        let one = encode_control(&Message::PathLost);
        let two = encode_control(&Message::StreamRemove { id: 7, code: 0 });
        let all = [one, two].concat();
        for cut in 0..=all.len() {
            let mut d = ControlDecoder::default();
            let mut got = Vec::new();
            d.push(0, &all[..cut], |m| got.push(m)).unwrap();
            d.push(cut as u64, &all[cut..], |m| got.push(m)).unwrap();
            assert_eq!(got, [Message::PathLost, Message::StreamRemove { id: 7, code: 0 }]);
        }
    }

    #[test]
    fn a_gap_or_a_giant_is_refused() {
        let mut d = ControlDecoder::default();
        assert!(matches!(d.push(1, b"x", |_| ()), Err(ControlError::OutOfOrder { .. })));
        let mut d = ControlDecoder::default();
        let e = d.push(0, &[0xFF, 0xFF, b'{'], |_| ());
        assert_eq!(e, Err(ControlError::TooLarge(0xFFFF)));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16)) {
            let mut d = ControlDecoder::default();
            let mut offset = 0;
            for c in chunks {
                if d.push(offset, &c, |_| ()).is_err() { break; }
                offset += c.len() as u64;
                prop_assert!(d.buffer.len() <= 2 + MAX_CONTROL_MESSAGE);
            }
        }
    }
}
