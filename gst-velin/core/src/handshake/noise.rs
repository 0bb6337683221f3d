//! `Noise_XX_25519_ChaChaPoly_SHA256` (Noise revision 34) as a typestate over `snow`.
//!
//! ```text
//! Initiator --RESP--> InitiatorReady --FINI written--> Established
//! Responder ------------FINI read--------------------> Established
//! ```
//!
//! Between RESP and FINI the initiator has shown nobody who it is: [`InitiatorReady`] is where the
//! caller looks at the responder's key and payload, and dropping it ends the attempt unrevealed.
//!
//! A message that does not authenticate gives the state back unchanged ([`Rejected`]), so that
//! bytes injected on UDP cannot end a handshake.
//!
//! `snow` does not wipe its own memory: its chaining key and cipher keys, from which the split keys
//! follow, stay in freed heap until it is reused. So its state is dropped as soon as [`Established`]
//! exists. The Diffie-Hellman secrets inside it are ours and wiped on drop.

use std::fmt;

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::entropy::Entropy;
use crate::handshake::draw;
use crate::handshake::packets::InitHead;
use crate::handshake::resolver::Resolver;
use crate::identity::{Identity, PublicKey};

/// Longest payload of RESP and FINI, in bytes: with it both still fit a 1200-byte datagram.
pub const PAYLOAD_MAX: usize = 1024;
/// Length of Noise message 1 without payload, in bytes.
pub const MESSAGE1_LEN: usize = 32;
/// Length of Noise message 2 with an empty payload, in bytes: e, sealed s, tag.
pub const MESSAGE2_MIN: usize = 32 + 48 + 16;
/// Length of Noise message 3 with an empty payload, in bytes: sealed s, tag.
pub const MESSAGE3_MIN: usize = 48 + 16;

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// Why a handshake step did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The message does not authenticate or is no Noise message of this step.
    #[error("a handshake message does not authenticate; drop it and wait for the genuine one")]
    Unauthentic,
    /// A key exchange gave all zeroes, which only a hostile (low-order) public key does.
    #[error("the peer offered a low-order public key; drop the message, it cannot be genuine")]
    LowOrderKey,
    /// Our own payload is longer than [`PAYLOAD_MAX`].
    #[error("the handshake payload is longer than {PAYLOAD_MAX} bytes; announce less in it")]
    PayloadLength,
    /// The Noise library refused a step that this module only takes in order.
    #[error("the Noise state refused a step; start a new handshake and report this as a bug")]
    Internal,
}

impl From<snow::Error> for HandshakeError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Dh => Self::LowOrderKey,
            snow::Error::Decrypt | snow::Error::Input => Self::Unauthentic,
            _ => Self::Internal,
        }
    }
}

/// A message that was refused, and the state to go on with as if it had never come.
#[derive(Debug)]
pub struct Rejected<S> {
    /// The untouched state.
    pub state: S,
    /// What was wrong with the message.
    pub error: HandshakeError,
}

/// The connecting side: message 1 is written, message 2 awaited.
pub struct Initiator {
    noise: Box<HandshakeState>,
    message1: [u8; MESSAGE1_LEN],
}

