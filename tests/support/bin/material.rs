//! Writes the demo's sound to a WAV file: a spoken text over a tune, 48 kHz, stereo, 16 bits, with a
//! second of silence in front and half a second behind.
//!
//! ```sh
//! cargo run -p velin --bin material -- FILE.wav
//! ```

use std::process::ExitCode;
use std::time::Duration;

use velin::audio::{Clip, melody, speech};

const RATE: u32 = 48_000;

const TEXT: &str = "This is Velin. What you hear was spoken on one side of an encrypted link, \
    and is played on the other, a few thousandths of a second later. \
    Nobody in between can listen, and nobody can change a word.";

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: material FILE.wav");
        return ExitCode::from(2);
    };
    let mut clip = Clip::silence(RATE, 2, RATE as usize);
    clip.append(&scene());
    clip.append(&Clip::silence(RATE, 2, RATE as usize / 2));
    if let Err(error) = clip.write_16(&path) {
        eprintln!("material: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The voice in the middle, the tune softly below it and alone for the last second; the tune alone
/// where no voice can be had.
fn scene() -> Clip {
    let voice = speech(TEXT).unwrap_or_else(|error| {
        eprintln!("material: no voice, only the tune: {error}");
        Clip::silence(RATE, 1, 9 * RATE as usize)
    });
    let lead = Duration::from_millis(600);
    let mut scene = melody(RATE, 2, lead + voice.duration() + Duration::from_secs(1));
    scene.samples.iter_mut().for_each(|s| *s *= 0.4);
    let start = (lead.as_secs_f64() * f64::from(RATE)) as usize * scene.channels;
    for (frame, &word) in scene.samples[start..].chunks_mut(2).zip(&voice.samples) {
        frame.iter_mut().for_each(|s| *s += 0.7 * word);
    }
    scene
}
