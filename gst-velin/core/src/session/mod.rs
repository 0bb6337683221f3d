//! Being built.

pub mod aead;
pub mod header;
#[cfg(any(test, feature = "nonce-guard"))]
pub mod nonce_guard;
pub mod opener;
pub mod replay;
pub mod sealer;
