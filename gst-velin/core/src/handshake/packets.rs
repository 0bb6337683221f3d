//! The packets before the keys: INIT, RESP, FINI, RETRY and VERS.
//!
//! All integers big-endian. A datagram of the first three is padded with zeroes to exactly
//! [`DATAGRAM_LEN`]: that proves the path carries it before any audio is sent, and makes the
//! amplification factor 1. On a byte stream there is no padding.

use std::fmt;
use std::num::NonZeroU32;

use crate::handshake::mac1::Mac1;
use crate::handshake::noise::{MESSAGE1_LEN, MESSAGE2_MIN, MESSAGE3_MIN, PAYLOAD_MAX};
use crate::handshake::retry::Token;

/// The protocol version spoken here. It fixes every algorithm.
pub const VERSION: u8 = 1;
/// Length of INIT, RESP and FINI on UDP, in bytes.
pub const DATAGRAM_LEN: usize = 1200;
/// Most versions a VERS may list.
pub const VERSIONS_MAX: usize = 16;

/// First byte of INIT.
pub const TYPE_INIT: u8 = 0x51;
/// First byte of RESP.
pub const TYPE_RESP: u8 = 0x52;
/// First byte of FINI.
pub const TYPE_FINI: u8 = 0x53;
/// First byte of RETRY.
pub const TYPE_RETRY: u8 = 0x54;
/// First byte of VERS.
pub const TYPE_VERS: u8 = 0x55;

/// The number one side gives a session; the other puts it into every packet. Random, never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionIndex(pub NonZeroU32);

impl SessionIndex {
    /// `None` for zero.
    pub const fn new(index: u32) -> Option<Self> {
        match NonZeroU32::new(index) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// The wire form.
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.get().to_be_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes = bytes.try_into().map_err(|_| DecodeError::Length)?;
        Self::new(u32::from_be_bytes(bytes)).ok_or(DecodeError::Index)
    }
}

impl fmt::Debug for SessionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:08x}", self.0)
    }
}

/// The first 8 bytes of INIT, which prologue, mac1 and token are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InitHead(pub(crate) [u8; 8]);

impl InitHead {
    /// The head of an INIT of version 1 whose sender calls the session `initiator`.
    pub const fn new(initiator: SessionIndex) -> Self {
        let [a, b, c, d] = initiator.to_bytes();
        Self([TYPE_INIT, VERSION, 0, MESSAGE1_LEN as u8, a, b, c, d])
    }

    /// The wire form.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

/// What a packet travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// A UDP datagram: INIT, RESP and FINI are padded to [`DATAGRAM_LEN`].
    Datagram,
    /// A length-prefixed packet on a byte stream: no padding.
    Stream,
}

/// Why bytes are not a handshake packet. Answer none of these except [`DecodeError::Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first byte names no handshake packet.
    #[error("not a handshake packet; drop it")]
    Type,
    /// Too short, too long, or `noise_len` outside the packet's bounds.
    #[error("a handshake packet of a wrong length; drop it")]
    Length,
    /// A session index of zero.
    #[error("a handshake packet with session index zero; drop it")]
    Index,
    /// Padding or a reserved field is not zero.
    #[error("a handshake packet with bytes set that must be zero; drop it")]
    NotZero,
    /// An INIT of a version not spoken here. It may be answered with VERS.
    #[error("an INIT of version {version}; answer with VERS unless in stealth")]
    Version {
        /// The version it names.
        version: u8,
        /// The index to answer to.
        initiator: SessionIndex,
    },
    /// Another packet of a version not spoken here.
    #[error("a handshake packet of another version; drop it")]
    OtherVersion,
}

/// A message or list does not fit its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes do not fit this handshake packet; shorten the payload")]
pub struct EncodeError {
    /// The length that did not fit.
    pub length: usize,
}

/// Any packet that comes before keys exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakePacket<'a> {
    /// Message 1.
    Init(Init),
    /// Message 2.
    Resp(Resp<'a>),
    /// Message 3.
    Fini(Fini<'a>),
    /// Address validation.
    Retry(Retry),
    /// The responder's versions.
    Vers(Vers<'a>),
}

impl<'a> HandshakePacket<'a> {
    /// Parses strictly: exact length, zero padding, known version.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(bytes: &'a [u8], carriage: Carriage) -> Result<Self, DecodeError> {
        match bytes.first() {
            Some(&TYPE_INIT) => Init::decode(bytes, carriage).map(Self::Init),
            Some(&TYPE_RESP) => Resp::decode(bytes, carriage).map(Self::Resp),
            Some(&TYPE_FINI) => Fini::decode(bytes, carriage).map(Self::Fini),
            Some(&TYPE_RETRY) => Retry::decode(bytes).map(Self::Retry),
            Some(&TYPE_VERS) => Vers::decode(bytes).map(Self::Vers),
            _ => Err(DecodeError::Type),
        }
    }

    /// Appends the wire form to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] when a message or list is too long or too short for its packet.
    pub fn encode(&self, carriage: Carriage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Init(packet) => packet.encode(carriage, out),
            Self::Resp(packet) => return packet.encode(carriage, out),
            Self::Fini(packet) => return packet.encode(carriage, out),
            Self::Retry(packet) => packet.encode(out),
            Self::Vers(packet) => return packet.encode(out),
        }
        Ok(())
    }
}