impl Initiator {
    /// Writes message 1 with a fresh ephemeral key (32 bytes of `entropy`).
    ///
    /// # Errors
    /// [`HandshakeError::Internal`] only.
    pub fn new(
        identity: &Identity,
        head: InitHead,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, HandshakeError> {
        let ephemeral = draw(entropy);
        let builder = builder(ephemeral)?;
        let secret = identity.secret_bytes();
        let prologue = prologue(head);
        let mut noise = Box::new(
            builder.local_private_key(&secret[..])?.prologue(&prologue)?.build_initiator()?,
        );
        // snow asks for room for a tag even where message 1 has none.
        let mut buffer = [0; MESSAGE1_LEN + 16];
        noise.write_message(&[], &mut buffer)?;
        let mut message1 = [0; MESSAGE1_LEN];
        message1.copy_from_slice(&buffer[..MESSAGE1_LEN]);
        Ok(Self { noise, message1 })
    }

    /// Message 1, for INIT. A retried INIT carries the same one.
    pub fn message1(&self) -> &[u8; MESSAGE1_LEN] {
        &self.message1
    }

    /// Reads message 2, the Noise part of RESP.
    ///
    /// # Errors
    /// Gives the state back when the message is forged, damaged or hostile.
    pub fn read(mut self, message2: &[u8]) -> Result<InitiatorReady, Rejected<Self>> {
        match read_payload(&mut self.noise, message2, MESSAGE2_MIN) {
            Ok((payload, remote)) => Ok(InitiatorReady { noise: self.noise, payload, remote }),
            Err(error) => Err(Rejected { state: self, error }),
        }
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").finish_non_exhaustive()
    }
}

/// The connecting side, which now knows the responder and has not revealed itself.
pub struct InitiatorReady {
    noise: Box<HandshakeState>,
    payload: Vec<u8>,
    remote: PublicKey,
}

impl InitiatorReady {
    /// The responder's device key. Check it before [`InitiatorReady::write`].
    pub fn remote(&self) -> PublicKey {
        self.remote
    }

