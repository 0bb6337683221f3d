//! Why a session or a stream ended.

use std::fmt;

/// The code in a CLOSE frame. Unknown codes are kept, so that a newer peer's reason survives.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal),+ $(,)?) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)+

            /// The name in the specification, if it has one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Ended on purpose, nothing wrong.
    OK = 0x0000,
    /// The application is going away.
    SHUTDOWN = 0x0001,
    /// A newer session with the same peer took over.
    SUPERSEDED = 0x0002,
    /// Nothing happened for too long.
    IDLE_TIMEOUT = 0x0003,
    /// No common version.
    VERSION = 0x0100,
    /// The peer broke the rules of the link.
    PROTOCOL = 0x0101,
    /// A message above its bound.
    TOO_LARGE = 0x0102,
    /// Somebody edited the version list on the way.
    DOWNGRADE = 0x0103,
    /// The peer has our own key.
    SELF = 0x0104,
    /// The key is not in the trust file.
    UNTRUSTED = 0x0110,
    /// The key is not the one asked for.
    IDENTITY_MISMATCH = 0x0111,
    /// The key is trusted, but not for this.
    PERMISSION = 0x0112,
    /// No pairing window is open.
    PAIRING_CLOSED = 0x0113,
    /// A human said no.
    PAIRING_REJECTED = 0x0114,
    /// The digits differ.
    PAIRING_MISMATCH = 0x0115,
    /// Nobody answered in time.
    PAIRING_TIMEOUT = 0x0116,
    /// Too many failed pairings.
    PAIRING_LOCKED = 0x0117,
    /// No common format.
    CAPS = 0x0120,
    /// Too many streams.
    STREAM_LIMIT = 0x0121,
    /// No such stream.
    STREAM_UNKNOWN = 0x0122,
    /// A stream of that name is there already.
    STREAM_NAME_TAKEN = 0x0123,
    /// No room for another session.
    BUSY = 0x0130,
    /// Too many attempts.
    RATE_LIMITED = 0x0131,
    /// A key was used as often as it may be.
    KEY_LIMIT = 0x0140,
    /// The key exchange inside the session failed.
    REKEY_FAILED = 0x0141,
    /// Nothing came through for too long.
    PATH_LOST = 0x0150,
    /// The path cannot carry the stream.
    CONGESTION = 0x0160,
    /// A fault of the sender of the code.
    INTERNAL = 0x01FF,
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "code {:#06x}", self.0),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A close code with the words that came with it, made safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The code.
    pub code: CloseCode,
    /// At most 256 bytes, no control characters.
    pub text: String,
}

impl CloseReason {
    /// The most bytes of text a CLOSE carries.
    pub const MAX_TEXT: usize = 256;

    /// With `text` cut to its bound and stripped of everything that is not plain text.
    pub fn new(code: CloseCode, text: &str) -> Self {
        let mut clean = String::new();
        for c in text.chars().filter(|c| !c.is_control() && !is_bidi_control(*c)) {
            if clean.len() + c.len_utf8() > Self::MAX_TEXT {
                break;
            }
            clean.push(c);
        }
        Self { code, text: clean }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{} ({})", self.code, self.text)
        }
    }
}

/// Characters that reorder the text around them (Unicode UAX #9, section 2).
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_peer_is_cut_and_cleaned() {
        let r = CloseReason::new(CloseCode::OK, "a\u{1b}[31mb\u{202E}c\n");
        assert_eq!(r.text, "a[31mbc");
        let long = CloseReason::new(CloseCode::OK, &"é".repeat(1000));
        assert_eq!(long.text.len(), 256);
    }

    #[test]
    fn codes_print_by_name() {
        assert_eq!(CloseCode::UNTRUSTED.to_string(), "UNTRUSTED");
        assert_eq!(CloseCode(0x0999).to_string(), "code 0x0999");
    }
}
