//! The last half second of a stream, written by one thread and read by others without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::units::{BlockIndex, FrameIndex};
use crate::wire::{AudioFlags, AudioHeader};

/// How long a block is kept.
const KEPT: Duration = Duration::from_millis(500);
/// Blocks kept at most, however short they are.
const MOST: u128 = 8192;
/// Bytes in a word.
const WORD: usize = 8;

/// Room for half a second of blocks of at most `block_bytes` that last `block` each. Allocates all
/// it will ever need.
pub fn history(block_bytes: usize, block: Duration) -> (HistoryWriter, History) {
    let blocks = (KEPT.as_nanos() / block.as_nanos().max(1)).clamp(16, MOST) as usize;
    let words = block_bytes.div_ceil(WORD);
    let slots = (0..blocks).map(|_| Slot::new(words)).collect();
    let shared = Arc::new(Shared {
        slots,
        block_bytes,
        block,
        blocks: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    });
    (HistoryWriter { shared: shared.clone() }, History { shared })
}

/// The one that writes.
#[derive(Debug)]
pub struct HistoryWriter {
    shared: Arc<Shared>,
}

/// Those that read; cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    slots: Box<[Slot]>,
    block_bytes: usize,
    block: Duration,
    /// Blocks and payload bytes written so far.
    blocks: AtomicU64,
    bytes: AtomicU64,
}

/// A sequence lock in safe words: the sequence is odd while the slot is being written, and says
/// afterwards which block it holds.
#[derive(Debug)]
struct Slot {
    sequence: AtomicU64,
    ts: AtomicU64,
    /// Flags below the length.
    shape: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl Slot {
    fn new(words: usize) -> Self {
        Self {
            sequence: AtomicU64::new(0),
            ts: AtomicU64::new(0),
            shape: AtomicU64::new(0),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// What the sequence is when the slot holds this block.
fn holds(block: BlockIndex) -> u64 {
    2 * (u64::from(block.0) + 1)
}

impl Shared {
    fn slot(&self, block: BlockIndex) -> &Slot {
        &self.slots[block.0 as usize % self.slots.len()]
    }
}

impl HistoryWriter {
    /// Keeps a block, in place of the one half a second before. A payload longer than the
    /// history's blocks is not kept. Never waits, never allocates.
    pub fn push(&mut self, header: &AudioHeader, payload: &[u8]) {
        let add = |counter: &AtomicU64, n: u64| {
            counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        };
        add(&self.shared.blocks, 1);
        add(&self.shared.bytes, payload.len() as u64);
        if payload.len() > self.shared.block_bytes {
            return;
        }
        let slot = self.shared.slot(header.block);
        slot.sequence.store(holds(header.block) - 1, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.ts.store(header.ts.0, Ordering::Relaxed);
        let shape = (payload.len() as u64) << 8 | u64::from(header.flags.bits());
        slot.shape.store(shape, Ordering::Relaxed);
        for (word, bytes) in slot.words.iter().zip(payload.chunks(WORD)) {
            let mut padded = [0; WORD];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        slot.sequence.store(holds(header.block), Ordering::Release);
    }

    /// Another reader.
    pub fn reader(&self) -> History {
        History { shared: self.shared.clone() }
    }
}

impl History {
    /// Copies a block's payload to the front of `out` and gives its header and length. `None` if
    /// it is not kept any more, was never written, is being overwritten this moment, or does not
    /// fit.
    pub fn read(&self, block: BlockIndex, out: &mut [u8]) -> Option<(AudioHeader, usize)> {
        let slot = self.shared.slot(block);
        if slot.sequence.load(Ordering::Acquire) != holds(block) {
            return None;
        }
        let ts = FrameIndex(slot.ts.load(Ordering::Relaxed));
        let shape = slot.shape.load(Ordering::Relaxed);
        let length = (shape >> 8) as usize;
        let out = out.get_mut(..length)?;
        for (bytes, word) in out.chunks_mut(WORD).zip(&slot.words) {
            let word = word.load(Ordering::Relaxed).to_le_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
        fence(Ordering::Acquire);
        let flags = AudioFlags::from_bits(shape as u8);
        let unchanged = slot.sequence.load(Ordering::Relaxed) == holds(block);
        unchanged.then_some((AudioHeader { flags, block, ts }, length))
    }

    /// Blocks and payload bytes that were written so far.
    pub fn written(&self) -> (u64, u64) {
        (self.shared.blocks.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }

    /// How many blocks are kept.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// How long a block lasts.
    pub fn block_duration(&self) -> Duration {
        self.shared.block
    }

    /// The longest payload.
    pub fn block_bytes(&self) -> usize {
        self.shared.block_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn header(block: u32) -> AudioHeader {
        let ts = FrameIndex(u64::from(block) * 120);
        AudioHeader { flags: AudioFlags::DISCONTINUITY, block: BlockIndex(block), ts }
    }

    #[test]
    fn half_a_second_is_kept() {
        let (mut writer, history) = history(481, Duration::from_micros(2_500));
        for i in 0..1_000_u32 {
            writer.push(&header(i), &[i as u8; 481]);
        }
        let mut out = [0; 500];
        assert_eq!(history.capacity(), 200);
        assert_eq!(history.read(BlockIndex(799), &mut out), None);
        assert_eq!(history.read(BlockIndex(1_000), &mut out), None);
        for i in 800..1_000 {
            assert_eq!(history.read(BlockIndex(i), &mut out), Some((header(i), 481)));
            assert!(out[..481].iter().all(|b| *b == i as u8));
        }
        assert_eq!(history.read(BlockIndex(999), &mut [0; 480]), None);
        assert_eq!(history.written(), (1_000, 481_000));
    }

    #[test]
    fn short_blocks_and_the_first_of_all_are_kept_as_they_are() {
        let (mut writer, history) = history(16, Duration::from_millis(1));
        let mut out = [9; 16];
        assert_eq!(history.read(BlockIndex(0), &mut out), None);
        writer.push(&header(0), &[1, 2]);
        assert_eq!(history.read(BlockIndex(0), &mut out), Some((header(0), 2)));
        assert_eq!(out[..3], [1, 2, 9]);
        writer.push(&header(1), &[0; 17]);
        assert_eq!(history.read(BlockIndex(1), &mut out), None);
        writer.push(&header(u32::MAX), &[7; 16]);
        assert_eq!(history.read(BlockIndex(u32::MAX), &mut out), Some((header(u32::MAX), 16)));
    }

    #[test]
    fn a_reader_never_sees_a_torn_block() {
        let (mut writer, history) = history(256, Duration::from_millis(100));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut seen, mut out) = (0_u32, [0; 256]);
                while !stop.load(Ordering::Relaxed) {
                    let newest = history.written().0 as u32;
                    for block in newest.saturating_sub(20)..newest {
                        let Some((h, n)) = history.read(BlockIndex(block), &mut out) else {
                            continue;
                        };
                        assert_eq!((h, n), (header(block), 256));
                        assert!(out.iter().all(|b| *b == block as u8), "torn: {block}");
                        seen += 1;
                    }
                }
                seen
            });
            for i in 0..200_000 {
                writer.push(&header(i), &[i as u8; 256]);
            }
            stop.store(true, Ordering::Relaxed);
            assert!(reader.join().is_ok_and(|seen| seen > 0));
        });
    }
}
