//! Opus through the playout, in virtual time.

mod playout_lab;
#[path = "support/voice.rs"]
mod voice;

use playout_lab::*;
use velin_core::codec::StreamFormat;
use velin_core::codec::opus::{
    AudioType, Encoded, OPUS_RATE, OpusEncoder, OpusFrameSize, OpusSettings,
};
use velin_core::playout::{
    Block, Body, Drift, Mixer, OutputFormat, PlayoutDelay, ReceiverHalf, RenderTime, StreamError,
    StreamSettings, stream,
};
use velin_core::time::MonoTime;
use velin_core::units::{BitRate, BlockIndex, Channels, FrameIndex};
use velin_core::wire::Copies;
use voice::speech;

fn encoder(size: OpusFrameSize, audio_type: AudioType, kbps: u32) -> OpusEncoder {
    let bit_rate = BitRate::new(1000 * kbps).unwrap();
    let channels = Channels::MONO;
    OpusEncoder::new(OpusSettings { channels, size, bit_rate, audio_type, dtx: false }).unwrap()
}

/// As [`packets`], through the encoder.
fn coded(encoder: &mut OpusEncoder, samples: &[f32]) -> Vec<Packet> {
    let format = encoder.format().clone();
    let block = format.frames_per_block as usize;
    let mut payload = vec![0; format.block_bytes()];
    let each = |(i, samples): (usize, &[f32])| {
        let (Encoded::Sound(n) | Encoded::Pause(n)) =
            encoder.encode(&mut samples.to_vec(), &mut payload).unwrap();
        let ts = (i * block) as u64;
        Packet {
            arrival: format.rate.duration_of(ts + block as u64).as_nanos() as u64,
            index: i as u32,
            ts,
            discontinuity: false,
            repair: false,
            payload: payload[..n].to_vec(),
            silence: 0,
        }
    };
    samples.chunks_exact(block).enumerate().map(each).collect()
}

/// Played at a delay of 100 ms, frame by frame.
fn fixed(format: &StreamFormat) -> StreamSettings {
    let output = OutputFormat { rate: OPUS_RATE, map: format.map };
    StreamSettings { delay: PlayoutDelay::Fixed(ms(100)), ..plain(format, output) }
}

fn play(format: &StreamFormat, packets: Vec<Packet>, until: u64) -> (Lab, usize) {
    let settings = fixed(format);
    let mut lab = Lab::new(settings.output, 48);
    let sender = lab.join(settings, packets);
    lab.run(until);
    (lab, sender)
}

/// A melody with beats in it: tones that begin sharply and fade.
fn melody(frames: usize) -> Vec<f32> {
    let note = |i: usize| {
        let (beat, t) = (i / 9_600, (i % 9_600) as f64 / 48_000.0);
        let hz = [220.0, 277.2, 329.6, 440.0, 246.9][beat % 5];
        let wave: f64 = (1..=4)
            .map(|k| (std::f64::consts::TAU * hz * f64::from(k) * t).sin() / f64::from(k))
            .sum();
        (0.2 * wave * (-6.0 * t).exp() * (t * 400.0).min(1.0)) as f32
    };
    (0..frames).map(note).collect()
}

fn energy(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum()
}

/// The error of `out` against `truth`, in dB below the truth.
fn below_db(truth: &[f32], out: &[f32]) -> f64 {
    let error: Vec<_> = truth.iter().zip(out).map(|(a, b)| a - b).collect();
    10.0 * (energy(truth) / energy(&error).max(1e-12)).log10()
}

#[test]
fn what_was_captured_is_heard_to_the_sample_after_the_delay() {
    let audio = melody(96_000);
    for audio_type in [AudioType::RestrictedLowDelay, AudioType::Generic] {
        for size in OpusFrameSize::ALL {
            let mut encoder = encoder(size, audio_type, 128);
            let packets = coded(&mut encoder, &audio);
            let (lab, sender) = play(encoder.format(), packets, 1_900 * MS);
            let delay = 4_800;
            let heard = &lab.out[delay + 9_600..delay + 76_800];
            let best = (9_600 - 400..9_600 + 400)
                .max_by(|a, b| {
                    let match_at = |at: usize| below_db(&audio[at..at + heard.len()], heard);
                    match_at(*a).total_cmp(&match_at(*b))
                })
                .unwrap();
            let what = format!("{audio_type:?} {size:?}");
            assert_eq!(best, 9_600, "{what}");
            let db = below_db(&audio[best..best + heard.len()], heard);
            assert!(db > 12.0, "{what}: {db} dB");
            let stats = lab.senders[sender].stats();
            assert_eq!(stats.target, ms(100), "{what}");
            assert_eq!(stats.codec, encoder.format().codec_delay());
            assert_eq!((stats.concealed, stats.late, stats.reanchors), (0, 0, 0), "{stats:?}");
        }
    }
}

