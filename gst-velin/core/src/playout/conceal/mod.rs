//! What is heard where frames are missing, and joins without clicks.
//!
//! ```text
//! heard ──▶ continuation (Extrapolator, or a decoder of its own) ──▶ envelope ──▶ out
//!                                                 returning audio ──▶ join ─────▶ out
//! ```
//!
//! The continuation makes frames that could follow those that were heard. It is held for a little
//! while and then fades: the longer a gap, the less likely is any guess. Where audio returns, the
//! continuation goes on beneath it and the one is faded into the other.

mod burg;
mod envelope;
mod extrapolate;
mod period;
mod recent;

pub(super) use extrapolate::Extrapolator;

use std::time::Duration;

use envelope::{Envelope, rising};
use recent::Recent;

use super::decoded::Decoded;
use crate::units::SampleRate;

/// How long audio that returns and the continuation are faded into each other.
const JOIN: Duration = Duration::from_micros(2_500);

/// Makes frames that follow what was heard.
///
/// Frames are interleaved, at the stream's rate and in its channels. Nothing here may block or
/// allocate: it runs where the audio is played.
pub(super) trait Continuation {
    /// Frames will be missing after `heard`, oldest first, which is all that is remembered.
    fn begin(&mut self, heard: &[f32]);

    /// Fills `frames` with those that follow, any number of them.
    fn next(&mut self, frames: &mut [f32]);

    /// Nothing is to be heard of it but silence.
    fn is_silent(&self) -> bool;

    /// What returns follows on what this made by itself, as with a decoder that has concealed:
    /// then there is nothing to cross-fade before the continuation was faded.
    fn joins_by_itself(&self) -> bool {
        false
    }
}

/// Where a stream's continuation comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// From the samples that were heard.
    Pcm(Box<Extrapolator>),
    /// From the decoder that made them.
    Opus(Decoded),
}

impl Source {
    /// What PCM in this rate and so many channels goes on with.
    pub(super) fn pcm(rate: SampleRate, channels: usize) -> Self {
        Self::Pcm(Box::new(Extrapolator::new(rate, channels)))
    }
}

impl Continuation for Source {
    fn begin(&mut self, heard: &[f32]) {
        match self {
            Self::Pcm(extrapolator) => extrapolator.begin(heard),
            Self::Opus(decoded) => decoded.begin(heard),
        }
    }

    fn next(&mut self, frames: &mut [f32]) {
        match self {
            Self::Pcm(extrapolator) => extrapolator.next(frames),
            Self::Opus(decoded) => decoded.next(frames),
        }
    }

    fn is_silent(&self) -> bool {
        match self {
            Self::Pcm(extrapolator) => extrapolator.is_silent(),
            Self::Opus(decoded) => decoded.is_silent(),
        }
    }

    fn joins_by_itself(&self) -> bool {
        match self {
            Self::Pcm(extrapolator) => extrapolator.joins_by_itself(),
            Self::Opus(decoded) => decoded.joins_by_itself(),
        }
    }
}

/// Fades and joins around what is missing.
#[derive(Debug)]
pub(super) struct Conceal {
    channels: usize,
    heard: Recent,
    /// Samples of the output at hand that `heard` has already.
    noted: usize,
    /// Of the continuation.
    envelope: Envelope,
    /// Gain of what returns, rising.
    join: Box<[f32]>,
    /// The end of the continuation, beneath what returns.
    beneath: Box<[f32]>,
    /// The next frame of the join; its length when there is none.
    join_at: usize,
    /// The join has a continuation beneath it.
    joins_sound: bool,
}

impl Conceal {
    pub(super) fn new(rate: SampleRate, channels: usize) -> Self {
        let join = rate.frames_in(JOIN).max(1) as usize;
        Self {
            channels,
            heard: Recent::new(extrapolate::history(rate) * channels),
            noted: 0,
            envelope: Envelope::new(rate),
            join: (1..=join).map(|i| rising(i as f32 / (join + 1) as f32)).collect(),
            beneath: vec![0.0; join * channels].into(),
            join_at: join,
            joins_sound: false,
        }
    }

    /// Whether something is heard beside or instead of the stream's own frames.
    pub(super) fn is_sounding(&self) -> bool {
        !self.envelope.is_over() || (self.joins_sound && self.join_at < self.join.len())
    }

    /// Frames are missing after `written`, the part of the output written since
    /// [`remember`](Self::remember).
    pub(super) fn begin(&mut self, source: &mut impl Continuation, written: &[f32]) {
        self.heard.push(&written[self.noted..]);
        self.noted = written.len();
        source.begin(self.heard.all());
        self.join_at = self.join.len();
        self.envelope.begin();
        if source.is_silent() {
            // No longer than it takes to join: what is silent may be hurried through, but not where
            // something was lost.
            self.envelope.shorten(self.join.len());
        }
    }

