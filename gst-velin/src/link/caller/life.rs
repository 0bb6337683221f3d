//! The life of a calling link: when to connect, which session is in use, when to give up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use velin_core::session::Ended;
use velin_core::wire::CloseCode;

use super::super::backoff::Backoff;
use super::super::connect::ConnectError;
use super::super::connection::Connection;
use super::super::event::{LinkEvent, PeerInfo};
use super::Shared;
use super::session::session;

/// A session that another one replaced is closed after this long: by then the new one carries all.
const OVERLAP: Duration = Duration::from_secs(1);

/// The same if it has lost its connection, before its silence looks like a stall.
const SHORT_OVERLAP: Duration = Duration::from_millis(300);

/// A panic in our own code must not leave elements waiting in silence.
pub(super) async fn guarded(shared: Arc<Shared>) {
    if let Err(e) = tokio::spawn(Life::new(shared.clone()).run()).await {
        shared.give_up(LinkEvent::ConnectFailed { error: internal(&shared, &e), retry_in: None });
    }
}

fn internal(shared: &Shared, e: &tokio::task::JoinError) -> ConnectError {
    let detail = format!("an internal error ({e}); please report it");
    ConnectError::Other { to: shared.address(), detail }
}

/// Numbers the sessions of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nth(u64);

/// What the task of a session tells the life of its link.
pub(super) enum Report {
    /// The peer proved itself; the session can be closed.
    Begun(Nth, Arc<Connection>),
    /// Both sides accepted each other.
    Open(Nth, PeerInfo),
    /// A new session should take this one's place.
    Shaky(Nth),
    /// It is fine again.
    Steady(Nth),
    /// It is over.
    Over(Nth, Outcome),
}

/// How a session, or the attempt at one, ended.
pub(super) enum Outcome {
    Failed(ConnectError),
    /// Something took our call and then said nothing.
    Hung(ConnectError),
    Refused(Ended),
    Ended {
        peer: PeerInfo,
        ended: Ended,
    },
}

/// The life of a link.
struct Life {
    shared: Arc<Shared>,
    backoff: Backoff,
    reports: mpsc::UnboundedReceiver<Report>,
    tell: mpsc::UnboundedSender<Report>,
    /// How many attempts there were.
    count: u64,
    /// The attempt under way, and what ends it.
    attempt: Option<(Nth, tokio::task::AbortHandle)>,
    /// When the next attempt may start.
    next: tokio::time::Instant,
    /// The session in use.
    current: Option<Current>,
    /// Every session that can be closed.
    living: Vec<(Nth, Arc<Connection>)>,
}

struct Current {
    nth: Nth,
    since: tokio::time::Instant,
    shaky: bool,
}

impl Life {
    fn new(shared: Arc<Shared>) -> Self {
        let (tell, reports) = mpsc::unbounded_channel();
        Self {
            shared,
            backoff: Backoff::default(),
            reports,
            tell,
            count: 0,
            attempt: None,
            next: tokio::time::Instant::now(),
            current: None,
            living: Vec::new(),
        }
    }