    /// The payload of RESP, at most [`PAYLOAD_MAX`] bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Writes message 3, which carries our device key and `payload`, and ends the handshake.
    ///
    /// # Errors
    /// [`HandshakeError::PayloadLength`] or [`HandshakeError::LowOrderKey`]; the attempt is over.
    pub fn write(mut self, payload: &[u8]) -> Result<(Established, Vec<u8>), HandshakeError> {
        let message3 = write_payload(&mut self.noise, payload, MESSAGE3_MIN)?;
        Ok((Established::split(self.noise, self.remote), message3))
    }
}

impl fmt::Debug for InitiatorReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitiatorReady").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// The listening side: message 2 is written, message 3 awaited.
pub struct Responder {
    noise: Box<HandshakeState>,
    message2: Vec<u8>,
    recipe: Box<ResponderRecipe>,
}

impl Responder {
    /// Reads message 1 and writes message 2 with a fresh ephemeral key (32 bytes of `entropy`).
    ///
    /// # Errors
    /// [`HandshakeError::LowOrderKey`] for a hostile message 1, [`HandshakeError::PayloadLength`].
    pub fn new(
        identity: &Identity,
        head: InitHead,
        message1: &[u8; MESSAGE1_LEN],
        payload: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Self, HandshakeError> {
        let recipe = Box::new(ResponderRecipe {
            identity: identity.clone(),
            ephemeral: draw(entropy),
            prologue: prologue(head),
            message1: *message1,
            payload: payload.to_vec(),
        });
        let (noise, message2) = recipe.prepare()?;
        Ok(Self { noise, message2, recipe })
    }

    /// Message 2, for RESP. A repeated INIT is answered with the same one.
    pub fn message2(&self) -> &[u8] {
        &self.message2
    }

    /// Reads message 3, the Noise part of FINI, and ends the handshake. Gives the initiator's
    /// payload (at most [`PAYLOAD_MAX`] bytes) beside the keys; nothing in it is trusted yet.
    ///
    /// # Errors
    /// Gives the state back when the message is forged, damaged or hostile.
    pub fn read(mut self, message3: &[u8]) -> Result<(Established, Vec<u8>), Rejected<Self>> {
        match read_payload(&mut self.noise, message3, MESSAGE3_MIN) {
            Ok((payload, remote)) => Ok((Established::split(self.noise, remote), payload)),
            Err(error) => {
                // A failed read restores snow's hashes but not its cipher. Once the static key in
                // message 3 has opened (a copy of the genuine FINI with a damaged end), key and
                // nonce have moved on and the genuine message would fail. The recipe gives the
                // same state anew: same keys, same message 2.
                if self.noise.get_remote_static().is_some()
                    && let Ok((noise, _)) = self.recipe.prepare()
                {
                    self.noise = noise;
                }
                Err(Rejected { state: self, error })
            }
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

/// Both sides after the handshake: the peer's proven key and the material of the key schedule.
pub struct Established {
    /// The peer's device key. It has proven to hold the secret half.
    pub remote: PublicKey,
    /// The handshake hash: equal on both sides, unique to this handshake.
    pub h: [u8; 32],
    /// First split key. Only ever input to the key schedule.
    pub k1: Zeroizing<[u8; 32]>,
    /// Second split key. Only ever input to the key schedule.
    pub k2: Zeroizing<[u8; 32]>,
}

impl Established {
    fn split(mut noise: Box<HandshakeState>, remote: PublicKey) -> Self {
        let (k1, k2) = noise.dangerously_get_raw_split();
        let mut h = [0; 32];
        h.copy_from_slice(noise.get_handshake_hash());
        Self { remote, h, k1: Zeroizing::new(k1), k2: Zeroizing::new(k2) }
    }
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Everything the responder's state after message 2 is made of.
struct ResponderRecipe {
    identity: Identity,
    ephemeral: Zeroizing<[u8; 32]>,
    prologue: [u8; 16],
    message1: [u8; MESSAGE1_LEN],
    payload: Vec<u8>,
}

impl ResponderRecipe {
    /// The state that awaits message 3, and message 2. The same each time.
    fn prepare(&self) -> Result<(Box<HandshakeState>, Vec<u8>), HandshakeError> {
        let secret = self.identity.secret_bytes();
        let mut noise = Box::new(
            builder(self.ephemeral.clone())?
                .local_private_key(&secret[..])?
                .prologue(&self.prologue)?
                .build_responder()?,
        );
        noise.read_message(&self.message1, &mut [])?;
        let message2 = write_payload(&mut noise, &self.payload, MESSAGE2_MIN)?;
        Ok((noise, message2))
    }
}

fn prologue(head: InitHead) -> [u8; 16] {
    let mut prologue = *b"velin/1\0........";
    prologue[8..].copy_from_slice(&head.0);
    prologue
}

fn builder<'a>(ephemeral: Zeroizing<[u8; 32]>) -> Result<Builder<'a>, HandshakeError> {
    let params: NoiseParams = PATTERN.parse().map_err(HandshakeError::from)?;
    Ok(Builder::with_resolver(params, Box::new(Resolver { ephemeral })))
}

fn write_payload(
    noise: &mut HandshakeState,
    payload: &[u8],
    overhead: usize,
) -> Result<Vec<u8>, HandshakeError> {
    if payload.len() > PAYLOAD_MAX {
        return Err(HandshakeError::PayloadLength);
    }
    let mut message = vec![0; overhead + payload.len()];
    let written = noise.write_message(payload, &mut message)?;
    message.truncate(written);
    Ok(message)
}

fn read_payload(
    noise: &mut HandshakeState,
    message: &[u8],
    overhead: usize,
) -> Result<(Vec<u8>, PublicKey), HandshakeError> {
    let length = message.len().checked_sub(overhead).ok_or(HandshakeError::Unauthentic)?;
    if length > PAYLOAD_MAX {
        return Err(HandshakeError::Unauthentic);
    }
    let mut payload = vec![0; length];
    noise.read_message(message, &mut payload)?;
    let remote = noise.get_remote_static().and_then(|key| key.try_into().ok());
    Ok((payload, PublicKey(remote.ok_or(HandshakeError::Internal)?)))
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead, Payload};
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
    use snow::params::{CipherChoice, DHChoice, HashChoice};
    use snow::resolvers::CryptoResolver;
    use snow::types::{Cipher, Dh, Hash, Random};

    use super::*;
    use crate::handshake::resolver::X25519;

    fn vector(name: &str) -> Vec<u8> {
        let text = include_str!("../../tests/data/cacophony-xx.txt");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name}")).as_bytes();
        let digit = |b: u8| (b as char).to_digit(16).expect("hex") as u8;
        value.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    fn state(side: &str) -> HandshakeState {
        let key = |name: &str| vector(&format!("{side}_{name}"));
        let ephemeral = Zeroizing::new(key("ephemeral").try_into().expect("32 bytes"));
        let (secret, prologue) = (key("static"), key("prologue"));
        let builder = builder(ephemeral).unwrap();
        let builder = builder.local_private_key(&secret).unwrap().prologue(&prologue).unwrap();
        let state =
            if side == "init" { builder.build_initiator() } else { builder.build_responder() };
        state.unwrap()
    }

    /// Published vectors; see the head of the data file.
    #[test]
    fn the_published_vectors_come_out_with_our_resolver() {
        let (mut writer, mut reader) = (state("init"), state("resp"));
        for i in 0..3 {
            let mut message = [0; 256];
            let mut payload = [0; 256];
            let written =
                writer.write_message(&vector(&format!("payload{i}")), &mut message).unwrap();
            assert_eq!(message[..written], vector(&format!("ciphertext{i}")), "message {i}");
            let read = reader.read_message(&message[..written], &mut payload).unwrap();
            assert_eq!(payload[..read], vector(&format!("payload{i}")), "payload {i}");
            std::mem::swap(&mut writer, &mut reader);
        }
        let remote = PublicKey([0; 32]);
        let a = Established::split(Box::new(writer), remote);
        let b = Established::split(Box::new(reader), remote);
        assert_eq!(a.h, *vector("handshake_hash"));
        assert_eq!((a.h, &a.k1, &a.k2), (b.h, &b.k1, &b.k2));

        // After the handshake: responder, initiator, responder; Noise counts little-endian.
        for (i, key, nonce) in [(3, &a.k2, 0_u64), (4, &a.k1, 0), (5, &a.k2, 1)] {
            let mut full = [0; 12];
            full[4..].copy_from_slice(&nonce.to_le_bytes());
            let payload = vector(&format!("payload{i}"));
            let sealed = ChaCha20Poly1305::new((&key[..]).into())
                .encrypt(&full.into(), Payload { msg: &payload, aad: &[] })
                .unwrap();
            assert_eq!(sealed, vector(&format!("ciphertext{i}")), "message {i}");
        }
    }

    /// An initiator whose static key is the point of order 1.
    struct LowOrderStatic(Resolver);
    struct LowOrderDh(X25519, [u8; 32]);

    impl CryptoResolver for LowOrderStatic {
        fn resolve_rng(&self) -> Option<Box<dyn Random>> {
            self.0.resolve_rng()
        }

        fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
            Some(Box::new(LowOrderDh(X25519::new([0; 32]), [0; 32])))
        }

        fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
            self.0.resolve_hash(choice)
        }

        fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
            self.0.resolve_cipher(choice)
        }
    }

    impl Dh for LowOrderDh {
        fn name(&self) -> &'static str {
            self.0.name()
        }

        fn pub_len(&self) -> usize {
            32
        }

        fn priv_len(&self) -> usize {
            32
        }

        /// Called for the static key only: its public half stays zero.
        fn set(&mut self, privkey: &[u8]) {
            self.0.set(privkey);
        }

        fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
            self.0.generate(rng)?;
            self.1.copy_from_slice(self.0.pubkey());
            Ok(())
        }

