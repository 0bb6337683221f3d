//! Asking for streams: which side wants what the other has.

use std::collections::BTreeMap;

use crate::wire::NameGlob;

/// Most asks open at a time in one direction.
pub const MAX_ASKS: usize = 16;

/// The number of a request for streams: odd from the caller, even from the listener, so that it
/// says whose it is. Never used twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u16);

/// Why streams could not be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The session is not open, its connection is gone, or it is over.
    #[error("the session is not open; ask again in the next one")]
    NotOpen,
    /// 16 asks are open, or the session's numbers are used up.
    #[error("{MAX_ASKS} asks are open already, or the session is used up; withdraw one")]
    NoRoom,
}

/// The asks of a session, ours and the peer's.
#[derive(Debug)]
pub(super) struct Asks {
    ours: BTreeMap<AskId, NameGlob>,
    theirs: BTreeMap<AskId, NameGlob>,
    next_own: u16,
    next_peer: u16,
}

/// What became of an ask that an offer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OurAsk {
    /// It is open, and the name fits.
    Fits,
    /// There was one, and it is over.
    Ended,
    /// There never was, or the name is not one that was asked for.
    No,
}

/// Why an ask of the peer is not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskedError {
    /// A number that is not the peer's to use, or was used before: the peer misbehaves.
    Id,
    /// Too many are open.
    Limit,
}

impl Asks {
    pub(super) fn new(initiator: bool) -> Self {
        let (next_own, next_peer) = if initiator { (1, 2) } else { (2, 1) };
        Self { ours: BTreeMap::new(), theirs: BTreeMap::new(), next_own, next_peer }
    }

    /// Room for an ask of ours. `None`: 16 are open, or the numbers are used up.
    pub(super) fn ask(&mut self, name: NameGlob) -> Option<AskId> {
        let id = AskId(self.next_own);
        // The last two numbers are never used, so that the next one needs no more bits.
        if self.ours.len() >= MAX_ASKS || id.0 >= u16::MAX - 1 {
            return None;
        }
        self.next_own += 2;
        self.ours.insert(id, name);
        Some(id)
    }

    /// The peer asks.
    pub(super) fn asked(&mut self, id: AskId, name: NameGlob) -> Result<(), AskedError> {
        let next = self.next_peer;
        if id.0 % 2 != next % 2 || id.0 < next || id.0 >= u16::MAX - 1 {
            return Err(AskedError::Id);
        }
        self.next_peer = id.0 + 2;
        if self.theirs.len() >= MAX_ASKS {
            return Err(AskedError::Limit);
        }
        self.theirs.insert(id, name);
        Ok(())
    }

    /// An ask of ours is over; whether it was open.
    pub(super) fn end_ours(&mut self, id: AskId) -> bool {
        self.ours.remove(&id).is_some()
    }

    /// An ask of the peer is over; whether it was open.
    pub(super) fn end_theirs(&mut self, id: AskId) -> bool {
        self.theirs.remove(&id).is_some()
    }

    /// Every open ask of the peer, which are over with that.
    pub(super) fn end_all_theirs(&mut self) -> impl Iterator<Item = AskId> + use<> {
        std::mem::take(&mut self.theirs).into_keys()
    }

    /// Whether the peer asks, by `id`, for a stream called `name`.
    pub(super) fn wants(&self, id: AskId, name: &str) -> bool {
        self.theirs.get(&id).is_some_and(|glob| glob.matches(name))
    }

    /// What an offer of `name` that answers `id` answers.
    pub(super) fn answered(&self, id: AskId, name: &str) -> OurAsk {
        match self.ours.get(&id) {
            Some(glob) if glob.matches(name) => OurAsk::Fits,
            Some(_) => OurAsk::No,
            None if id.0 % 2 == self.next_own % 2 && (1..self.next_own).contains(&id.0) => {
                OurAsk::Ended
            }
            None => OurAsk::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> NameGlob {
        "*".parse().unwrap()
    }

    #[test]
    fn numbers_have_the_askers_parity_and_never_return() {
        let mut asks = Asks::new(true);
        assert_eq!(asks.ask(any()), Some(AskId(1)));
        assert!(asks.end_ours(AskId(1)) && !asks.end_ours(AskId(1)));
        assert_eq!(asks.ask(any()), Some(AskId(3)));
        for wrong in [0, 1, 3, u16::MAX, u16::MAX - 1] {
            assert_eq!(asks.asked(AskId(wrong), any()), Err(AskedError::Id), "{wrong}");
        }
        assert_eq!(asks.asked(AskId(4), any()), Ok(()));
        assert_eq!(asks.asked(AskId(4), any()), Err(AskedError::Id));
        assert_eq!(asks.asked(AskId(2), any()), Err(AskedError::Id));
    }

    #[test]
    fn sixteen_are_open_in_each_direction() {
        let mut asks = Asks::new(false);
        for i in 0..16 {
            assert_eq!(asks.ask(any()), Some(AskId(2 + 2 * i)));
            assert_eq!(asks.asked(AskId(1 + 2 * i), any()), Ok(()));
        }
        assert_eq!(asks.ask(any()), None);
        assert_eq!(asks.asked(AskId(99), any()), Err(AskedError::Limit));
        assert!(asks.end_theirs(AskId(1)));
        assert_eq!(asks.asked(AskId(101), any()), Ok(()));
    }

    #[test]
    fn numbers_run_out_instead_of_wrapping() {
        let mut asks = Asks::new(true);
        let n = std::iter::from_fn(|| asks.ask(any()).filter(|id| asks.end_ours(*id))).count();
        assert_eq!(n, 0x7FFF);
    }

    #[test]
    fn an_offer_answers_an_open_ask_for_its_name_only() {
        let mut asks = Asks::new(true);
        let ask = asks.ask("desk*".parse().unwrap()).unwrap();
        assert_eq!(asks.answered(ask, "desktop"), OurAsk::Fits);
        assert_eq!(asks.answered(ask, "microphone"), OurAsk::No);
        assert_eq!(asks.answered(AskId(3), "desktop"), OurAsk::No);
        assert_eq!(asks.answered(AskId(2), "desktop"), OurAsk::No);
        asks.end_ours(ask);
        assert_eq!(asks.answered(ask, "desktop"), OurAsk::Ended);
    }
}
