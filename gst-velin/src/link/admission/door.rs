//! The connections that have not proved anything yet.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use velin_core::time::MonoTime;

use super::buckets::{Pass, Source};

/// Connections that have not authenticated, at most. One more evicts the oldest.
const MAX_GUESTS: usize = 256;

/// An honest handshake is over by then, unless the way is very long.
const PATIENCE: Duration = Duration::from_millis(250);

/// Connections of one source that may be older than that.
const MAX_OLD_PER_SOURCE: usize = 4;

/// The connections at the door, oldest first; `T` ends one when it is called.
#[derive(Debug)]
pub(crate) struct Door<T> {
    guests: VecDeque<Guest<T>>,
    next: u64,
    evicted_full: u64,
    evicted_source: u64,
}

#[derive(Debug)]
struct Guest<T> {
    place: Place,
    pass: Pass,
    since: MonoTime,
    ender: T,
}

/// A place at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl<T> Default for Door<T> {
    fn default() -> Self {
        Self { guests: VecDeque::new(), next: 0, evicted_full: 0, evicted_source: 0 }
    }
}

impl<T> Door<T> {
    /// One more; gives those that must be ended to make room. `now` never goes back.
    pub(super) fn enter_with(&mut self, now: MonoTime, pass: Pass, ender: T) -> (Place, Vec<T>) {
        let mut evicted: Vec<T> = self.sweep(now).collect();
        if self.guests.len() >= MAX_GUESTS {
            self.evicted_full += 1;
            evicted.extend(self.guests.pop_front().map(|guest| guest.ender));
        }
        let place = Place(self.next);
        self.next += 1;
        self.guests.push_back(Guest { place, pass, since: now, ender });
        (place, evicted)
    }

    /// It proved who it is, or went away. Gives its token, if it was still there.
    pub(crate) fn leave(&mut self, place: Place) -> Option<Pass> {
        let at = self.guests.iter().position(|guest| guest.place == place)?;
        self.guests.remove(at).map(|guest| guest.pass)
    }

    /// Those that a source has too many of for their age, the oldest first.
    pub(super) fn sweep(&mut self, now: MonoTime) -> impl Iterator<Item = T> + use<T> {
        let mut evicted = VecDeque::new();
        if self.next_sweep().is_none_or(|at| at > now) {
            return evicted.into_iter();
        }
        // The youngest of the old ones stay.
        let mut old: HashMap<Source, usize> = HashMap::new();
        for at in (0..self.guests.len()).rev() {
            let guest = &self.guests[at];
            let source = guest.pass.source();
            if source == Source::Loopback || now.since(guest.since) < PATIENCE {
                continue;
            }
            let count = old.entry(source).or_default();
            *count += 1;
            if *count > MAX_OLD_PER_SOURCE
                && let Some(guest) = self.guests.remove(at)
            {
                evicted.push_front(guest.ender);
            }
        }
        self.evicted_source += evicted.len() as u64;
        evicted.into_iter()
    }

    /// When the next [`sweep`](Self::sweep) has something to do, if nothing else happens.
    pub(super) fn next_sweep(&self) -> Option<MonoTime> {
        let mut seen: HashMap<Source, usize> = HashMap::new();
        let remote = self.guests.iter().filter(|g| g.pass.source() != Source::Loopback);
        for guest in remote {
            let count = seen.entry(guest.pass.source()).or_default();
            *count += 1;
            if *count > MAX_OLD_PER_SOURCE {
                return Some(guest.since + PATIENCE);
            }
        }
        None
    }

    /// Whether one from `source` is so young that it may well prove a key yet.
    pub(super) fn may_prove(&self, now: MonoTime, source: Source) -> bool {
        let young = |guest: &&Guest<T>| now.since(guest.since) < PATIENCE;
        self.guests.iter().rev().take_while(young).any(|guest| guest.pass.source() == source)
    }

    /// Everybody goes.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.guests).into_iter().map(|guest| guest.ender)
    }

    /// How many had to go because there were too many, and because their source had too many.
    pub(super) fn evictions(&self) -> (u64, u64) {
        (self.evicted_full, self.evicted_source)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.guests.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::buckets::Buckets;
    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    fn pass(address: &str) -> Pass {
        let address: IpAddr = address.parse().unwrap();
        Buckets::default().take(at(0), address, false).unwrap()
    }

    #[test]
    fn the_oldest_stranger_makes_room() {
        let mut door = Door::default();
        let (first, _) = door.enter_with(at(0), pass("127.0.0.1"), 0);
        for i in 1..256 {
            assert!(door.enter_with(at(0), pass("127.0.0.1"), i).1.is_empty());
        }
        assert_eq!(door.enter_with(at(0), pass("127.0.0.1"), 256).1, [0]);
        assert_eq!(door.leave(first), None);
        assert_eq!(door.enter_with(at(0), pass("127.0.0.1"), 257).1, [1]);
        assert_eq!(door.evictions(), (2, 0));
        assert_eq!(door.clear().count(), 256);
    }

    #[test]
    fn who_has_left_is_never_evicted() {
        let mut door = Door::default();
        let (honest, _) = door.enter_with(at(0), pass("10.0.0.1"), "honest");
        assert_eq!(door.leave(honest), Some(pass("10.0.0.1")));
        for _ in 0..1000 {
            let (_, evicted) = door.enter_with(at(1), pass("10.0.0.1"), "stranger");
            assert!(!evicted.contains(&"honest"));
        }
        assert_eq!(door.len(), 256);
    }

    #[test]
    fn four_of_a_source_may_be_old_and_the_oldest_go() {
        let mut door = Door::default();
        for i in 0..7u64 {
            assert!(door.enter_with(at(i), pass("10.0.0.1"), i).1.is_empty());
        }
        door.enter_with(at(7), pass("10.0.0.2"), 7);
        assert_eq!(door.next_sweep(), Some(at(254)), "when the fifth grows old");
        assert_eq!(door.sweep(at(253)).count(), 0);
        assert_eq!(door.sweep(at(254)).collect::<Vec<_>>(), [0]);
        assert_eq!(door.next_sweep(), Some(at(255)));
        // A newcomer from elsewhere enforces it, too.
        assert_eq!(door.enter_with(at(300), pass("10.0.0.3"), 8).1, [1, 2]);
        assert_eq!(door.next_sweep(), None);
        assert_eq!(door.evictions(), (0, 3));
    }

    #[test]
    fn this_machine_may_take_its_time() {
        let mut door = Door::default();
        for i in 0..20 {
            door.enter_with(at(0), pass("::1"), i);
        }
        assert_eq!(door.next_sweep(), None);
        assert_eq!(door.sweep(at(10_000)).count(), 0);
    }
}