#[test]
fn a_gap_is_filled_by_the_decoder_and_left_without_a_click() {
    let audio = sine(440.0, 48_000, 96_000);
    for size in OpusFrameSize::ALL {
        let mut encoder = encoder(size, AudioType::RestrictedLowDelay, 128);
        let mut packets = coded(&mut encoder, &audio);
        let whole = play(encoder.format(), packets.clone(), 1_900 * MS).0.out;
        let block = size.frames() as usize;
        let lost = 48_000 / block;
        packets.remove(lost);
        let (lab, sender) = play(encoder.format(), packets, 1_900 * MS);
        let stats = lab.senders[sender].stats();
        assert_eq!(stats.concealed, block as u64, "{size:?}");
        assert!(clicks(&lab.out[4_800 + 960..], 0.06).is_empty(), "{size:?}");
        // Where the block is missing.
        let at = 4_800 + lost * block - 120;
        let gap = below_db(&whole[at..at + block.min(960)], &lab.out[at..at + block.min(960)]);
        assert!(gap > 3.0, "{size:?}: {gap} dB");
        // Half a second later nothing is left of it.
        let after = at + 24_000;
        let rest = below_db(&whole[after..after + 9_600], &lab.out[after..after + 9_600]);
        assert!(rest > 30.0, "{size:?}: {rest} dB");
    }
}

#[test]
fn a_lost_block_of_a_voice_is_repaired_from_the_next_one() {
    let audio = speech(192_000);
    let mut encoder = encoder(OpusFrameSize::Ms20, AudioType::Voice, 32);
    let mut fidelity = |loss: f64| {
        encoder.reset().unwrap();
        encoder.set_loss(loss).unwrap();
        let packets = coded(&mut encoder, &audio);
        let whole = play(encoder.format(), packets.clone(), 3_900 * MS).0.out;
        let left = packets.into_iter().filter(|p| p.index % 10 != 7).collect();
        let heard = play(encoder.format(), left, 3_900 * MS).0.out;
        below_db(&whole[48_000..180_000], &heard[48_000..180_000])
    };
    let (without, with) = (fidelity(0.0), fidelity(0.2));
    assert!(with > without + 2.0, "{with} dB, {without} dB without");
}

#[test]
fn blocks_in_any_order_sound_as_in_theirs() {
    let audio = melody(96_000);
    let mut encoder = encoder(OpusFrameSize::Ms5, AudioType::RestrictedLowDelay, 96);
    let packets = coded(&mut encoder, &audio);
    let (plain, _) = play(encoder.format(), packets.clone(), 1_900 * MS);
    let mut seed = Seed(9);
    let shaken = packets.into_iter().map(|mut p| {
        p.arrival += seed.below(40) * MS;
        p
    });
    let (shaken, sender) = play(encoder.format(), shaken.collect(), 1_900 * MS);
    let stats = shaken.senders[sender].stats();
    assert!(stats.reordered > 100 && stats.concealed == 0, "{stats:?}");
    // The fastest path is learned a little differently.
    let (a, b) = (&plain.out[24_000..84_000], &shaken.out[24_000..84_000]);
    let lag = (-400..=400_i32)
        .max_by(|x, y| {
            let at = |lag: i32| below_db(&a[1_000..50_000], &b[(1_000 + lag) as usize..]);
            at(*x).total_cmp(&at(*y))
        })
        .unwrap();
    let same = below_db(&a[1_000..50_000], &b[(1_000 + lag) as usize..]);
    assert!(same > 60.0, "{same} dB at {lag}");
}

#[test]
fn an_announced_pause_is_silence_and_neither_missed_nor_concealed() {
    let mut audio = sine(440.0, 48_000, 48_000);
    audio.extend(vec![0.0; 96_000]);
    audio.extend(sine(440.0, 48_000, 48_000));
    let bit_rate = BitRate::new(32_000).unwrap();
    let (channels, size) = (Channels::MONO, OpusFrameSize::Ms20);
    let audio_type = AudioType::Voice;
    let mut encoder =
        OpusEncoder::new(OpusSettings { channels, size, bit_rate, audio_type, dtx: true }).unwrap();
    // As the sender does: of a pause only the beginning and each fifth block leave.
    let mut sent: Vec<Packet> = Vec::new();
    let mut paused = 0;
    for packet in coded(&mut encoder, &audio) {
        paused = if packet.payload.len() <= 2 { paused + 1 } else { 0 };
        if paused == 0 || paused % 5 == 1 {
            sent.push(Packet { index: sent.len() as u32, ..packet });
        }
    }
    assert!(sent.len() < 140, "{}", sent.len());
    let (lab, sender) = play(encoder.format(), sent, 3_900 * MS);
    let stats = lab.senders[sender].stats();
    assert_eq!((stats.concealed, stats.lost, stats.reanchors), (0, 0, 0), "{stats:?}");
    assert!(stats.silence > 60_000, "{stats:?}");
    let level = |ms: usize| (energy(&lab.out[ms * 48..(ms + 100) * 48]) / 4_800.0).sqrt();
    assert!(level(600) > 0.25 && level(3_500) > 0.25 && level(2_500) < 0.001);
    assert!(clicks(&lab.out[4_800..], 0.08).is_empty());
}

