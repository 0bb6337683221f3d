//! What is made up where blocks are missing, beside other ways of doing it: how far from the truth?
//!
//! `cargo test -p velin-core --test concealment -- --nocapture` prints the tables of
//! docs/performance.md.

// Each file uses its part of the laboratory.
#![allow(unreachable_pub)]

mod cost;
mod measure;
mod methods;
#[path = "../playout_lab/mod.rs"]
mod playout_lab;
mod sounds;

use std::ops::Range;

use measure::{Distance, distance};
use methods::{Burg, JOIN, Method, Pitch, Repeat, Silence, play};
use playout_lab::{Lab, MS, Seed, f32_mono, ms, output, packets, plain};
use sounds::{RATE, Sound};
use velin_core::codec::{ChannelMap, StreamFormat};
use velin_core::playout::{PlayoutDelay, RepairWish, StreamSettings};

const SECONDS: usize = 10;

/// What is played of `sent` when these blocks are lost, by the engine itself.
fn engine(sent: &[f32], lost: &[bool], block: usize) -> Vec<f32> {
    let format = StreamFormat { frames_per_block: block as u32, ..f32_mono() };
    let mut lab = Lab::new(output(48_000, ChannelMap::mono()), 48);
    let settings = StreamSettings {
        delay: PlayoutDelay::Fixed(ms(20)),
        repair: RepairWish::Off,
        ..plain(&format, lab.mixer.output())
    };
    let mut packets = packets(&format, sent);
    packets.retain(|p| !lost[p.index as usize]);
    lab.join(settings, packets);
    lab.run((sent.len() / 48 + 30) as u64 * MS);
    let stats = lab.senders[0].stats();
    assert_eq!((stats.reanchors, stats.late), (0, 0), "{stats:?}");
    // It begins when the first block is due, in the middle of a block and of a period.
    let lead = lab.out.iter().position(|x| *x != 0.0).unwrap();
    let first = sent.iter().position(|x| *x != 0.0).unwrap();
    let heard = lab.out[lead - first..][..sent.len()].to_vec();
    let untouched = lost[..100].iter().take_while(|lost| !**lost).count() * block;
    assert!(heard[JOIN + first..untouched] == sent[JOIN + first..untouched], "aligned");
    heard
}

/// Who fills the gaps, by name.
struct Way {
    name: &'static str,
    /// The engine, if it is none of the others.
    method: Option<Box<dyn Method>>,
}

fn ways() -> Vec<Way> {
    let other = |name, method| Way { name, method: Some(method) };
    vec![
        other("silence", Box::<Silence>::default()),
        other("repeat", Box::<Repeat>::default()),
        other("pitch", Box::<Pitch>::default()),
        other("Burg", Box::new(Burg::new(256, 1_920))),
        Way { name: "Velin", method: None },
    ]
}

impl Way {
    fn play(&mut self, sent: &[f32], lost: &[bool], block: usize) -> Vec<f32> {
        match &mut self.method {
            Some(method) => play(method.as_mut(), sent, lost, block),
            None => engine(sent, lost, block),
        }
    }
}

/// Which blocks are lost, and where that is heard.
struct Loss {
    block: usize,
    lost: Vec<bool>,
    gaps: Vec<Range<usize>>,
}

impl Loss {
    fn new(block: usize, lost: Vec<bool>) -> Self {
        let mut gaps: Vec<Range<usize>> = vec![];
        for (i, _) in lost.iter().enumerate().filter(|(_, lost)| **lost) {
            let heard = i * block..(i + 1) * block + JOIN;
            match gaps.last_mut() {
                Some(last) if last.end >= heard.start => last.end = heard.end,
                _ => gaps.push(heard),
            }
        }
        Self { block, lost, gaps }
    }

    /// Gaps of one length at random places, a fifth of a second or more apart.
    fn gaps(half_ms: usize, frames: usize) -> Self {
        let block = RATE / 2_000;
        let mut seed = Seed(half_ms as u64);
        let mut lost = vec![false; frames / block];
        let mut at = 400;
        while at + half_ms + 400 < lost.len() {
            at += seed.below(100) as usize;
            lost[at..at + half_ms].fill(true);
            at += half_ms + 300;
        }
        Self::new(block, lost)
    }

    /// Blocks of 2.5 ms, each lost or not.
    fn random(per_cent: u64, frames: usize) -> Self {
        let mut seed = Seed(per_cent);
        let mut lost: Vec<bool> = (0..frames / 120).map(|_| seed.below(100) < per_cent).collect();
        let all = lost.len();
        lost[..40].fill(false);
        lost[all - 40..].fill(false);
        Self::new(120, lost)
    }
}

fn losses(frames: usize) -> Vec<(String, Loss)> {
    let gaps = [2, 5, 10, 20, 40, 80, 120];
    let gaps = gaps.map(|n| (format!("{} ms", n as f64 / 2.0), Loss::gaps(n, frames)));
    let random = [1, 5, 10].map(|n| (format!("{n} %"), Loss::random(n, frames)));
    gaps.into_iter().chain(random).collect()
}

