//! Which UDP address of the peer carries packets: nothing but an answered challenge decides.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::time::MonoTime;

/// When challenges go out after the peer's address became known, in milliseconds. After the last
/// one: every [`SLOW`].
const SCHEDULE_MS: [u64; 11] = [0, 10, 20, 40, 80, 200, 1000, 2000, 3000, 4000, 5000];

/// Between challenges while UDP does not answer.
const SLOW: Duration = Duration::from_secs(10);

/// A new address is challenged no more often than this.
const CANDIDATE_INTERVAL: Duration = Duration::from_millis(50);

/// Challenges remembered.
const MAX_OUTSTANDING: usize = 32;

/// Bytes of a packet with one PATH_CHALLENGE or PATH_RESPONSE.
pub(super) const CHALLENGE_BYTES: u64 = 44;

/// The peer's UDP addresses: announced, validated, and perhaps a new one.
#[derive(Debug, Default)]
pub(super) struct Paths {
    announced: Option<SocketAddr>,
    validated: Option<SocketAddr>,
    /// What was validated last, even if it is not to be relied on any more.
    proved: Option<SocketAddr>,
    probing: Option<Probing>,
    candidate: Option<Candidate>,
    outstanding: VecDeque<(u64, SocketAddr)>,
    unproved: u64,
}

#[derive(Clone, Copy, Debug)]
struct Probing {
    start: MonoTime,
    sent: u32,
    next: MonoTime,
}

/// An address that authenticated packets came from and that has not answered yet.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    received: u64,
    sent: u64,
    next: MonoTime,
}

impl Paths {
    /// The peer said where it receives.
    pub(super) fn announce(&mut self, now: MonoTime, address: SocketAddr) {
        self.announced = Some(address);
        self.restart(now);
    }

    /// UDP is not to be relied on any more: forget what was proved and probe again.
    pub(super) fn restart(&mut self, now: MonoTime) {
        self.validated = None;
        if self.announced.is_some() {
            self.probing = Some(Probing { start: now, sent: 0, next: now });
        }
    }

    /// Now is a good moment: if UDP is being probed, the next challenge is due at once.
    pub(super) fn hurry(&mut self, now: MonoTime) {
        if let Some(probing) = &mut self.probing {
            probing.next = probing.next.min(now);
        }
    }

    /// Whether there is any address by UDP.
    pub(super) fn has_address(&self) -> bool {
        self.announced.or(self.validated).or(self.proved).is_some()
    }

    /// After a long silence something came from `from`. If that address has answered a challenge
    /// before, it carries packets again at once.
    pub(super) fn revive(&mut self, from: SocketAddr) {
        if self.proved == Some(from) {
            self.validated = Some(from);
            self.probing = None;
        }
    }

    /// Where the peer may be: the address that was proved last, and unless it is relied on, the one
    /// that was announced.
    pub(super) fn known(&self) -> [Option<SocketAddr>; 2] {
        let other = self.announced.filter(|a| self.validated.is_none() && self.proved != Some(*a));
        [self.validated.or(self.proved), other]
    }

    /// A challenge with `nonce` goes to `to` beside the schedule.
    pub(super) fn expect(&mut self, nonce: u64, to: SocketAddr) {
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((nonce, to));
    }

    /// Where UDP may go.
    pub(super) fn validated(&self) -> Option<SocketAddr> {
        self.validated
    }

    /// Addresses that never answered.
    pub(super) fn unproved(&self) -> u64 {
        self.unproved
    }

    /// An authenticated packet of `bytes` came from `from`, newer than all before it.
    pub(super) fn on_newest(&mut self, now: MonoTime, from: SocketAddr, bytes: u64) {
        if self.validated == Some(from) {
            if self.candidate.take().is_some() {
                self.unproved += 1;
            }
            return;
        }
        match &mut self.candidate {
            Some(c) if c.address == from => c.received += bytes,
            other => {
                if other.is_some() {
                    self.unproved += 1;
                }
                *other = Some(Candidate { address: from, received: bytes, sent: 0, next: now });
            }
        }
    }

    /// Something else was sent to `to`; it counts against a new address's share.
    pub(super) fn on_sent(&mut self, to: SocketAddr, bytes: u64) {
        if let Some(c) = self.candidate.as_mut().filter(|c| c.address == to) {
            c.sent += bytes;
        }
    }

