//! mac1: an INIT's proof that its sender knows the responder's public key.
//!
//! It lets a stealthy listener stay silent towards strangers for the price of one HMAC, and
//! reveals nothing about the initiator. Anyone who knows the responder's key can recognise INITs
//! meant for it.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::handshake::packets::{Init, InitHead};
use crate::identity::PublicKey;

/// The first 16 bytes of the HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac1(pub [u8; 16]);

/// `SHA-256("velin/1 mac1" ‖ S_r)`, ready for use.
#[derive(Clone)]
pub struct Mac1Key(Hmac<Sha256>);

impl Mac1Key {
    /// For the responder with the device key `responder`.
    pub fn new(responder: &PublicKey) -> Self {
        let key = Sha256::new().chain_update(b"velin/1 mac1").chain_update(responder.0).finalize();
        let mut block = hmac::digest::generic_array::GenericArray::default();
        block[..32].copy_from_slice(&key);
        Self(Hmac::new(&block))
    }

    /// mac1 over an INIT's head and Noise message.
    pub fn compute(&self, head: InitHead, message: &[u8; 32]) -> Mac1 {
        let full = self.over(head, message).finalize().into_bytes();
        let mut mac1 = [0; 16];
        mac1.copy_from_slice(&full[..16]);
        Mac1(mac1)
    }

    /// Whether a listener may look at `init` at all: its mac1 is right, or it has none and none is
    /// `required`. Drop it without any reply otherwise. Takes constant time.
    pub fn admits(&self, init: &Init, required: bool) -> bool {
        match init.mac1 {
            Some(Mac1(mac1)) => {
                self.over(init.head(), &init.message).verify_truncated_left(&mac1).is_ok()
            }
            None => !required,
        }
    }

    fn over(&self, head: InitHead, message: &[u8; 32]) -> Hmac<Sha256> {
        self.0.clone().chain_update(head.0).chain_update(message)
    }
}
