//! Which packet numbers have been seen: the sliding bitmap of RFC 6479.
//!
//! 2048 bits in words of 64. One word is redundant, so that advancing only ever clears whole
//! words: 1984 numbers are usable, which at 1000 packets/s tolerates 2 s of reordering.

use crate::session::header::Counter;

/// Bits of the map.
pub const WINDOW_BITS: u64 = 2048;
/// How far behind the highest number seen a number may be and still count as new, exclusive.
pub const WINDOW_USABLE: u64 = WINDOW_BITS - WORD;

const WORD: u64 = 64;
const WORDS: u64 = WINDOW_BITS / WORD;

/// Why a number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Already marked.
    #[error("a packet that was seen before; drop it")]
    Seen,
    /// [`WINDOW_USABLE`] or more behind the highest.
    #[error("a packet too old to tell from a replay; drop it")]
    TooOld,
}

/// The window of one (direction, epoch, stream).
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    words: [u64; WORDS as usize],
    highest: Option<Counter>,
}

impl ReplayWindow {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest number marked.
    pub const fn highest(&self) -> Option<Counter> {
        self.highest
    }

    /// Whether `counter` is new. Changes nothing: mark only what has authenticated.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn check(&self, counter: Counter) -> Result<(), ReplayError> {
        let Some(highest) = self.highest.filter(|&highest| counter <= highest) else {
            return Ok(());
        };
        if highest.get() - counter.get() >= WINDOW_USABLE {
            return Err(ReplayError::TooOld);
        }
        let (word, bit) = place(counter);
        if self.words[word] & bit != 0 { Err(ReplayError::Seen) } else { Ok(()) }
    }

    /// Checks `counter` and marks it as seen.
    ///
    /// # Errors
    /// As [`ReplayWindow::check`]; then nothing changes.
    pub fn mark(&mut self, counter: Counter) -> Result<(), ReplayError> {
        self.check(counter)?;
        if self.highest.is_none_or(|highest| counter > highest) {
            let from = self.highest.map_or(0, |highest| highest.get() / WORD);
            let steps = (counter.get() / WORD - from).min(WORDS);
            for step in 1..=steps {
                self.words[((from + step) % WORDS) as usize] = 0;
            }
            self.highest = Some(counter);
        }
        let (word, bit) = place(counter);
        self.words[word] |= bit;
        Ok(())
    }
}

fn place(counter: Counter) -> (usize, u64) {
    (((counter.get() / WORD) % WORDS) as usize, 1 << (counter.get() % WORD))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn mark(window: &mut ReplayWindow, counter: u64) -> bool {
        Counter::new(counter).is_some_and(|counter| window.mark(counter).is_ok())
    }

    #[test]
    fn the_table_of_the_protocol_holds() {
        let mut w = ReplayWindow::new();
        let table = [
            (0, true),
            (0, false),
            (1, true),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (1984 + 7, true),
            (7, false),
            (8, false),
            (10, true),
        ];
        for (i, (counter, accepted)) in table.into_iter().enumerate() {
            assert_eq!(mark(&mut w, counter), accepted, "row {i}: {counter}");
        }
        assert_eq!(w.check(Counter::new(7).unwrap()), Err(ReplayError::TooOld));
        assert_eq!(w.check(Counter::new(8).unwrap()), Err(ReplayError::Seen));

        let jump = 1984 + 7 + (1 << 20);
        assert!(mark(&mut w, jump));
        for old in [0, 7, 1991, jump - 4000, jump - 1985, jump - 1984] {
            assert!(!mark(&mut w, old), "{old}");
        }
        assert!(mark(&mut w, jump - 1983));
        assert!(mark(&mut w, Counter::LIMIT - 1));
        assert!(!mark(&mut w, Counter::LIMIT));
    }

    #[test]
    fn a_long_run_with_neighbours_swapped_loses_nothing() {
        let mut w = ReplayWindow::new();
        for counter in 0..5 * WINDOW_BITS {
            assert!(mark(&mut w, counter ^ 1), "{counter}");
        }
    }

    #[test]
    fn a_check_leaves_the_window_as_it_was() {
        let mut w = ReplayWindow::new();
        for counter in [5, 900, 5] {
            let counter = Counter::new(counter).unwrap();
            assert!(w.check(counter).is_ok());
        }
        assert_eq!(w.highest(), None);
        assert!(mark(&mut w, 5));
    }

    proptest! {
        #[test]
        fn any_order_within_the_window_accepts_each_number_once(
            base in 0..Counter::LIMIT - WINDOW_USABLE,
            order in Just((0..WINDOW_USABLE).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut w = ReplayWindow::new();
            for &offset in &order {
                prop_assert!(mark(&mut w, base + offset));
            }
            for &offset in &order {
                prop_assert!(!mark(&mut w, base + offset));
            }
        }

        #[test]
        fn the_window_agrees_with_a_set(
            steps in prop::collection::vec(prop_oneof![
                10 => -70_i64..100,
                1 => -2100_i64..2100,
                1 => Just(1 << 20),
            ], 0..1500)
        ) {
            let mut w = ReplayWindow::new();
            let mut seen = HashSet::new();
            let (mut at, mut highest) = (0_u64, 0);
            for step in steps {
                at = at.saturating_add_signed(step);
                let fresh = at + WINDOW_USABLE > highest && seen.insert(at);
                prop_assert_eq!(mark(&mut w, at), fresh, "{} below {}", at, highest);
                highest = highest.max(at);
            }
        }
    }
}