/// INIT: the initiator's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    /// What the initiator calls the session.
    pub initiator: SessionIndex,
    /// Proof of knowing the responder's key; `None` (all zero on the wire) if it is unknown.
    pub mac1: Option<Mac1>,
    /// The token of a RETRY; `None` (all zero on the wire) without one.
    pub token: Option<Token>,
    /// Noise message 1.
    pub message: [u8; MESSAGE1_LEN],
}

impl Init {
    const HEAD: usize = 56;
    const LEN: usize = Self::HEAD + MESSAGE1_LEN;

    /// The first 8 bytes.
    pub const fn head(&self) -> InitHead {
        InitHead::new(self.initiator)
    }

    fn decode(bytes: &[u8], carriage: Carriage) -> Result<Self, DecodeError> {
        let [_, version, length @ ..] = bytes else { return Err(DecodeError::Length) };
        if carriage == Carriage::Datagram && bytes.len() != DATAGRAM_LEN || bytes.len() < 8 {
            return Err(DecodeError::Length);
        }
        let initiator = SessionIndex::read(&bytes[4..8])?;
        // What follows the first 8 bytes is another version's business.
        if *version != VERSION {
            return Err(DecodeError::Version { version: *version, initiator });
        }
        if length[..2] != (MESSAGE1_LEN as u16).to_be_bytes() {
            return Err(DecodeError::Length);
        }
        let message = body(bytes, Self::HEAD, MESSAGE1_LEN..=MESSAGE1_LEN, carriage)?;
        Ok(Self {
            initiator,
            mac1: unless_zero(array(&bytes[8..24])?).map(Mac1),
            token: unless_zero(array(&bytes[24..56])?).map(Token),
            message: array(message)?,
        })
    }

    /// Appends the wire form to `out`.
    pub fn encode(&self, carriage: Carriage, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.head().0);
        out.extend_from_slice(&self.mac1.map_or([0; 16], |mac1| mac1.0));
        out.extend_from_slice(&self.token.map_or([0; 32], |token| token.0));
        out.extend_from_slice(&self.message);
        pad(out, start, carriage);
    }
}

/// RESP: the responder's answer to INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resp<'a> {
    /// What the initiator calls the session.
    pub initiator: SessionIndex,
    /// What the responder calls the session.
    pub responder: SessionIndex,
    /// Noise message 2, 96 to 1120 bytes.
    pub message: &'a [u8],
}

impl<'a> Resp<'a> {
    const HEAD: usize = 12;

    fn decode(bytes: &'a [u8], carriage: Carriage) -> Result<Self, DecodeError> {
        let message = body(bytes, Self::HEAD, MESSAGE2_MIN..=MESSAGE2_MIN + PAYLOAD_MAX, carriage)?;
        Ok(Self {
            initiator: SessionIndex::read(&bytes[4..8])?,
            responder: SessionIndex::read(&bytes[8..12])?,
            message,
        })
    }

    /// Appends the wire form to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] if the message is no Noise message 2.
    pub fn encode(&self, carriage: Carriage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = message_length(self.message, MESSAGE2_MIN)?;
        let start = out.len();
        out.extend_from_slice(&[TYPE_RESP, VERSION, length[0], length[1]]);
        out.extend_from_slice(&self.initiator.to_bytes());
        out.extend_from_slice(&self.responder.to_bytes());
        out.extend_from_slice(self.message);
        pad(out, start, carriage);
        Ok(())
    }
}

/// FINI: the initiator's second packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fini<'a> {
    /// What the responder calls the session.
    pub responder: SessionIndex,
    /// Noise message 3, 64 to 1088 bytes.
    pub message: &'a [u8],
}

impl<'a> Fini<'a> {
    const HEAD: usize = 8;

    fn decode(bytes: &'a [u8], carriage: Carriage) -> Result<Self, DecodeError> {
        let message = body(bytes, Self::HEAD, MESSAGE3_MIN..=MESSAGE3_MIN + PAYLOAD_MAX, carriage)?;
        Ok(Self { responder: SessionIndex::read(&bytes[4..8])?, message })
    }