        fn pubkey(&self) -> &[u8] {
            &self.1
        }

        fn privkey(&self) -> &[u8] {
            self.0.privkey()
        }

        fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
            self.0.dh(pubkey, out)
        }
    }

    struct Equal(u8);

    impl Entropy for Equal {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    #[test]
    fn an_initiator_with_a_low_order_static_key_is_refused() {
        let head = InitHead([1; 8]);
        let resolver = LowOrderStatic(Resolver { ephemeral: Zeroizing::new([5; 32]) });
        let mut attacker = Builder::with_resolver(PATTERN.parse().unwrap(), Box::new(resolver))
            .local_private_key(&[6; 32])
            .unwrap()
            .prologue(&prologue(head))
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut message = [0; 256];
        attacker.write_message(&[], &mut message).unwrap();
        let message1 = message[..32].try_into().unwrap();
        let identity = Identity::from_secret([7; 32]);
        let responder = Responder::new(&identity, head, &message1, &[], &mut Equal(8)).unwrap();
        attacker.read_message(responder.message2(), &mut []).unwrap();
        let written = attacker.write_message(&[], &mut message).unwrap();

        let rejected = responder.read(&message[..written]).unwrap_err();
        assert_eq!(rejected.error, HandshakeError::LowOrderKey);
    }
}
