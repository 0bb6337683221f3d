//! The text of an age identity file.

use velin_core::identity::Identity;

/// A key that is read is written as the line it came from; an error quotes nothing of the file.
pub fn run(data: &[u8]) {
    // Any 32 bytes are a secret.
    if let Ok(secret) = <[u8; 32]>::try_from(data) {
        let identity = Identity::from_secret(secret);
        let again = Identity::from_secret_text(&identity.to_secret_text()).expect("our own text");
        assert_eq!(*again.secret_bytes(), secret);
        assert_eq!(again.public(), identity.public());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Identity::from_file_text(text) {
        Ok(identity) => {
            let written = identity.to_secret_text();
            let lines: Vec<_> = text
                .lines()
                .map(str::trim_end)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .collect();
            assert!(lines == [written.as_str()]);
            let again = Identity::from_file_text(&written).expect("our own text");
            assert_eq!(again.public(), identity.public());
        }
        Err(e) => {
            let said = e.to_string();
            super::assert_printable(&said);
            // Eight characters of a key, which no text of ours has by itself, would be a leak.
            for line in text.lines().filter(|line| line.starts_with("AGE-SECRET-KEY-1")) {
                let secret = &line.as_bytes()["AGE-SECRET-KEY-1".len()..];
                let is_key = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
                for part in secret.windows(8).filter(|part| part.iter().all(is_key)) {
                    assert!(!said.as_bytes().windows(8).any(|w| w == part), "the key leaks");
                }
            }
        }
    }
}
