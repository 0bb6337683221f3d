//! From two device keys to session keys: Noise XX, its packets, and the key schedule.

pub mod mac1;
pub mod noise;
pub mod packets;
mod resolver;
pub mod retry;
pub mod schedule;

use zeroize::Zeroizing;

use crate::entropy::Entropy;

/// A fresh secret.
fn draw(entropy: &mut dyn Entropy) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    entropy.fill(&mut secret[..]);
    secret
}
