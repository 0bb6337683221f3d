//! The public key as an age recipient: `age1…`, 62 characters of Bech32 (BIP 173).

use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use thiserror::Error;

use super::key::{Identity, PublicKey};

/// Human-readable part of an X25519 recipient (age-encryption.org/v1, "The X25519 recipient type").
const HRP: Hrp = Hrp::parse_unchecked("age");

/// "age", "1", 52 characters for 32 bytes, 6 for the checksum.
const RECIPIENT_LEN: usize = 62;

/// Why a text is not the recipient of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecipientError {
    /// Post-quantum, tag, plugin or SSH recipients: they wrap files and cannot take part in a
    /// handshake.
    #[error(
        "{kind} recipients are not supported as a device identity; use the age1… recipient that \
         `velin-pipe identity show` prints on the other device"
    )]
    Unsupported {
        /// What it is, in words: "post-quantum (age1pq…)", "SSH" …
        kind: &'static str,
    },
    /// A secret key where a public one belongs. The text of the key is not repeated.
    #[error(
        "this is a secret key, which must never leave its device; use the age1… recipient that \
         `velin-pipe identity show` prints there"
    )]
    Secret,
    /// Upper or mixed case.
    #[error("a recipient is written in lower case; copy it again from the other device")]
    Case,
    /// Does not begin with `age1`.
    #[error("a recipient begins with age1; copy it from `velin-pipe identity show`")]
    Prefix,
    /// Not 62 characters.
    #[error("a recipient has 62 characters, this has {found}; copy the whole of it again")]
    Length {
        /// Characters found.
        found: usize,
    },
    /// The checksum or a character is wrong (also for Bech32m).
    #[error("the recipient is mistyped (its checksum does not match); copy it again")]
    Checksum,
    /// Non-zero or superfluous padding bits.
    #[error("the recipient is not in its one canonical form; copy it again from the other device")]
    Padding,
    /// A point of low order, with which every agreement yields zero.
    #[error("the recipient is a key that no device can have; do not trust where it came from")]
    LowOrder,
}

impl PublicKey {
    /// The `age1…` form, the one that configures trust.
    pub fn recipient(&self) -> String {
        let mut text = String::with_capacity(RECIPIENT_LEN);
        bech32::encode_lower_to_fmt::<Bech32, _>(&mut text, HRP, &self.0)
            .expect("32 bytes are far below the limit of Bech32");
        text
    }
}

impl FromStr for PublicKey {
    type Err = RecipientError;

    /// Exactly what [`PublicKey::recipient`] writes, and nothing else: one key has one text.
    fn from_str(text: &str) -> Result<Self, RecipientError> {
        recognise_foreign(text)?;
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(RecipientError::Case);
        }
        if !text.starts_with("age1") {
            return Err(RecipientError::Prefix);
        }
        if text.len() != RECIPIENT_LEN {
            return Err(RecipientError::Length { found: text.chars().count() });
        }
        let checked =
            CheckedHrpstring::new::<Bech32>(text).map_err(|_| RecipientError::Checksum)?;
        let mut bytes = [0; 32];
        let mut decoded = checked.byte_iter();
        for byte in &mut bytes {
            *byte = decoded.next().ok_or(RecipientError::Padding)?;
        }
        let key = Self(bytes);
        // Writing it again is the whole check of padding, prefix and case.
        if decoded.next().is_some() || key.recipient() != text {
            return Err(RecipientError::Padding);
        }
        // Clamped scalars are multiples of 8, so a low-order point gives zero with any of them.
        if Identity::from_secret([1; 32]).agree(&key).is_none() {
            return Err(RecipientError::LowOrder);
        }
        Ok(key)
    }
}

