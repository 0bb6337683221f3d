//! From buffers of any size to blocks of one size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use velin_core::codec::opus::{LossAdaptation, OpusError};
use velin_core::codec::{StreamFormat, decode_into, encode_into};
use velin_core::resend::HistoryWriter;
use velin_core::units::{BlockIndex, FrameIndex};
use velin_core::wire::{AudioFlags, AudioHeader};

use super::coder::{Coded, Coder};
use super::parcel::{Parcel, Sent};
use crate::format::PcmFormat;
use crate::link::OutStream;

/// In a pause of discontinuous transmission something is sent at least so often: a receiver that hears
/// nothing for 300 ms believes its path to be gone.
const KEEP_ALIVE: Duration = Duration::from_millis(100);

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
    /// Bits per second that the codec makes of sound now; 0 for PCM.
    pub(super) codec_bit_rate: AtomicU64,
}

/// Cuts the input into blocks and sends each, or some together, as soon as they are full.
///
/// Owned by the streaming thread; allocates only when made.
#[derive(Debug)]
pub(super) struct Packetizer {
    /// Of the input.
    pcm: PcmFormat,
    /// Of what is sent.
    format: StreamFormat,
    coder: Coder,
    out: Arc<OutStream>,
    counters: Arc<SendCounters>,
    /// Bytes of the block under way, of so many when it is full.
    block: Vec<u8>,
    block_bytes: usize,
    /// Whether everything in it so far is silence.
    silent: bool,
    index: BlockIndex,
    /// The frame index of the block's first frame.
    ts: FrameIndex,
    discontinuity: bool,
    muted: bool,
    payload: Vec<u8>,
    parcel: Parcel,
    /// Frames that were left out in a pause since something was sent, while there is a pause.
    pause: Option<u64>,
    /// What receivers may ask for again.
    history: Option<HistoryWriter>,
    samples: Vec<f32>,
    /// Frames and bytes of the second under way.
    window: (u64, u64),
    rate: Option<LossAdaptation>,
    /// Reports that the bit rate has followed.
    reports: u32,
    failed: Option<OpusError>,
}

impl Packetizer {
    /// `bundle` blocks leave together.
    pub(super) fn new(
        pcm: PcmFormat,
        coder: Coder,
        format: StreamFormat,
        bundle: u32,
        out: Arc<OutStream>,
        counters: Arc<SendCounters>,
    ) -> Self {
        let mut coder = coder;
        let frames = format.frames_per_block as usize;
        let block_bytes = frames * pcm.frame_bytes();
        let rate = coder.encoder().map(|encoder| LossAdaptation::new(encoder.bit_rate()));
        let bits = rate.as_ref().map_or(0, |rate| rate.bit_rate().bits_per_second());
        counters.codec_bit_rate.store(bits.into(), Ordering::Relaxed);
        Self {
            block: Vec::with_capacity(block_bytes),
            block_bytes,
            silent: true,
            index: BlockIndex(0),
            ts: FrameIndex(0),
            discontinuity: false,
            muted: false,
            payload: vec![0; format.block_bytes()],
            parcel: Parcel::new(bundle, format.block_bytes(), format.block_duration()),
            pause: None,
            history: out.take_history(),
            samples: vec![0.0; frames * format.channels().get()],
            window: (0, 0),
            rate,
            reports: 0,
            failed: None,
            pcm,
            format,
            coder,
            out,
            counters,
        }
    }

    /// Takes whole frames.
    pub(super) fn push(&mut self, mut bytes: &[u8], mute: bool) {
        while !bytes.is_empty() {
            let take = (self.block_bytes - self.block.len()).min(bytes.len());
            self.block.extend_from_slice(&bytes[..take]);
            self.silent = false;
            bytes = &bytes[take..];
            if self.block.len() == self.block_bytes {
                self.emit(mute);
            }
        }
    }

