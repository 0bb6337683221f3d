//! The audio of the tests: blocks that can be told from all others, and who hears them.

use std::collections::BTreeMap;

use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat};
use velin_core::session::{MediaError, MediaSink, MediaTx, Route};
use velin_core::units::{BlockIndex, FrameIndex, SampleRate, StreamId};
use velin_core::wire::{AudioFlags, AudioFrame, AudioHeader, NackEntries, Report};

use super::rng::Rng;

/// Bytes of audio in a test block.
pub const PAYLOAD: usize = 64;

/// Blocks by stream, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Number of each block, in order of arrival; each payload was right.
    pub blocks: BTreeMap<StreamId, Vec<u32>>,
    /// Blocks whose content nobody sent.
    pub wrong: u64,
    /// Reports.
    pub reports: Vec<(StreamId, Report)>,
    /// Blocks asked for again.
    pub asked: Vec<(StreamId, u32)>,
}

impl MediaSink for Heard {
    fn audio(&mut self, stream: StreamId, frame: &AudioFrame<'_>) {
        let block = frame.header.block.0;
        if frame.payload != payload(stream, block) || frame.header.ts.0 != ts(block) {
            self.wrong += 1;
        }
        self.blocks.entry(stream).or_default().push(block);
    }

    fn report(&mut self, stream: StreamId, report: &Report) {
        self.reports.push((stream, *report));
    }

    fn nack(&mut self, stream: StreamId, entries: NackEntries<'_>) {
        self.asked.extend(entries.blocks().map(|block| (stream, block.0)));
    }
}

/// The format of every test stream: 16 frames of S16LE stereo.
pub fn format() -> StreamFormat {
    StreamFormat {
        coding: SampleFormat::S16Le.into(),
        rate: SampleRate::HZ_48000,
        map: ChannelMap::stereo(),
        frames_per_block: 16,
    }
}

/// The one right content of a block.
pub fn payload(stream: StreamId, block: u32) -> [u8; PAYLOAD] {
    let mut rng = Rng::new(u64::from(stream.0) << 32 | u64::from(block));
    let mut bytes = [0; PAYLOAD];
    velin_core::entropy::Entropy::fill(&mut rng, &mut bytes);
    bytes
}

/// The one right position of a block.
pub fn ts(block: u32) -> u64 {
    u64::from(block) * 16
}

/// Seals a test block.
pub fn seal(tx: &MediaTx, block: u32, flags: AudioFlags) -> Result<(Vec<u8>, Route), MediaError> {
    let mut packet = vec![0; 48 + PAYLOAD];
    packet[32..32 + PAYLOAD].copy_from_slice(&payload(tx.id(), block));
    let header = AudioHeader { flags, block: BlockIndex(block), ts: FrameIndex(ts(block)) };
    let (length, route) = tx.seal(&header, PAYLOAD, &mut packet)?;
    packet.truncate(length);
    Ok((packet, route))
}
