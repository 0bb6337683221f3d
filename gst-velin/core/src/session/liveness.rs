//! Whether the peer is still there: what was heard last, PINGs, round-trip time.

use std::time::Duration;

use crate::time::MonoTime;

/// After this long without an authenticated packet the session counts as stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(1);

/// After this long it is given up and a new one must be made.
pub const LOST_AFTER: Duration = Duration::from_secs(5);

const START_INTERVAL: Duration = Duration::from_millis(250);
const START_PINGS: u16 = 8;
const INTERVAL: Duration = Duration::from_secs(1);

/// The id of PINGs that are not for measuring: they may wait long in a stalled connection.
pub(super) const PROBE_ID: u16 = u16::MAX;

/// A peer may have this many PINGs answered per second.
const PONGS_PER_SECOND: u32 = 20;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Stalled,
    Lost(Duration),
}

/// Liveness of one session.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: MonoTime,
    stalled: bool,
    next_ping: MonoTime,
    next_id: u16,
    rtt: Option<Duration>,
    pongs_in_second: (MonoTime, u32),
}

impl Liveness {
    pub(super) fn new(now: MonoTime) -> Self {
        Self {
            heard: now,
            stalled: false,
            next_ping: now,
            next_id: 0,
            rtt: None,
            pongs_in_second: (now, 0),
        }
    }

    /// An authenticated packet arrived; `Some` if that ended a stall, and how long it was.
    pub(super) fn on_heard(&mut self, now: MonoTime) -> Option<Duration> {
        let silence = now.since(self.heard);
        self.heard = self.heard.max(now);
        if !std::mem::take(&mut self.stalled) {
            return None;
        }
        // The peer may be about to give up: let it hear us at once.
        self.next_ping = now;
        Some(silence)
    }

    /// Whether nothing was heard for a second.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The id of a PING that is due now.
    pub(super) fn poll_ping(&mut self, now: MonoTime) -> Option<u16> {
        if now < self.next_ping {
            return None;
        }
        let id = self.next_id;
        self.next_id = (id + 1) % PROBE_ID;
        // While stalled, probe five times a second: a path that returns is found within 200 ms.
        let interval = if self.stalled {
            Duration::from_millis(200)
        } else if id < START_PINGS {
            START_INTERVAL
        } else {
            INTERVAL
        };
        self.next_ping = now + interval;
        Some(id)
    }

    /// Our PING came back; `held` is how long the peer kept it.
    pub(super) fn on_pong(&mut self, now: MonoTime, sent: MonoTime, held: Duration) {
        if sent > now {
            return;
        }
        let sample = now.since(sent).saturating_sub(held);
        self.rtt = Some(match self.rtt {
            // RFC 6298's gain.
            Some(rtt) => rtt - rtt / 8 + sample / 8,
            None => sample,
        });
    }

    /// Smoothed round-trip time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Whether one more PING may be answered.
    pub(super) fn may_pong(&mut self, now: MonoTime) -> bool {
        if now.since(self.pongs_in_second.0) >= Duration::from_secs(1) {
            self.pongs_in_second = (now, 0);
        }
        self.pongs_in_second.1 += 1;
        self.pongs_in_second.1 <= PONGS_PER_SECOND
    }

    /// Stalled or lost, each told once.
    pub(super) fn poll(&mut self, now: MonoTime) -> Option<Change> {
        let silence = now.since(self.heard);
        if silence >= LOST_AFTER {
            return Some(Change::Lost(silence));
        }
        if silence >= STALLED_AFTER && !self.stalled {
            self.stalled = true;
            self.next_ping = now;
            return Some(Change::Stalled);
        }
        None
    }

    /// When one of the polls has something next.
    pub(super) fn timeout(&self) -> MonoTime {
        let silence = if self.stalled { LOST_AFTER } else { STALLED_AFTER };
        self.next_ping.min(self.heard + silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn silence_is_a_stall_after_one_second_and_a_loss_after_five() {
        let mut l = Liveness::new(at(0));
        assert_eq!(l.poll(at(999)), None);
        assert_eq!(l.poll(at(1000)), Some(Change::Stalled));
        assert_eq!(l.poll(at(1001)), None);
        assert_eq!(l.on_heard(at(1500)), Some(Duration::from_millis(1500)));
        assert_eq!(l.on_heard(at(1501)), None);
        assert_eq!(l.poll(at(2501)), Some(Change::Stalled));
        assert_eq!(l.poll(at(6501)), Some(Change::Lost(Duration::from_secs(5))));
    }

    #[test]
    fn pings_start_fast_and_settle() {
        let mut l = Liveness::new(at(0));
        let times: Vec<_> = (0..5000).filter(|ms| l.poll_ping(at(*ms)).is_some()).collect();
        assert_eq!(times[..9], [0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]);
        assert_eq!(times[9..], [3000, 4000]);
    }

    #[test]
    fn a_flood_of_pings_is_not_answered() {
        let mut l = Liveness::new(at(0));
        assert_eq!((0..1000).filter(|_| l.may_pong(at(10))).count(), 20);
        assert!(l.may_pong(at(1100)));
    }
}
