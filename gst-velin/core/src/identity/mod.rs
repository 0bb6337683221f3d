//! Who a device is: one X25519 key, its printable forms, and whom it trusts.

mod key;

pub use key::{Identity, PublicKey, SharedSecret};
