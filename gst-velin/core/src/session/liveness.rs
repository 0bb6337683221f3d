//! Whether the peer is still there: what was heard last, PINGs, round-trip time.

use std::time::Duration;

use crate::time::MonoTime;

/// After this long without an authenticated packet the session counts as stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(1);

/// After this long media is held back, and every way to the peer is tried eight times a second.
pub const LOST_AFTER: Duration = Duration::from_secs(5);

/// After this long the keys are given up and a new session must be made.
pub const EXPIRED_AFTER: Duration = Duration::from_secs(60);

/// Whoever was stopped has this long to hear something after waking.
const WAKE_GRACE: Duration = Duration::from_secs(5);

/// When a session on carrier `tcp` that hears no media counts as stalled.
const SLOW_STALLED_AFTER: Duration = Duration::from_secs(10);

const START_INTERVAL: Duration = Duration::from_millis(250);
const START_PINGS: u16 = 8;
const INTERVAL: Duration = Duration::from_secs(1);

/// After this long without anything, a PING asks for a sign of life well before it counts as a
/// stall: PINGs of one a second alone would be late as often as not.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// Between such questions.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// Between probes that must find a returning path quickly enough for audio within 200 ms.
const PROBE_INTERVAL: Duration = Duration::from_millis(125);

/// The id of PINGs that are not for measuring: they may wait long in a stalled connection.
pub(super) const PROBE_ID: u16 = u16::MAX;

/// A peer may have this many PINGs answered per second.
const PONGS_PER_SECOND: u32 = 20;

/// How closely the peer is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// A PING a second, and a stall after a second of silence.
    Close,
    /// A PING every five seconds, and a stall after ten seconds of silence.
    Slow,
}

impl Pace {
    fn interval(self) -> Duration {
        match self {
            Self::Close => INTERVAL,
            Self::Slow => Duration::from_secs(5),
        }
    }

    fn stalled_after(self) -> Duration {
        match self {
            Self::Close => STALLED_AFTER,
            Self::Slow => SLOW_STALLED_AFTER,
        }
    }

    fn lost_after(self) -> Duration {
        match self {
            Self::Close => LOST_AFTER,
            Self::Slow => SLOW_STALLED_AFTER + LOST_AFTER,
        }
    }

    /// A sign of life is asked for this long before its absence counts as a stall.
    fn ask_after(self) -> Duration {
        self.stalled_after() - (STALLED_AFTER - ASK_AFTER)
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Stalled,
    Lost(Duration),
    Expired(Duration),
}

/// A silence that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    pub(super) silence: Duration,
    /// Whether it was long enough for media to be held.
    pub(super) was_lost: bool,
}

