//! A voice at 32 kbit/s and a tenth of the packets lost: what is heard of it through `velinsink` and
//! `velinsrc`, and through `opusenc` and `opusdec` with all that these have against loss.

use std::f64::consts::TAU;
use std::sync::atomic::Ordering;

use gst::prelude::*;

use crate::relay::Relay;
use crate::support::{Device, Line, Receiver, element, init};

#[path = "../../core/tests/support/voice.rs"]
mod voice;

const RATE: usize = 48_000;
/// A block of 20 ms.
const BLOCK: usize = 960;
/// Of a thousand packets.
const LOSS: usize = 100;

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn a_voice_with_a_tenth_of_its_packets_lost_is_nearer_to_the_truth_than_by_opusdec() {
    init();
    if gst::ElementFactory::find("opusenc").is_none() {
        return;
    }
    let truth = voice::speech(12 * RATE);
    let packets = opusenc(&truth);
    let whole = opusdec(&packets, |_| false);
    let mut seed = 7_u64;
    let theirs = opusdec(&packets, |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % 1_000 < LOSS as u64
    });
    let ours = velin(&truth);
    let [whole, theirs, ours] = [whole, theirs, ours].map(|heard| distance(&truth, &heard));
    println!("dB from the truth: {ours:.2}; opusdec {theirs:.2}, {whole:.2} without loss");
    assert!(theirs > whole + 0.3, "nothing was lost: {theirs} after {whole}");
    assert!(ours < whole + 0.5 * (theirs - whole), "{ours}, opusdec {theirs}, at best {whole}");
}

/// Through both elements and a lossy path, in real time.
fn velin(truth: &[f32]) -> Vec<f32> {
    let device = Device::new();
    let receiver = Receiver::playing(
        &device,
        "bind-address=127.0.0.1 profile=fixed latency=60",
        "audio/x-raw,format=F32LE,rate=48000,channels=1",
    );
    let relay = Relay::new(&receiver);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("voice.raw");
    std::fs::write(&file, bytes(truth)).unwrap();
    let line = Line::parse(&format!(
        "filesrc location={} ! rawaudioparse pcm-format=s16le sample-rate=48000 num-channels=1 ! \
         velinsink codec=opus audio-type=voice bitrate=32000 packet-time=20000000 {} {}",
        file.display(),
        relay.properties(),
        device.files()
    ))
    .play();
    line.messages.wait("route udp", |m| {
        element(m, "velin/route-changed").filter(|s| s.get::<&str>("route") == Ok("udp"))
    });
    relay.hop.loss_permille.store(LOSS, Ordering::Relaxed);
    receiver.tape.rewind();
    receiver.tape.next_f32(11 * RATE)
}

fn opusenc(truth: &[f32]) -> Vec<(gst::Caps, gst::Buffer)> {
    let mut enc = gst_check::Harness::new("opusenc");
    let element = enc.element().unwrap();
    element.set_property("bitrate", 32_000_i32);
    element.set_property_from_str("audio-type", "voice");
    element.set_property_from_str("frame-size", "20");
    element.set_property_from_str("bitrate-type", "cbr");
    element.set_property("inband-fec", true);
    element.set_property("packet-loss-percentage", LOSS as i32 / 10);
    enc.set_src_caps_str("audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved");
    let mut packets = Vec::new();
    for (i, block) in truth.chunks_exact(BLOCK).enumerate() {
        let mut buffer = gst::Buffer::from_mut_slice(bytes(block));
        let time = |blocks: usize| gst::ClockTime::from_mseconds(20 * blocks as u64);
        buffer.get_mut().unwrap().set_pts(time(i));
        buffer.get_mut().unwrap().set_duration(time(1));
        enc.push(buffer).unwrap();
        while let Some(packet) = enc.try_pull() {
            let caps = enc.sinkpad().unwrap().current_caps().unwrap();
            packets.push((caps, packet));
        }
    }
    packets
}

fn opusdec(packets: &[(gst::Caps, gst::Buffer)], mut lost: impl FnMut(usize) -> bool) -> Vec<f32> {
    let mut dec = gst_check::Harness::new("opusdec");
    let element = dec.element().unwrap();
    element.set_property("plc", true);
    element.set_property("use-inband-fec", true);
    dec.set_src_caps(packets[0].0.clone());
    let mut heard = Vec::new();
    for (i, (_, packet)) in packets.iter().enumerate() {
        if i > 10 && lost(i) {
            let gap = gst::event::Gap::builder(packet.pts().unwrap());
            dec.push_event(gap.duration(packet.duration()).build());
        } else {
            dec.push(packet.clone()).unwrap();
        }
        while let Some(buffer) = dec.try_pull() {
            let map = buffer.map_readable().unwrap();
            let sample = |b: &[u8]| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0;
            heard.extend(map.chunks_exact(2).map(sample));
        }
    }
    heard
}

