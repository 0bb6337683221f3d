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

#[derive(Clone)]
enum Entry {
    Caller(Weak<Caller>),
    Listener(Weak<Listener>),
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

/// The living caller for `key`, or the one that `make` makes.
///
/// # Errors
/// What `make` says; [`OtherRole`] if the name belongs to a listener, as what `other` makes of it.
pub(super) fn caller<E>(
    key: LinkKey,
    make: impl FnOnce() -> Result<Arc<Caller>, E>,
    other: impl FnOnce(OtherRole) -> E,
) -> Result<(Arc<Caller>, bool), E> {
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    links.retain(|_, entry| entry.is_alive());
    match links.get(&key) {
        Some(Entry::Caller(caller)) => {
            if let Some(caller) = caller.upgrade() {
                return Ok((caller, false));
            }
        }
        Some(Entry::Listener(_)) => return Err(other(OtherRole)),
        None => {}
    }
    let caller = make()?;
    links.insert(key, Entry::Caller(Arc::downgrade(&caller)));
    Ok((caller, true))
}

/// The living listener for `key`, or the one that `make` makes. As [`caller`].
pub(super) fn listener<E>(
    key: LinkKey,
    make: impl FnOnce() -> Result<Arc<Listener>, E>,
    other: impl FnOnce(OtherRole) -> E,
) -> Result<(Arc<Listener>, bool), E> {
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    links.retain(|_, entry| entry.is_alive());
    match links.get(&key) {
        Some(Entry::Listener(listener)) => {
            if let Some(listener) = listener.upgrade() {
                return Ok((listener, false));
            }
        }
        Some(Entry::Caller(_)) => return Err(other(OtherRole)),
        None => {}
    }
    let listener = make()?;
    links.insert(key, Entry::Listener(Arc::downgrade(&listener)));
    Ok((listener, true))
}

/// The link of that name plays the other role.
pub(super) struct OtherRole;

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