/// Kinds that age knows and a handshake cannot use, whatever their case and length.
fn recognise_foreign(text: &str) -> Result<(), RecipientError> {
    let begins = |prefix: &str| {
        text.as_bytes()
            .get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let kind = if begins("AGE-SECRET-KEY-") || begins("AGE-PLUGIN-") {
        return Err(RecipientError::Secret);
    } else if begins("age1pq1") {
        "post-quantum (age1pq…)"
    } else if begins("age1tag1") || begins("age1tagpq1") {
        "hardware tag (age1tag…)"
    } else if begins("ssh-") || begins("ecdsa-sha2-") || begins("sk-ssh-") {
        "SSH"
    } else if begins("age1") && text[4..].contains('1') {
        // `1` is no Bech32 character, so a second one ends a longer human-readable part.
        "plugin (age1name1…)"
    } else {
        return Ok(());
    };
    Err(RecipientError::Unsupported { kind })
}

#[cfg(test)]
mod tests {
    use bech32::Bech32m;
    use proptest::prelude::*;

    use super::*;

    const I: &str = "age1q73he0q5yzfu3d64msd3p6rvksnrwjk3d2598mgtmlqt9wrdr37q2vrn72";
    const R: &str = "age1vjcsrvwshedgwp9aq78e39gqrlqrar5lj530rzxaz2xes3k5s3nqxdc696";

    fn device(first: u8) -> Identity {
        Identity::from_secret(std::array::from_fn(|i| first + i as u8))
    }

    #[test]
    fn the_vectors_of_the_specification_hold() {
        assert_eq!(device(0x01).public().recipient(), I);
        assert_eq!(device(0x41).public().recipient(), R);
        assert_eq!(I.parse(), Ok(device(0x01).public()));
        assert_eq!(R.parse(), Ok(device(0x41).public()));
    }

    #[test]
    fn bech32m_is_refused() {
        let text = bech32::encode::<Bech32m>(HRP, &device(1).public().0).unwrap();
        assert_eq!(text.parse::<PublicKey>(), Err(RecipientError::Checksum));
    }

    #[test]
    fn other_case_is_refused() {
        assert_eq!(I.to_uppercase().parse::<PublicKey>(), Err(RecipientError::Case));
        let mixed = I.replacen('q', "Q", 1);
        assert_eq!(mixed.parse::<PublicKey>(), Err(RecipientError::Case));
    }

    #[test]
    fn a_wrong_prefix_or_length_is_refused() {
        let other = Hrp::parse("agf").unwrap();
        let text = bech32::encode::<Bech32>(other, &[7; 32]).unwrap();
        assert_eq!(text.parse::<PublicKey>(), Err(RecipientError::Prefix));
        for bytes in [0, 1, 31, 33, 64] {
            let text = bech32::encode::<Bech32>(HRP, &vec![9; bytes]).unwrap();
            let found = text.len();
            assert_eq!(text.parse::<PublicKey>(), Err(RecipientError::Length { found }));
        }
        assert_eq!("".parse::<PublicKey>(), Err(RecipientError::Prefix));
        assert_eq!(format!(" {I}").parse::<PublicKey>(), Err(RecipientError::Prefix));
    }

    #[test]
    fn non_zero_padding_is_refused() {
        // 52 characters carry 260 bits; the last 4 must be zero. Set them and sum anew.
        let charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        let last = charset.find(&I[55..56]).unwrap();
        assert_eq!(last & 0xf, 0);
        let data = I[4..56]
            .char_indices()
            .map(|(i, c)| charset.find(c).unwrap() as u8 | if i == 51 { 1 } else { 0 })
            .map(|v| bech32::Fe32::try_from(v).unwrap());
        use bech32::primitives::iter::Fe32IterExt;
        let text: String = data.with_checksum::<Bech32>(&HRP).chars().collect();
        assert_eq!(text.len(), 62);
        assert_eq!(text.parse::<PublicKey>(), Err(RecipientError::Padding));
    }

    #[test]
    fn keys_of_low_order_are_refused() {
        for point in [[0; 32], std::array::from_fn(|i| (i == 0) as u8)] {
            let text = PublicKey(point).recipient();
            assert_eq!(text.parse::<PublicKey>(), Err(RecipientError::LowOrder));
        }
    }

    #[test]
    fn recipients_of_other_kinds_are_named() {
        for (text, kind) in [
            ("age1pq1qqqq", "post-quantum (age1pq…)"),
            ("AGE1PQ1QQQQ", "post-quantum (age1pq…)"),
            ("age1tag1qqqq", "hardware tag (age1tag…)"),
            ("age1tagpq1qqqq", "hardware tag (age1tag…)"),
            (
                "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
                "plugin (age1name1…)",
            ),
            ("ssh-ed25519 AAAAC3Nza", "SSH"),
            ("ecdsa-sha2-nistp256 AAAA", "SSH"),
        ] {
            let error = text.parse::<PublicKey>().unwrap_err();
            assert_eq!(error, RecipientError::Unsupported { kind }, "{text}");
            assert!(error.to_string().contains("not supported as a device identity"));
        }
        let secret = device(1).to_secret_text();
        assert_eq!(secret.parse::<PublicKey>(), Err(RecipientError::Secret));
        assert!(!RecipientError::Secret.to_string().contains("QYPQX"));
    }

    /// BIP 173, "Test vectors": valid strings are not recipients, invalid ones not even Bech32.
    #[test]
    fn the_lists_of_bip_173_are_refused_each_for_a_reason() {
        for text in [
            "A12UEL5L",
            "a12uel5l",
            "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
            "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
            "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
            "?1ezyfcl",
            "\u{20}1nwldj5",
            "\u{7f}1axkwrx",
            "\u{80}1eym55h",
            "pzry9x0s0muk",
            "1pzry9x0s0muk",
            "x1b4n0q5v",
            "li1dgmt3",
            "de1lg7wt\u{ff}",
            "A1G7SGD8",
            "10a06t8",
            "1qzzfhee",
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_wrong_character_is_always_found() {
        for at in 4..I.len() {
            for c in "qpzry9x8gf2tvdw0s3jn54khce6mua7l".chars().filter(|c| !I[at..].starts_with(*c))
            {
                let mut text = I.to_owned();
                text.replace_range(at..=at, c.encode_utf8(&mut [0; 4]));
                assert_eq!(text.parse::<PublicKey>(), Err(RecipientError::Checksum));
            }
        }
    }

    proptest! {
        #[test]
        fn every_device_key_survives_the_round_trip(secret: [u8; 32]) {
            let key = Identity::from_secret(secret).public();
            prop_assert_eq!(key.recipient().parse(), Ok(key));
        }

        #[test]
        fn no_text_panics_and_what_parses_is_canonical(text in ".{0,80}|age1[a-z0-9é]{0,70}") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.recipient(), text);
            }
        }
    }
}
