//! Blocks that wait to leave in one packet.

use std::time::Duration;

use velin_core::session::{MEDIA_HEAD, MEDIA_OVERHEAD};
use velin_core::wire::{AUDIO_HEADER, AudioHeader};

use crate::link::Outlet;

/// Most blocks in a packet.
pub(super) const MAX_BUNDLE: u32 = 8;
/// Copies of older blocks that a block may bring with it.
const MAX_COPIES: usize = 2;

/// Up to [`MAX_BUNDLE`] blocks.
#[derive(Debug)]
pub(super) struct Parcel {
    blocks: Vec<(AudioHeader, usize)>,
    /// Their payloads, each behind room for its frame header.
    bytes: Vec<u8>,
    /// Each receiver has keys of its own: what is sealed is a copy.
    packet: Vec<u8>,
    most: usize,
    block_duration: Duration,
}

/// What became of a parcel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Packets that left.
    pub(super) packets: u64,
    /// Packets that had nowhere to go.
    pub(super) dropped: u64,
    /// Bytes that left, without copies of older blocks.
    pub(super) bytes: u64,
}

impl Parcel {
    /// For `most` blocks of at most `block_bytes` that last `block_duration` each.
    pub(super) fn new(most: u32, block_bytes: usize, block_duration: Duration) -> Self {
        let most = most.clamp(1, MAX_BUNDLE) as usize;
        let frame = AUDIO_HEADER + block_bytes;
        Self {
            blocks: Vec::with_capacity(most),
            bytes: Vec::with_capacity(most * frame),
            packet: vec![0; MEDIA_OVERHEAD + most * (1 + MAX_COPIES) * frame],
            most,
            block_duration,
        }
    }

    /// Adds a block, which fits.
    pub(super) fn add(&mut self, header: AudioHeader, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&header.encode(length));
        self.bytes.extend_from_slice(payload);
        self.blocks.push((header, payload.len()));
    }

    /// Whether no more blocks are to be waited for.
    pub(super) fn is_full(&self) -> bool {
        self.blocks.len() >= self.most
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.bytes.clear();
    }

    /// Sends the blocks through `outlet`: in one packet, or in as few as its receiver takes.
    pub(super) fn send(&mut self, outlet: &Outlet, sent: &mut Sent) {
        // The first frame's header is the outlet's business.
        let room = outlet.mtu().saturating_sub(MEDIA_OVERHEAD) + AUDIO_HEADER;
        let (mut first, mut from) = (0, 0);
        while first < self.blocks.len() {
            let (mut last, mut to) = (first, from);
            while let Some((_, length)) = self.blocks.get(last)
                && (last == first || to - from + AUDIO_HEADER + length <= room)
            {
                to += AUDIO_HEADER + length;
                last += 1;
            }
            let n = to - from - AUDIO_HEADER;
            self.packet[MEDIA_HEAD..MEDIA_HEAD + n]
                .copy_from_slice(&self.bytes[from + AUDIO_HEADER..to]);
            let headers = &self.blocks[first..last];
            match outlet.send(headers, &mut self.packet, self.block_duration) {
                Ok(true) => {
                    sent.packets += 1;
                    sent.bytes += (n + MEDIA_OVERHEAD) as u64;
                }
                // Among others, between the end of a session and the next one.
                Ok(false) | Err(_) => sent.dropped += 1,
            }
            (first, from) = (last, to);
        }
    }
}
