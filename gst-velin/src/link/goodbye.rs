//! Whoever ends the process lets the links say goodbye first.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static LIVING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// A session that has not said goodbye yet.
pub(super) struct Living(());

impl Living {
    pub(super) fn new() -> Self {
        *LIVING.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        *LIVING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_all();
    }
}

/// Waits until no session of this process is left, `most` at most; gives whether that is so. For a
/// process that has let go of all its elements and is about to end.
pub fn wait_for_goodbyes(most: Duration) -> bool {
    let living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = ENDED.wait_timeout_while(living, most, |living| *living > 0);
    !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
}
