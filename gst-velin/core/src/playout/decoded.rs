//! Blocks of an Opus stream, decoded in the order in which they are played.

use super::block::Slot;
use super::conceal::Continuation;
use crate::codec::StreamFormat;
use crate::codec::opus::{OpusDecoder, OpusError, is_pause};

/// The decoder of one stream and the block that it decoded, or made up, last.
///
/// Its state follows what is heard: a block that is missing is made up in its place, and one that is
/// skipped is as if it had never been sent.
#[derive(Debug)]
pub(super) struct Decoded {
    decoder: OpusDecoder,
    channels: usize,
    block: Box<[f32]>,
    /// What `block` is.
    holds: Holds,
    /// Samples of it that were played.
    played: usize,
    /// The last block said that nothing comes for a while.
    pauses: bool,
    /// The last block was silence that needs no decoder.
    rests: bool,
    /// What returns does so at the beginning of a block.
    joins: bool,
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// The block of this number.
    Block(u64),
    MadeUp,
}

impl Decoded {
    pub(super) fn new(format: &StreamFormat) -> Result<Self, OpusError> {
        let decoder = OpusDecoder::new(format)?;
        let block = vec![0.0; decoder.block_samples()].into();
        Ok(Self {
            decoder,
            channels: format.channels().get(),
            block,
            holds: Holds::Nothing,
            played: 0,
            pauses: false,
            rests: true,
            joins: false,
            generation: 0,
        })
    }

    /// Fills `out` with a part of a block that begins `offset` frames in.
    pub(super) fn read(&mut self, slot: &Slot, offset: usize, out: &mut [f32]) {
        if slot.generation != self.generation {
            // Another encoder.
            self.generation = slot.generation;
            self.decoder.reset();
            self.holds = Holds::Nothing;
        }
        if self.holds != Holds::Block(slot.index) {
            self.decode(slot);
        }
        let from = (offset * self.channels).min(self.block.len());
        let n = out.len().min(self.block.len() - from);
        out[..n].copy_from_slice(&self.block[from..from + n]);
        out[n..].fill(0.0);
        self.played = from + n;
    }

    /// Whether the last block said that nothing comes for a while.
    pub(super) fn pauses(&self) -> bool {
        self.pauses
    }

    /// Whether what returns does so at the beginning of a block.
    pub(super) fn set_joins(&mut self, joins: bool) {
        self.joins = joins;
    }

    /// Whether the next frame that [`go_on`](Self::go_on) gives is the first of a block.
    fn is_at_block(&self) -> bool {
        self.holds == Holds::Nothing || self.played >= self.block.len()
    }

    /// Makes up the block that is missing now from what `next`, the one after it, says about it; nothing
    /// in the middle of one.
    pub(super) fn repair(&mut self, next: &Slot) {
        if next.generation == self.generation && next.len > 0 && self.is_at_block() {
            self.make_up(Some(&next.payload[..next.len]));
        }
    }

    /// Fills `out` with what follows on the last block, as far as that can be guessed.
    pub(super) fn go_on(&mut self, mut out: &mut [f32]) {
        while !out.is_empty() {
            if self.is_at_block() {
                self.make_up(None);
            }
            let n = out.len().min(self.block.len() - self.played);
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&self.block[self.played..self.played + n]);
            self.played += n;
            out = later;
        }
    }

    fn decode(&mut self, slot: &Slot) {
        self.holds = Holds::Block(slot.index);
        self.rests = slot.len == 0;
        if self.rests {
            // The encoder rests as well.
            self.pauses = false;
            self.block.fill(0.0);
            return;
        }
        let payload = &slot.payload[..slot.len];
        self.pauses = is_pause(payload);
        if self.decoder.decode(payload, &mut self.block).is_err() {
            // It has the right duration and is nonsense all the same.
            self.make_up(None);
            self.holds = Holds::Block(slot.index);
        }
    }

    fn make_up(&mut self, next: Option<&[u8]>) {
        if self.decoder.conceal(next, &mut self.block).is_err() {
            self.block.fill(0.0);
        }
        self.holds = Holds::MadeUp;
        self.played = 0;
    }
}

impl Continuation for Decoded {
    fn begin(&mut self, _heard: &[f32]) {
        // Its own memory is better.
        self.joins = false;
    }

    fn next(&mut self, frames: &mut [f32]) {
        self.go_on(frames);
    }

    fn is_silent(&self) -> bool {
        self.rests
    }

    fn joins_by_itself(&self) -> bool {
        self.joins && self.holds == Holds::MadeUp && self.is_at_block()
    }
}
