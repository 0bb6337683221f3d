//! The codec by itself: what goes in comes out, at its time, whatever happens on the way.

#[path = "support/voice.rs"]
mod voice;

use std::time::Duration;

use proptest::prelude::*;
use velin_core::codec::opus::{
    AudioType, Encoded, OPUS_RATE, OpusDecoder, OpusEncoder, OpusFrameSize, OpusSettings, is_pause,
    packet_frames,
};
use velin_core::units::{BitRate, Channels};
use voice::speech;

fn settings(audio_type: AudioType, size: OpusFrameSize, channels: Channels) -> OpusSettings {
    OpusSettings { channels, size, bit_rate: BitRate::DEFAULT, audio_type, dtx: false }
}

fn bits(bits: u32) -> BitRate {
    BitRate::new(bits).unwrap()
}

/// Interleaves it with itself, the right channel at half the level.
fn stereo(mono: &[f32]) -> Vec<f32> {
    mono.iter().flat_map(|x| [*x, 0.5 * x]).collect()
}

struct Codec {
    encoder: OpusEncoder,
    decoder: OpusDecoder,
    look_ahead: usize,
}

impl Codec {
    fn new(settings: OpusSettings) -> Self {
        let encoder = OpusEncoder::new(settings).unwrap();
        let decoder = OpusDecoder::new(encoder.format()).unwrap();
        let look_ahead = OPUS_RATE.frames_in(encoder.format().codec_delay()) as usize;
        Self { encoder, decoder, look_ahead }
    }

    fn packets(&mut self, input: &[f32]) -> Vec<Vec<u8>> {
        let mut out = vec![0; self.encoder.format().block_bytes()];
        let each = |block: &[f32]| match self.encoder.encode(&mut block.to_vec(), &mut out).unwrap()
        {
            Encoded::Sound(n) | Encoded::Pause(n) => out[..n].to_vec(),
        };
        input.chunks_exact(self.decoder.block_samples()).map(each).collect()
    }

    fn decode(&mut self, packets: &[Vec<u8>]) -> Vec<f32> {
        let mut all = Vec::new();
        let mut block = vec![f32::NAN; self.decoder.block_samples()];
        for packet in packets {
            self.decoder.decode(packet, &mut block).unwrap();
            all.extend_from_slice(&block);
        }
        all
    }
}

/// The normalised correlation of `a` with `b` moved by `lag` frames, over the middle of `a`.
fn correlation(a: &[f32], b: &[f32], channels: usize, lag: isize) -> f64 {
    let margin = 2_000 * channels;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for i in margin..a.len().min(b.len()) - margin {
        let y = b[(i as isize + lag * channels as isize) as usize];
        ab += f64::from(a[i]) * f64::from(y);
        aa += f64::from(a[i]).powi(2);
        bb += f64::from(y).powi(2);
    }
    ab / (aa * bb).sqrt()
}

