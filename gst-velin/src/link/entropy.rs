//! The operating system's random numbers.

use velin_core::entropy::Entropy;

/// Draws from the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        // Without random numbers no key may be made, and no caller could do anything about it.
        getrandom::fill(out).expect("the operating system must give random numbers");
    }
}

/// A random number.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    OsEntropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