fn bytes(samples: &[f32]) -> Vec<u8> {
    let sample = |x: &f32| ((x * 32_767.0) as i16).to_le_bytes();
    samples.iter().flat_map(sample).collect()
}

/// The distance of `heard` from `truth` where both go on, from their third second on, in the worst tenth
/// of all pieces of 20 ms, on average: there loss is heard, elsewhere the codec. It is the root mean
/// square of the differences of level in 28 bands from 150 Hz to 7 kHz.
fn distance(truth: &[f32], heard: &[f32]) -> f64 {
    let mut lag = lag(truth, heard);
    let last = truth.len().min((heard.len() as isize - lag) as usize) - RATE;
    let mut pieces = Vec::new();
    for at in (2 * RATE..last).step_by(BLOCK / 2) {
        if at % (RATE / 2) == 0 {
            // A playout follows its clocks.
            lag = nearer(truth, heard, at, lag);
        }
        let from = (at as isize + lag) as usize;
        let (a, b) = (bands(&truth[at..at + BLOCK]), bands(&heard[from..from + BLOCK]));
        let square = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        pieces.push((square / a.len() as f64).sqrt());
    }
    pieces.sort_by(f64::total_cmp);
    let worst = &pieces[pieces.len() * 9 / 10..];
    worst.iter().sum::<f64>() / worst.len() as f64
}

/// The lag near `lag` that fits best from `at` on.
fn nearer(truth: &[f32], heard: &[f32], at: usize, lag: isize) -> isize {
    let piece = &truth[at..at + 9_600];
    let score = |lag: &isize| score(piece, &heard[(at as isize + lag) as usize..]);
    let best = |lags: &mut dyn Iterator<Item = isize>| {
        lags.max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or(lag)
    };
    let coarse = best(&mut (lag - 288..=lag + 288).step_by(8));
    best(&mut (coarse - 8..=coarse + 8))
}

/// Levels in dB, none below −60.
fn bands(piece: &[f32]) -> Vec<f64> {
    let window = |i: usize| 0.5 - 0.5 * (TAU * i as f64 / piece.len() as f64).cos();
    let windowed: Vec<_> =
        piece.iter().enumerate().map(|(i, x)| f64::from(*x) * window(i)).collect();
    let level = |band: i32| {
        let hz = 150.0 * (7_000.0_f64 / 150.0).powf(f64::from(band) / 27.0);
        // Goertzel's recurrence.
        let c = 2.0 * (TAU * hz / RATE as f64).cos();
        let (mut s, mut before) = (0.0, 0.0);
        for x in &windowed {
            (s, before) = (x + c * s - before, s);
        }
        let power = s * s + before * before - c * s * before;
        20.0 * (power.max(0.0).sqrt() * 4.0 / piece.len() as f64).max(1e-3).log10()
    };
    (0..28).map(level).collect()
}

/// By how many samples `heard` is behind `truth`, found in their third to sixth second.
fn lag(truth: &[f32], heard: &[f32]) -> isize {
    const STEP: usize = 96;
    let envelope = |x: &[f32]| -> Vec<f32> {
        x.chunks_exact(STEP).map(|c| c.iter().map(|x| x.abs()).sum()).collect()
    };
    let (a, b) = (envelope(truth), envelope(heard));
    let piece = &a[2 * RATE / STEP..5 * RATE / STEP];
    let coarse = (0..b.len() - piece.len())
        .max_by(|i, j| score(piece, &b[*i..]).total_cmp(&score(piece, &b[*j..])))
        .unwrap();
    let coarse = coarse * STEP;
    let piece = &truth[2 * RATE..3 * RATE];
    let fine = (coarse.saturating_sub(2 * STEP)..coarse + 2 * STEP)
        .max_by(|i, j| score(piece, &heard[*i..]).total_cmp(&score(piece, &heard[*j..])))
        .unwrap();
    fine as isize - 2 * RATE as isize
}

/// How well `y` begins as `x`.
fn score(x: &[f32], y: &[f32]) -> f64 {
    let (mut xy, mut yy) = (0.0, 1e-9);
    for (x, y) in x.iter().zip(y) {
        xy += f64::from(x * y);
        yy += f64::from(y * y);
    }
    xy / yy.sqrt()
}