/// Liveness of one session.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: MonoTime,
    woke: MonoTime,
    pace: Pace,
    /// Since when the peer is watched like this: silence before that does not count.
    paced: MonoTime,
    stalled: bool,
    lost: bool,
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
            woke: now,
            pace: Pace::Close,
            paced: now,
            stalled: false,
            lost: false,
            next_ping: now,
            last_ping: now,
            next_id: 0,
            rtt: None,
            pongs_in_second: (now, 0),
        }
    }

    /// An authenticated packet arrived; `Some` if that ended a stall.
    pub(super) fn on_heard(&mut self, now: MonoTime) -> Option<Outage> {
        let silence = now.since(self.heard);
        self.heard = self.heard.max(now);
        let was_lost = std::mem::take(&mut self.lost);
        if !std::mem::take(&mut self.stalled) {
            return None;
        }
        // The peer may be about to give up: let it hear us at once.
        self.next_ping = now;
        Some(Outage { silence, was_lost })
    }

    /// From now on the peer is watched like this.
    pub(super) fn set_pace(&mut self, now: MonoTime, pace: Pace) {
        if std::mem::replace(&mut self.pace, pace) == pace {
            return;
        }
        self.paced = now;
        self.next_ping = self.next_ping.min((self.last_ping + pace.interval()).max(now));
    }

    /// We did not run: the silence may have been ours.
    pub(super) fn wake(&mut self, now: MonoTime) {
        self.woke = now;
        self.next_ping = now;
    }

    /// When we last woke, or started.
    pub(super) fn woke(&self) -> MonoTime {
        self.woke
    }

    /// When the last packet came.
    pub(super) fn heard(&self) -> MonoTime {
        self.heard
    }

    /// How long nothing has come.
    pub(super) fn silence(&self, now: MonoTime) -> Duration {
        now.since(self.heard)
    }

    /// The next PING is due at once.
    pub(super) fn hurry(&mut self, now: MonoTime) {
        self.next_ping = self.next_ping.min(now);
    }

    /// Whether nothing was heard for five seconds.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether nothing was heard for a second.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// The id of a PING that is due now. `urgent`: they come eight a second.
    pub(super) fn poll_ping(&mut self, now: MonoTime, urgent: bool) -> Option<u16> {
        if now < self.next_ping {
            return None;
        }
        let id = self.next_id;
        self.next_id = (id + 1) % PROBE_ID;
        // While nothing comes, five a second: a path that returns is found within 200 ms.
        let interval = if urgent {
            PROBE_INTERVAL
        } else if now.since(self.quiet_since()) >= self.pace.ask_after() {
            ASK_INTERVAL
        } else if id < START_PINGS {
            START_INTERVAL
        } else {
            self.pace.interval()
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

    /// Stalled, lost or expired, each told once.
    pub(super) fn poll(&mut self, now: MonoTime) -> Option<Change> {
        let silence = now.since(self.quiet_since());
        if silence >= self.pace.ask_after() && !self.lost {
            self.next_ping = self.next_ping.min((self.last_ping + ASK_INTERVAL).max(now));
        }
        if silence >= self.pace.stalled_after() && !self.stalled {
            self.stalled = true;
            return Some(Change::Stalled);
        }
        if silence >= self.pace.lost_after() && !self.lost {
            self.lost = true;
            return Some(Change::Lost(self.silence(now)));
        }
        (self.lost && now >= self.expiry()).then_some(Change::Expired(self.silence(now)))
    }

    /// When one of the polls has something next.
    pub(super) fn timeout(&self) -> MonoTime {
        if self.lost {
            return self.next_ping.min(self.expiry());
        }
        let pace = self.pace;
        let silence = if self.stalled { pace.lost_after() } else { pace.stalled_after() };
        let quiet = self.quiet_since();
        let ask = (quiet + pace.ask_after()).max(self.last_ping + ASK_INTERVAL);
        self.next_ping.min(quiet + silence).min(ask)
    }

    /// Since when silence counts.
    fn quiet_since(&self) -> MonoTime {
        self.heard.max(self.paced)
    }

    fn expiry(&self) -> MonoTime {
        (self.heard + EXPIRED_AFTER).max(self.woke + WAKE_GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn silence_is_a_stall_then_a_loss_and_then_the_end() {
        let outage = |ms, was_lost| Some(Outage { silence: Duration::from_millis(ms), was_lost });
        let mut l = Liveness::new(at(0));
        assert_eq!(l.poll(at(999)), None);
        assert_eq!(l.poll(at(1000)), Some(Change::Stalled));
        assert_eq!(l.poll(at(1001)), None);
        assert_eq!(l.on_heard(at(1500)), outage(1500, false));
        assert_eq!(l.on_heard(at(1501)), None);
        for _ in 0..2 {
            let heard = l.heard().as_nanos() / 1_000_000;
            assert_eq!(l.poll(at(heard + 1000)), Some(Change::Stalled));
            let lost = Change::Lost(Duration::from_secs(5));
            assert_eq!(l.poll(at(heard + 5000)), Some(lost));
            assert_eq!(l.poll(at(heard + 59_999)), None);
            assert_eq!(l.on_heard(at(heard + 59_999)), outage(59_999, true));
        }
        let _ = (l.poll(at(1_000_000)), l.poll(at(1_000_000)));
        assert!(matches!(l.poll(at(1_000_000)), Some(Change::Expired(_))));
    }

    #[test]
    fn who_was_stopped_has_five_seconds_to_hear_something() {
        let mut l = Liveness::new(at(0));
        l.wake(at(100_000));
        assert_eq!(l.poll(at(100_000)), Some(Change::Stalled));
        assert!(matches!(l.poll(at(100_000)), Some(Change::Lost(_))));
        assert_eq!(l.poll(at(104_999)), None);
        assert!(matches!(l.poll(at(105_000)), Some(Change::Expired(_))));
    }

    #[test]
    fn pings_start_fast_and_settle() {
        let mut l = Liveness::new(at(0));
        let mut times = Vec::new();
        for ms in 0..5000 {
            l.on_heard(at(ms));
            times.extend(l.poll_ping(at(ms), false).map(|_| ms));
        }
        assert_eq!(times[..9], [0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]);
        assert_eq!(times[9..], [3000, 4000]);
    }

    /// The sender of a one-way stream hears nothing but answers to its PINGs.
    #[test]
    fn a_peer_that_only_answers_never_looks_stalled() {
        let mut l = Liveness::new(at(0));
        for ms in 0..60_000 {
            if l.poll_ping(at(ms), false).is_some() {
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
            l.poll_ping(at(ms), false);
        }
        let mut times = Vec::new();
        for ms in 3000..5000 {
            let _ = l.poll(at(ms));
            times.extend(l.poll_ping(at(ms), false).map(|_| ms));
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
