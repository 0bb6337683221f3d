//! Who may call, how often, and how many may stand at the door without having proved a key.
//!
//! A listener asks [`Admission`] about every TCP connection before it spends anything on it. Three
//! things are bounded: how many connections have not authenticated ([`Door`]), how many of those
//! one source has for long, and how often connections may lead to nothing: a token bucket for each
//! source and one for all. A connection takes a token when it enters and gets it back when it
//! authenticates with a trusted key; so tokens pay for failures, and a crowd of known devices costs
//! none, whether it comes from one address or from many.
//!
//! No flood may lock out a known key:
//!
//! - **From the flood's own source** there is no telling friend from foe before the handshake. Up to
//!   the source's rate (10/s) nobody waits; a connection that lasts longer than 250 ms makes room.
//!   An empty bucket whose tokens may still come back (a handshake is under way) makes a connection
//!   wait a moment; an empty one without such hope refuses at once.
//! - **From other sources** only the global bucket matters. An *address* where a trusted key has
//!   authenticated in the last hour does not use it at all, and has a bucket of its own beside the
//!   one of its IPv6 network. For all others half the bucket is kept for sources that have not
//!   called in vain in the last 10 s: of these tokens a flood from *n* sources takes *n*/10 per
//!   second, while 50 come back. So it takes 500 addresses to make a device wait that calls from an
//!   address where it was never seen, and no number of them delays one that was.
//! - **The accepting task never waits for the global bucket.** If it did, known devices would stand
//!   in the kernel's queue behind the flood. What has to wait waits beside it, bounded in number and
//!   time, and what does not fit is closed; its sender tries again by itself.
//! - **From this machine** (loopback) there is only the global bucket, without the reserved half, so
//!   that no program here shuts out the network.
//!
//! Everything is data: time and addresses are arguments, and whoever asks does the waiting.

mod buckets;
mod door;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use velin_core::time::MonoTime;

use self::buckets::{Buckets, Lack};
use super::allow::AllowList;

pub(crate) use self::buckets::{Pass, Source};
pub(crate) use self::door::{Door, Place};

/// Connections that wait for a token, at most. Each costs a file descriptor.
const MAX_WAITING: usize = 128;

/// Places among those that stay free for sources that have not called in vain lately.
const WAITING_RESERVE: usize = 16;

/// Nobody waits longer: by then trying again is quicker than standing in line.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Who has not asked again by then went away without a word: everybody else asks within
/// [`MAX_WAIT`] and a few moments.
const FORGOTTEN: Duration = Duration::from_millis(1500);

/// How long until a token may have come back: about one handshake.
const MOMENT: Duration = Duration::from_millis(5);

/// What a listener asks about every connection. `T` ends one, such as a task's abort handle.
#[derive(Debug)]
pub(crate) struct Admission<T> {
    allow: AllowList,
    door: Door<T>,
    buckets: Buckets,
    /// Who was told to wait, and since when.
    waiting: Vec<(u64, MonoTime)>,
    next: u64,
    refused_source: u64,
    refused_global: u64,
    waited_source: u64,
    waited_global: u64,
    not_allowed: u64,
}

/// A connection that asks to enter.
#[derive(Debug)]
pub(crate) struct Knock {
    id: u64,
    address: IpAddr,
    arrived: MonoTime,
    /// Its source called in vain lately.
    suspect: bool,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It enters: call [`Admission::enter`].
    Enter(Pass),
    /// Ask again after this time, and accept others meanwhile.
    Wait(Duration),
    /// Close it.
    Refuse(Refusal),
}

/// Why a connection is closed unheard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The allow list does not have its address.
    NotAllowed,
    /// Its source made too many connections that led to nothing.
    Source,
    /// All sources together did.
    Global,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionCounters {
    /// Refused because their source made too many that led to nothing.
    pub refused_source: u64,
    /// Refused because all sources together did.
    pub refused_global: u64,
    /// Told to wait for a token of their source.
    pub waited_source: u64,
    /// Told to wait for a token of the bucket of all.
    pub waited_global: u64,
    /// Ended because there were too many that had not authenticated.
    pub evicted_full: u64,
    /// Ended because their source had too many that took too long.
    pub evicted_source: u64,
    /// Refused because the allow list does not have their address.
    pub not_allowed: u64,
}

impl<T> Default for Admission<T> {
    fn default() -> Self {
        Self::new(AllowList::default())
    }
}

