//! Who a device is: one X25519 key, its printable forms, and whom it trusts.
//!
//! A key has three printable forms, each with one purpose: the *recipient* (`age1…`) is copied,
//! pasted and configured; the [`Fingerprint`] is read aloud and logged; its *hint* is for tables.
//! Only the recipient ever configures trust.

mod fingerprint;
mod grants;
mod host;
mod key;
mod name;
mod recipient;
mod recipients_file;
mod secret;
mod trust;
mod trust_toml;
mod wall_time;

pub use fingerprint::Fingerprint;
pub use grants::{Grant, Grants, UnknownGrant};
pub use host::{PeerHost, PeerHostError};
pub use key::{Identity, PublicKey, SharedSecret};
pub use name::{Name, NameError};
pub use recipient::RecipientError;
pub use secret::{IdentityTextError, SecretError};
pub use trust::{AddPeerError, ParseTrustError, Trust, TrustBook, TrustFormat, TrustedPeer, Via};
pub use wall_time::{WallTime, WallTimeError};
