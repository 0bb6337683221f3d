//! Joins without clicks: a tail that fades out of what was heard, and a fade-in of what returns.

use std::f32::consts::PI;

use crate::units::SampleRate;

/// How long a fade lasts, µs.
const FADE_US: u64 = 2_500;

/// Fades at the edges of continuous audio.
///
/// The tail plays the last 2.5 ms backwards under a falling raised cosine: it starts at the last
/// sample heard, its slope is never steeper than the signal's own, and it ends in silence.
#[derive(Debug)]
pub(super) struct Splice {
    channels: usize,
    /// Rising raised cosine, without its ends 0 and 1.
    fade: Box<[f32]>,
    /// The last frames of the previous output.
    history: Box<[f32]>,
    tail: Box<[f32]>,
    /// Next frame of the tail; its length when there is none.
    tail_at: usize,
    /// Frames of the fade-in still to come.
    fade_in: usize,
}

impl Splice {
    pub(super) fn new(rate: SampleRate, channels: usize) -> Self {
        let frames = (u64::from(rate.hz()) * FADE_US / 1_000_000).max(1) as usize;
        let step = PI / (frames + 1) as f32;
        Self {
            channels,
            fade: (1..=frames).map(|i| 0.5 - 0.5 * (step * i as f32).cos()).collect(),
            history: vec![0.0; frames * channels].into(),
            tail: vec![0.0; frames * channels].into(),
            tail_at: frames,
            fade_in: 0,
        }
    }

    /// Whether a tail is being heard.
    pub(super) fn has_tail(&self) -> bool {
        self.tail_at < self.fade.len()
    }

    /// Starts a tail after `written`, the part of the output written since
    /// [`remember`](Self::remember).
    pub(super) fn begin_tail(&mut self, written: &[f32]) {
        let ch = self.channels;
        let frames = self.fade.len();
        let at = written.len() / ch;
        for i in 0..frames {
            let source = if i < at {
                &written[(at - 1 - i) * ch..][..ch]
            } else {
                &self.history[(frames - 1 - (i - at)) * ch..][..ch]
            };
            for (tail, heard) in self.tail[i * ch..][..ch].iter_mut().zip(source) {
                *tail = heard * self.fade[frames - 1 - i];
            }
        }
        self.tail_at = 0;
    }

    /// Lets the next audio fade in.
    pub(super) fn begin_fade_in(&mut self) {
        self.fade_in = self.fade.len();
    }

    /// Joins `audio`, whole frames, to what was heard before it.
    pub(super) fn join(&mut self, audio: &mut [f32]) {
        if self.fade_in > 0 {
            let from = self.fade.len() - self.fade_in;
            let frames = audio.chunks_exact_mut(self.channels).zip(&self.fade[from..]);
            for (frame, gain) in frames {
                frame.iter_mut().for_each(|x| *x *= gain);
            }
            self.fade_in = self.fade_in.saturating_sub(audio.len() / self.channels);
        }
        if self.has_tail() {
            let tail = &self.tail[self.tail_at * self.channels..];
            for (x, t) in audio.iter_mut().zip(tail) {
                *x = (*x + t).clamp(f32::MIN, f32::MAX);
            }
            self.spend_tail(audio.len() / self.channels);
        }
    }

    /// Fills `audio` with what is left of the tail, then silence.
    pub(super) fn conceal(&mut self, audio: &mut [f32]) {
        let tail = &self.tail[self.tail_at * self.channels..];
        let n = tail.len().min(audio.len());
        audio[..n].copy_from_slice(&tail[..n]);
        audio[n..].fill(0.0);
        self.spend_tail(audio.len() / self.channels);
    }

    /// Keeps the end of a finished piece of output for later tails.
    pub(super) fn remember(&mut self, written: &[f32]) {
        let keep = self.history.len();
        if written.len() >= keep {
            self.history.copy_from_slice(&written[written.len() - keep..]);
        } else {
            self.history.copy_within(written.len().., 0);
            self.history[keep - written.len()..].copy_from_slice(written);
        }
    }

    fn spend_tail(&mut self, frames: usize) {
        self.tail_at = (self.tail_at + frames).min(self.fade.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_begins_at_the_last_sample_and_ends_in_silence() {
        let mut splice = Splice::new(SampleRate::HZ_48000, 1);
        let heard: Vec<f32> = (0..300).map(|i| (i as f32 * 0.05).sin()).collect();
        splice.remember(&heard[..200]);
        splice.begin_tail(&heard[200..]);
        let mut out = [1.0; 200];
        splice.conceal(&mut out);
        let mut previous = heard[299];
        for x in out {
            assert!((x - previous).abs() < 0.06, "{previous} to {x}");
            previous = x;
        }
        assert_eq!(out[120..], [0.0; 80]);
        assert!(!splice.has_tail());
    }

    #[test]
    fn a_fade_in_spans_pieces() {
        let mut splice = Splice::new(SampleRate::HZ_48000, 2);
        splice.begin_fade_in();
        let mut out = vec![1.0; 2 * 200];
        for piece in out.chunks_mut(2 * 7) {
            splice.join(piece);
        }
        assert!(out.windows(2).all(|w| w[1] >= w[0]));
        assert!(out[0] < 0.01 && out[2 * 119] < 1.0);
        assert!(out[2 * 120..].iter().all(|x| *x == 1.0));
    }
}
