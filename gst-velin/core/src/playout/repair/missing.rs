//! The blocks that have not come, in the order of their numbers.

/// How many are remembered: half a second of 1 ms blocks. The oldest gives way.
const MOST: usize = 512;

/// A block that has not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) index: u64,
    /// When it would have come on the fastest path.
    pub(super) expected: i64,
    /// When it became known that it is missing.
    pub(super) since: i64,
    /// When it is to be asked for; `i64::MAX`: no more.
    pub(super) ask_at: i64,
    pub(super) asked_at: i64,
    pub(super) asks: u32,
    /// Nothing proves that it was ever sent.
    pub(super) is_guess: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct MissingBlocks(Vec<Missing>);

impl MissingBlocks {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(MOST))
    }

    /// One more, unless it is known.
    pub(super) fn add(&mut self, missing: Missing) {
        let at = match self.0.binary_search_by_key(&missing.index, |m| m.index) {
            Ok(known) => {
                self.0[known].is_guess &= missing.is_guess;
                return;
            }
            Err(at) => at,
        };
        if self.0.len() < MOST {
            self.0.insert(at, missing);
        } else if at > 0 {
            self.0.remove(0);
            self.0.insert(at - 1, missing);
        }
    }

    /// It has come.
    pub(super) fn take(&mut self, index: u64) -> Option<Missing> {
        let at = self.0.binary_search_by_key(&index, |m| m.index).ok()?;
        Some(self.0.remove(at))
    }

    pub(super) fn contains(&self, index: u64) -> bool {
        self.0.binary_search_by_key(&index, |m| m.index).is_ok()
    }

    /// Forgets those for which `keep` is false.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Missing) -> bool) {
        self.0.retain(keep);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Missing> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Missing> {
        self.0.iter_mut()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// How many consecutive missing blocks are worth remembering.
pub(super) const fn most() -> u64 {
    MOST as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(index: u64) -> Missing {
        Missing { index, expected: 0, since: 0, ask_at: 0, asked_at: 0, asks: 0, is_guess: true }
    }

    #[test]
    fn blocks_are_kept_in_order_and_the_oldest_gives_way() {
        let mut blocks = MissingBlocks::new();
        (0..most()).rev().for_each(|i| blocks.add(missing(i + 1)));
        blocks.add(missing(0));
        assert!(!blocks.contains(0));
        blocks.add(missing(most() + 1));
        assert!(!blocks.contains(1) && blocks.contains(2) && blocks.contains(most() + 1));
        assert!(blocks.iter().zip(blocks.iter().skip(1)).all(|(a, b)| a.index < b.index));
        assert_eq!(blocks.take(7).map(|m| m.index), Some(7));
        assert!(blocks.take(7).is_none());
    }

    #[test]
    fn proof_of_a_guess_is_kept() {
        let mut blocks = MissingBlocks::new();
        blocks.add(missing(1));
        blocks.add(Missing { is_guess: false, ..missing(1) });
        assert!(blocks.take(1).is_some_and(|m| !m.is_guess));
    }
}
