//! Whom we trust, as the trust file says: read again when it changes, and told to who asked.

use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use velin_core::identity::{Grants, Name, PublicKey, Trust as Standing, TrustBook, WallTime};
use velin_core::session::Trust;
use velin_core::time::MonoTime;

use super::clock;
use super::runtime::{self, RuntimeError};
use super::store::trust_file::{self, TrustFileError};
use super::store::{self, Places};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a handshake waits for a look at the file, which takes microseconds unless the disk is
/// asleep or the file is on a server that is gone.
const PATIENCE: Duration = Duration::from_millis(100);

/// The trust file. Sessions ask the copy in memory, which follows the file within a second once
/// a link uses it.
///
/// When the file cannot be read, the last good copy stays in force.
pub struct TrustSource {
    path: Option<PathBuf>,
    book: ArcSwap<TrustBook>,
    /// What the last look found. Held while the file is read.
    found: Mutex<Found>,
    subscribers: Arc<Mutex<Subscribers>>,
    /// One look at a time: a file that hangs costs one thread, not one for each handshake.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When the last look began, in nanoseconds of [`MonoTime`].
    looked: AtomicU64,
    watched: AtomicBool,
}

#[derive(Default)]
struct Found {
    stamp: Option<Stamp>,
    /// Who is trusted and not expired, and for what.
    in_force: Vec<(PublicKey, Grants)>,
    /// The file that could not be read, and why.
    failed: Option<(Option<Stamp>, String)>,
}

#[derive(Default)]
struct Subscribers {
    next: u64,
    each: Vec<(u64, Arc<Subscriber>)>,
}

type Subscriber = dyn Fn(&TrustNews) + Send + Sync;

/// What subscribers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrustNews {
    /// An entry came, went, changed or expired: ask for the grants again.
    Changed,
    /// The file cannot be read any more; the last good copy stays in force. Told once for each
    /// change of the file.
    Unreadable(String),
}

/// Keeps a subscriber subscribed. A call that is under way when it is dropped still ends.
#[must_use = "a subscription ends when it is dropped"]
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    subscribers: Weak<Mutex<Subscribers>>,
}

/// That, and when, the trust in a peer ran out. Its text says how to renew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredTrust {
    /// Whose.
    pub key: PublicKey,
    /// What the trust file calls it.
    pub name: Option<Name>,
    /// Since when it is trusted no more.
    pub since: WallTime,
    /// The trust file, if it is not the default one.
    pub file: Option<PathBuf>,
}

impl TrustSource {
    /// Reads the file at `path`, or the one in the default place. Waits for the disk.
    pub fn load(path: Option<&Path>) -> Result<Self, TrustFileError> {
        let stamp = stamp(path);
        let book = trust_file::load(path)?;
        let in_force = in_force(&book, clock::wall());
        Ok(Self {
            path: path.map(Into::into),
            book: ArcSwap::from_pointee(book),
            found: Mutex::new(Found { stamp, in_force, failed: None }),
            subscribers: Arc::default(),
            turn: Arc::default(),
            looked: AtomicU64::new(0),
            watched: AtomicBool::new(false),
        })
    }

