//! When a session should be followed by a new one: a fresh handshake is what an attacker that once
//! had the keys and also alters packets does not survive.

use std::time::Duration;

use crate::time::MonoTime;

/// A session is to be renewed at this age.
pub const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Says once that it is time.
#[derive(Debug)]
pub(super) struct Renewal {
    due: Option<MonoTime>,
}

impl Renewal {
    pub(super) fn new(now: MonoTime) -> Self {
        Self { due: Some(now + RENEW_AFTER) }
    }

    /// Something is used up: whether that is news.
    pub(super) fn take(&mut self) -> bool {
        self.due.take().is_some()
    }

    /// Whether it is time; once.
    pub(super) fn poll(&mut self, now: MonoTime) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    pub(super) fn timeout(&self) -> Option<MonoTime> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_once() {
        let day = MonoTime::ZERO + RENEW_AFTER;
        let mut renewal = Renewal::new(MonoTime::ZERO);
        assert!(!renewal.poll(day - Duration::from_nanos(1)));
        assert!(renewal.poll(day) && !renewal.poll(day));
        assert!(!renewal.take());
        let mut renewal = Renewal::new(MonoTime::ZERO);
        assert!(renewal.take() && !renewal.poll(day));
    }
}