    /// Appends the wire form to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] if the message is no Noise message 3.
    pub fn encode(&self, carriage: Carriage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = message_length(self.message, MESSAGE3_MIN)?;
        let start = out.len();
        out.extend_from_slice(&[TYPE_FINI, VERSION, length[0], length[1]]);
        out.extend_from_slice(&self.responder.to_bytes());
        out.extend_from_slice(self.message);
        pad(out, start, carriage);
        Ok(())
    }
}

/// RETRY: "come back with this token", from a busy responder. Unauthenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// What the initiator calls the session.
    pub initiator: SessionIndex,
    /// To be copied into INIT.
    pub token: Token,
}

impl Retry {
    const LEN: usize = 40;

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() != Self::LEN {
            return Err(DecodeError::Length);
        }
        if bytes[1] != VERSION {
            return Err(DecodeError::OtherVersion);
        }
        all_zero(&bytes[2..4])?;
        Ok(Self { initiator: SessionIndex::read(&bytes[4..8])?, token: Token(array(&bytes[8..])?) })
    }

    /// Appends the wire form, 40 bytes, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[TYPE_RETRY, VERSION, 0, 0]);
        out.extend_from_slice(&self.initiator.to_bytes());
        out.extend_from_slice(&self.token.0);
    }
}

/// VERS: the versions a responder speaks. Unauthenticated, so only a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vers<'a> {
    /// What the initiator calls the session.
    pub initiator: SessionIndex,
    /// 1 to [`VERSIONS_MAX`] versions, in no order.
    pub versions: &'a [u8],
}

impl<'a> Vers<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((head, versions)) = bytes.split_at_checked(8) else {
            return Err(DecodeError::Length);
        };
        let count = usize::from(head[1]);
        if count == 0 || count > VERSIONS_MAX || versions.len() != count {
            return Err(DecodeError::Length);
        }
        all_zero(&head[2..4])?;
        Ok(Self { initiator: SessionIndex::read(&head[4..8])?, versions })
    }

    /// Appends the wire form, at most 24 bytes, to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] with no version or more than [`VERSIONS_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = self.versions.len();
        let count = u8::try_from(length).map_err(|_| EncodeError { length })?;
        if length == 0 || length > VERSIONS_MAX {
            return Err(EncodeError { length });
        }
        out.extend_from_slice(&[TYPE_VERS, count, 0, 0]);
        out.extend_from_slice(&self.initiator.to_bytes());
        out.extend_from_slice(self.versions);
        Ok(())
    }
}

/// The Noise message of INIT, RESP or FINI, after version, length and padding have been checked.
fn body(
    bytes: &[u8],
    head: usize,
    lengths: std::ops::RangeInclusive<usize>,
    carriage: Carriage,
) -> Result<&[u8], DecodeError> {
    if bytes.len() < head {
        return Err(DecodeError::Length);
    }
    if bytes[1] != VERSION {
        return Err(DecodeError::OtherVersion);
    }
    let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    if !lengths.contains(&length) {
        return Err(DecodeError::Length);
    }
    let (message, padding) = bytes[head..].split_at_checked(length).ok_or(DecodeError::Length)?;
    match carriage {
        Carriage::Datagram if bytes.len() != DATAGRAM_LEN => return Err(DecodeError::Length),
        Carriage::Stream if !padding.is_empty() => return Err(DecodeError::Length),
        _ => all_zero(padding)?,
    }
    Ok(message)
}

fn message_length(message: &[u8], min: usize) -> Result<[u8; 2], EncodeError> {
    let length = message.len();
    if !(min..=min + PAYLOAD_MAX).contains(&length) {
        return Err(EncodeError { length });
    }
    u16::try_from(length).map(u16::to_be_bytes).map_err(|_| EncodeError { length })
}

fn pad(out: &mut Vec<u8>, start: usize, carriage: Carriage) {
    if carriage == Carriage::Datagram {
        out.resize(start + DATAGRAM_LEN, 0);
    }
}

fn all_zero(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.iter().all(|&b| b == 0) { Ok(()) } else { Err(DecodeError::NotZero) }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Length)
}

fn unless_zero<const N: usize>(bytes: [u8; N]) -> Option<[u8; N]> {
    (bytes != [0; N]).then_some(bytes)
}

// The longest packets fit their datagram.
const _: () = assert!(Init::LEN <= DATAGRAM_LEN);
const _: () = assert!(Resp::HEAD + MESSAGE2_MIN + PAYLOAD_MAX <= DATAGRAM_LEN);
const _: () = assert!(Fini::HEAD + MESSAGE3_MIN + PAYLOAD_MAX <= DATAGRAM_LEN);
