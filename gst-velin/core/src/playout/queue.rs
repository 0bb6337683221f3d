//! Blocks waiting for their time, by number.

use super::block::Slot;

/// A ring of blocks: the place of a block is its number modulo the capacity.
#[derive(Debug)]
pub(super) struct Queue {
    slots: Box<[Option<Slot>]>,
    len: usize,
    /// The number after the highest since the queue was last empty of all.
    end: u64,
}

impl Queue {
    /// Room for at least `capacity` consecutive blocks.
    pub(super) fn new(capacity: usize) -> Self {
        let slots = (0..capacity.next_power_of_two()).map(|_| None).collect();
        Self { slots, len: 0, end: 0 }
    }

    /// How many consecutive numbers fit.
    pub(super) fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps a block. One of another number in its place is dropped; returns whether one was.
    pub(super) fn put(&mut self, slot: Slot) -> bool {
        self.end = self.end.max(slot.index + 1);
        let place = self.place(slot.index);
        let held = &mut self.slots[place];
        // Looked at before it is overwritten: with `held.replace(slot).is_some()` an optimised build
        // by rustc 1.95 never counts the block, and nothing is ever played.
        let dropped = held.is_some();
        *held = Some(slot);
        if !dropped {
            self.len += 1;
        }
        dropped
    }

    /// The block of this number.
    pub(super) fn at(&self, index: u64) -> Option<&Slot> {
        self.slots[self.place(index)].as_ref().filter(|slot| slot.index == index)
    }

    /// The block with the lowest number, `from` or later.
    pub(super) fn first(&self, from: u64) -> Option<&Slot> {
        if self.is_empty() {
            return None;
        }
        (from..self.end.min(from + self.capacity())).find_map(|index| self.at(index))
    }

    /// Drops the blocks numbered `from` up to before `to`; returns how many there were.
    pub(super) fn drop_range(&mut self, from: u64, to: u64) -> u64 {
        let mut dropped = 0;
        for index in from..to.min(from + self.capacity()) {
            if self.is_empty() {
                break;
            }
            let place = self.place(index);
            if self.slots[place].as_ref().is_some_and(|slot| slot.index == index) {
                self.slots[place] = None;
                self.len -= 1;
                dropped += 1;
            }
        }
        dropped
    }

    /// Drops all; returns how many there were.
    pub(super) fn clear(&mut self) -> u64 {
        let dropped = self.len as u64;
        self.slots.iter_mut().for_each(|slot| *slot = None);
        self.len = 0;
        self.end = 0;
        dropped
    }

    fn place(&self, index: u64) -> usize {
        (index & (self.capacity() - 1)) as usize
    }
}
