//! The secret key as an age identity: `AGE-SECRET-KEY-1…`, and the text of an identity file.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use thiserror::Error;
use zeroize::Zeroizing;

use super::key::Identity;

/// Human-readable part of an X25519 identity (age-encryption.org/v1), written in upper case.
const HRP: Hrp = Hrp::parse_unchecked("AGE-SECRET-KEY-");
const PREFIX: &str = "AGE-SECRET-KEY-1";

/// The prefix, 52 characters for 32 bytes, 6 for the checksum.
const SECRET_LEN: usize = 74;

/// Why a text is not a device's secret key. No variant carries any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Post-quantum and plugin identities unwrap files; they cannot take part in a handshake.
    #[error(
        "{kind} keys are not supported as a device identity; make an X25519 one with `age-keygen`, \
         or let `velin-pipe identity show` make it"
    )]
    Unsupported {
        /// What it is, in words.
        kind: &'static str,
    },
    /// A public key where the secret one belongs.
    #[error("this is a recipient (public key); an identity file holds the AGE-SECRET-KEY-1… line")]
    Public,
    /// Does not begin with `AGE-SECRET-KEY-1`.
    #[error("a secret key begins with AGE-SECRET-KEY-1, in upper case")]
    Prefix,
    /// Not 74 characters.
    #[error("a secret key has 74 characters; restore the line from a backup")]
    Length,
    /// The checksum, a character or the case is wrong.
    #[error("the secret key is damaged (its checksum does not match); restore it from a backup")]
    Checksum,
    /// Non-zero or superfluous padding bits.
    #[error("the secret key is not in its one canonical form; restore it from a backup")]
    Padding,
}

/// Why a text is not an identity file with one device key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityTextError {
    /// A line that is neither blank, comment nor a usable key.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: SecretError,
    },
    /// No key at all.
    #[error(
        "no AGE-SECRET-KEY-1… line in it; restore it from a backup, or remove the file to get a new key"
    )]
    Empty,
    /// A device has one key.
    #[error("a second key in line {line}; a device has one key, keep the line that peers trust")]
    Several {
        /// Where the second key stands, counted from 1.
        line: usize,
    },
}

impl Identity {
    /// The `AGE-SECRET-KEY-1…` form, for the identity file alone. Wiped on drop.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        // The capacity is exact, so no unwiped copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(SECRET_LEN));
        bech32::encode_upper_to_fmt::<Bech32, _>(&mut *text, HRP, self.secret_bytes().as_slice())
            .expect("32 bytes are far below the limit of Bech32");
        text
    }

    /// Exactly what [`Identity::to_secret_text`] writes, and nothing else.
    pub fn from_secret_text(text: &str) -> Result<Self, SecretError> {
        recognise_foreign(text)?;
        if !text.starts_with(PREFIX) {
            return Err(SecretError::Prefix);
        }
        if text.len() != SECRET_LEN {
            return Err(SecretError::Length);
        }
        let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| SecretError::Checksum)?;
        let mut bytes = Zeroizing::new([0; 32]);
        let mut decoded = checked.byte_iter();
        for byte in bytes.iter_mut() {
            *byte = decoded.next().ok_or(SecretError::Padding)?;
        }
        let identity = Self::from_secret(*bytes);
        if decoded.next().is_some() || *identity.to_secret_text() != text {
            return Err(SecretError::Padding);
        }
        Ok(identity)
    }

    /// The one key of an age identity file: blank lines and `#` comments around one
    /// `AGE-SECRET-KEY-1…` line.
    pub fn from_file_text(text: &str) -> Result<Self, IdentityTextError> {
        let mut found = None;
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim_end();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let identity = Self::from_secret_text(content)
                .map_err(|reason| IdentityTextError::Line { line, reason })?;
            if found.replace(identity).is_some() {
                return Err(IdentityTextError::Several { line });
            }
        }
        found.ok_or(IdentityTextError::Empty)
    }
}