    /// Fills `out` with the continuation as long as it is heard, then silence.
    pub(super) fn fill(&mut self, source: &mut impl Continuation, out: &mut [f32]) {
        let frames = self.envelope.left().min(out.len() / self.channels);
        let (sound, silence) = out.split_at_mut(frames * self.channels);
        silence.fill(0.0);
        if frames > 0 {
            source.next(sound);
            self.envelope.apply(sound, self.channels);
        }
    }

    /// Nothing is missing, there is nothing to be heard: the continuation ends soon.
    pub(super) fn release(&mut self) {
        self.envelope.release();
    }

    /// Lets the next audio fade in over the continuation, which ends. To be called before that
    /// audio is decoded.
    pub(super) fn begin_join(&mut self, source: &mut impl Continuation) {
        self.join_at = 0;
        self.joins_sound = !self.envelope.is_over();
        if self.joins_sound && source.joins_by_itself() && self.envelope.is_held() {
            self.join_at = self.join.len();
        } else if self.joins_sound {
            let mut beneath = std::mem::take(&mut self.beneath);
            self.fill(source, &mut beneath);
            for (frame, gain) in beneath.chunks_exact_mut(self.channels).zip(&self.join) {
                frame.iter_mut().for_each(|x| *x *= 1.0 - gain);
            }
            self.beneath = beneath;
        }
        self.envelope.end();
    }

    /// Joins `audio`, whole frames, to what was heard before it.
    pub(super) fn join(&mut self, audio: &mut [f32]) {
        let ch = self.channels;
        let at = self.join_at;
        let frames = (self.join.len() - at).min(audio.len() / ch);
        let gains = &self.join[at..at + frames];
        for (frame, gain) in audio.chunks_exact_mut(ch).zip(gains) {
            frame.iter_mut().for_each(|x| *x *= gain);
        }
        if self.joins_sound {
            for (x, beneath) in audio.iter_mut().zip(&self.beneath[at * ch..(at + frames) * ch]) {
                *x = (*x + beneath).clamp(f32::MIN, f32::MAX);
            }
        }
        self.join_at += frames;
    }

