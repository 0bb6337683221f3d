//! The links of this process: elements that mean the same one share it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use velin_core::identity::PublicKey;

use super::caller::Caller;
use super::listener::Listener;

/// What makes two links the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LinkKey {
    /// The user says so, with the property `link`.
    Named(String),
    /// The same device calls the same place.
    Call { host: String, port: u16, identity: PublicKey },
    /// The same port, listened on.
    Listen { bind: Option<IpAddr>, port: u16 },
}

/// A link of either role, for as long as somebody holds it.
pub(super) enum Entry {
    Caller(Weak<Caller>),
    Listener(Weak<Listener>),
}

/// What there is one of for each key.
pub(super) trait Shareable: Sized {
    fn entry(link: Weak<Self>) -> Entry;

    /// The link in `entry`, if it plays this role.
    fn of(entry: &Entry) -> Option<&Weak<Self>>;
}

impl Shareable for Caller {
    fn entry(link: Weak<Self>) -> Entry {
        Entry::Caller(link)
    }

    fn of(entry: &Entry) -> Option<&Weak<Self>> {
        if let Entry::Caller(link) = entry { Some(link) } else { None }
    }
}

impl Shareable for Listener {
    fn entry(link: Weak<Self>) -> Entry {
        Entry::Listener(link)
    }

    fn of(entry: &Entry) -> Option<&Weak<Self>> {
        if let Entry::Listener(link) = entry { Some(link) } else { None }
    }
}

impl Entry {
    fn is_alive(&self) -> bool {
        match self {
            Self::Caller(caller) => caller.upgrade().is_some_and(|c| !c.is_over()),
            Self::Listener(listener) => listener.strong_count() > 0,
        }
    }
}

static LINKS: LazyLock<Mutex<HashMap<LinkKey, Entry>>> = LazyLock::new(Mutex::default);

/// The living link for `key` if it `agrees`, or the one that `make` makes.
///
/// # Errors
/// What `make` says; a conflict if the living one plays the other role or does not agree.
pub(super) fn share<T: Shareable, E: From<Conflict>>(
    key: LinkKey,
    make: impl FnOnce() -> Result<Arc<T>, E>,
    agrees: impl FnOnce(&T) -> Result<(), Conflict>,
) -> Result<Arc<T>, E> {
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    links.retain(|_, entry| entry.is_alive());
    if let Some(entry) = links.get(&key) {
        let link = T::of(entry).ok_or(Conflict { property: "mode" })?;
        if let Some(link) = link.upgrade() {
            agrees(&link)?;
            return Ok(link);
        }
    }
    let link = make()?;
    links.insert(key, T::entry(Arc::downgrade(&link)));
    Ok(link)
}

/// The first of the properties in which two elements are not the same.
pub(super) fn agree(same: &[(&'static str, bool)]) -> Result<(), Conflict> {
    match same.iter().find(|(_, same)| !same) {
        Some((property, _)) => Err(Conflict { property }),
        None => Ok(()),
    }
}

/// Two elements mean the same link and say different things about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another element shares this link and has another {property}: give both the same value, or a \
     link of their own each with link=NAME"
)]
pub struct Conflict {
    /// The property in question.
    pub property: &'static str,
}
