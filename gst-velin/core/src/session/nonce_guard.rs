//! Test builds only: a (key, nonce) pair that repeats anywhere in the process is a panic.
//!
//! Nonces are kept as sorted ranges per key, so a counter that runs without holes costs a few
//! bytes however long it runs. Keys are kept as the first 16 bytes of their SHA-256.
//!
//! A test that replays a whole run from one seed makes the same keys again, rightly.
//! [`isolated`] gives it a register of its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::session::aead::Nonce;

/// Names a key without keeping it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// For `key`.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(key)[..16]);
        Self(id)
    }

    /// Notes that `nonce` is used with this key.
    ///
    /// # Panics
    /// When it has been used before.
    pub fn register(self, nonce: Nonce) {
        let fresh = ISOLATED
            .with_borrow_mut(|stack| stack.last_mut().map(|own| own.insert(self, nonce)))
            .unwrap_or_else(|| {
                PROCESS.lock().unwrap_or_else(PoisonError::into_inner).insert(self, nonce)
            });
        assert!(fresh, "a (key, nonce) pair was used twice: {nonce:?}");
    }
}

/// Runs `run` with an empty register of its own, for what it seals on this thread.
pub fn isolated<R>(run: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            ISOLATED.with_borrow_mut(Vec::pop);
        }
    }
    ISOLATED.with_borrow_mut(|stack| stack.push(Register::default()));
    let _leave = Leave;
    run()
}

static PROCESS: LazyLock<Mutex<Register>> = LazyLock::new(Mutex::default);

thread_local! {
    static ISOLATED: RefCell<Vec<Register>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
struct Register {
    /// Per key and first four nonce bytes: ranges of the last eight, first to last inclusive.
    seen: HashMap<(KeyId, [u8; 4]), BTreeMap<u64, u64>>,
}

impl Register {
    /// Whether the pair is new.
    fn insert(&mut self, key: KeyId, Nonce(nonce): Nonce) -> bool {
        let [p0, p1, p2, p3, counter @ ..] = nonce;
        let counter = u64::from_be_bytes(counter);
        let ranges = self.seen.entry((key, [p0, p1, p2, p3])).or_default();
        let following = counter.checked_add(1).and_then(|next| ranges.get(&next).copied());
        let last = following.unwrap_or(counter);
        if let Some((_, end)) = ranges.range_mut(..=counter).next_back() {
            if *end >= counter {
                return false;
            }
            if *end + 1 == counter {
                *end = last;
                if following.is_some() {
                    ranges.remove(&(counter + 1));
                }
                return true;
            }
        }
        if following.is_some() {
            ranges.remove(&(counter + 1));
        }
        ranges.insert(counter, last);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::session::aead::{Aead, RingAead};

    #[test]
    #[should_panic(expected = "used twice")]
    fn a_repeated_nonce_panics() {
        let cipher = RingAead::from_bytes(b"nonce guard test key, 32 bytes..");
        for _ in 0..2 {
            let _ = cipher.seal_in_place(Nonce::from_counter(1), &[], &mut [0; 4]);
        }
    }

    #[test]
    fn a_replayed_run_may_seal_again_in_isolation() {
        let key = KeyId::new(b"nonce guard test key two, 32 b..");
        key.register(Nonce::from_counter(1));
        isolated(|| key.register(Nonce::from_counter(1)));
    }

    #[test]
    fn a_counter_without_holes_is_one_range() {
        let mut register = Register::default();
        let key = KeyId::new(&[1; 32]);
        for i in 0..10_000 {
            assert!(register.insert(key, Nonce::from_counter(i ^ 1)));
        }
        assert_eq!(register.seen[&(key, [0; 4])].len(), 1);
    }

    proptest! {
        #[test]
        fn the_register_agrees_with_a_set(
            counters in prop::collection::vec(prop_oneof![0_u64..50, Just(u64::MAX)], 0..100)
        ) {
            let mut register = Register::default();
            let mut set = HashSet::new();
            for counter in counters {
                let key = KeyId::new(&[2; 32]);
                prop_assert_eq!(
                    register.insert(key, Nonce::from_counter(counter)),
                    set.insert(counter)
                );
            }
        }
    }
}
