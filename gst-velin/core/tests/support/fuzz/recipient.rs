//! The text of a public key.

use velin_core::identity::PublicKey;

/// One key has one text and one text one key, and a key that parses agrees on something.
pub fn run(data: &[u8]) {
    if let Ok(bytes) = <[u8; 32]>::try_from(data) {
        let key = PublicKey(bytes);
        match key.recipient().parse::<PublicKey>() {
            Ok(again) => assert_eq!(again, key),
            Err(e) => assert_eq!(e, velin_core::identity::RecipientError::LowOrder),
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<PublicKey>() {
        Ok(key) => {
            assert_eq!(key.recipient(), text);
            let fingerprint = key.fingerprint().to_string();
            assert_eq!(fingerprint.len(), 39);
            assert!(fingerprint.replace(' ', "").starts_with(&key.fingerprint().hint()));
        }
        Err(e) => super::assert_printable(&e),
    }
}
