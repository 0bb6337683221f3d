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

/// After this long without anything, a PING asks for a sign of life well before it counts as a
/// stall: PINGs of one a second alone would be late as often as not.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// Between such questions.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

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
    last_ping: MonoTime,
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
            last_ping: now,
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
        // While nothing comes, five a second: a path that returns is found within 200 ms.
        let interval = if now.since(self.heard) >= ASK_AFTER {
            ASK_INTERVAL
        } else if id < START_PINGS {
            START_INTERVAL
        } else {
            INTERVAL
        };
        self.next_ping = now + interval;
        self.last_ping = now;
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
        if silence >= ASK_AFTER {
            self.next_ping = self.next_ping.min((self.last_ping + ASK_INTERVAL).max(now));
        }
        if silence >= STALLED_AFTER && !self.stalled {
            self.stalled = true;
            return Some(Change::Stalled);
        }
        None
    }

    /// When one of the polls has something next.
    pub(super) fn timeout(&self) -> MonoTime {
        let silence = if self.stalled { LOST_AFTER } else { STALLED_AFTER };
        let ask = (self.heard + ASK_AFTER).max(self.last_ping + ASK_INTERVAL);
        self.next_ping.min(self.heard + silence).min(ask)
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
        let mut times = Vec::new();
        for ms in 0..5000 {
            l.on_heard(at(ms));
            times.extend(l.poll_ping(at(ms)).map(|_| ms));
        }
        assert_eq!(times[..9], [0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]);
        assert_eq!(times[9..], [3000, 4000]);
    }

    /// The sender of a one-way stream hears nothing but answers to its PINGs.
    #[test]
    fn a_peer_that_only_answers_never_looks_stalled() {
        let mut l = Liveness::new(at(0));
        for ms in 0..60_000 {
            if l.poll_ping(at(ms)).is_some() {
                l.on_heard(at(ms));
            }
            assert_eq!(l.poll(at(ms)), None, "at {ms} ms");
        }
    }

    #[test]
    fn silence_is_asked_about_five_times_a_second() {
        let mut l = Liveness::new(at(0));
        for ms in 0..3000 {
            l.on_heard(at(ms));
            l.poll_ping(at(ms));
        }
        let mut times = Vec::new();
        for ms in 3000..5000 {
            let _ = l.poll(at(ms));
            times.extend(l.poll_ping(at(ms)).map(|_| ms));
        }
        assert_eq!(times[..4], [3000, 3499, 3699, 3899]);
        assert_eq!(times.len(), 9);
    }

    #[test]
    fn a_flood_of_pings_is_not_answered() {
        let mut l = Liveness::new(at(0));
        assert_eq!((0..1000).filter(|_| l.may_pong(at(10))).count(), 20);
        assert!(l.may_pong(at(1100)));
    }
}
