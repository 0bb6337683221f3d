//! The link properties that both elements have: their defaults, their values, what they open.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use velin_core::identity::{Identity, Name, PublicKey};

use crate::link::TrustSource;
use crate::link::store::identity_file;

/// Default of `qos-dscp`: expedited forwarding (RFC 3246), what voice uses.
pub(crate) const DEFAULT_DSCP: i32 = 46;

/// Default of `mtu` in bytes of UDP payload; see `docs/protocol.md`, section 4.1.
pub(crate) const DEFAULT_MTU: u32 = velin_core::wire::DEFAULT_MTU as u32;

/// Smallest `mtu`: sixteen frames of eight F32 channels and the headers around them.
pub(crate) const MIN_MTU: u32 = 576;

/// Largest `mtu`: an Ethernet frame.
pub(crate) const MAX_MTU: u32 = 1440;

/// What `qos-dscp` means to the sockets.
pub(crate) fn dscp(value: i32) -> Option<u8> {
    u8::try_from(value).ok()
}

/// `bind-address` as an address.
pub(crate) fn bind_address(text: Option<&str>) -> Result<Option<IpAddr>, OpenError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| OpenError::BindAddress(text.to_owned()))
}

/// `peer` as a key.
pub(crate) fn peer(text: Option<&str>) -> Result<Option<PublicKey>, OpenError> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|e: velin_core::identity::RecipientError| OpenError::Peer(e.to_string()))
}

/// Reads the identity, making it on first use, and the trust file.
pub(crate) fn open_files(
    identity: Option<&str>,
    trust: Option<&str>,
) -> Result<(Arc<Identity>, Arc<TrustSource>), OpenError> {
    let identity = identity_file::load_or_create(identity.map(Path::new))
        .map_err(|e| OpenError::Identity(e.to_string()))?;
    let trust =
        TrustSource::load(trust.map(Path::new)).map_err(|e| OpenError::Trust(e.to_string()))?;
    Ok((Arc::new(identity), Arc::new(trust)))
}

/// What peers are told about this program.
pub(crate) fn agent() -> Option<Name> {
    Name::new(concat!("velin/", env!("CARGO_PKG_VERSION"))).ok()
}

/// Why an element does not leave READY.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OpenError {
    #[error("bind-address {0:?} is no IP address; write one like 192.168.1.5 or leave it out")]
    BindAddress(String),
    #[error("{0}")]
    Identity(String),
    #[error("peer: {0}")]
    Peer(String),
    #[error("{0}")]
    Trust(String),
}
