//! Control messages: JSON with closed vocabularies.
//!
//! Unknown members are ignored, so that a later version may add some; a member that must not be
//! ignored is named in `critical`, and then an unknown one is an error.

use serde::{Deserialize, Serialize};

use super::{Copies, Hex, NameGlob, StreamUuid, VERSIONS};
use crate::codec::opus::{LookAhead, OPUS_RATE, OpusFormat, OpusFrameSize};
use crate::codec::{BLOCK_OVERHEAD, ChannelMap, Coding, Position, SampleFormat, StreamFormat};
use crate::identity::Name;
use crate::units::{BitRate, Channels, SampleRate};

/// Deepest nesting of a message.
const MAX_DEPTH: usize = 8;

/// Most streams one message names.
const MAX_STREAMS: usize = 64;

/// Every value of `t` this version knows.
const TYPES: [&str; 10] = [
    "accept",
    "ask-end",
    "path-lost",
    "rekey",
    "rekey-ack",
    "stream-add",
    "stream-ask",
    "stream-ok",
    "stream-remove",
    "stream-repair",
];

/// Most formats one offer lists.
pub const MAX_FORMATS: usize = 16;

/// What the initiator says in the handshake's last message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Every version the initiator speaks.
    pub versions: Vec<u8>,
    /// Why it calls.
    pub intent: Intent,
    /// Program and version, for logs. Absent unless the initiator trusts the responder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// What the device calls itself: a claim, not an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Where the initiator receives UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpEndpoint>,
    /// Names of members that must be understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical: Vec<String>,
}

impl Hello {
    /// The most bytes a Hello may have.
    pub const MAX: usize = 1024;

    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Bounded by [`MAX`](Self::MAX).
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > Self::MAX {
            return Err(MessageError::TooLarge);
        }
        let hello: Self = parse(bytes)?;
        known(&hello.critical)?;
        Ok(hello)
    }
}

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// To become known.
    Pair,
    /// To send or receive audio.
    Stream,
}

/// Where a peer receives UDP, at the address its TCP connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpEndpoint {
    /// The port; 0 = no UDP.
    pub port: u16,
    /// The largest UDP payload it takes.
    pub mtu: u16,
}

/// A message on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "kebab-case")]
pub enum Message {
    /// The responder takes the session.
    Accept(Accept),
    /// An ask is over: withdrawn by the side that asked, or refused by the other.
    AskEnd {
        /// Which.
        ask: u16,
        /// A [`CloseCode`](super::CloseCode).
        code: u16,
    },
    /// Nothing came over UDP for a while: use TCP and probe again.
    PathLost,
    /// New keys, first half: the public X25519 key of epoch `epoch`, in hexadecimal.
    Rekey {
        /// The epoch to come.
        epoch: u8,
        /// 32 bytes.
        #[serde(rename = "pub")]
        public: Hex<32>,
    },
    /// New keys, second half.
    RekeyAck {
        /// The epoch to come.
        epoch: u8,
        /// 32 bytes.
        #[serde(rename = "pub")]
        public: Hex<32>,
    },
    /// A stream the sender of the message offers.
    StreamAdd(StreamOffer),
    /// The sender of the message wants the streams whose names fit.
    StreamAsk {
        /// The ask's number: odd from the initiator, even from the responder.
        ask: u16,
        /// Always `recv`.
        dir: StreamDirection,
        /// Which.
        name: NameGlob,
    },
    /// The other side takes the stream.
    StreamOk(StreamAnswer),
    /// The side that plays a stream wants these copies in its packets from now on.
    StreamRepair {
        /// Which.
        id: u16,
        /// How many blocks before the packet's own.
        copies: Copies,
    },
    /// The stream is over, or refused: `code` says why.
    StreamRemove {
        /// Which.
        id: u16,
        /// A [`CloseCode`](super::CloseCode).
        code: u16,
    },
}

impl Message {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Only types that JSON can hold are inside.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `bytes` is one whole message; the caller bounds its size.
    ///
    /// A type this version does not know is [`MessageError::UnknownType`], which the session
    /// passes over: a newer peer may say more than we understand.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        #[derive(Deserialize)]
        struct Tag {
            t: String,
        }
        let tag: Tag = parse(bytes)?;
        if !TYPES.contains(&tag.t.as_str()) {
            return Err(MessageError::UnknownType);
        }
        let message: Self = parse(bytes)?;
        if let Self::StreamAdd(offer) = &message
            && (offer.formats.is_empty() || offer.formats.len() > MAX_FORMATS)
        {
            return Err(MessageError::Json("an offer lists 1 to 16 formats".into()));
        }
        if let Self::Accept(accept) = &message {
            if accept.streams.len() > MAX_STREAMS {
                return Err(MessageError::TooLarge);
            }
            known(&accept.critical)?;
        }
        Ok(message)
    }
}