fn recognise_foreign(text: &str) -> Result<(), SecretError> {
    let begins = |prefix: &str| {
        text.as_bytes()
            .get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if begins("AGE-SECRET-KEY-PQ-1") {
        Err(SecretError::Unsupported { kind: "post-quantum (AGE-SECRET-KEY-PQ-1…)" })
    } else if begins("AGE-PLUGIN-") {
        Err(SecretError::Unsupported { kind: "plugin (AGE-PLUGIN-…)" })
    } else if begins("-----BEGIN") {
        Err(SecretError::Unsupported { kind: "SSH and PEM" })
    } else if begins("age1") {
        Err(SecretError::Public)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bech32::Bech32m;
    use proptest::prelude::*;

    use super::*;

    const I: &str = "AGE-SECRET-KEY-1QYPQXPQ9QCRSSZG2PVXQ6RS0ZQG3YYC5Z5TPWXQERGD3C8G7RUSQGPQYEE";
    const R: &str = "AGE-SECRET-KEY-1G9PYX3Z9GER5SJ22FDXY6NJ02PG4Y56524T9WKZETFD4CH27TASQJTETDY";

    fn device(first: u8) -> Identity {
        Identity::from_secret(std::array::from_fn(|i| first + i as u8))
    }

    fn parse(text: &str) -> Result<[u8; 32], SecretError> {
        Identity::from_secret_text(text).map(|identity| *identity.secret_bytes())
    }

    #[test]
    fn the_vectors_of_the_specification_hold() {
        assert_eq!(*device(0x01).to_secret_text(), I);
        assert_eq!(*device(0x41).to_secret_text(), R);
        assert_eq!(parse(I), Ok(*device(0x01).secret_bytes()));
        assert_eq!(parse(R), Ok(*device(0x41).secret_bytes()));
    }

    #[test]
    fn other_case_checksum_prefix_and_length_are_refused() {
        assert_eq!(parse(&I.to_lowercase()), Err(SecretError::Prefix));
        assert_eq!(parse(&I.replace("QYP", "qyp")), Err(SecretError::Checksum));
        assert_eq!(parse(&I[..73]), Err(SecretError::Length));
        let bech32m = bech32::encode_upper::<Bech32m>(HRP, &[1; 32]).unwrap();
        assert_eq!(parse(&bech32m), Err(SecretError::Checksum));
        let short = bech32::encode_upper::<Bech32>(HRP, &[1; 31]).unwrap();
        assert_eq!(parse(&short), Err(SecretError::Length));
    }

    #[test]
    fn keys_of_other_kinds_are_named_and_never_repeated() {
        for text in ["AGE-SECRET-KEY-PQ-1QQQQSECRET", "AGE-PLUGIN-YUBIKEY-1QQQQSECRET"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("not supported as a device identity"), "{error}");
            assert!(!error.contains("QQQQ"), "{error}");
        }
        assert_eq!(parse(&device(1).public().recipient()), Err(SecretError::Public));
    }

    #[test]
    fn an_identity_file_holds_comments_and_exactly_one_key() {
        let file = |text: &str| Identity::from_file_text(text).map(|found| *found.secret_bytes());
        let key = *device(1).secret_bytes();
        assert_eq!(file(&format!("# created: now\r\n\r\n{I}\r\n")), Ok(key));
        assert_eq!(file(&format!("{I}  ")), Ok(key));
        assert_eq!(file("# nothing\n\n"), Err(IdentityTextError::Empty));
        assert_eq!(
            file(&format!("{I}\n# two\n{R}\n")),
            Err(IdentityTextError::Several { line: 3 })
        );
        assert_eq!(
            file(&format!("# x\n{}\n", &I[1..])),
            Err(IdentityTextError::Line { line: 2, reason: SecretError::Prefix })
        );
    }

    proptest! {
        #[test]
        fn every_secret_survives_the_round_trip(secret: [u8; 32]) {
            let text = Identity::from_secret(secret).to_secret_text();
            prop_assert_eq!(parse(&text), Ok(secret));
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,90}|AGE-SECRET-KEY-1[A-Z0-9é]{0,70}") {
            if let Ok(identity) = Identity::from_secret_text(&text) {
                prop_assert_eq!(&*identity.to_secret_text(), &text);
            }
            let _ = Identity::from_file_text(&text);
        }
    }
}