    /// From now on the file is looked at every second, for as long as anybody holds the source.
    /// Watching twice is watching once.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<(), RuntimeError> {
        let runtime = runtime::handle()?;
        if self.watched.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let source = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let Some(source) = source.upgrade() else { return };
                source.look_aside().await;
            }
        });
        Ok(())
    }

    /// Has `f` called after every change, on one of the runtime's threads with no lock held. It
    /// must not wait.
    pub(crate) fn subscribe(&self, f: impl Fn(&TrustNews) + Send + Sync + 'static) -> Subscription {
        let mut subscribers = lock(&self.subscribers);
        let id = subscribers.next;
        subscribers.next += 1;
        subscribers.each.push((id, Arc::new(f)));
        Subscription { id, subscribers: Arc::downgrade(&self.subscribers) }
    }

    /// Before a handshake: what was written to the file until now is in force when this returns,
    /// unless the disk takes longer than 100 ms. Waits on no network thread; what is wrong with the
    /// file, subscribers are told.
    pub(crate) async fn refreshed(self: &Arc<Self>) {
        let _ = tokio::time::timeout(PATIENCE, self.look_aside()).await;
    }

    /// What the trust file calls `peer`.
    pub(crate) fn name_of(&self, peer: &PublicKey) -> Option<Name> {
        self.book.load().entry(peer).and_then(|p| p.name.clone())
    }

    /// Whether `peer` is a stranger only because the trust in it ran out.
    pub(crate) fn expired(&self, peer: &PublicKey) -> Option<ExpiredTrust> {
        self.expired_at(peer, clock::wall())
    }

    fn expired_at(&self, peer: &PublicKey, now: WallTime) -> Option<ExpiredTrust> {
        match self.book.load().look_up(peer, now) {
            Standing::Expired(entry) => Some(ExpiredTrust {
                key: entry.key,
                name: entry.name.clone(),
                since: entry.expires?,
                file: self.path.clone(),
            }),
            Standing::Trusted(_) | Standing::Unknown => None,
        }
    }

    /// Looks at the file on a thread that may wait.
    async fn look_aside(self: &Arc<Self>) {
        let asked = clock::now();
        let turn = self.turn.clone().lock_owned().await;
        // Somebody else's look, begun after this question, answers it.
        if MonoTime::from_nanos(self.looked.load(Ordering::Relaxed)) > asked {
            return;
        }
        let source = self.clone();
        let look = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            source.looked.store(clock::now().as_nanos(), Ordering::Relaxed);
            source.look(clock::wall());
        });
        let _ = look.await;
    }

    /// Looks at the file, and at who has expired by `now`; tells subscribers. Gives an error that
    /// was not told before.
    fn look(&self, now: WallTime) -> Option<TrustFileError> {
        let mut found = lock(&self.found);
        let mut changed = false;
        let mut error = None;
        let stamp = stamp(self.path.as_deref());
        // What made reading fail may be elsewhere, such as in the permissions of a folder.
        if stamp != found.stamp || found.failed.is_some() {
            match trust_file::load(self.path.as_deref()) {
                Ok(book) => {
                    found.stamp = stamp;
                    found.failed = None;
                    if **self.book.load() != book {
                        self.book.store(Arc::new(book));
                        changed = true;
                    }
                }
                Err(e) => {
                    let failed = Some((stamp, e.to_string()));
                    if found.failed != failed {
                        found.failed = failed;
                        error = Some(e);
                    }
                }
            }
        }
        let in_force = in_force(&self.book.load(), now);
        if in_force != found.in_force {
            found.in_force = in_force;
            changed = true;
        }
        drop(found);
        if let Some(error) = &error {
            self.tell(&TrustNews::Unreadable(error.to_string()));
        }
        if changed {
            self.tell(&TrustNews::Changed);
        }
        error
    }

    fn tell(&self, news: &TrustNews) {
        let each: Vec<_> = lock(&self.subscribers).each.iter().map(|(_, f)| f.clone()).collect();
        each.iter().for_each(|f| f(news));
    }
}

impl Trust for TrustSource {
    fn grants(&self, peer: &PublicKey) -> Option<Grants> {
        match self.book.load().look_up(peer, clock::wall()) {
            Standing::Trusted(entry) => Some(entry.may),
            Standing::Expired(_) | Standing::Unknown => None,
        }
    }
}

impl fmt::Debug for TrustSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustSource").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers").field("count", &self.each.len()).finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(subscribers) = self.subscribers.upgrade() {
            let gone = {
                let mut subscribers = lock(&subscribers);
                let at = subscribers.each.iter().position(|(id, _)| *id == self.id);
                at.map(|at| subscribers.each.remove(at))
            };
            // With no lock held: what it captured may hold subscriptions of its own.
            drop(gone);
        }
    }
}

impl fmt::Display for ExpiredTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map_or("NAME", Name::as_str);
        write!(
            f,
            "its trust expired on {}; to renew it: velin-pipe trust add {} --name {} --expires 30d",
            self.since,
            self.key.recipient(),
            store::quoted(Path::new(name))
        )?;
        match &self.file {
            Some(file) => write!(f, " --trust-file {}", store::quoted(file)),
            None => Ok(()),
        }
    }
}

fn in_force(book: &TrustBook, now: WallTime) -> Vec<(PublicKey, Grants)> {
    let valid = book.peers().iter().filter(|peer| !peer.is_expired(now));
    valid.map(|peer| (peer.key, peer.may)).collect()
}

/// When the file was changed, how long it is and which one it is: enough to see another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// On Unix inode and time of the last change, of the permissions too.
    node: Option<(u64, i64, i64)>,
}

fn stamp(path: Option<&Path>) -> Option<Stamp> {
    let meta = match path {
        Some(path) => std::fs::metadata(path),
        None => std::fs::metadata(Places::from_env().trust_file().ok()?),
    };
    let meta = meta.ok()?;
    Some(Stamp { modified: meta.modified().ok(), length: meta.len(), node: node(&meta) })
}

#[cfg(unix)]
fn node(meta: &Metadata) -> Option<(u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    Some((meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

#[cfg(not(unix))]
fn node(_: &Metadata) -> Option<(u64, i64, i64)> {
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