/// The responder's answer to a Hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// Every version the responder speaks.
    pub versions: Vec<u8>,
    /// Program and version, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// What the device calls itself: a claim, not an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Where the responder receives UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpEndpoint>,
    /// Answers to streams offered so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamAnswer>,
    /// Names of members that must be understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical: Vec<String>,
}

/// A stream on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOffer {
    /// Its number in this session, chosen by the side that opens it.
    pub id: u16,
    /// Which way the audio goes, seen from the side that offers.
    pub dir: StreamDirection,
    /// What the sender calls it.
    pub name: Name,
    /// The same in every session for as long as the sender's timeline goes on.
    pub uuid: StreamUuid,
    /// What it is for.
    pub kind: StreamKind,
    /// The ask this answers, if it answers one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<u16>,
    /// In order of preference.
    pub formats: Vec<FormatOffer>,
}

/// A stream taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAnswer {
    /// The offer's id.
    pub id: u16,
    /// Which of its formats, counted from 0.
    pub format: u8,
}

/// Which way the audio goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamDirection {
    /// From the peer that says it to the other: to be played there.
    Send,
    /// From the other peer to the one that says it.
    Recv,
}

/// What a stream is for; decides which grant it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// To be played by the receiver.
    Playback,
    /// Something a later version knows.
    #[serde(other)]
    Unknown,
}

/// One way to code a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "c", rename_all = "kebab-case")]
pub enum FormatOffer {
    /// Interleaved PCM.
    Pcm {
        /// `S16LE`, `S24LE` or `F32LE`.
        f: String,
        /// Frames per second.
        rate: u32,
        /// Channels.
        ch: u8,
        /// One position per channel.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        map: Vec<String>,
        /// Frames in a block.
        frames: u32,
    },
    /// Opus, one packet in each block.
    Opus {
        /// Frames per second: 48000.
        rate: u32,
        /// Channels: 1 or 2.
        ch: u8,
        /// The highest bit rate, in kbit/s, rounded up.
        kbps: u32,
        /// Frames in a block.
        frames: u32,
        /// How many frames the encoder looks ahead.
        #[serde(default = "usual_look_ahead")]
        skip: u32,
    },
    /// A codec this version does not know.
    #[serde(other)]
    Unknown,
}

impl FormatOffer {
    /// The offer of `format`.
    pub fn of(format: &StreamFormat) -> Self {
        let (rate, ch) = (format.rate.hz(), format.channels().get() as u8);
        let frames = format.frames_per_block;
        match format.coding {
            Coding::Pcm(sample) => Self::Pcm {
                f: sample.name().to_owned(),
                rate,
                ch,
                map: format.map.positions().iter().map(|p| p.name().to_owned()).collect(),
                frames,
            },
            Coding::Opus(opus) => Self::Opus {
                rate,
                ch,
                kbps: opus.bit_rate.bits_per_second().div_ceil(1000),
                frames,
                skip: opus.look_ahead.frames(),
            },
        }
    }

    /// The format, if it is one this code can carry whole inside `mtu` bytes of UDP payload.
    pub fn to_format(&self, mtu: usize) -> Option<StreamFormat> {
        let format = match self {
            Self::Pcm { f, rate, ch, map, frames } => pcm_format(f, *rate, *ch, map, *frames)?,
            Self::Opus { rate, ch, kbps, frames, skip } => {
                let bit_rate = BitRate::new(kbps.checked_mul(1000)?)?;
                let opus = OpusFormat { bit_rate, look_ahead: LookAhead::new(*skip)? };
                SampleRate::new(*rate).filter(|rate| *rate == OPUS_RATE)?;
                opus.stream(Channels::new(*ch)?, OpusFrameSize::from_frames(*frames)?).ok()?
            }
            Self::Unknown => return None,
        };
        (format.block_bytes() + BLOCK_OVERHEAD <= mtu).then_some(format)
    }
}

/// What an offer that does not say is taken to mean.
fn usual_look_ahead() -> u32 {
    LookAhead::USUAL.frames()
}