    /// Keeps a finished piece of output for the next gap.
    pub(super) fn remember(&mut self, written: &[f32]) {
        self.heard.push(&written[self.noted..]);
        self.noted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One channel, as it was heard, then a gap.
    struct Bench {
        conceal: Conceal,
        source: Source,
        channels: usize,
    }

    impl Bench {
        fn new(hz: u32, channels: usize) -> Self {
            let rate = SampleRate::new(hz).unwrap();
            Self {
                conceal: Conceal::new(rate, channels),
                source: Source::pcm(rate, channels),
                channels,
            }
        }

        fn hear(&mut self, samples: &[f32]) {
            for piece in samples.chunks(48 * self.channels) {
                self.conceal.remember(piece);
            }
        }

        /// What fills a gap of so many frames.
        fn gap(&mut self, frames: usize) -> Vec<f32> {
            self.conceal.begin(&mut self.source, &[]);
            let mut out = vec![f32::NAN; frames * self.channels];
            for piece in out.chunks_mut(48 * self.channels) {
                self.conceal.fill(&mut self.source, piece);
                self.conceal.remember(piece);
            }
            out
        }
    }

    fn tone(i: usize) -> f32 {
        0.3 * (i as f32 * 0.057).sin() + 0.2 * (i as f32 * 0.31).cos()
    }

    #[test]
    fn a_tone_goes_on_as_it_was_and_fades() {
        let mut bench = Bench::new(48_000, 1);
        bench.hear(&(0..4_800).map(tone).collect::<Vec<_>>());
        let out = bench.gap(4_800);
        for (i, x) in out[..480].iter().enumerate() {
            assert!((x - tone(4_800 + i)).abs() < 0.01, "{i}: {x} for {}", tone(4_800 + i));
        }
        assert!(out[2_880..].iter().all(|x| *x == 0.0));
        assert!(!bench.conceal.is_sounding());
    }

    #[test]
    fn a_gap_that_begins_within_a_piece_of_output_follows_that() {
        let samples: Vec<f32> = (0..5_000).map(tone).collect();
        for at in [0, 1, 20, 200] {
            let mut bench = Bench::new(48_000, 1);
            bench.hear(&samples[..4_800 - at]);
            let mut out = samples[4_800 - at..4_800].to_vec();
            bench.conceal.begin(&mut bench.source, &out);
            out.resize(at + 100, f32::NAN);
            bench.conceal.fill(&mut bench.source, &mut out[at..]);
            bench.conceal.remember(&out);
            for (i, x) in out.iter().enumerate() {
                let due = tone(4_800 - at + i);
                assert!((x - due).abs() < 0.01, "{at} {i}: {x} for {due}");
            }
            let heard = bench.conceal.heard.all();
            assert!(
                heard.ends_with(&out)
                    && heard[..heard.len() - out.len()].ends_with(&samples[4_700 - at..4_800 - at])
            );
        }
    }

    #[test]
    fn what_returns_is_faded_in_over_what_was_made_up_and_then_left_alone() {
        let mut bench = Bench::new(48_000, 2);
        let frame = |i: usize| [tone(i), -0.5 * tone(i + 1_000)];
        bench.hear(&(0..4_800).flat_map(frame).collect::<Vec<_>>());
        let mut heard = bench.gap(120);
        bench.conceal.begin_join(&mut bench.source);
        let mut back: Vec<f32> = (4_920..5_400).flat_map(frame).collect();
        let sent = back.clone();
        for piece in back.chunks_mut(2 * 7) {
            bench.conceal.join(piece);
        }
        assert!(back[2 * 120..] == sent[2 * 120..]);
        assert!(!bench.conceal.is_sounding());
        heard.extend(back);
        for (i, x) in heard.chunks(2).enumerate() {
            let due = frame(4_800 + i);
            assert!((x[0] - due[0]).abs() < 0.01 && (x[1] - due[1]).abs() < 0.01, "{i}: {x:?}");
        }
    }

    #[test]
    fn out_of_silence_audio_fades_in() {
        let mut bench = Bench::new(48_000, 2);
        bench.conceal.begin_join(&mut bench.source);
        assert!(!bench.conceal.is_sounding());
        let mut out = vec![1.0; 2 * 200];
        for piece in out.chunks_mut(2 * 7) {
            bench.conceal.join(piece);
        }
        assert!(out.windows(2).all(|w| w[1] >= w[0]));
        assert!(out[0] < 0.01 && out[2 * 119] < 1.0);
        assert!(out[2 * 120..].iter().all(|x| *x == 1.0));
    }

    #[test]
    fn silence_goes_on_as_silence() {
        let mut bench = Bench::new(48_000, 2);
        bench.hear(&(0..4_800).map(tone).collect::<Vec<_>>());
        bench.hear(&[0.0; 2 * 2_000]);
        assert!(bench.gap(500).iter().all(|x| *x == 0.0));
        assert!(!bench.conceal.is_sounding());
    }

    #[test]
    fn nothing_blows_up_whatever_was_heard() {
        let noise = |i: usize| {
            let x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let sounds: [(&str, &dyn Fn(usize) -> f32); 12] = [
            ("white noise", &|i| noise(i)),
            ("a square wave", &|i| if i / 50 % 2 == 0 { 1.0 } else { -1.0 }),
            ("a clipped tone", &|i| (4.0 * (i as f32 * 0.05).sin()).clamp(-1.0, 1.0)),
            ("a constant", &|_| -1.0),
            ("a ramp", &|i| i as f32 / 10_000.0),
            ("a chirp", &|i| (i as f32 * i as f32 * 1e-5).sin()),
            ("a fade-out", &|i| noise(i) * (-(i as f32) / 500.0).exp()),
            ("a crescendo", &|i| (i as f32 * 0.1).sin() * (i as f32 / 1_000.0 - 12.0).exp()),
            ("an impulse", &|i| if i == 9_995 { 1.0 } else { 0.0 }),
            ("impulses", &|i| if i % 480 == 0 { 1.0 } else { 0.0 }),
            ("the highest tone", &|i| if i % 2 == 0 { 1.0 } else { -1.0 }),
            ("beyond all bounds", &|i| if i % 3 == 0 { f32::MAX } else { -f32::MAX }),
        ];
        for hz in [8_000, 44_100, 48_000, 192_000] {
            for channels in [1, 2, 3, 8] {
                for (name, sound) in &sounds {
                    let mut bench = Bench::new(hz, channels);
                    let samples: Vec<f32> =
                        (0..10_000).flat_map(|i| vec![sound(i); channels]).collect();
                    bench.hear(&samples);
                    let out = bench.gap(hz as usize / 10);
                    let peak = samples.iter().fold(0.0, |peak: f32, x| peak.max(x.abs()));
                    let most = out.iter().fold(0.0, |peak: f32, x| peak.max(x.abs()));
                    let what = format!("{name}, {hz} Hz, {channels} channels: {most}");
                    assert!(out.iter().all(|x| x.is_finite()), "{what}");
                    assert!(most <= peak.max(1.0).min(1.26 * peak), "{what}");
                }
            }
        }
    }
}
