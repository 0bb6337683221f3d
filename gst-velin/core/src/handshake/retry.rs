//! RETRY tokens: a busy responder's proof, kept by the initiator, that the address is real.

use std::net::SocketAddr;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::entropy::Entropy;
use crate::handshake::packets::{Init, InitHead};
use crate::time::MonoTime;

/// How long a token is good for.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(10);
/// How long one secret makes tokens.
pub const SECRET_LIFETIME: Duration = Duration::from_secs(3600);

/// `u32 t ‖ 12 zero bytes ‖ 16 bytes of HMAC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub [u8; 32]);

/// Makes and checks tokens. Holds the current secret and the one before.
pub struct TokenMint {
    current: Zeroizing<[u8; 32]>,
    previous: Option<Zeroizing<[u8; 32]>>,
    rotated: MonoTime,
}

impl TokenMint {
    /// With a fresh secret (32 bytes of `entropy`).
    pub fn new(now: MonoTime, entropy: &mut dyn Entropy) -> Self {
        Self { current: draw(entropy), previous: None, rotated: now }
    }

    /// Takes a fresh secret when the current one is an hour old. Call before each use.
    pub fn rotate(&mut self, now: MonoTime, entropy: &mut dyn Entropy) {
        if now.since(self.rotated) >= SECRET_LIFETIME {
            self.previous = Some(std::mem::replace(&mut self.current, draw(entropy)));
            self.rotated = now;
        }
    }

    /// The token for an INIT that came from `from`.
    pub fn mint(&self, now: MonoTime, from: SocketAddr, init: &Init) -> Token {
        let t = seconds(now);
        let full = mac(&self.current, t, from, init.head(), &init.message).finalize().into_bytes();
        let mut token = [0; 32];
        token[..4].copy_from_slice(&t.to_be_bytes());
        token[16..].copy_from_slice(&full[..16]);
        Token(token)
    }

    /// Whether `init` carries a token made here for this very INIT and address within the last
    /// 10 s. Compares in constant time.
    pub fn accepts(&self, now: MonoTime, from: SocketAddr, init: &Init) -> bool {
        let Some(Token([t0, t1, t2, t3, rest @ ..])) = init.token else { return false };
        let t = u32::from_be_bytes([t0, t1, t2, t3]);
        let (zeroes, tag) = rest.split_at(12);
        // Also refuses tokens from the future: they were made before a restart.
        let age = seconds(now).wrapping_sub(t);
        if u64::from(age) > TOKEN_LIFETIME.as_secs() || zeroes.iter().any(|&b| b != 0) {
            return false;
        }
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().any(|secret| {
            mac(secret, t, from, init.head(), &init.message).verify_truncated_left(tag).is_ok()
        })
    }
}

impl std::fmt::Debug for TokenMint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenMint").field("rotated", &self.rotated).finish_non_exhaustive()
    }
}

fn draw(entropy: &mut dyn Entropy) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    entropy.fill(&mut secret[..]);
    secret
}

fn seconds(now: MonoTime) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}

fn mac(
    secret: &[u8; 32],
    t: u32,
    from: SocketAddr,
    head: InitHead,
    message: &[u8; 32],
) -> Hmac<Sha256> {
    let address = match from {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    };
    let mut block = hmac::digest::generic_array::GenericArray::default();
    block[..32].copy_from_slice(secret);
    let keyed = Hmac::<Sha256>::new(&block);
    block.as_mut_slice().zeroize();
    keyed
        .chain_update(b"velin/1 retry")
        .chain_update(t.to_be_bytes())
        .chain_update(address.octets())
        .chain_update(from.port().to_be_bytes())
        .chain_update(head.0)
        .chain_update(message)
}
