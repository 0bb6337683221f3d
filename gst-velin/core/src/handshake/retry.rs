//! RETRY tokens: a busy responder's proof, kept by the initiator, that the address is real.

use std::net::SocketAddr;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::entropy::Entropy;
use crate::handshake::draw;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::packets::SessionIndex;

    /// Counts up, so that two draws differ.
    struct Counting(u8);

    impl Entropy for Counting {
        fn fill(&mut self, out: &mut [u8]) {
            self.0 += 1;
            out.fill(self.0);
        }
    }

    const HERE: &str = "192.0.2.7:50000";

    fn at(secs: u64) -> MonoTime {
        MonoTime::ZERO + Duration::from_secs(secs)
    }

    fn from(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    fn init(message: u8) -> Init {
        let initiator = SessionIndex::new(9).expect("not zero");
        Init { initiator, mac1: None, token: None, message: [message; 32] }
    }

    fn with(token: Token, init: Init) -> Init {
        Init { token: Some(token), ..init }
    }

    #[test]
    fn a_token_is_good_for_its_address_its_init_and_ten_seconds() {
        let mint = TokenMint::new(at(0), &mut Counting(0));
        let token = mint.mint(at(100), from(HERE), &init(1));
        let good = with(token, init(1));
        assert!(mint.accepts(at(100), from(HERE), &good));
        assert!(mint.accepts(at(110), from(HERE), &good));
        assert!(!mint.accepts(at(111), from(HERE), &good));
        assert!(!mint.accepts(at(99), from(HERE), &good), "from the future");
        assert!(!mint.accepts(at(100), from("192.0.2.7:50001"), &good));
        assert!(!mint.accepts(at(100), from("192.0.2.8:50000"), &good));
        assert!(!mint.accepts(at(100), from(HERE), &with(token, init(2))));
        assert!(!mint.accepts(at(100), from(HERE), &init(1)), "no token");
        let other = Init { initiator: SessionIndex::new(8).expect("not zero"), ..good };
        assert!(!mint.accepts(at(100), from(HERE), &other));
    }

    #[test]
    fn every_byte_of_a_token_counts() {
        let mint = TokenMint::new(at(0), &mut Counting(0));
        let token = mint.mint(at(100), from(HERE), &init(1));
        for byte in 0..32 {
            let mut bent = token;
            bent.0[byte] ^= 1;
            assert!(!mint.accepts(at(101), from(HERE), &with(bent, init(1))), "byte {byte}");
        }
    }

    #[test]
    fn a_rotation_keeps_one_old_secret() {
        let mut entropy = Counting(0);
        let mut mint = TokenMint::new(at(0), &mut entropy);
        let token = mint.mint(at(3599), from(HERE), &init(1));
        let good = with(token, init(1));
        mint.rotate(at(3599), &mut entropy);
        assert_eq!(entropy.0, 1, "too early");
        mint.rotate(at(3600), &mut entropy);
        assert_ne!(mint.mint(at(3599), from(HERE), &init(1)), token);
        assert!(mint.accepts(at(3600), from(HERE), &good));
        mint.rotate(at(7200), &mut entropy);
        assert!(!mint.accepts(at(3600), from(HERE), &good), "two secrets ago");
    }
}
