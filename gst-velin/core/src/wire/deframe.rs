//! Packets inside a TCP connection: `u16 length ‖ packet`, big-endian.

/// Largest packet once the peer is authenticated.
pub const MAX_PACKET: usize = 16_400;

/// Largest packet before that.
pub const MAX_UNAUTHENTICATED_PACKET: usize = 4_096;

/// Cuts a TCP byte stream into packets, holding at most one packet more than was handed out.
#[derive(Debug)]
pub struct Deframer {
    buffer: Vec<u8>,
    start: usize,
    limit: usize,
}

impl Deframer {
    /// For a peer nobody knows yet: packets up to [`MAX_UNAUTHENTICATED_PACKET`].
    pub fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, limit: MAX_UNAUTHENTICATED_PACKET }
    }

    /// The peer proved who it is: packets up to [`MAX_PACKET`] from now on.
    pub fn authenticated(&mut self) {
        self.limit = MAX_PACKET;
    }

    /// Takes as many of `bytes` as fit beside what is buffered; returns how many.
    ///
    /// Call [`next`](Self::next) until it gives `None`, then push the rest. A length field above
    /// the limit is found as soon as its two bytes are in, so the buffer never grows beyond one
    /// packet.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let room = (2 + self.limit).saturating_sub(self.buffer.len());
        let n = room.min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        n
    }

    /// The next whole packet, to be decrypted in place.
    // It lends from the buffer, which an iterator cannot.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<&mut [u8]>, FramingError> {
        let rest = &self.buffer[self.start..];
        let [high, low, ..] = *rest else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > self.limit {
            return Err(FramingError { length, limit: self.limit });
        }
        if rest.len() < 2 + length {
            return Ok(None);
        }
        let from = self.start + 2;
        self.start = from + length;
        Ok(Some(&mut self.buffer[from..from + length]))
    }

    /// Whether a cut-off packet is waiting for its end.
    pub fn is_mid_packet(&self) -> bool {
        self.start < self.buffer.len()
    }
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the length before `packet`. `packet` must not exceed [`MAX_PACKET`].
pub fn frame_packet(packet: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!packet.is_empty() && packet.len() <= MAX_PACKET);
    out.extend_from_slice(&(packet.len() as u16).to_be_bytes());
    out.extend_from_slice(packet);
}

/// A length field that no honest peer writes. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {length} bytes where at most {limit} are allowed: this is not a Velin peer")]
pub struct FramingError {
    /// The length announced.
    pub length: usize,
    /// The limit in force.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_may_arrive_byte_by_byte() {
        let mut wire = Vec::new();
        frame_packet(b"hello", &mut wire);
        frame_packet(b"!", &mut wire);
        let mut d = Deframer::new();
        let mut got = Vec::new();
        for b in wire {
            assert_eq!(d.push(&[b]), 1);
            while let Some(p) = d.next().unwrap() {
                got.push(p.to_vec());
            }
        }
        assert_eq!(got, [b"hello".to_vec(), b"!".to_vec()]);
        assert!(!d.is_mid_packet());
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
        let mut d = Deframer::new();
        d.push(&4097_u16.to_be_bytes());
        assert!(d.next().is_err());
        let mut d = Deframer::new();
        d.authenticated();
        d.push(&16_401_u16.to_be_bytes());
        assert_eq!(d.next(), Err(FramingError { length: 16_401, limit: 16_400 }));
    }

    /// A Velin 0.2 control message starts with a little-endian u32 length and JSON.
    #[test]
    fn an_old_velin_hello_is_no_packet() {
        let json = br#"{"type":"Hello","source_name":"old","stream_id":1}"#;
        let mut bytes = (json.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(json);
        let mut d = Deframer::new();
        d.push(&bytes);
        assert!(d.next().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_cuts_never_panic_and_never_grow_the_buffer(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
        ) {
            let mut d = Deframer::new();
            'all: for chunk in chunks {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let n = d.push(rest);
                    rest = &rest[n..];
                    loop {
                        match d.next() {
                            Ok(Some(p)) => prop_assert!(p.len() <= MAX_UNAUTHENTICATED_PACKET),
                            Ok(None) => break,
                            Err(_) => break 'all,
                        }
                    }
                    prop_assert!(d.buffer.len() <= 2 + MAX_UNAUTHENTICATED_PACKET);
                    if n == 0 { prop_assert!(false, "no progress"); }
                }
            }
        }
    }
}
