//! Who may stand at the door: a bounded number of connections that have not proved anything yet.

use std::collections::VecDeque;

/// Connections that have not authenticated, at most. One more evicts the oldest.
const MAX_WAITING: usize = 256;

/// The connections at the door, oldest first; `T` ends one when it is dropped or called.
#[derive(Debug)]
pub(crate) struct Door<T> {
    waiting: VecDeque<(u64, T)>,
    next: u64,
    evicted: u64,
}

/// A place at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl<T> Default for Door<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next: 0, evicted: 0 }
    }
}

impl<T> Door<T> {
    /// One more; gives what must be ended to make room.
    pub(crate) fn enter(&mut self, ender: T) -> (Place, Option<T>) {
        let evicted = if self.waiting.len() >= MAX_WAITING {
            self.evicted += 1;
            self.waiting.pop_front().map(|(_, t)| t)
        } else {
            None
        };
        let place = Place(self.next);
        self.next += 1;
        self.waiting.push_back((place.0, ender));
        (place, evicted)
    }

    /// It proved who it is, or went away.
    pub(crate) fn leave(&mut self, place: Place) {
        self.waiting.retain(|(n, _)| *n != place.0);
    }

    /// Everybody goes.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, ender)| ender)
    }

    /// How many had to go before their time.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_makes_room() {
        let mut door = Door::default();
        let (first, _) = door.enter(0);
        for i in 1..256 {
            assert_eq!(door.enter(i).1, None);
        }
        assert_eq!(door.enter(256).1, Some(0));
        door.leave(first);
        assert_eq!(door.enter(257).1, Some(1));
        assert_eq!(door.evicted(), 2);
    }

    #[test]
    fn who_has_authenticated_is_never_evicted() {
        let mut door = Door::default();
        let (honest, _) = door.enter("honest");
        door.leave(honest);
        for _ in 0..1000 {
            assert_ne!(door.enter("stranger").1, Some("honest"));
        }
        assert_eq!(door.waiting.len(), 256);
    }
}
