//! New keys inside a living session: an X25519 exchange over the control stream.

use std::time::Duration;

use crate::entropy::Entropy;
use crate::identity::{Identity, PublicKey, SharedSecret};
use crate::time::MonoTime;

/// New keys are made after this long.
const INTERVAL: Duration = Duration::from_secs(15 * 60);

/// New keys are made when a stream has sealed this many packets with one.
const PACKETS: u64 = 1 << 32;

/// Packets are counted this often.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// A request that nobody answers within this long ends the session. It is never made again: the
/// connection is reliable, and two requests under way would end in two different secrets.
const PATIENCE: Duration = Duration::from_secs(60);

/// While a change cannot start yet, it is looked at again after this long.
const POSTPONED: Duration = Duration::from_millis(100);

/// When to change keys, and our half of a change under way.
pub(super) struct Rekey {
    pending: Option<Pending>,
    next: MonoTime,
    next_count: MonoTime,
    interval: Duration,
}

struct Pending {
    secret: Identity,
    since: MonoTime,
}

impl Rekey {
    /// `offset` spreads the two ends apart, so that they rarely start at once.
    pub(super) fn new(now: MonoTime, offset: Duration) -> Self {
        let interval = INTERVAL + offset;
        Self { pending: None, next: now + interval, next_count: now + COUNT_INTERVAL, interval }
    }

    /// Whether a request of ours waits for its answer.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Starts a request; gives the public half.
    pub(super) fn start(&mut self, now: MonoTime, entropy: &mut dyn Entropy) -> PublicKey {
        let secret = ephemeral(entropy);
        let public = secret.public();
        self.pending = Some(Pending { secret, since: now });
        public
    }

    /// Drops our own request: the peer's wins.
    pub(super) fn yield_to_peer(&mut self) {
        self.pending = None;
    }

    /// Our request was answered. `None`: there was none, or the key is hostile.
    pub(super) fn finish(&mut self, now: MonoTime, theirs: &PublicKey) -> Option<SharedSecret> {
        let pending = self.pending.take()?;
        self.next = now + self.interval;
        pending.secret.agree(theirs)
    }

    /// Answers the peer's request: our public half and the secret.
    pub(super) fn answer(
        &mut self,
        now: MonoTime,
        theirs: &PublicKey,
        entropy: &mut dyn Entropy,
    ) -> Option<(PublicKey, SharedSecret)> {
        let secret = ephemeral(entropy);
        self.next = now + self.interval;
        Some((secret.public(), secret.agree(theirs)?))
    }

    /// Looks, at most once a second, how many packets the busiest stream has `sealed`.
    pub(super) fn count(&mut self, now: MonoTime, sealed: impl FnOnce() -> u64) {
        if now < self.next_count {
            return;
        }
        self.next_count = now + COUNT_INTERVAL;
        if sealed() >= PACKETS {
            self.next = self.next.min(now);
        }
    }

    /// Whether a change is due.
    pub(super) fn is_due(&self, now: MonoTime) -> bool {
        self.pending.is_none() && now >= self.next
    }

    /// A change is due and cannot start now.
    pub(super) fn postpone(&mut self, now: MonoTime) {
        self.next = now + POSTPONED;
    }

    /// Whether the peer has not answered for so long that it never will.
    pub(super) fn is_hopeless(&self, now: MonoTime) -> bool {
        self.pending.as_ref().is_some_and(|p| now.since(p.since) >= PATIENCE)
    }

    /// The peer could not have answered: it has its whole time again.
    pub(super) fn forgive(&mut self, now: MonoTime) {
        if let Some(pending) = &mut self.pending {
            pending.since = now;
        }
    }

    pub(super) fn timeout(&self) -> MonoTime {
        match &self.pending {
            Some(p) => p.since + PATIENCE,
            None => self.next,
        }
    }
}

fn ephemeral(entropy: &mut dyn Entropy) -> Identity {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    entropy.fill(&mut bytes[..]);
    Identity::from_secret(*bytes)
}