    /// The next challenge that is due, if any; `nonce` is a fresh random number.
    pub(super) fn poll(
        &mut self,
        now: MonoTime,
        nonce: impl FnOnce() -> u64,
    ) -> Option<(SocketAddr, u64)> {
        let to = self.due(now)?;
        let nonce = nonce();
        self.expect(nonce, to);
        Some((to, nonce))
    }

    /// A PATH_RESPONSE arrived; `Some` if it moved the path.
    pub(super) fn on_response(&mut self, nonce: u64) -> Option<SocketAddr> {
        let (_, address) = *self.outstanding.iter().find(|(n, _)| *n == nonce)?;
        self.outstanding.retain(|(_, a)| *a != address);
        if self.candidate.is_some_and(|c| c.address == address) {
            self.candidate = None;
        }
        if self.announced == Some(address) || self.probing.is_some() {
            self.probing = None;
        }
        let moved = self.validated != Some(address);
        self.validated = Some(address);
        self.proved = Some(address);
        moved.then_some(address)
    }

    /// When [`poll`](Self::poll) has something next.
    pub(super) fn timeout(&self) -> Option<MonoTime> {
        let candidate = self.candidate.filter(Candidate::may_send).map(|c| c.next);
        self.probing.map(|p| p.next).into_iter().chain(candidate).min()
    }

    fn due(&mut self, now: MonoTime) -> Option<SocketAddr> {
        if let (Some(p), Some(to)) = (&mut self.probing, self.announced)
            && p.next <= now
        {
            p.sent += 1;
            p.next = match SCHEDULE_MS.get(p.sent as usize) {
                Some(ms) => p.start + Duration::from_millis(*ms),
                None => now + SLOW,
            };
            return Some(to);
        }
        let c = self.candidate.as_mut().filter(|c| c.next <= now && c.may_send())?;
        c.sent += CHALLENGE_BYTES;
        c.next = now + CANDIDATE_INTERVAL;
        Some(c.address)
    }
}

impl Candidate {
    /// At most three times what came from there (RFC 9000, section 8.1).
    fn may_send(&self) -> bool {
        self.sent + CHALLENGE_BYTES <= 3 * self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos(ms * 1_000_000)
    }

    fn addr(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    #[test]
    fn challenges_follow_the_schedule() {
        let mut p = Paths::default();
        p.announce(at(0), addr("192.0.2.1:5"));
        let mut sent = Vec::new();
        let mut now = at(0);
        while let Some(t) = p.timeout().filter(|t| *t <= at(30_000)) {
            now = now.max(t);
            if p.poll(now, || 1).is_some() {
                sent.push(now.as_nanos() / 1_000_000);
            }
        }
        assert_eq!(sent, [0, 10, 20, 40, 80, 200, 1000, 2000, 3000, 4000, 5000, 15_000, 25_000]);
    }

    #[test]
    fn only_an_answered_challenge_validates() {
        let mut p = Paths::default();
        let a = addr("192.0.2.1:5");
        p.announce(at(0), a);
        assert_eq!(p.poll(at(0), || 42), Some((a, 42)));
        assert_eq!(p.on_response(41), None);
        assert_eq!(p.validated(), None);
        assert_eq!(p.on_response(42), Some(a));
        assert_eq!(p.validated(), Some(a));
        assert_eq!(p.timeout(), None);
        assert_eq!(p.on_response(42), None);
    }

    #[test]
    fn a_new_address_gets_at_most_three_times_what_it_sent() {
        let mut p = Paths::default();
        let victim = addr("203.0.113.9:9");
        p.on_newest(at(0), victim, 50);
        let mut sent = 0;
        for ms in 0..100_000 {
            if p.poll(at(ms), || ms).is_some() {
                sent += CHALLENGE_BYTES;
            }
        }
        assert!(sent > 0 && sent <= 150, "{sent}");
        assert_eq!(p.validated(), None);
    }

    #[test]
    fn an_answering_new_address_becomes_the_path() {
        let mut p = Paths::default();
        let (a, b) = (addr("192.0.2.1:5"), addr("192.0.2.2:6"));
        p.announce(at(0), a);
        p.poll(at(0), || 1);
        p.on_response(1);
        p.on_newest(at(100), b, 528);
        assert_eq!(p.validated(), Some(a));
        assert_eq!(p.poll(at(100), || 2), Some((b, 2)));
        assert_eq!(p.on_response(2), Some(b));
        assert_eq!(p.validated(), Some(b));
    }
}