impl<T> Admission<T> {
    /// Nobody at the door, all buckets full.
    pub(crate) fn new(allow: AllowList) -> Self {
        Self {
            allow,
            door: Door::default(),
            buckets: Buckets::default(),
            waiting: Vec::new(),
            next: 0,
            refused_source: 0,
            refused_global: 0,
            waited_source: 0,
            waited_global: 0,
            not_allowed: 0,
        }
    }

    /// A connection from `address` was accepted. Ask [`admit`](Self::admit) about it.
    pub(crate) fn knock(&mut self, now: MonoTime, address: IpAddr) -> Knock {
        let address = address.to_canonical();
        let suspect = self.allow.allows(address) && self.buckets.note(now, address);
        self.next += 1;
        Knock { id: self.next, address, arrived: now, suspect }
    }

    /// Whether the connection may enter now. `now` never goes back.
    pub(crate) fn admit(&mut self, now: MonoTime, knock: &Knock) -> Decision {
        if !self.allow.allows(knock.address) {
            self.not_allowed += 1;
            return Decision::Refuse(Refusal::NotAllowed);
        }
        self.waiting.retain(|(_, arrived)| now.since(*arrived) < FORGOTTEN);
        let waits = self.waiting.iter().position(|(id, _)| *id == knock.id);
        let lack = match self.buckets.take(now, knock.address, knock.suspect) {
            Ok(pass) => {
                waits.map(|at| self.waiting.swap_remove(at));
                return Decision::Enter(pass);
            }
            Err(lack) => lack,
        };
        let hopeless = lack == Lack::Source && !self.door.may_prove(now, Source::of(knock.address));
        let room = MAX_WAITING - if knock.suspect { WAITING_RESERVE } else { 0 };
        let fits = waits.is_some() || self.waiting.len() < room;
        if hopeless || !fits || now.since(knock.arrived) >= MAX_WAIT {
            waits.map(|at| self.waiting.swap_remove(at));
            return Decision::Refuse(self.count_refusal(lack));
        }
        if waits.is_none() {
            self.waiting.push((knock.id, knock.arrived));
            match lack {
                Lack::Source => self.waited_source += 1,
                Lack::Global(_) => self.waited_global += 1,
            }
        }
        Decision::Wait(match lack {
            Lack::Source => MOMENT,
            // Tokens come back by time and, sooner, by handshakes that end.
            Lack::Global(wait) => wait.clamp(MOMENT, 4 * MOMENT),
        })
    }

    /// It enters; gives its place and those that must be ended to make room.
    pub(crate) fn enter(&mut self, now: MonoTime, pass: Pass, ender: T) -> (Place, Vec<T>) {
        self.door.enter_with(now, pass, ender)
    }

    /// It proved that it has a trusted key: it leaves the door and gets its token back.
    pub(crate) fn authenticated(&mut self, now: MonoTime, place: Place) {
        if let Some(pass) = self.door.leave(place) {
            self.buckets.give_back(now, pass);
        }
    }

    /// It went away. Nothing happens if it authenticated or was evicted before.
    pub(crate) fn leave(&mut self, place: Place) {
        self.door.leave(place);
    }

    /// Those that must be ended because their source has too many that take too long.
    pub(crate) fn sweep(&mut self, now: MonoTime) -> impl Iterator<Item = T> + use<T> {
        self.door.sweep(now)
    }

    /// When [`sweep`](Self::sweep) has something to do, unless somebody enters or leaves before.
    pub(crate) fn next_sweep(&self) -> Option<MonoTime> {
        self.door.next_sweep()
    }

    /// Everybody at the door goes.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.door.clear()
    }

    /// How many have not authenticated.
    pub(crate) fn at_door(&self) -> usize {
        self.door.len()
    }

    /// What was counted.
    pub(crate) fn counters(&self) -> AdmissionCounters {
        let (evicted_full, evicted_source) = self.door.evictions();
        AdmissionCounters {
            refused_source: self.refused_source,
            refused_global: self.refused_global,
            waited_source: self.waited_source,
            waited_global: self.waited_global,
            evicted_full,
            evicted_source,
            not_allowed: self.not_allowed,
        }
    }

    fn count_refusal(&mut self, lack: Lack) -> Refusal {
        match lack {
            Lack::Source => {
                self.refused_source += 1;
                Refusal::Source
            }
            Lack::Global(_) => {
                self.refused_global += 1;
                Refusal::Global
            }
        }
    }
}