#[test]
fn a_stream_that_begins_anew_is_decoded_anew() {
    let audio = melody(48_000);
    let mut first = encoder(OpusFrameSize::Ms10, AudioType::RestrictedLowDelay, 96);
    let mut packets = coded(&mut first, &audio);
    // Far into its numbers, so that the second's are a new beginning.
    packets.iter_mut().for_each(|p| p.index += 10_000);
    let mut second = encoder(OpusFrameSize::Ms10, AudioType::RestrictedLowDelay, 96);
    let again = coded(&mut second, &audio).into_iter().map(|mut p| {
        p.arrival += 1_500 * MS;
        p.discontinuity = p.index == 0;
        p
    });
    packets.extend(again);
    let (lab, _) = play(first.format(), packets, 2_600 * MS);
    let once = &lab.out[24_000..48_000];
    let found = (94_000..98_000)
        .map(|at| below_db(once, &lab.out[at..at + once.len()]))
        .fold(f64::MIN, f64::max);
    assert!(found > 40.0, "{found} dB");
}

/// What is asked for beside answers, after ten seconds of so much loss in a hundred.
fn copies_at(format: &StreamFormat, payload: &[u8], loss: u64) -> Copies {
    let output = OutputFormat { rate: OPUS_RATE, map: format.map };
    let (mut rx, player) = stream(auto(format, output)).unwrap();
    let mut mixer = Mixer::new(output);
    mixer.add(player).unwrap();
    let frames = u64::from(format.frames_per_block);
    let mut seed = Seed(3);
    let mut out = vec![0.0; frames as usize * format.channels().get()];
    let insert = |rx: &mut ReceiverHalf, now: u64, index: u32, repair: bool| {
        let block = Block {
            index: BlockIndex(index),
            ts: FrameIndex(u64::from(index) * frames),
            discontinuity: false,
            repair,
            body: Body::Audio(payload),
        };
        rx.insert(MonoTime::from_nanos(now), block);
    };
    let blocks = 10_000 * MS / format.block_duration().as_nanos() as u64;
    for index in 0..blocks as u32 {
        let now = (u64::from(index) + 1) * format.block_duration().as_nanos() as u64;
        rx.set_rtt(ms(2));
        if seed.below(100) >= loss {
            insert(&mut rx, now, index, false);
        }
        let asked = now + MS / 2;
        while let Some(request) = rx.poll_nack(MonoTime::from_nanos(asked)) {
            // Only what was sent can be sent again.
            for block in request.nack.blocks().filter(|block| block.0 <= index) {
                insert(&mut rx, asked + 2 * MS, block.0, true);
            }
        }
        mixer.render(RenderTime { mono: MonoTime::from_nanos(now + MS) }, &mut out);
    }
    rx.copies()
}

#[test]
fn where_much_is_lost_opus_is_copied_beside_being_asked_for_and_pcm_is_not() {
    let mut encoder = encoder(OpusFrameSize::Ms5, AudioType::RestrictedLowDelay, 64);
    let packet = coded(&mut encoder, &melody(240)).remove(0).payload;
    assert_eq!(copies_at(encoder.format(), &packet, 1), Copies::None);
    assert_ne!(copies_at(encoder.format(), &packet, 8), Copies::None);
    let pcm = s16(encoder.format().map);
    assert_eq!(copies_at(&pcm, &vec![0; pcm.block_bytes()], 8), Copies::None);
}

#[test]
fn opus_cannot_be_exact_and_has_its_own_shapes_only() {
    let encoder = encoder(OpusFrameSize::Ms20, AudioType::Generic, 64);
    let exact = StreamSettings { drift: Drift::Exact, ..fixed(encoder.format()) };
    let error = stream(exact).unwrap_err();
    assert_eq!(error, StreamError::NotExactCoded);
    assert!(error.to_string().contains("codec=pcm"));
    let odd = StreamFormat { frames_per_block: 121, ..encoder.format().clone() };
    assert!(matches!(stream(fixed(&odd)), Err(StreamError::Opus(_))));
}