    /// Takes `frames` frames of silence.
    pub(super) fn push_silence(&mut self, mut frames: u64, mute: bool) {
        let frame = self.pcm.frame_bytes();
        while frames > 0 {
            let room = (self.block_bytes - self.block.len()) / frame;
            let take = room.min(usize::try_from(frames).unwrap_or(usize::MAX));
            self.block.resize(self.block.len() + take * frame, 0);
            frames -= take as u64;
            if self.block.len() == self.block_bytes {
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

    /// Fills the block under way with silence and sends all there is, so that nothing stays behind.
    pub(super) fn finish(&mut self, mute: bool) {
        if !self.block.is_empty() {
            self.block.resize(self.block_bytes, 0);
            self.emit(mute);
        }
        self.send();
    }

    /// What made the codec fail first, once.
    pub(super) fn take_failure(&mut self) -> Option<OpusError> {
        self.failed.take()
    }

    fn emit(&mut self, mute: bool) {
        if mute != self.muted {
            self.ramp(mute);
            self.muted = mute;
        } else if mute {
            self.silent = true;
        }
        let (pcm, silent) = (self.pcm, self.silent);
        let coded = self.coder.code(pcm, &self.block, silent, &mut self.samples, &mut self.payload);
        let coded = coded.unwrap_or_else(|e| {
            self.failed.get_or_insert(e);
            Coded::Silence
        });
        let frames = self.format.frames_per_block;
        if self.is_worth_sending(coded) {
            self.put(coded);
        }
        self.counters.frames.fetch_add(frames.into(), Ordering::Relaxed);
        self.ts.0 += u64::from(frames);
        self.block.clear();
        self.silent = true;
        self.measure(frames.into());
    }

    /// In a pause only its beginning is, and a sign of life now and then.
    fn is_worth_sending(&mut self, coded: Coded) -> bool {
        let frames = u64::from(self.format.frames_per_block);
        let left_out = match (coded, self.pause) {
            (Coded::Pause(_), Some(left_out)) => left_out + frames,
            (Coded::Pause(_), None) => 0,
            _ => {
                self.pause = None;
                return true;
            }
        };
        let due = left_out == 0 || left_out >= self.format.rate.frames_in(KEEP_ALIVE);
        // What is sent is not left out.
        self.pause = Some(if due { 0 } else { left_out });
        due || self.discontinuity
    }

    /// Makes a block of the payload; sends it if no more are to be waited for.
    fn put(&mut self, coded: Coded) {
        let mut flags = AudioFlags::NONE;
        if std::mem::take(&mut self.discontinuity) {
            flags = flags.with(AudioFlags::DISCONTINUITY);
        }
        // A block never has more frames than 16 bits count.
        let silence = (self.format.frames_per_block as u16).to_be_bytes();
        let payload = match coded {
            Coded::Silence => {
                flags = flags.with(AudioFlags::SILENCE);
                &silence[..]
            }
            Coded::Bytes(n) | Coded::Pause(n) => &self.payload[..n],
        };
        let header = AudioHeader { flags, block: self.index, ts: self.ts };
        // Before it is sent: whoever misses it may ask at once.
        if let Some(history) = &mut self.history {
            history.push(&header, payload);
        }
        self.parcel.add(header, payload);
        self.index.0 = self.index.0.wrapping_add(1);
        // What follows a pause may be long in coming.
        if self.parcel.is_full() || matches!(coded, Coded::Pause(_)) {
            self.send();
        }
    }

    fn send(&mut self) {
        if self.parcel.is_empty() {
            return;
        }
        let mut sent = Sent::default();
        let parcel = &mut self.parcel;
        self.out.for_each_outlet(|outlet| parcel.send(outlet, &mut sent));
        parcel.clear();
        if sent.packets == 0 {
            sent.dropped = sent.dropped.max(1);
        }
        self.counters.blocks.fetch_add(sent.packets, Ordering::Relaxed);
        self.counters.dropped.fetch_add(sent.dropped, Ordering::Relaxed);
        self.counters.bytes.fetch_add(sent.bytes, Ordering::Relaxed);
        self.window.1 += sent.bytes;
    }

    /// After a second of input: what went out in it, and what that should change.
    fn measure(&mut self, frames: u64) {
        self.window.0 += frames;
        let rate = u64::from(self.format.rate.hz());
        if self.window.0 >= rate {
            let bits = self.window.1 * 8 * rate / self.window.0;
            self.counters.bit_rate.store(bits, Ordering::Relaxed);
            self.adapt(self.format.rate.duration_of(self.window.0));
            self.window = (0, 0);
        }
    }

    /// Lets the bit rate follow the loss of the receiver that loses most.
    fn adapt(&mut self, passed: Duration) {
        let (Some(rate), Some(encoder)) = (&mut self.rate, self.coder.encoder()) else { return };
        let (mut reports, mut worst) = (0_u32, 0.0_f64);
        self.out.for_each_outlet(|outlet| {
            let (count, share) = outlet.loss();
            reports = reports.wrapping_add(count);
            worst = worst.max(share);
        });
        if std::mem::replace(&mut self.reports, reports) == reports {
            // Nobody has said anything new.
            return;
        }
        let before = rate.bit_rate();
        let now = rate.update(passed, worst);
        let told = encoder
            .set_loss(worst)
            .and_then(|()| if now == before { Ok(()) } else { encoder.set_bit_rate(now) });
        if let Err(e) = told {
            self.failed.get_or_insert(e);
        }
        self.counters.codec_bit_rate.store(now.bits_per_second().into(), Ordering::Relaxed);
    }

    /// Fades the block under way out or in, so that muting makes no click.
    fn ramp(&mut self, out: bool) {
        if self.silent {
            return;
        }
        let channels = self.format.channels().get();
        let n = decode_into(self.pcm.sample, &self.block, &mut self.samples);
        let frames = (n / channels).max(1) as f32;
        for (i, frame) in self.samples[..n].chunks_exact_mut(channels).enumerate() {
            let position = (i as f32 + 0.5) / frames;
            let gain = if out { 1.0 - position } else { position };
            for sample in frame {
                *sample *= gain;
            }
        }
        encode_into(self.pcm.sample, &self.samples[..n], &mut self.block);
    }
}