/// What was measured of one sound: for each way, at each loss.
struct Measured {
    sound: &'static str,
    ways: Vec<(&'static str, Vec<Distance>)>,
}

fn measure(sound: &Sound) -> Measured {
    let losses = losses(sound.samples.len());
    let each = |mut way: Way| {
        let name = way.name;
        let far = |(_, loss): &(String, Loss)| {
            let heard = way.play(&sound.samples, &loss.lost, loss.block);
            distance(&sound.samples, &heard, &loss.gaps)
        };
        (name, losses.iter().map(far).collect())
    };
    Measured { sound: sound.name, ways: ways().into_iter().map(each).collect() }
}

impl Measured {
    fn print(&self) {
        let losses = losses(RATE);
        let names: Vec<_> = losses.iter().map(|(name, _)| name.as_str()).collect();
        println!("\n| {} | {} | sharpest bend |", self.sound, names.join(" | "));
        println!("|---|{}", "---|".repeat(names.len() + 1));
        for (way, distances) in &self.ways {
            let cells: String =
                distances.iter().map(|d| format!(" {:.1} / {:.1} |", d.snr, d.spectral)).collect();
            let click = distances.iter().fold(f64::NEG_INFINITY, |most, d| most.max(d.click));
            println!("| {way} |{cells} {click:.0} dB |");
        }
    }
}

fn mean(of: impl Iterator<Item = f64>) -> f64 {
    let all: Vec<f64> = of.collect();
    all.iter().sum::<f64>() / all.len() as f64
}

#[test]
fn nothing_else_comes_nearer_to_what_was_lost() {
    let sounds = sounds::all(SECONDS);
    let measured: Vec<Measured> = std::thread::scope(|scope| {
        let threads: Vec<_> = sounds.iter().map(|s| scope.spawn(|| measure(s))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    measured.iter().for_each(Measured::print);
    let all = |way: usize| measured.iter().flat_map(move |m| &m.ways[way].1);
    let own = measured[0].ways.len() - 1;
    for (way, (name, _)) in measured[0].ways.iter().enumerate().take(own) {
        // Repeating a period keeps the level of a voice for longer than anything else.
        let tolerance = if *name == "pitch" { 2.0 } else { 0.6 };
        for m in &measured {
            for (i, (theirs, ours)) in m.ways[way].1.iter().zip(&m.ways[own].1).enumerate() {
                let what = format!("{} {i}: {name} {theirs:?}, ours {ours:?}", m.sound);
                // Of noise nothing can be known: to be silent is nearest, and sounds worst.
                assert!(ours.snr > theirs.snr - 2.0, "{what}");
                assert!(ours.spectral < theirs.spectral + tolerance, "{what}");
            }
        }
        let snr = mean(all(own).map(|d| d.snr)) - mean(all(way).map(|d| d.snr));
        let spectral = mean(all(way).map(|d| d.spectral)) - mean(all(own).map(|d| d.spectral));
        println!("against {name}: {snr:.1} dB less error, {spectral:.1} dB nearer in spectrum");
        assert!(snr > 2.0, "{name}: {snr}");
        assert!(spectral > 0.5, "{name}: {spectral}");
    }
    // The joins are no sharper than the sound, or by little where all of it is smooth.
    for distance in all(own) {
        assert!(distance.click < 12.0, "{distance:?}");
    }
}

/// The same with two channels that add to nothing: the predictor is not fitted to silence.
#[test]
fn channels_that_cancel_each_other_are_concealed_as_well() {
    let sent = sounds::all(2).swap_remove(1).samples;
    let format = StreamFormat { map: ChannelMap::stereo(), ..f32_mono() };
    let mut lab = Lab::new(output(48_000, ChannelMap::stereo()), 48);
    let both: Vec<f32> = sent.iter().flat_map(|x| [*x, -*x]).collect();
    let mut packets = packets(&format, &both);
    packets.retain(|p| p.index % 20 != 19);
    lab.join(plain(&format, lab.mixer.output()), packets);
    lab.run(1_950 * MS);
    let lost: Vec<bool> = (0..sent.len() / 120).map(|i| i % 20 == 19).collect();
    let alone = engine(&sent, &lost, 120);
    let lead = lab.out.iter().position(|x| *x != 0.0).unwrap() / 2;
    let first = alone.iter().position(|x| *x != 0.0).unwrap();
    for (i, frame) in lab.out.chunks(2).skip(lead).take(80_000).enumerate() {
        assert!((frame[0] - alone[first + i]).abs() < 1e-3, "{i}: {frame:?} {}", alone[first + i]);
        assert!((frame[0] + frame[1]).abs() < 1e-3, "{i}: {frame:?}");
    }
}
