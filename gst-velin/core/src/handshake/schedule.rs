//! The key schedule: from the handshake to one key per direction, epoch and stream.
//!
//! ```text
//! PRK(0)   = HKDF-Extract(salt = h, ikm = k1 ‖ k2)
//! TS(d,n)  = HKDF-Expand(PRK(n), "velin/1 traffic" ‖ u8 d ‖ u32 idx_i ‖ u32 idx_r, 32)
//! K(d,n,s) = HKDF-Expand(TS(d,n), "velin/1 key" ‖ u16 s, 32)
//! ROOT(n)  = HKDF-Expand(PRK(n), "velin/1 root", 32)
//! EXP(l,L) = HKDF-Expand(PRK(0), "velin/1 exporter" ‖ u8 len(l) ‖ l ‖ u16 L, L)
//! PRK(n+1) = HKDF-Extract(salt = ROOT(n), ikm = X25519(e_i,e_r) [‖ ML-KEM-768 secret])
//! ```
//!
//! HKDF is RFC 5869 with SHA-256. Direction, epoch and stream are in the key, never only in the
//! nonce. Secrets are wiped on drop, cannot be cloned and have no `Debug` of their contents.

use std::fmt;

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::handshake::noise::Established;
use crate::handshake::packets::SessionIndex;
use crate::identity::SharedSecret;
use crate::units::StreamId;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the side that connected.
    InitiatorToResponder,
    /// From the side that listened.
    ResponderToInitiator,
}

impl Direction {
    /// The other way.
    pub const fn reverse(self) -> Self {
        match self {
            Self::InitiatorToResponder => Self::ResponderToInitiator,
            Self::ResponderToInitiator => Self::InitiatorToResponder,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::InitiatorToResponder => 0,
            Self::ResponderToInitiator => 1,
        }
    }
}

/// A generation of keys. Starts at 0; each rekey adds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one.
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The low 8 bits, which are on the wire.
    pub const fn to_wire(self) -> u8 {
        self.0 as u8
    }
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The secret itself, for derivation and test vectors. Never print it.
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret! {
    /// PRK(n): what an epoch's secrets are derived from.
    Prk
}
secret! {
    /// TS(d,n): what the stream keys of one direction and epoch are derived from.
    TrafficSecret
}
secret! {
    /// ROOT(n): the salt of the next epoch.
    RootSecret
}
secret! {
    /// K(d,n,s): the AEAD key of one stream, direction and epoch.
    StreamKey
}

/// The secrets of one epoch of a session.
#[derive(Debug)]
pub struct EpochSecrets {
    epoch: Epoch,
    initiator: SessionIndex,
    responder: SessionIndex,
    prk: Prk,
}

impl EpochSecrets {
    /// Epoch 0, from the handshake and both sides' session indices.
    pub fn initial(
        established: &Established,
        initiator: SessionIndex,
        responder: SessionIndex,
    ) -> Self {
        let prk = initial_prk(established);
        Self { epoch: Epoch(0), initiator, responder, prk }
    }

    /// Which epoch this is.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// PRK(n), for test vectors.
    pub const fn prk(&self) -> &Prk {
        &self.prk
    }

    /// TS(d,n).
    pub fn traffic(&self, direction: Direction) -> TrafficSecret {
        let mut secret = [0; 32];
        expand(
            &self.prk.0,
            &[
                b"velin/1 traffic",
                &[direction.byte()],
                &self.initiator.to_bytes(),
                &self.responder.to_bytes(),
            ],
            &mut secret,
        );
        TrafficSecret(secret)
    }

    /// ROOT(n).
    pub fn root(&self) -> RootSecret {
        let mut secret = [0; 32];
        expand(&self.prk.0, &[b"velin/1 root"], &mut secret);
        RootSecret(secret)
    }

    /// Epoch n+1, from a fresh X25519 exchange and, if agreed, an ML-KEM-768 shared secret.
    pub fn next(&self, dh: &SharedSecret, kem: Option<&[u8; 32]>) -> Self {
        let kem: &[u8] = kem.map_or(&[], |secret| secret);
        Self {
            epoch: self.epoch.next(),
            initiator: self.initiator,
            responder: self.responder,
            prk: extract(&self.root().0, &[&dh.0, kem]),
        }
    }
}

#[cfg(test)]
impl StreamKey {
    pub(crate) const fn for_tests(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl TrafficSecret {
    /// K(d,n,s). Whoever seals with it must be the only one: see
    /// [`Sealers`](crate::session::sealer::Sealers).
    pub fn stream_key(&self, stream: StreamId) -> StreamKey {
        let mut key = [0; 32];
        expand(&self.0, &[b"velin/1 key", &stream.0.to_be_bytes()], &mut key);
        StreamKey(key)
    }
}

/// EXP: secrets for sub-protocols, bound to this handshake.
///
/// It holds PRK(0): take what pairing needs and drop it, at the latest with epoch 0, or a rekey
/// protects nothing.
#[derive(Debug)]
pub struct Exporter(Prk);

impl Exporter {
    /// For this handshake.
    pub fn new(established: &Established) -> Self {
        Self(initial_prk(established))
    }

    /// `EXP(label, N)`.
    ///
    /// # Panics
    /// When `label` is longer than 255 bytes or `N` is greater than 8160; both are constants.
    pub fn export<const N: usize>(&self, label: &str) -> Zeroizing<[u8; N]> {
        const { assert!(N <= MAX_EXPAND) };
        assert!(label.len() <= 255, "an exporter label has at most 255 bytes");
        let mut secret = Zeroizing::new([0; N]);
        expand(
            &self.0.0,
            &[
                b"velin/1 exporter",
                &[label.len() as u8],
                label.as_bytes(),
                &(N as u16).to_be_bytes(),
            ],
            &mut secret[..],
        );
        secret
    }
}

/// RFC 5869 §2.3: at most 255 hash lengths.
const MAX_EXPAND: usize = 255 * 32;

fn initial_prk(established: &Established) -> Prk {
    extract(&established.h, &[&established.k1[..], &established.k2[..]])
}

/// HKDF-Extract.
fn extract(salt: &[u8; 32], ikm: &[&[u8]]) -> Prk {
    let mut extraction = HkdfExtract::<Sha256>::new(Some(salt));
    for part in ikm {
        extraction.input_ikm(part);
    }
    let (mut out, _) = extraction.finalize();
    let mut prk = [0; 32];
    prk.copy_from_slice(&out);
    out.as_mut_slice().zeroize();
    Prk(prk)
}

/// HKDF-Expand into `out`, at most [`MAX_EXPAND`] bytes.
fn expand(prk: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    Hkdf::<Sha256>::from_prk(prk)
        .expect("32 bytes are one hash length")
        .expand_multi_info(info, out)
        .expect("every output length here is a constant below the limit");
}
