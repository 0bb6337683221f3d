//! ChaCha20-Poly1305 (RFC 8439) of the packets, behind a trait of two methods.
//!
//! The implementation is `ring`'s. The tests hold it against the published vectors and a second
//! implementation. In test builds every seal is registered and a repeated (key, nonce) panics.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};

use crate::handshake::schedule::StreamKey;

/// Length of the Poly1305 tag, in bytes.
pub const TAG_LEN: usize = 16;

/// A 96-bit nonce. Never used twice with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; 12]);

impl Nonce {
    /// `00 00 00 00 ‖ u64 counter`, the nonce of a packet.
    pub const fn from_counter(counter: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = counter.to_be_bytes();
        Self([0, 0, 0, 0, a, b, c, d, e, f, g, h])
    }
}

/// A Poly1305 tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; TAG_LEN]);

/// Why the cipher did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AeadError {
    /// The text does not belong to this key, nonce, associated data and tag.
    #[error("the packet does not authenticate; drop it")]
    Forged,
    /// The text is longer than the cipher allows (256 GiB).
    #[error("the text is too long for one packet; split it")]
    TooLong,
}

/// A keyed authenticated cipher.
pub trait Aead: Send + Sync {
    /// Encrypts `buf` in place and returns its tag, which also covers `aad`.
    ///
    /// # Errors
    /// [`AeadError::TooLong`].
    fn seal_in_place(&self, nonce: Nonce, aad: &[u8], buf: &mut [u8]) -> Result<Tag, AeadError>;

    /// Decrypts `buf`, which is the ciphertext and behind it the tag, in place, and returns the
    /// plaintext. On an error the contents of `buf` are undefined and nothing of it may be used.
    ///
    /// # Errors
    /// [`AeadError::Forged`].
    fn open_in_place<'a>(
        &self,
        nonce: Nonce,
        aad: &[u8],
        buf: &'a mut [u8],
    ) -> Result<&'a mut [u8], AeadError>;
}

/// `ring`'s ChaCha20-Poly1305.
pub struct RingAead {
    key: LessSafeKey,
    #[cfg(any(test, feature = "nonce-guard"))]
    guard: crate::session::nonce_guard::KeyId,
}

impl RingAead {
    /// With the key of one stream.
    pub fn new(key: &StreamKey) -> Self {
        Self::from_bytes(key.expose())
    }

    /// With raw key bytes, as the published vectors have them.
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        let unbound =
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("a ChaCha20-Poly1305 key is 32 bytes");
        Self {
            key: LessSafeKey::new(unbound),
            #[cfg(any(test, feature = "nonce-guard"))]
            guard: crate::session::nonce_guard::KeyId::new(key),
        }
    }
}

impl Aead for RingAead {
    fn seal_in_place(&self, nonce: Nonce, aad: &[u8], buf: &mut [u8]) -> Result<Tag, AeadError> {
        #[cfg(any(test, feature = "nonce-guard"))]
        self.guard.register(nonce);
        let mut tag = Tag([0; TAG_LEN]);
        let sealed = self
            .key
            .seal_in_place_separate_tag(
                ring::aead::Nonce::assume_unique_for_key(nonce.0),
                Aad::from(aad),
                buf,
            )
            .map_err(|_| AeadError::TooLong)?;
        tag.0.copy_from_slice(sealed.as_ref());
        Ok(tag)
    }

    fn open_in_place<'a>(
        &self,
        nonce: Nonce,
        aad: &[u8],
        buf: &'a mut [u8],
    ) -> Result<&'a mut [u8], AeadError> {
        self.key
            .open_in_place(ring::aead::Nonce::assume_unique_for_key(nonce.0), Aad::from(aad), buf)
            .map_err(|_| AeadError::Forged)
    }
}

impl fmt::Debug for RingAead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingAead(…)")
    }
}
