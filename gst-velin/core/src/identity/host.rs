//! Where a trusted peer is found: `host[:port]`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// A host name or address with an optional port, as `trust add --host` takes it.
///
/// It says where to call; whom to trust is the key's business.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PeerHost {
    host: Box<str>,
    port: Option<u16>,
}

/// Why a text is not `host[:port]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerHostError {
    /// No host, or one longer than DNS allows (253 bytes, RFC 1035 §2.3.4).
    #[error("a host has 1 to 253 characters; write a name or an address, such as desk.local:49000")]
    Length,
    /// A character that no name or address has.
    #[error(
        "a host name has letters, digits, dots and hyphens; an IPv6 address with a port stands in \
         brackets, such as [fe80::1]:49000"
    )]
    Character,
    /// Not 1 to 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl PeerHost {
    /// The longest host, in bytes (RFC 1035 §2.3.4, without the final dot).
    pub const MAX_BYTES: usize = 253;

    /// The name or the address, an IPv6 one without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The control port, if it is not the default one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl FromStr for PeerHost {
    type Err = PeerHostError;

    fn from_str(text: &str) -> Result<Self, PeerHostError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(PeerHostError::Character)?;
            if !is_ipv6(host) {
                return Err(PeerHostError::Character);
            }
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or(PeerHostError::Port)?),
            };
            (host, port)
        } else if is_ipv6(text) {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() || host.len() > Self::MAX_BYTES {
            return Err(PeerHostError::Length);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !is_ipv6(host) && !host.chars().all(allowed) {
            return Err(PeerHostError::Character);
        }
        let port = match port {
            None => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|p| *p != 0).ok_or(PeerHostError::Port)?)
            }
            Some(_) => return Err(PeerHostError::Port),
        };
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for PeerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

/// An IPv6 address, with a zone (`fe80::1%eth0`, RFC 4007 §11) or without.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let zone_fits = zone.is_none_or(|zone| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        (1..=32).contains(&zone.len()) && zone.chars().all(fits)
    });
    address.parse::<Ipv6Addr>().is_ok() && zone_fits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_addresses_with_and_without_port_pass() {
        for (text, host, port) in [
            ("desk", "desk", None),
            ("desk.local:49000", "desk.local", Some(49000)),
            ("192.168.1.5:1", "192.168.1.5", Some(1)),
            ("::1", "::1", None),
            ("[::1]:49000", "::1", Some(49000)),
            ("fe80::1%eth0", "fe80::1%eth0", None),
        ] {
            let parsed = text.parse::<PeerHost>().unwrap();
            assert_eq!((parsed.host(), parsed.port()), (host, port), "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            ":49000",
            "desk:",
            "desk:0",
            "desk:65536",
            "desk:+1",
            "a b",
            "a\u{1b}",
            "[::1",
            "[::1]49000",
            "[desk]:1",
            "desk:1:2",
            "velin://desk",
            "küche",
            "fe80::1%",
        ] {
            assert!(text.parse::<PeerHost>().is_err(), "{text:?}");
        }
        assert_eq!("a".repeat(254).parse::<PeerHost>(), Err(PeerHostError::Length));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_round_trips(text in "(?s).{0,40}|[a-f0-9:.\\[\\]%]{0,30}") {
            if let Ok(host) = text.parse::<PeerHost>() {
                prop_assert_eq!(host.to_string().parse(), Ok(host));
            }
        }
    }
}
