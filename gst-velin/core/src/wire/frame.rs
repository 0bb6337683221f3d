//! The frames inside a DATA packet.

use super::close::{CloseCode, CloseReason};
use super::nack::NackEntries;
use crate::units::{BlockIndex, FrameIndex, StreamId};

/// Bytes of an AUDIO frame before its payload.
pub const AUDIO_HEADER: usize = 16;

const PAD: u8 = 0x00;
const AUDIO: u8 = 0x01;
const PARITY: u8 = 0x02;
const NACK: u8 = 0x03;
const PING: u8 = 0x04;
const PONG: u8 = 0x05;
const REPORT: u8 = 0x06;
const SYNC: u8 = 0x07;
const PATH_CHALLENGE: u8 = 0x08;
const PATH_RESPONSE: u8 = 0x09;
const CTRL: u8 = 0x0A;
const CTRL_ACK: u8 = 0x0B;
const CLOSE: u8 = 0x0C;
/// From here on a frame of an unknown type says its length and can be skipped.
const SKIPPABLE: u8 = 0x40;

/// One frame, borrowed from a decrypted packet.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Frame<'a> {
    /// A block of media.
    Audio(AudioFrame<'a>),
    /// Parity over blocks. Not used by this version; understood and passed over.
    Parity { base: BlockIndex, payload: &'a [u8] },
    /// Blocks asked for again.
    Nack { entries: NackEntries<'a> },
    /// `t1`: the sender's clock in nanoseconds.
    Ping { id: u16, t1: u64 },
    /// `t2`, `t3`: the answering side's clock at arrival and departure.
    Pong { id: u16, t1: u64, t2: u64, t3: u64 },
    /// How a receiver fares.
    Report(Report),
    /// Which moment of the sender's clock a frame belongs to.
    Sync(Sync),
    /// Prove that you receive at the address this came to.
    PathChallenge(u64),
    /// The challenge given back.
    PathResponse(u64),
    /// A chunk of the control stream.
    Ctrl { offset: u64, bytes: &'a [u8] },
    /// Which control bytes arrived.
    CtrlAck(CtrlAck<'a>),
    /// The session ends.
    Close(CloseReason),
}

/// Everything of an AUDIO frame but its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioHeader {
    /// What kind of block it is.
    pub flags: AudioFlags,
    /// The block's number.
    pub block: BlockIndex,
    /// The block's first frame.
    pub ts: FrameIndex,
}

impl AudioHeader {
    /// The header's bytes, for a payload of `payload_len` bytes.
    pub fn encode(&self, payload_len: u16) -> [u8; AUDIO_HEADER] {
        let mut out = [0; AUDIO_HEADER];
        out[0] = AUDIO;
        out[1] = self.flags.0;
        out[2..4].copy_from_slice(&payload_len.to_be_bytes());
        out[4..8].copy_from_slice(&self.block.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.ts.0.to_be_bytes());
        out
    }
}

/// An AUDIO frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFrame<'a> {
    /// Block number, position, kind.
    pub header: AudioHeader,
    /// The samples, or for silence two bytes: the number of frames.
    pub payload: &'a [u8],
}

impl AudioFrame<'_> {
    /// For a silence block: how many frames it lasts.
    pub fn silent_frames(&self) -> Option<u16> {
        if !self.header.flags.contains(AudioFlags::SILENCE) {
            return None;
        }
        let bytes: [u8; 2] = self.payload.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }
}

/// The flag byte of an AUDIO frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AudioFlags(u8);

impl AudioFlags {
    /// An ordinary block.
    pub const NONE: Self = Self(0);
    /// The sender's timeline jumped before this block.
    pub const DISCONTINUITY: Self = Self(1);
    /// No samples: the payload is a `u16` length in frames.
    pub const SILENCE: Self = Self(2);
    /// A redundant copy of a block sent before.
    pub const COPY: Self = Self(4);
    /// The answer to a NACK.
    pub const RETRANSMISSION: Self = Self(8);

    /// From the byte on the wire.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The byte on the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Which of the stream's configurations the payload has, 0 to 15.
    pub const fn config(self) -> u8 {
        self.0 >> 4
    }
}

/// What a receiver tells its sender, once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Report {
    pub highest: BlockIndex,
    pub lost: u32,
    pub by_retransmit: u32,
    pub by_redundancy: u32,
    pub late: u32,
    pub target_us: u32,
    pub level_us: u32,
    pub drift_ppb: i32,
    pub group_latency_us: u32,
}

