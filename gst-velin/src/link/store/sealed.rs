//! An identity file encrypted by age to a passphrase (scrypt), armored or binary.

use std::io::{self, Read, Write};
use std::iter;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, scrypt};
use thiserror::Error;
use zeroize::Zeroizing;

use super::passphrase::Passphrase;

/// log₂ of scrypt's N for files written here: 128 MiB and about a quarter of a second. Fixed,
/// because age's default is whatever the writing machine does in a second.
pub const WORK_FACTOR: u8 = 17;

/// The largest work factor that is tried: 1 GiB. Fixed, because age's default depends on the
/// reading machine, and a small board would refuse what a desktop wrote.
pub const MAX_WORK_FACTOR: u8 = 20;

/// Why an encrypted identity cannot be opened or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealedError {
    /// Not an age file after all, or a damaged one.
    #[error("it is a damaged age file ({0}); restore it from a backup")]
    Damaged(&'static str),
    /// Encrypted to keys instead of a passphrase.
    #[error(
        "it is encrypted to keys, not to a passphrase; decrypt it with `age -d -i KEY`, and \
         encrypt it again with `age -p` if you like"
    )]
    NotPassphrase,
    /// It would take more memory than is allowed.
    #[error(
        "its passphrase has the work factor {found}, at most {MAX_WORK_FACTOR} (1 GiB of memory) \
         is allowed; decrypt it with `age -d` and encrypt it again with `age -p`"
    )]
    WorkFactor {
        /// log₂ of N.
        found: u8,
    },
    /// The passphrase does not fit.
    #[error(
        "the passphrase is wrong; try again, or check the file that VELIN_PASSPHRASE_FILE names"
    )]
    WrongPassphrase,
    /// Encrypting failed.
    #[error("cannot encrypt it: {0}; try again")]
    Encrypt(#[source] io::Error),
}

/// An age file whose header has been read.
pub(super) struct Sealed<'a>(Decryptor<ArmoredReader<io::BufReader<&'a [u8]>>>);

/// Whether the bytes claim to be an age file.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.starts_with(b"age-encryption.org/")
        || text.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

impl<'a> Sealed<'a> {
    /// Reads the header, before anybody is asked for a passphrase.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, SealedError> {
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(bytes.trim_ascii_start()))
            .map_err(|error| SealedError::Damaged(damage(&error)))?;
        if decryptor.is_scrypt() { Ok(Self(decryptor)) } else { Err(SealedError::NotPassphrase) }
    }

    /// The plaintext, at most as long as the file. Wiped on drop.
    pub(super) fn open(
        self,
        passphrase: &Passphrase,
        max: usize,
    ) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let mut key = scrypt::Identity::new(secret_string(passphrase));
        key.set_max_work_factor(MAX_WORK_FACTOR);
        let mut plain = self.0.decrypt(iter::once(&key as &dyn age::Identity)).map_err(
            |error| match error {
                DecryptError::ExcessiveWork { required, .. } => {
                    SealedError::WorkFactor { found: required }
                }
                DecryptError::DecryptionFailed
                | DecryptError::KeyDecryptionFailed
                | DecryptError::NoMatchingKeys => SealedError::WrongPassphrase,
                other => SealedError::Damaged(damage(&other)),
            },
        )?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(max));
        plain
            .by_ref()
            .take(max as u64)
            .read_to_end(&mut bytes)
            .map_err(|_| SealedError::Damaged("its content was changed or cut off"))?;
        Ok(bytes)
    }
}

/// Encrypts `plain` to a passphrase, armored. `work_factor` is log₂ of scrypt's N, usually
/// [`WORK_FACTOR`].
pub fn seal(
    plain: &[u8],
    passphrase: &Passphrase,
    work_factor: u8,
) -> Result<Vec<u8>, SealedError> {
    let mut recipient = scrypt::Recipient::new(secret_string(passphrase));
    recipient.set_work_factor(work_factor);
    let write = || {
        let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut writer = Encryptor::with_recipients(iter::once(&recipient as &dyn age::Recipient))
            .map_err(io::Error::other)?
            .wrap_output(armor)?;
        writer.write_all(plain)?;
        writer.finish()?.finish()
    };
    write().map_err(SealedError::Encrypt)
}

/// In our own words: age's texts come from translation files, which it loads when one is printed.
fn damage(error: &DecryptError) -> &'static str {
    match error {
        DecryptError::InvalidMac => "its header was changed",
        DecryptError::UnknownFormat => "a version of age that is not known",
        DecryptError::Io(_) => "it was cut off, or its armor is broken",
        _ => "its header is not valid",
    }
}

fn secret_string(passphrase: &Passphrase) -> SecretString {
    SecretString::from(passphrase.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: u8 = 4;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    fn open(bytes: &[u8], text: &str) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        Sealed::parse(bytes)?.open(&passphrase(text), 1000)
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        let sealed = seal(b"secret", &passphrase("right"), CHEAP).unwrap();
        assert!(is_sealed(&sealed));
        assert_eq!(*open(&sealed, "right").unwrap(), b"secret");
        assert!(matches!(open(&sealed, "wrong"), Err(SealedError::WrongPassphrase)));
    }

    #[test]
    fn any_damage_is_found() {
        let sealed = seal(b"secret", &passphrase("p"), CHEAP).unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            match open(&damaged, "p") {
                Err(_) => {}
                // A case flip in a line end or nothing else can be harmless; the text cannot change.
                Ok(plain) => assert_eq!(*plain, b"secret", "byte {at}"),
            }
        }
        assert!(open(&sealed[..sealed.len() / 2], "p").is_err());
    }

    #[test]
    fn files_for_keys_are_named_as_such() {
        let key = age::x25519::Identity::generate();
        let sealed = age::encrypt(&key.to_public(), b"secret").unwrap();
        assert!(is_sealed(&sealed));
        assert!(matches!(open(&sealed, "p"), Err(SealedError::NotPassphrase)));
    }

    #[test]
    fn a_work_factor_over_the_limit_is_refused_at_once() {
        let sealed = age_with_work_factor(MAX_WORK_FACTOR + 1);
        let error = open(&sealed, "p").unwrap_err();
        assert!(matches!(error, SealedError::WorkFactor { found: 21 }), "{error}");
    }

    /// A header that claims a work factor without anybody having done the work. age checks the
    /// limit before the header's MAC, which needs the key.
    fn age_with_work_factor(factor: u8) -> Vec<u8> {
        let (salt, body, mac) = ("A".repeat(22), "A".repeat(43), "A".repeat(43));
        let head = format!("age-encryption.org/v1\n-> scrypt {salt} {factor}\n{body}\n--- {mac}\n");
        [head.as_bytes(), &[0; 16 + 16]].concat()
    }
}
