//! The device's files: its identity and whom it trusts.
//!
//! Elements call this in READY→PAUSED and never earlier: describing an element, reading property
//! defaults and probing devices do not touch the disk. Everything here blocks, opening an
//! encrypted identity for up to seconds, so never call it on a streaming thread.

pub mod identity_file;
mod passphrase;
mod places;
mod sealed;
mod strict;
pub mod trust_file;

pub use identity_file::{IdentityFile, IdentityFileError, LoadedIdentity};
pub use passphrase::{Passphrase, PassphraseError, Purpose};
pub use places::{NoHome, Places};
pub use sealed::{MAX_WORK_FACTOR, SealedError, WORK_FACTOR, seal};
pub(super) use strict::quoted;
pub use strict::{Right, UnsafePlace};
pub use trust_file::TrustFileError;
