//! A key for reading aloud.

use std::fmt;

use sha2::{Digest, Sha256};

use super::key::PublicKey;

/// Domain separation of the fingerprint (the specification, "Identity and fingerprint").
const LABEL: &[u8] = b"velin/1 fingerprint";

/// RFC 4648 §6, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The first 160 bits of SHA-256 over a label and the key, shown as 8 groups of 4 base32
/// characters.
///
/// For reading a *whole* key aloud and for logs. Compare all of it: 40 matching bits are cheap.
/// It never configures trust; the recipient does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// The fingerprint of `key`.
    pub fn of(key: &PublicKey) -> Self {
        let digest = Sha256::new().chain_update(LABEL).chain_update(key.0).finalize();
        let mut bits = [0; 20];
        bits.copy_from_slice(&digest[..20]);
        Self(bits)
    }

    /// The 160 bits.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first 8 characters, for tables and announcements. Never a trust decision: anyone can
    /// make a key with the same hint.
    pub fn hint(&self) -> String {
        self.characters().take(8).collect()
    }

    fn characters(&self) -> impl Iterator<Item = char> + '_ {
        (0..32).map(|i| {
            // Each 5 bytes are 8 characters of 5 bits.
            let group = &self.0[i / 8 * 5..][..5];
            let bits = group.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
            char::from(BASE32[(bits >> (35 - 5 * (i % 8)) & 31) as usize])
        })
    }
}

impl PublicKey {
    /// The key's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, c) in self.characters().enumerate() {
            if i > 0 && i % 4 == 0 {
                f.write_str(" ")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Identity;
    use super::*;

    fn of_device(first: u8) -> Fingerprint {
        Identity::from_secret(std::array::from_fn(|i| first + i as u8)).public().fingerprint()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_vectors_of_the_specification_hold() {
        let initiator = of_device(0x01);
        assert_eq!(hex(initiator.as_bytes()), "ae8ff4c876c4268854b9295fef366b3a1ea3f0c6");
        assert_eq!(initiator.to_string(), "v2h7 jsdw yqti qvfz ffp6 6ntl hipk h4gg");
        assert_eq!(initiator.hint(), "v2h7jsdw");
        let responder = of_device(0x41);
        assert_eq!(hex(responder.as_bytes()), "e80956ac1a6b5486a0624bfaec20409272365863");
    }

    #[test]
    fn every_bit_shows() {
        let zero = Fingerprint([0; 20]);
        assert_eq!(zero.to_string(), ["aaaa"; 8].join(" "));
        assert_eq!(Fingerprint([0xff; 20]).to_string(), ["7777"; 8].join(" "));
        let mut seen = std::collections::HashSet::new();
        for bit in 0..160 {
            let mut bits = [0; 20];
            bits[bit / 8] = 0x80 >> (bit % 8);
            assert!(seen.insert(Fingerprint(bits).to_string()));
        }
    }
}
