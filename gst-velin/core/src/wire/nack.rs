//! Which blocks a receiver asks for again.

use crate::units::BlockIndex;

/// Most entries that are put into one NACK: up to 272 blocks.
pub const MAX_NACK_RANGES: usize = 16;

/// Bytes of the longest NACK frame we send.
pub const MAX_NACK_LEN: usize = 4 + ENTRY * MAX_NACK_RANGES;

const NACK: u8 = 0x03;
const ENTRY: usize = 6;
/// Blocks after the base that an entry's mask names.
const MASKED: u64 = 16;

/// A block and some of the 16 after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NackRange {
    /// The first.
    pub base: BlockIndex,
    /// Bit `i`: block `base + 1 + i` too.
    pub mask: u16,
}

impl NackRange {
    /// The blocks it names. Numbers past the last are left out.
    pub fn blocks(self) -> impl Iterator<Item = BlockIndex> {
        let masked = (0..MASKED as u32)
            .filter(move |i| self.mask & 1 << i != 0)
            .filter_map(move |i| self.base.0.checked_add(1 + i).map(BlockIndex));
        std::iter::once(self.base).chain(masked)
    }
}

/// One NACK frame: blocks in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Nack {
    ranges: [NackRange; MAX_NACK_RANGES],
    len: usize,
}

impl Nack {
    /// Asks for one more block, later than all before; `false` if there is no room.
    pub fn push(&mut self, block: BlockIndex) -> bool {
        if let Some(last) = self.ranges[..self.len].last_mut() {
            let after = u64::from(block.0).wrapping_sub(u64::from(last.base.0) + 1);
            if after < MASKED {
                last.mask |= 1 << after;
                return true;
            }
        }
        let Some(free) = self.ranges.get_mut(self.len) else { return false };
        *free = NackRange { base: block, mask: 0 };
        self.len += 1;
        true
    }

    /// What it asks for.
    pub fn ranges(&self) -> &[NackRange] {
        &self.ranges[..self.len]
    }

    /// Every block it asks for.
    pub fn blocks(&self) -> impl Iterator<Item = BlockIndex> + '_ {
        self.ranges().iter().flat_map(|range| range.blocks())
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the frame to the front of `out` and gives its length.
    pub fn encode(&self, out: &mut [u8; MAX_NACK_LEN]) -> usize {
        out[..4].copy_from_slice(&[NACK, self.len as u8, 0, 0]);
        for (entry, range) in out[4..].chunks_exact_mut(ENTRY).zip(self.ranges()) {
            entry[..4].copy_from_slice(&range.base.0.to_be_bytes());
            entry[4..].copy_from_slice(&range.mask.to_be_bytes());
        }
        4 + self.len * ENTRY
    }
}

/// The entries of a NACK frame as it came; see [`Frame::Nack`](super::Frame::Nack).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NackEntries<'a>(pub(super) &'a [u8]);

impl<'a> NackEntries<'a> {
    /// What is asked for, at most 255 entries in any order.
    pub fn ranges(self) -> impl Iterator<Item = NackRange> + use<'a> {
        self.0.chunks_exact(ENTRY).map(|entry| NackRange {
            base: BlockIndex(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]])),
            mask: u16::from_be_bytes([entry[4], entry[5]]),
        })
    }

    /// Every block asked for, at most 4335, in any order and perhaps more than once.
    pub fn blocks(self) -> impl Iterator<Item = BlockIndex> + use<'a> {
        self.ranges().flat_map(NackRange::blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::StreamId;
    use crate::wire::{Frame, Frames};

    #[test]
    fn blocks_survive_the_round_trip() {
        let blocks = [3, 4, 19, 20, 36, 1_000, u32::MAX - 1, u32::MAX].map(BlockIndex);
        let mut nack = Nack::default();
        assert!(blocks.into_iter().all(|b| nack.push(b)));
        assert_eq!(nack.ranges().len(), 4, "{nack:?}");
        let mut bytes = [0; MAX_NACK_LEN];
        let n = nack.encode(&mut bytes);
        let mut frames = Frames::new(StreamId(1), &bytes[..n]);
        let Some(Ok(Frame::Nack { entries })) = frames.next() else { panic!("no NACK") };
        assert_eq!(entries.blocks().collect::<Vec<_>>(), blocks);
        assert_eq!(nack.blocks().collect::<Vec<_>>(), blocks);
    }

    #[test]
    fn a_full_nack_takes_no_more() {
        let mut nack = Nack::default();
        let taken = (0..100).take_while(|i| nack.push(BlockIndex(i * 20))).count();
        assert_eq!(taken, MAX_NACK_RANGES);
        let mut bytes = [0; MAX_NACK_LEN];
        assert_eq!(nack.encode(&mut bytes), MAX_NACK_LEN);
    }

    #[test]
    fn numbers_past_the_last_are_left_out() {
        let range = NackRange { base: BlockIndex(u32::MAX - 2), mask: 0xFFFF };
        let blocks: Vec<_> = range.blocks().map(|b| b.0).collect();
        assert_eq!(blocks, [u32::MAX - 2, u32::MAX - 1, u32::MAX]);
    }
}
