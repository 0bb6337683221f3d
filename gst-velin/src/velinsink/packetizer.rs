//! From buffers of any size to blocks of one size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use velin_core::codec::{StreamFormat, decode_into, encode_into};
use velin_core::resend::HistoryWriter;
use velin_core::session::{MEDIA_HEAD, MEDIA_OVERHEAD};
use velin_core::units::{BlockIndex, FrameIndex};
use velin_core::wire::{AUDIO_HEADER, AudioFlags, AudioHeader};

use crate::link::OutStream;

/// Copies of older blocks that a packet may hold beside its own.
const MAX_COPIES: usize = 2;

/// What was sent; read by any thread.
#[derive(Debug, Default)]
pub(super) struct SendCounters {
    pub(super) frames: AtomicU64,
    pub(super) blocks: AtomicU64,
    /// Packets that had nowhere to go: no receiver, or the system refused them.
    pub(super) dropped: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Bits per second on the way to all receivers, over the last second of input.
    pub(super) bit_rate: AtomicU64,
}

/// Cuts the input into blocks and sends each as soon as it is full.
///
/// Owned by the streaming thread; allocates only when made.
#[derive(Debug)]
pub(super) struct Packetizer {
    format: StreamFormat,
    out: Arc<OutStream>,
    counters: Arc<SendCounters>,
    /// Bytes of the block under way.
    block: Vec<u8>,
    /// Whether everything in it so far is silence.
    silent: bool,
    index: BlockIndex,
    /// The frame index of the block's first frame.
    ts: FrameIndex,
    discontinuity: bool,
    muted: bool,
    packet: Vec<u8>,
    /// What receivers may ask for again.
    history: Option<HistoryWriter>,
    samples: Vec<f32>,
    /// Frames and bytes of the second under way.
    window: (u64, u64),
}

impl Packetizer {
    pub(super) fn new(
        format: StreamFormat,
        out: Arc<OutStream>,
        counters: Arc<SendCounters>,
    ) -> Self {
        let bytes = format.block_bytes();
        let samples = format.frames_per_block as usize * format.channels().get();
        Self {
            block: Vec::with_capacity(bytes),
            silent: true,
            index: BlockIndex(0),
            ts: FrameIndex(0),
            discontinuity: false,
            muted: false,
            packet: vec![0; MEDIA_OVERHEAD + bytes + MAX_COPIES * (AUDIO_HEADER + bytes)],
            history: out.take_history(),
            samples: vec![0.0; samples],
            window: (0, 0),
            format,
            out,
            counters,
        }
    }

    /// Takes whole frames.
    pub(super) fn push(&mut self, mut bytes: &[u8], mute: bool) {
        let size = self.format.block_bytes();
        while !bytes.is_empty() {
            let take = (size - self.block.len()).min(bytes.len());
            self.block.extend_from_slice(&bytes[..take]);
            self.silent = false;
            bytes = &bytes[take..];
            if self.block.len() == size {
                self.emit(mute);
            }
        }
    }

    /// Takes `frames` frames of silence.
    pub(super) fn push_silence(&mut self, mut frames: u64, mute: bool) {
        let frame = self.format.frame_bytes();
        let per_block = self.format.frames_per_block as usize;
        while frames > 0 {
            let room = per_block - self.block.len() / frame;
            let take = room.min(usize::try_from(frames).unwrap_or(usize::MAX));
            self.block.resize(self.block.len() + take * frame, 0);
            frames -= take as u64;
            if self.block.len() == per_block * frame {
                self.emit(mute);
            }
        }
    }

    /// The input jumped ahead by `frames`: finishes the block under way and leaves them out.
    pub(super) fn skip(&mut self, frames: u64, mute: bool) {
        self.finish(mute);
        self.ts.0 += frames;
        self.discontinuity = true;
    }

    /// Fills the block under way with silence and sends it, so that nothing stays behind.
    pub(super) fn finish(&mut self, mute: bool) {
        if !self.block.is_empty() {
            self.block.resize(self.format.block_bytes(), 0);
            self.emit(mute);
        }
    }

    fn emit(&mut self, mute: bool) {
        if mute != self.muted {
            self.ramp(mute);
            self.muted = mute;
        } else if mute {
            self.silent = true;
        }
        let mut flags = AudioFlags::NONE;
        if std::mem::take(&mut self.discontinuity) {
            flags = flags.with(AudioFlags::DISCONTINUITY);
        }
        // A block never has more frames than an MTU has bytes.
        let silence = (self.format.frames_per_block as u16).to_be_bytes();
        let payload = if self.silent {
            flags = flags.with(AudioFlags::SILENCE);
            &silence[..]
        } else {
            &self.block[..]
        };
        let header = AudioHeader { flags, block: self.index, ts: self.ts };
        let (mut sent, mut dropped) = (0, 0);
        let duration = self.format.rate.duration_of(self.format.frames_per_block.into());
        let packet = &mut self.packet;
        // Before it is sent: whoever misses it may ask at once.
        if let Some(history) = &mut self.history {
            history.push(&header, payload);
        }
        self.out.for_each_outlet(|outlet| {
            // Every receiver has keys of its own, and a block is sealed where it stands.
            packet[MEDIA_HEAD..MEDIA_HEAD + payload.len()].copy_from_slice(payload);
            match outlet.send(&header, payload.len(), packet, duration) {
                Ok(true) => sent += 1,
                // Among others, between the end of a session and the next one.
                Ok(false) | Err(_) => dropped += 1,
            }
        });
        if sent == 0 {
            dropped = dropped.max(1);
        }
        let bytes = sent * (payload.len() + MEDIA_OVERHEAD) as u64;
        self.counters.blocks.fetch_add(sent, Ordering::Relaxed);
        self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.window.1 += bytes;
        let frames = u64::from(self.format.frames_per_block);
        self.counters.frames.fetch_add(frames, Ordering::Relaxed);
        self.measure(frames);
        self.index.0 = self.index.0.wrapping_add(1);
        self.ts.0 += frames;
        self.block.clear();
        self.silent = true;
    }

    /// After a second of input: what went out in it.
    fn measure(&mut self, frames: u64) {
        self.window.0 += frames;
        let rate = u64::from(self.format.rate.hz());
        if self.window.0 >= rate {
            let bits = self.window.1 * 8 * rate / self.window.0;
            self.counters.bit_rate.store(bits, Ordering::Relaxed);
            self.window = (0, 0);
        }
    }

    /// Fades the block under way out or in, so that muting makes no click.
    fn ramp(&mut self, out: bool) {
        if self.silent {
            return;
        }
        let channels = self.format.channels().get();
        let n = decode_into(self.format.sample, &self.block, &mut self.samples);
        let frames = (n / channels).max(1) as f32;
        for (i, frame) in self.samples[..n].chunks_exact_mut(channels).enumerate() {
            let position = (i as f32 + 0.5) / frames;
            let gain = if out { 1.0 - position } else { position };
            for sample in frame {
                *sample *= gain;
            }
        }
        encode_into(self.format.sample, &self.samples[..n], &mut self.block);
    }
}