fn level(a: &[f32]) -> f64 {
    (a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn speech_comes_out_at_its_level_and_to_the_sample_at_its_time() {
    let voice = speech(96_000);
    for audio_type in [AudioType::RestrictedLowDelay, AudioType::Generic, AudioType::Voice] {
        for size in OpusFrameSize::ALL {
            for channels in [Channels::MONO, Channels::STEREO] {
                let ch = channels.get();
                let input = if ch == 1 { voice.clone() } else { stereo(&voice) };
                let mut codec = Codec::new(settings(audio_type, size, channels));
                let packets = codec.packets(&input);
                let output = codec.decode(&packets);
                let what = format!("{audio_type:?} {size:?} {ch} channels");
                let lag = codec.look_ahead as isize;
                // The best lag is where the format says, or next to it where the codec turns phases.
                let best = (lag - 30..=lag + 30)
                    .max_by(|a, b| {
                        let c = |lag| correlation(&input, &output, ch, lag);
                        c(*a).total_cmp(&c(*b))
                    })
                    .unwrap();
                assert!((best - lag).abs() <= 1, "{what}: {best} instead of {lag}");
                let c = correlation(&input, &output, ch, lag);
                assert!(c > 0.9, "{what}: correlation {c}");
                let db = 20.0 * (level(&output) / level(&input)).log10();
                assert!(db.abs() < 1.0, "{what}: {db} dB");
            }
        }
    }
}

#[test]
fn low_delay_looks_ahead_two_and_a_half_milliseconds_and_voice_six_and_a_half() {
    let delay = |audio_type| {
        let settings = settings(audio_type, OpusFrameSize::Ms20, Channels::MONO);
        OpusEncoder::new(settings).unwrap().format().codec_delay()
    };
    assert_eq!(delay(AudioType::RestrictedLowDelay), Duration::from_micros(2_500));
    assert_eq!(delay(AudioType::Voice), Duration::from_micros(6_500));
    assert_eq!(delay(AudioType::Generic), Duration::from_micros(6_500));
}

#[test]
fn the_bit_rate_is_constant_and_what_was_asked_for() {
    let voice = speech(48_000);
    for (rate, size) in [
        (32_000, OpusFrameSize::Ms20),
        (32_000, OpusFrameSize::Ms60),
        (128_000, OpusFrameSize::Ms2_5),
        (128_000, OpusFrameSize::Ms5),
        (192_000, OpusFrameSize::Ms10),
    ] {
        for audio_type in [AudioType::Voice, AudioType::RestrictedLowDelay] {
            let mut settings = settings(audio_type, size, Channels::MONO);
            settings.bit_rate = bits(rate);
            let mut codec = Codec::new(settings);
            let packets = codec.packets(&voice);
            let bytes = bits(rate).bytes_in(size.frames(), OPUS_RATE);
            assert!(packets.iter().all(|p| p.len() == bytes), "{rate} {size:?} {audio_type:?}");
            codec.encoder.set_bit_rate(bits(24_000)).unwrap();
            let lower = codec.packets(&voice);
            assert!(lower.iter().all(|p| p.len() < bytes), "{rate} {size:?}");
            let output = codec.decode(&lower);
            assert!(level(&output) > 0.5 * level(&voice));
        }
    }
}

#[test]
fn pauses_need_hardly_any_packets_and_only_if_that_was_asked_for() {
    let mut audio = speech(48_000);
    audio.extend(vec![0.0; 96_000]);
    for audio_type in [AudioType::Voice, AudioType::RestrictedLowDelay] {
        for (dtx, fewest, most) in [(true, 60, 100), (false, 0, 0)] {
            let settings = OpusSettings {
                bit_rate: bits(32_000),
                dtx,
                ..settings(audio_type, OpusFrameSize::Ms20, Channels::MONO)
            };
            let packets = Codec::new(settings).packets(&audio);
            let pauses = packets[50..].iter().filter(|p| is_pause(p)).count();
            assert!((fewest..=most).contains(&pauses), "{audio_type:?}: {pauses}");
            assert!(!packets[..45].iter().any(|p| is_pause(p)));
        }
    }
}

#[test]
fn a_lost_block_of_a_voice_is_found_in_the_next_one() {
    let voice = speech(96_000);
    let size = OpusFrameSize::Ms20;
    let settings =
        OpusSettings { bit_rate: bits(32_000), ..settings(AudioType::Voice, size, Channels::MONO) };
    // Against what is heard when nothing is lost.
    let error = |told: f64, ask_next: bool| {
        let mut codec = Codec::new(settings);
        codec.encoder.set_loss(told).unwrap();
        let packets = codec.packets(&voice);
        let plain = codec.decode(&packets);
        codec.decoder.reset();
        let mut block = vec![0.0; codec.decoder.block_samples()];
        let (mut wrong, mut all) = (0.0, 0.0);
        for (i, packet) in packets.iter().enumerate() {
            let lost = i % 10 == 9;
            match packets.get(i + 1).filter(|_| ask_next) {
                _ if !lost => codec.decoder.decode(packet, &mut block).unwrap(),
                next => codec.decoder.conceal(next.map(|p| &p[..]), &mut block).unwrap(),
            }
            let truth = &plain[i * block.len()..][..block.len()];
            let miss = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            wrong += f64::from(u8::from(lost)) * truth.iter().zip(&block).map(miss).sum::<f64>();
            all += f64::from(u8::from(lost)) * level(truth).powi(2) * block.len() as f64;
        }
        wrong / all
    };
    let (guessed, repaired) = (error(0.2, false), error(0.2, true));
    assert!(repaired < 0.5 * guessed, "{repaired} after {guessed}");
    // Without losses the encoder spends nothing on them.
    assert!((error(0.0, true) - error(0.0, false)).abs() < 1e-9);
}

#[test]
fn many_lost_blocks_never_grow_louder_and_the_next_ones_are_heard() {
    let voice = speech(96_000);
    for size in OpusFrameSize::ALL {
        let mut codec = Codec::new(settings(AudioType::RestrictedLowDelay, size, Channels::MONO));
        let packets = codec.packets(&voice);
        let half = packets.len() / 2;
        let before = codec.decode(&packets[..half]);
        let mut block = vec![f32::NAN; codec.decoder.block_samples()];
        for _ in 0..192_000 / block.len() {
            codec.decoder.conceal(None, &mut block).unwrap();
            assert!(block.iter().all(|x| x.abs() < 2.0));
        }
        let left = level(&block);
        assert!(left < 0.5 * level(&before), "{size:?}: {left}");
        assert!(level(&codec.decode(&packets[half..])) > 0.5 * level(&before), "{size:?}");
    }
}

#[test]
fn what_is_no_number_or_far_too_loud_does_no_harm() {
    let mut codec = Codec::new(settings(AudioType::Generic, OpusFrameSize::Ms10, Channels::STEREO));
    let mut out = vec![0; codec.encoder.format().block_bytes()];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e30] {
        let mut block = vec![0.1; codec.decoder.block_samples()];
        block[7] = bad;
        codec.encoder.encode(&mut block, &mut out).unwrap();
    }
    let packets = codec.packets(&stereo(&speech(48_000)));
    let output = codec.decode(&packets);
    assert!(output.iter().all(|x| x.abs() < 2.0) && level(&output) > 0.01);
}

#[test]
fn a_payload_that_is_no_packet_of_the_stream_is_refused_and_changes_nothing() {
    let voice = speech(48_000);
    let of = |size| settings(AudioType::RestrictedLowDelay, size, Channels::MONO);
    let other = Codec::new(of(OpusFrameSize::Ms10)).packets(&voice);
    let mut codec = Codec::new(of(OpusFrameSize::Ms5));
    let packets = codec.packets(&voice);
    let plain = codec.decode(&packets);
    codec.decoder.reset();
    let mut output = Vec::new();
    let mut block = vec![0.0; codec.decoder.block_samples()];
    for (packet, wrong) in packets.iter().zip(&other) {
        for wrong in [&wrong[..], &[], &[0xFF; 2000], &[0x03], &[0xFF, 0xFF]] {
            assert!(codec.decoder.decode(wrong, &mut block).is_err(), "{}", wrong.len());
        }
        codec.decoder.decode(packet, &mut block).unwrap();
        output.extend_from_slice(&block);
    }
    assert_eq!(output, plain[..output.len()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_leave_a_decoder_that_fills_its_blocks(
        payloads in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..1400)), 1..12),
        size in 0..6_usize,
        two in any::<bool>(),
    ) {
        let size = OpusFrameSize::ALL[size];
        let channels = if two { Channels::STEREO } else { Channels::MONO };
        let codec = settings(AudioType::Voice, size, channels);
        let format = OpusEncoder::new(codec).unwrap().format().clone();
        let mut decoder = OpusDecoder::new(&format).unwrap();
        for (mut missing, payload) in payloads {
            let mut block = vec![f32::NAN; decoder.block_samples()];
            missing |= decoder.decode(&payload, &mut block).is_err();
            if missing {
                decoder.conceal(Some(&payload), &mut block).unwrap();
            }
            prop_assert!(block.iter().all(|x| x.is_finite()));
            let _ = packet_frames(&payload);
        }
    }
}