    async fn run(mut self) {
        let wake = self.shared.wake.clone();
        while !self.shared.stopped() {
            let wanted = self.wants_a_session();
            if wanted && self.next <= tokio::time::Instant::now() {
                self.start();
                continue;
            }
            tokio::select! {
                Some(report) = self.reports.recv() => self.on_report(report),
                () = tokio::time::sleep_until(self.next), if wanted => {}
                () = wake.notified() => {}
            }
        }
        // What has begun meanwhile says goodbye, too.
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Begun(nth, connection) = report {
                self.living.push((nth, connection));
            }
        }
        if let Some((_, task)) = self.attempt.take() {
            // Once its session has begun, it is closed below like the others.
            if self.living.is_empty() {
                task.abort();
            }
        }
        for (_, connection) in self.living.drain(..) {
            connection.close(CloseCode::SHUTDOWN);
        }
    }

    fn wants_a_session(&self) -> bool {
        // Nothing to do, nobody to call.
        self.attempt.is_none()
            && self.shared.hub.attachments() > 0
            && match &self.current {
                None => true,
                Some(current) => current.shaky && self.shared.settings.auto_reconnect,
            }
    }

    fn start(&mut self) {
        self.count += 1;
        let (nth, tell, shared) = (Nth(self.count), self.tell.clone(), self.shared.clone());
        if self.current.is_none() {
            shared.tell(&LinkEvent::Connecting { to: shared.address() });
        }
        let task = tokio::spawn(session(shared.clone(), nth, tell.clone()));
        self.attempt = Some((nth, task.abort_handle()));
        tokio::spawn(async move {
            let outcome = match task.await {
                Ok(outcome) => outcome,
                Err(e) => Outcome::Failed(internal(&shared, &e)),
            };
            let _ = tell.send(Report::Over(nth, outcome));
        });
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Begun(nth, connection) => self.living.push((nth, connection)),
            Report::Open(nth, peer) => self.on_open(nth, peer),
            Report::Shaky(nth) => {
                if let Some(current) = self.current.as_mut().filter(|c| c.nth == nth)
                    && !std::mem::replace(&mut current.shaky, true)
                {
                    self.backoff.was_up(current.since.elapsed());
                    self.next = tokio::time::Instant::now();
                }
            }
            Report::Steady(nth) => {
                if let Some(current) = self.current.as_mut().filter(|c| c.nth == nth) {
                    current.shaky = false;
                }
            }
            Report::Over(nth, outcome) => self.on_over(nth, outcome),
        }
    }

    fn on_open(&mut self, nth: Nth, peer: PeerInfo) {
        self.attempt.take_if(|(n, _)| *n == nth);
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        let since = tokio::time::Instant::now();
        match self.current.replace(Current { nth, since, shaky: false }) {
            None => self.shared.tell(&LinkEvent::Connected(peer)),
            Some(old) => {
                let Some((_, old)) = self.living.iter().find(|(n, _)| *n == old.nth) else {
                    return;
                };
                let old = old.clone();
                let detached = old.with(|s| s.is_detached());
                tokio::spawn(async move {
                    tokio::time::sleep(if detached { SHORT_OVERLAP } else { OVERLAP }).await;
                    old.close(CloseCode::SUPERSEDED);
                });
            }
        }
    }

    fn on_over(&mut self, nth: Nth, outcome: Outcome) {
        self.living.retain(|(n, _)| *n != nth);
        self.attempt.take_if(|(n, _)| *n == nth);
        let was_current = self.current.take_if(|c| c.nth == nth);
        let alone = self.current.is_none();
        let again = self.shared.settings.auto_reconnect;
        let to = self.shared.address();
        match outcome {
            // Whoever refuses us beside a living session is not the one we talk to.
            Outcome::Refused(ended) if alone => {
                let expired = match &ended {
                    Ended::UnknownPeer(key) => self.shared.settings.trust.expired(key),
                    _ => None,
                };
                self.shared.give_up(LinkEvent::Refused { ended, to, expired });
            }
            Outcome::Ended { peer, ended } => {
                // Another session has replaced it.
                let Some(current) = was_current else { return };
                self.backoff.was_up(current.since.elapsed());
                let retry_in = again.then(|| self.wait());
                let event = LinkEvent::Lost { peer, ended, retry_in };
                if again { self.shared.tell(&event) } else { self.shared.give_up(event) }
            }
            Outcome::Failed(error) | Outcome::Hung(error) if alone && !again => {
                self.shared.give_up(LinkEvent::ConnectFailed { error, retry_in: None });
            }
            // It took its time already.
            Outcome::Hung(error) => {
                self.next = tokio::time::Instant::now();
                if alone {
                    let retry_in = Some(Duration::ZERO);
                    self.shared.tell(&LinkEvent::ConnectFailed { error, retry_in });
                }
            }
            Outcome::Failed(error) => {
                let retry_in = Some(self.wait());
                if alone {
                    self.shared.tell(&LinkEvent::ConnectFailed { error, retry_in });
                }
            }
            Outcome::Refused(_) => {
                self.wait();
            }
        }
    }

    /// Puts the next attempt off; gives by how much. One that is under way is not put off.
    fn wait(&mut self) -> Duration {
        if self.attempt.is_some() {
            return Duration::ZERO;
        }
        let wait = self.backoff.next();
        self.next = tokio::time::Instant::now() + wait;
        wait
    }
}