impl Report {
    /// Bytes of the frame.
    pub const LEN: usize = 40;

    /// The frame.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = REPORT;
        let words = [
            self.highest.0,
            self.lost,
            self.by_retransmit,
            self.by_redundancy,
            self.late,
            self.target_us,
            self.level_us,
            self.drift_ppb as u32,
            self.group_latency_us,
        ];
        for (slot, word) in out[4..].chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// A sample's moment on the sender's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sync {
    pub frame: FrameIndex,
    pub clock_ns: u64,
    pub group_latency_us: u32,
    pub clock_id: u32,
}

/// Which control bytes arrived: everything before `next`, and the ranges in `ranges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CtrlAck<'a> {
    pub next: u64,
    pub ranges: &'a [u8],
}

/// PING.
pub fn put_ping(id: u16, t1: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[PING, 0]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&t1.to_be_bytes());
}

/// PONG.
pub fn put_pong(id: u16, t1: u64, t2: u64, t3: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[PONG, 0]);
    out.extend_from_slice(&id.to_be_bytes());
    for t in [t1, t2, t3] {
        out.extend_from_slice(&t.to_be_bytes());
    }
}

/// PATH_CHALLENGE.
pub fn put_path_challenge(nonce: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[PATH_CHALLENGE, 0, 0, 0]);
    out.extend_from_slice(&nonce.to_be_bytes());
}

/// PATH_RESPONSE.
pub fn put_path_response(nonce: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[PATH_RESPONSE, 0, 0, 0]);
    out.extend_from_slice(&nonce.to_be_bytes());
}

/// CTRL, padded so that the plaintext is a multiple of 64 bytes. `bytes` is one chunk.
pub fn put_ctrl(offset: u64, bytes: &[u8], out: &mut Vec<u8>) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&[CTRL, 0]);
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(bytes);
    let padded = out.len().next_multiple_of(64);
    out.resize(padded, PAD);
}

/// CLOSE.
pub fn put_close(reason: &CloseReason, out: &mut Vec<u8>) {
    let text = reason.text.as_bytes();
    out.extend_from_slice(&[CLOSE, 0]);
    out.extend_from_slice(&reason.code.0.to_be_bytes());
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

/// The frames of one decrypted packet of `stream`, padding left out.
///
/// Stops for good at the first error. The packet was authenticated, so an error means that the
/// peer itself misbehaves.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    stream: StreamId,
}

impl<'a> Frames<'a> {
    /// `plaintext` is what the packet held between header and tag.
    pub fn new(stream: StreamId, plaintext: &'a [u8]) -> Self {
        Self { rest: plaintext, stream }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], FrameError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(FrameError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn read(&mut self) -> Result<Option<Frame<'a>>, FrameError> {
        loop {
            let padding = self.rest.iter().take_while(|b| **b == PAD).count();
            self.rest = &self.rest[padding..];
            let Some(&kind) = self.rest.first() else { return Ok(None) };
            if kind >= SKIPPABLE {
                let head = self.take(4)?;
                self.take(usize::from(be16(&head[2..])))?;
                continue;
            }
            if !allowed(kind, self.stream) {
                return Err(FrameError::NotAllowed { kind, stream: self.stream });
            }
            return self.read_known(kind).map(Some);
        }
    }