fn pcm_format(f: &str, rate: u32, ch: u8, map: &[String], frames: u32) -> Option<StreamFormat> {
    let channels = Channels::new(ch)?;
    let map = if map.is_empty() {
        match channels {
            Channels::MONO => ChannelMap::mono(),
            Channels::STEREO => ChannelMap::stereo(),
            _ => ChannelMap::unpositioned(channels),
        }
    } else {
        let positions: Option<Vec<_>> = map.iter().map(|n| Position::from_name(n)).collect();
        ChannelMap::new(&positions?).ok().filter(|m| m.channels() == channels)?
    };
    let fits = (crate::codec::MIN_BLOCK_FRAMES..=65_535).contains(&frames);
    fits.then_some(StreamFormat {
        coding: Coding::Pcm(SampleFormat::from_name(f)?),
        rate: SampleRate::new(rate)?,
        map,
        frames_per_block: frames,
    })
}

/// What is wrong with a control message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A member that must be understood and is not.
    #[error("the peer requires a feature this version does not have")]
    Critical,
    /// Nested deeper than allowed.
    #[error("a control message nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// Not JSON, or not of the documented shape.
    #[error("a malformed control message: {0}")]
    Json(String),
    /// Above its bound.
    #[error("a control message above its bound")]
    TooLarge,
    /// A type this version does not know; to be passed over.
    #[error("a control message of an unknown type")]
    UnknownType,
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MessageError> {
    bounded_depth(bytes)?;
    // The text of a serde error may quote the peer; only where it happened is kept.
    serde_json::from_slice(bytes).map_err(|e| MessageError::Json(format!("column {}", e.column())))
}

