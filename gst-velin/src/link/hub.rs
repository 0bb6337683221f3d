//! What is attached to a link: the streams it sends, the elements that play, and through which
//! session each stream comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use velin_core::identity::PublicKey;
use velin_core::session::Trust;
use velin_core::units::StreamId;

use super::connection::Connection;
use super::event::{LinkEvent, Observer};
use super::filter::StreamFilter;
use super::intake::{Acceptor, Intake, StreamKey};
use super::out_stream::{OutStream, StreamSpec};
use super::runtime;
use super::trust::TrustNews;

/// The attachments of one link, and the sessions that serve them.
pub(crate) struct Hub {
    attached: Mutex<Attached>,
    sessions: Mutex<Vec<Arc<Connection>>>,
    playing: Mutex<HashMap<StreamKey, Playing>>,
    /// Called, with no lock held, when something was attached or detached.
    changed: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Attached {
    outs: Vec<Arc<OutStream>>,
    intakes: Vec<Arc<Intake>>,
    /// Why the link gave up: whoever comes later must hear it, too.
    over: Option<LinkEvent>,
}

/// Through which session a stream comes.
struct Playing {
    connection: Arc<Connection>,
    id: StreamId,
    intake: Arc<Intake>,
}

impl Hub {
    /// `changed` is called when something was attached or detached.
    pub(crate) fn new(changed: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            attached: Mutex::default(),
            sessions: Mutex::default(),
            playing: Mutex::default(),
            changed: Box::new(changed),
        })
    }

    /// Offers a stream in every session from now on, until it is closed.
    pub(crate) fn send(self: &Arc<Self>, spec: StreamSpec, observer: Observer) -> Arc<OutStream> {
        let stream = Arc::new(OutStream::new(spec, observer.clone(), Arc::downgrade(self)));
        self.attach(observer, |attached| attached.outs.push(stream.clone()));
        stream
    }

    /// Plays what `filter` takes, unless somebody who was attached before plays it.
    pub(crate) fn receive(
        self: &Arc<Self>,
        filter: StreamFilter,
        acceptor: Arc<dyn Acceptor>,
        observer: Observer,
    ) -> Arc<Intake> {
        let hub = Arc::downgrade(self);
        let intake = Arc::new(Intake::new(filter, acceptor, observer.clone(), hub));
        self.attach(observer, |attached| attached.intakes.push(intake.clone()));
        intake
    }

    fn attach(&self, observer: Observer, attach: impl FnOnce(&mut Attached)) {
        let over = {
            let mut attached = self.attached();
            attach(&mut attached);
            attached.over.clone()
        };
        if let (Some(event), Ok(runtime)) = (over, runtime::handle()) {
            // On a network thread, as ever: the caller may hold locks.
            runtime.spawn(async move { observer(event) });
        }
        self.notify();
    }

    /// Somebody closed an attachment.
    pub(super) fn detached(&self) {
        self.notify();
    }

    fn notify(&self) {
        for connection in self.sessions() {
            connection.nudge();
        }
        (self.changed)();
    }

    /// The streams to offer.
    pub(crate) fn outs(&self) -> Vec<Arc<OutStream>> {
        let mut attached = self.attached();
        attached.outs.retain(|s| !s.is_closed());
        attached.outs.clone()
    }

    /// Those who play, first come first.
    pub(crate) fn intakes(&self) -> Vec<Arc<Intake>> {
        let mut attached = self.attached();
        attached.intakes.retain(|i| !i.is_closed());
        attached.intakes.clone()
    }

    /// How many are attached.
    pub(crate) fn attachments(&self) -> usize {
        self.attached().count()
    }

    /// Tells everybody attached, with no lock held.
    pub(crate) fn tell(&self, event: &LinkEvent) {
        for stream in self.outs() {
            stream.tell(event.clone());
        }
        for intake in self.intakes() {
            intake.tell(event.clone());
        }
    }

    /// Tells whoever came first: for what concerns the link and no stream.
    pub(crate) fn tell_first(&self, event: &LinkEvent) {
        match (self.intakes().first(), self.outs().first()) {
            (Some(intake), _) => intake.tell(event.clone()),
            (None, Some(stream)) => stream.tell(event.clone()),
            (None, None) => {}
        }
    }

    /// The last thing that is told: also to whoever comes later.
    pub(crate) fn give_up(&self, event: LinkEvent) {
        // Under the lock: whoever is attached now is told below, whoever comes later on coming.
        self.attached().over = Some(event.clone());
        self.tell(&event);
    }

    /// A session that serves the attachments.
    pub(crate) fn enter(&self, connection: &Arc<Connection>) {
        self.lock_sessions().push(connection.clone());
    }

    /// It is over.
    pub(crate) fn leave(&self, connection: &Arc<Connection>) {
        self.lock_sessions().retain(|c| !Arc::ptr_eq(c, connection));
        self.lock_playing().retain(|_, p| !Arc::ptr_eq(&p.connection, connection));
    }

    /// The sessions now.
    pub(crate) fn sessions(&self) -> Vec<Arc<Connection>> {
        self.lock_sessions().clone()
    }

    /// Whether a later session with the same peer lives.
    pub(crate) fn is_superseded(&self, connection: &Arc<Connection>) -> bool {
        let mut sessions = self.sessions().into_iter();
        let peer = connection.with(|s| s.peer());
        sessions.any(|c| Arc::ptr_eq(&c, connection))
            && sessions.any(|c| c.with(|s| s.peer()) == peer)
    }

    /// What the link does about news of its trust.
    pub(crate) fn on_trust(
        &self,
        news: &TrustNews,
        trust: &dyn Trust,
        own: PublicKey,
        consent: Option<PublicKey>,
    ) {
        match news {
            TrustNews::Changed => {
                for connection in self.sessions() {
                    connection.judge_again(trust, own, consent);
                }
            }
            TrustNews::Unreadable(text) => {
                self.tell_first(&LinkEvent::TrustUnreadable(text.clone()));
            }
        }
    }

    /// `key` comes through `connection` from now on, for `intake`.
    pub(crate) fn playing(
        &self,
        key: StreamKey,
        connection: &Arc<Connection>,
        id: StreamId,
        intake: &Arc<Intake>,
    ) {
        let playing = Playing { connection: connection.clone(), id, intake: intake.clone() };
        self.lock_playing().insert(key, playing);
    }

    /// Through which session `key` came until now. It does no more.
    pub(crate) fn take_playing(
        &self,
        key: StreamKey,
    ) -> Option<(Arc<Connection>, StreamId, Arc<Intake>)> {
        let Playing { connection, id, intake } = self.lock_playing().remove(&key)?;
        Some((connection, id, intake))
    }

    /// `key` comes no more through stream `id` of `connection`.
    pub(crate) fn stopped(&self, key: StreamKey, connection: &Arc<Connection>, id: StreamId) {
        let mut playing = self.lock_playing();
        if playing.get(&key).is_some_and(|p| Arc::ptr_eq(&p.connection, connection) && p.id == id) {
            playing.remove(&key);
        }
    }

    /// Whether a stream comes through `connection`.
    pub(crate) fn plays_from(&self, connection: &Arc<Connection>) -> bool {
        self.lock_playing().values().any(|p| Arc::ptr_eq(&p.connection, connection))
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_sessions(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_playing(&self) -> MutexGuard<'_, HashMap<StreamKey, Playing>> {
        self.playing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attached {
    fn count(&self) -> usize {
        self.outs.iter().filter(|s| !s.is_closed()).count()
            + self.intakes.iter().filter(|i| !i.is_closed()).count()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("attachments", &self.attachments()).finish_non_exhaustive()
    }
}