    fn read_known(&mut self, kind: u8) -> Result<Frame<'a>, FrameError> {
        Ok(match kind {
            AUDIO => {
                let h = self.take(AUDIO_HEADER)?;
                let payload = self.take(usize::from(be16(&h[2..])))?;
                let header = AudioHeader {
                    flags: AudioFlags(h[1]),
                    block: BlockIndex(be32(&h[4..])),
                    ts: FrameIndex(be64(&h[8..])),
                };
                Frame::Audio(AudioFrame { header, payload })
            }
            PARITY => {
                let h = self.take(12)?;
                let payload = self.take(usize::from(be16(&h[2..])))?;
                Frame::Parity { base: BlockIndex(be32(&h[4..])), payload }
            }
            NACK => {
                let h = self.take(4)?;
                Frame::Nack { entries: NackEntries(self.take(usize::from(h[1]) * 6)?) }
            }
            PING => {
                let h = self.take(12)?;
                Frame::Ping { id: be16(&h[2..]), t1: be64(&h[4..]) }
            }
            PONG => {
                let h = self.take(28)?;
                Frame::Pong {
                    id: be16(&h[2..]),
                    t1: be64(&h[4..]),
                    t2: be64(&h[12..]),
                    t3: be64(&h[20..]),
                }
            }
            REPORT => {
                let h = self.take(Report::LEN)?;
                let word = |i: usize| be32(&h[4 + 4 * i..]);
                Frame::Report(Report {
                    highest: BlockIndex(word(0)),
                    lost: word(1),
                    by_retransmit: word(2),
                    by_redundancy: word(3),
                    late: word(4),
                    target_us: word(5),
                    level_us: word(6),
                    drift_ppb: word(7) as i32,
                    group_latency_us: word(8),
                })
            }
            SYNC => {
                let h = self.take(28)?;
                Frame::Sync(Sync {
                    frame: FrameIndex(be64(&h[4..])),
                    clock_ns: be64(&h[12..]),
                    group_latency_us: be32(&h[20..]),
                    clock_id: be32(&h[24..]),
                })
            }
            PATH_CHALLENGE => Frame::PathChallenge(be64(&self.take(12)?[4..])),
            PATH_RESPONSE => Frame::PathResponse(be64(&self.take(12)?[4..])),
            CTRL => {
                let h = self.take(12)?;
                let bytes = self.take(usize::from(be16(&h[2..])))?;
                Frame::Ctrl { offset: be64(&h[4..]), bytes }
            }
            CTRL_ACK => {
                let h = self.take(12)?;
                let n = usize::from(h[1]);
                if n > 8 {
                    return Err(FrameError::TooMany);
                }
                Frame::CtrlAck(CtrlAck { next: be64(&h[4..]), ranges: self.take(n * 12)? })
            }
            CLOSE => {
                let h = self.take(6)?;
                let length = usize::from(be16(&h[4..]));
                if length > CloseReason::MAX_TEXT {
                    return Err(FrameError::TooMany);
                }
                let text = std::str::from_utf8(self.take(length)?).map_err(|_| FrameError::Utf8)?;
                Frame::Close(CloseReason::new(CloseCode(be16(&h[2..])), text))
            }
            _ => return Err(FrameError::Unknown(kind)),
        })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = self.read();
        if frame.is_err() {
            self.rest = &[];
        }
        frame.transpose()
    }
}

/// What the peer did wrong inside an authenticated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame belongs on another kind of stream.
    #[error("a frame of type {kind:#04x} on stream {stream:?}")]
    NotAllowed {
        /// The frame's type byte.
        kind: u8,
        /// Where it stood.
        stream: StreamId,
    },
    /// A count above its bound.
    #[error("a frame with more entries than allowed")]
    TooMany,
    /// A length past the end of the packet.
    #[error("a frame reaches past the end of its packet")]
    Truncated,
    /// A type this version must know and does not.
    #[error("an unknown frame type {0:#04x}")]
    Unknown(u8),
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
}

/// Which frames may stand on which stream.
fn allowed(kind: u8, stream: StreamId) -> bool {
    match kind {
        AUDIO | PARITY | NACK | REPORT | SYNC => stream.is_media(),
        PING | PONG | PATH_CHALLENGE | PATH_RESPONSE => stream == StreamId::PATH,
        CTRL | CTRL_ACK | CLOSE => stream == StreamId::CONTROL,
        _ => true,
    }
}

fn be16(b: &[u8]) -> u16 {
    u16::from_be_bytes([b[0], b[1]])
}

fn be32(b: &[u8]) -> u32 {
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}

