//! What authenticated peers say to each other, byte by byte: frames inside packets, control
//! messages inside the control stream, packets inside a TCP connection.
//!
//! Every decoder is total: any bytes give a value or an error, never a panic, and never more
//! memory than a stated bound. The layouts are those of `docs/protocol.md`.

mod close;
mod control;
mod copies;
mod deframe;
mod frame;
mod glob;
mod hex;
mod message;
mod nack;

pub use close::{CloseCode, CloseReason};
pub use control::{ControlDecoder, ControlError, MAX_CONTROL_MESSAGE, encode_control};
pub use copies::{Copies, UnknownCopies};
pub use deframe::{Deframer, FramingError, MAX_PACKET, MAX_UNAUTHENTICATED_PACKET, frame_packet};
pub use frame::{
    AUDIO_HEADER, AudioFlags, AudioFrame, AudioHeader, CtrlAck, Frame, FrameError, Frames, Report,
    Sync, put_close, put_ctrl, put_path_challenge, put_path_response, put_ping, put_pong,
};
pub use glob::NameGlob;
pub use hex::{Hex, StreamUuid};
pub use message::{
    Accept, FormatOffer, Hello, Intent, MAX_FORMATS, Message, MessageError, StreamAnswer,
    StreamDirection, StreamKind, StreamOffer, UdpEndpoint, common_version,
};
pub use nack::{MAX_NACK_LEN, MAX_NACK_RANGES, Nack, NackEntries, NackRange};

/// The versions of the link this code speaks, best first.
pub const VERSIONS: &[u8] = &[1];

/// The default of `mtu`: the largest UDP payload in bytes that is sent without proof that more
/// passes. 1280 (the IPv6 minimum) less IPv6 and UDP headers, less room for a tunnel's own.
pub const DEFAULT_MTU: usize = 1200;
