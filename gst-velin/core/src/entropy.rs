//! Randomness as an argument.

/// A source of cryptographically strong random bytes, given by the caller.
///
/// The driver hands in the operating system's; tests hand in a seeded generator, so that every
/// run can be replayed.
pub trait Entropy: Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);
}

impl<E: Entropy + ?Sized> Entropy for Box<E> {
    fn fill(&mut self, out: &mut [u8]) {
        (**self).fill(out);
    }
}