fn be64(b: &[u8]) -> u64 {
    u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEDIA: StreamId = StreamId(1);

    fn only(stream: StreamId, bytes: &[u8]) -> Frame<'_> {
        let mut frames = Frames::new(stream, bytes);
        let frame = frames.next().unwrap().unwrap();
        assert_eq!(frames.next(), None);
        frame
    }

    #[test]
    fn an_audio_frame_has_the_documented_bytes() {
        let header =
            AudioHeader { flags: AudioFlags::NONE, block: BlockIndex(5), ts: FrameIndex(0x3c0) };
        let mut bytes = header.encode(16).to_vec();
        bytes.extend(0..16);
        let expected = [
            0x01, 0x00, 0x00, 0x10, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0x03, 0xc0, 0, 1, 2, 3, 4, 5, 6,
            7, 8, 9, 10, 11, 12, 13, 14, 15,
        ];
        assert_eq!(bytes, expected);
        let payload = &expected[16..];
        assert_eq!(only(MEDIA, &bytes), Frame::Audio(AudioFrame { header, payload }));
    }

    #[test]
    fn every_frame_survives_the_round_trip() {
        let mut b = Vec::new();
        put_ping(1, 2, &mut b);
        assert_eq!(only(StreamId::PATH, &b), Frame::Ping { id: 1, t1: 2 });
        b.clear();
        put_pong(1, 2, 3, 4, &mut b);
        assert_eq!(only(StreamId::PATH, &b), Frame::Pong { id: 1, t1: 2, t2: 3, t3: 4 });
        b.clear();
        put_path_challenge(9, &mut b);
        assert_eq!(only(StreamId::PATH, &b), Frame::PathChallenge(9));
        b.clear();
        put_path_response(9, &mut b);
        assert_eq!(only(StreamId::PATH, &b), Frame::PathResponse(9));
        b.clear();
        put_ctrl(77, b"{}", &mut b);
        assert_eq!(b.len(), 64);
        assert_eq!(only(StreamId::CONTROL, &b), Frame::Ctrl { offset: 77, bytes: b"{}" });
        b.clear();
        let reason = CloseReason::new(CloseCode::BUSY, "full");
        put_close(&reason, &mut b);
        assert_eq!(only(StreamId::CONTROL, &b), Frame::Close(reason));
        let report = Report { lost: 3, drift_ppb: -5, group_latency_us: 9, ..Report::default() };
        assert_eq!(only(MEDIA, &report.encode()), Frame::Report(report));
    }

    #[test]
    fn a_frame_on_the_wrong_stream_is_an_error() {
        let mut b = Vec::new();
        put_ping(1, 2, &mut b);
        let e = Frames::new(MEDIA, &b).next();
        assert_eq!(e, Some(Err(FrameError::NotAllowed { kind: PING, stream: MEDIA })));
        let audio = [AUDIO; 16];
        assert!(Frames::new(StreamId::CONTROL, &audio).next().unwrap().is_err());
    }

    #[test]
    fn unknown_frames_are_skipped_above_0x40_and_refused_below() {
        let mut b = vec![0x41, 0, 0, 2, 9, 9];
        put_ping(1, 2, &mut b);
        assert_eq!(only(StreamId::PATH, &b), Frame::Ping { id: 1, t1: 2 });
        assert_eq!(Frames::new(MEDIA, &[0x20]).next(), Some(Err(FrameError::Unknown(0x20))));
        assert_eq!(Frames::new(MEDIA, &[0x41, 0, 9, 9]).next(), Some(Err(FrameError::Truncated)));
    }

    #[test]
    fn silence_says_its_length() {
        let header =
            AudioHeader { flags: AudioFlags::SILENCE, block: BlockIndex(0), ts: FrameIndex(0) };
        let f = AudioFrame { header, payload: &[1, 0] };
        assert_eq!(f.silent_frames(), Some(256));
        assert_eq!(AudioFrame { header, payload: &[1] }.silent_frames(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_on_any_stream_end_without_panic(
            stream in prop_oneof![Just(0_u16), Just(0xFFFF), any::<u16>()],
            bytes in prop::collection::vec(any::<u8>(), 0..1300),
        ) {
            let mut n = 0;
            for frame in Frames::new(StreamId(stream), &bytes) {
                n += 1;
                if let Ok(Frame::Audio(a)) = &frame { let _ = a.silent_frames(); }
            }
            prop_assert!(n <= bytes.len() + 1);
        }

        #[test]
        fn structured_garbage_ends_without_panic(kinds in prop::collection::vec((0_u8..0x10, any::<[u8; 20]>()), 0..20)) {
            let mut bytes = Vec::new();
            for (kind, rest) in kinds {
                bytes.push(kind);
                bytes.extend_from_slice(&rest);
            }
            for stream in [StreamId::CONTROL, MEDIA, StreamId::PATH] {
                for f in Frames::new(stream, &bytes) { if f.is_err() { break; } }
            }
        }
    }
}
