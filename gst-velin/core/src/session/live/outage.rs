//! Silence, a connection that is gone, and a process that was stopped: what keeps the session, and
//! when it is given up.

use std::time::Duration;

use super::{HEADER, Live, Origin, seal_to, seal_to_stream};
use crate::session::event::{Ended, Event, Route};
use crate::session::liveness::{Change, Outage, PROBE_ID};
use crate::session::path::CHALLENGE_BYTES;
use crate::session::{Shell, StreamEnd};
use crate::time::MonoTime;
use crate::wire::{put_path_challenge, put_ping};

/// A session whose connection the peer's system ended, and that hears nothing by UDP for this
/// long, has no peer any more.
pub const DETACHED_SILENCE: Duration = Duration::from_secs(1);

/// A session without a connection is given up this long after UDP was heard: by then a new session
/// must have taken over.
pub const UNRENEWED_AFTER: Duration = Duration::from_secs(5);

/// A timeout that is handled this much too late means that we did not run.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// After waking, probes go out eight a second for this long.
const AWAKE: Duration = Duration::from_secs(2);

/// The connection is gone and the session is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detached {
    end: StreamEnd,
    since: MonoTime,
    /// When the first packet since then came.
    heard: Option<MonoTime>,
}

impl Live {
    pub(in crate::session) fn is_detached(&self) -> bool {
        self.detached.is_some()
    }

    pub(in crate::session) fn is_lost(&self) -> bool {
        self.liveness.is_lost()
    }

    /// The connection is over. An error ends the session.
    pub(in crate::session) fn detach(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        end: StreamEnd,
    ) -> Result<(), Ended> {
        if self.is_detached() {
            return Ok(());
        }
        if !self.accepted {
            return Err(Ended::Truncated);
        }
        if !self.paths.has_address() {
            // There is no other way to hear from the peer.
            return Err(match end {
                StreamEnd::Closed => Ended::Truncated,
                StreamEnd::TimedOut => Ended::PathLost(self.liveness.silence(now)),
            });
        }
        self.detached = Some(Detached { end, since: now, heard: None });
        shell.hang_up();
        shell.events.push_back(Event::Detached);
        self.update_route(shell);
        self.liveness.hurry(now);
        self.ask_for_life(shell, now);
        Ok(())
    }

    /// How late we are, if that means that we were stopped.
    pub(in crate::session) fn overslept(&mut self, now: MonoTime) -> Option<Duration> {
        let late = now.since(self.timeout().max(self.called));
        self.called = self.called.max(now);
        (late > OVERSLEPT).then_some(late)
    }

    /// We were stopped, or the machine slept: what was silent meanwhile was not the peer.
    pub(in crate::session) fn wake(&mut self, shell: &mut Shell, now: MonoTime) {
        self.awake_until = Some(now + AWAKE);
        self.liveness.wake(now);
        self.media_heard = self.media_heard.map(|_| now);
        self.unanswered = None;
        self.ask_for_life(shell, now);
    }

    /// Stalls, losses and ends that are due.
    pub(super) fn poll_liveness(&mut self, shell: &mut Shell, now: MonoTime) -> Result<(), Ended> {
        while let Some(change) = self.liveness.poll(now) {
            match change {
                // Media keeps its way: a path that comes back carries audio at once. If only UDP
                // is blocked, the receiver says so on the other carrier.
                Change::Stalled => shell.events.push_back(Event::Stalled),
                Change::Lost(silence) => {
                    shell.events.push_back(Event::Lost(silence));
                    self.update_route(shell);
                    self.liveness.hurry(now);
                }
                Change::Expired(silence) => return Err(Ended::PathLost(silence)),
            }
        }
        match self.detached_deadline() {
            Some((at, ended)) if at <= now => Err(ended),
            _ => Ok(()),
        }
    }

    /// Until when a session without a connection lives, and why it ends then.
    pub(super) fn detached_deadline(&self) -> Option<(MonoTime, Ended)> {
        let Detached { end, since, heard } = self.detached?;
        let awake = self.liveness.woke();
        let unrenewed = heard.map(|t| (t.max(awake) + UNRENEWED_AFTER, Ended::Unrenewed));
        let silent = since.max(self.liveness.heard()).max(awake) + DETACHED_SILENCE;
        let truncated = (end == StreamEnd::Closed).then_some((silent, Ended::Truncated));
        [unrenewed, truncated].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// An authenticated packet came.
    pub(super) fn note_heard(&mut self, now: MonoTime) {
        if let Some(detached) = &mut self.detached {
            detached.heard.get_or_insert(now);
        }
    }

    /// Something came after a stall.
    pub(super) fn on_recovery(
        &mut self,
        shell: &mut Shell,
        now: MonoTime,
        origin: Origin,
        outage: Outage,
    ) {
        shell.events.push_back(Event::Recovered(outage.silence));
        self.unanswered = None;
        if outage.was_lost {
            self.rekey.forgive(now);
        }
        match origin {
            // The connection came back first; UDP must prove itself anew.
            Origin::Stream => self.restart_paths(shell, now),
            // UDP came back first: the peer hears us soonest by a challenge.
            Origin::Datagram(from) => {
                if outage.was_lost {
                    self.paths.revive(from);
                    self.update_route(shell);
                }
                self.paths.hurry(now);
                self.probe(shell, now);
            }
        }
    }

    /// Whether every way that may carry something is tried eight times a second: while nothing is
    /// heard, after waking, and while neither carrier is usable.
    pub(super) fn is_urgent(&self, now: MonoTime) -> bool {
        self.is_lost()
            || self.awake_until.is_some_and(|t| now < t)
            || self.is_detached() && self.paths.validated().is_none()
    }

    /// A challenge to every address that may be the peer's, and a PING by TCP. The answer to a
    /// challenge is as good a sign of life as that to a PING, and proves the address as well.
    pub(super) fn probe_everywhere(&mut self, shell: &mut Shell, now: MonoTime) {
        for to in self.paths.known().into_iter().flatten() {
            let nonce = shell.random_u64();
            self.paths.expect(nonce, to);
            self.paths.on_sent(to, CHALLENGE_BYTES);
            let mut packet = vec![0; HEADER];
            put_path_challenge(nonce, &mut packet);
            seal_to(shell, self.epochs.path(), packet, to);
        }
        if self.route() != Route::Stream {
            let mut packet = vec![0; HEADER];
            put_ping(PROBE_ID, now.as_nanos(), &mut packet);
            seal_to_stream(shell, self.epochs.path(), packet);
        }
    }
}