/// Counts brackets outside of strings.
fn bounded_depth(json: &[u8]) -> Result<(), MessageError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for b in json {
        match b {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(MessageError::Depth);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// This version knows no critical members.
fn known(critical: &[String]) -> Result<(), MessageError> {
    if critical.is_empty() { Ok(()) } else { Err(MessageError::Critical) }
}

/// The highest version both sides speak.
pub fn common_version(theirs: &[u8]) -> Option<u8> {
    VERSIONS.iter().copied().filter(|v| theirs.contains(v)).max()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn offer() -> StreamOffer {
        let format = StreamFormat {
            coding: SampleFormat::S16Le.into(),
            rate: SampleRate::HZ_48000,
            map: ChannelMap::stereo(),
            frames_per_block: 120,
        };
        StreamOffer {
            id: 1,
            dir: StreamDirection::Send,
            name: Name::new("desktop").unwrap(),
            uuid: StreamUuid(Hex([7; 16])),
            kind: StreamKind::Playback,
            ask: None,
            formats: vec![FormatOffer::of(&format)],
        }
    }

    #[test]
    fn an_offer_reads_as_documented() {
        let json = String::from_utf8(Message::StreamAdd(offer()).encode()).unwrap();
        assert_eq!(
            json,
            r#"{"t":"stream-add","id":1,"dir":"send","name":"desktop","uuid":"07070707070707070707070707070707","kind":"playback","formats":[{"c":"pcm","f":"S16LE","rate":48000,"ch":2,"map":["FL","FR"],"frames":120}]}"#
        );
        assert_eq!(Message::decode(json.as_bytes()).unwrap(), Message::StreamAdd(offer()));
    }

    #[test]
    fn an_ask_and_its_answers_read_as_documented() {
        let name = "desk*".parse().unwrap();
        let ask = Message::StreamAsk { ask: 1, dir: StreamDirection::Recv, name };
        let answer = Message::StreamAdd(StreamOffer { ask: Some(1), ..offer() });
        let end = Message::AskEnd { ask: 1, code: 0x112 };
        for (message, json) in [
            (ask, r#"{"t":"stream-ask","ask":1,"dir":"recv","name":"desk*"}"#),
            (end, r#"{"t":"ask-end","ask":1,"code":274}"#),
        ] {
            assert_eq!(String::from_utf8(message.encode()).unwrap(), json);
            assert_eq!(Message::decode(json.as_bytes()).unwrap(), message);
        }
        let json = String::from_utf8(answer.encode()).unwrap();
        assert!(json.contains(r#""kind":"playback","ask":1,"formats""#), "{json}");
        assert_eq!(Message::decode(json.as_bytes()).unwrap(), answer);
        for bad in [
            r#"{"t":"stream-ask","ask":1,"dir":"recv","name":""}"#,
            r#"{"t":"stream-ask","ask":1,"dir":"recv"}"#,
            r#"{"t":"stream-ask","ask":65536,"dir":"recv","name":"*"}"#,
        ] {
            assert!(matches!(Message::decode(bad.as_bytes()), Err(MessageError::Json(_))), "{bad}");
        }
    }

    #[test]
    fn a_format_beyond_the_mtu_or_the_vocabulary_is_no_format() {
        let f = offer().formats.remove(0);
        let format = f.to_format(1200).unwrap();
        assert_eq!(format.block_duration(), Duration::from_micros(2500));
        assert_eq!(f.to_format(500), None);
        let with = |edit: &dyn Fn(&mut serde_json::Value)| {
            let mut v = serde_json::to_value(&f).unwrap();
            edit(&mut v);
            serde_json::from_value::<FormatOffer>(v).ok().and_then(|f| f.to_format(1200))
        };
        assert_eq!(with(&|v| v["f"] = "audio/x-raw".into()), None);
        assert_eq!(with(&|v| v["ch"] = 9.into()), None);
        assert_eq!(with(&|v| v["ch"] = 3.into()), None);
        assert_eq!(with(&|v| v["rate"] = 1.into()), None);
        assert_eq!(with(&|v| v["frames"] = 0.into()), None);
        assert_eq!(with(&|v| v["map"] = vec!["FL", "FL"].into()), None);
        assert_eq!(with(&|v| v["c"] = "flac".into()), None);
    }

    #[test]
    fn an_offer_of_opus_reads_as_documented() {
        let look_ahead = LookAhead::new(120).unwrap();
        let opus = OpusFormat { bit_rate: BitRate::DEFAULT, look_ahead };
        let format = opus.stream(Channels::STEREO, OpusFrameSize::Ms5).unwrap();
        let offer = FormatOffer::of(&format);
        let json = serde_json::to_string(&offer).unwrap();
        assert_eq!(json, r#"{"c":"opus","rate":48000,"ch":2,"kbps":128,"frames":240,"skip":120}"#);
        assert_eq!(offer.to_format(1200), Some(format.clone()));
        assert_eq!(offer.to_format(80 + BLOCK_OVERHEAD), Some(format));
        assert_eq!(offer.to_format(79 + BLOCK_OVERHEAD), None);
        let with = |member: &str, value: u32| {
            let mut v = serde_json::to_value(&offer).unwrap();
            v[member] = value.into();
            serde_json::from_value::<FormatOffer>(v).unwrap().to_format(1200)
        };
        for (member, value) in [
            ("rate", 44_100),
            ("rate", 16_000),
            ("ch", 0),
            ("ch", 3),
            ("kbps", 0),
            ("kbps", 5),
            ("kbps", 511),
            ("kbps", u32::MAX),
            ("frames", 0),
            ("frames", 121),
            ("frames", 5760),
            ("skip", 961),
        ] {
            assert_eq!(with(member, value), None, "{member} {value}");
        }
        let short = r#"{"c":"opus","rate":48000,"ch":1,"kbps":24,"frames":960}"#;
        let short: FormatOffer = serde_json::from_str(short).unwrap();
        assert_eq!(short.to_format(1200).unwrap().codec_delay(), Duration::from_micros(6_500));
    }

    #[test]
    fn unknown_members_are_ignored_unless_critical() {
        let h = br#"{"versions":[1,2],"intent":"stream","later":{"a":1}}"#;
        assert_eq!(Hello::decode(h).unwrap().versions, [1, 2]);
        let h = br#"{"versions":[1],"intent":"stream","later":1,"critical":["later"]}"#;
        assert_eq!(Hello::decode(h), Err(MessageError::Critical));
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        let deep = [b"{\"x\":".repeat(9), b"1".to_vec(), b"}".repeat(9)].concat();
        assert_eq!(Hello::decode(&deep), Err(MessageError::Depth));
        assert_eq!(Hello::decode(&vec![b' '; 1025]), Err(MessageError::TooLarge));
        let brackets_in_text = br#"{"versions":[1],"intent":"stream","x":"[[[[[[[[[[\"[["}"#;
        assert!(Hello::decode(brackets_in_text).is_ok());
    }

    #[test]
    fn a_message_of_a_later_version_is_told_from_garbage() {
        let e = Message::decode(br#"{"t":"teleport","to":"mars"}"#);
        assert_eq!(e, Err(MessageError::UnknownType));
        assert!(matches!(Message::decode(b"{"), Err(MessageError::Json(_))));
        assert!(matches!(Message::decode(br#"{"t":1}"#), Err(MessageError::Json(_))));
    }

    #[test]
    fn names_from_peers_are_checked() {
        let bad = br#"{"versions":[1],"intent":"stream","name":"a\u001b[31m"}"#;
        assert!(Hello::decode(bad).is_err());
    }

    proptest! {
        #[test]
        fn any_text_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Message::decode(&bytes);
            let _ = Hello::decode(&bytes);
        }
    }
}
