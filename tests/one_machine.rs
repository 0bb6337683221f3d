//! Two `gst-launch-1.0` processes on one machine that nobody has set up.

use std::path::PathBuf;
use std::time::Duration;

use velin::audio::{Clip, Comparison, compare, melody};
use velin::launch::{Device, RATE, Receiver, SOON, alone, framed, sending};
use velin::proc::{self, Process};

#[test]
fn sound_crosses_one_machine_without_any_set_up() {
    let _alone = alone();
    let device = Device::new().unwrap();
    let (result, _) = send_to_self(&device, "127.0.0.1", &melody(RATE, 2, secs(4)));
    assert_whole(&result);
    assert!(device.folder().join("identity.txt").exists(), "the identity is made on first use");
    assert!(!device.folder().join("trust.toml").exists(), "nobody had to be trusted");
}

#[test]
fn sound_crosses_one_machine_by_ipv6_and_by_name() {
    let _alone = alone();
    for host in ["::1", "localhost"] {
        let device = Device::new().unwrap();
        let (result, _) = send_to_self(&device, host, &melody(RATE, 2, secs(2)));
        assert_whole(&result);
    }
}

#[test]
fn the_first_syllable_after_a_long_silence_is_whole() {
    silence_then_sound(secs(5));
}

#[test]
#[ignore = "half a minute of silence; run by make soak"]
fn the_first_syllable_after_half_a_minute_of_silence_is_whole() {
    silence_then_sound(secs(30));
}

/// Sound, then real zeros, then sound: the stream outlives the silence.
fn silence_then_sound(pause: Duration) {
    let _alone = alone();
    let device = Device::new().unwrap();
    let (first, second) = (melody(RATE, 2, secs(1)), syllables());
    let mut clip = framed(&first, Duration::ZERO, pause);
    clip.append(&second);

    let (_, heard) = send_to_self(&device, "127.0.0.1", &clip);
    let result = compare(&second, &heard.clip).unwrap();
    assert_whole(&result);
    assert_eq!(heard.said.matches("velin/stream-added").count(), 1, "{}", heard.said);
    assert_eq!(heard.said.matches("velin/stream-removed").count(), 1, "{}", heard.said);
}

/// Something that starts at once: a syllable, or without espeak-ng a plucked tone.
fn syllables() -> Clip {
    let Ok(speech) = velin::audio::speech("Testing, one, two, three.") else {
        return melody(RATE, 2, secs(2));
    };
    let quiet = speech.samples.iter().take_while(|s| s.abs() < 0.01).count();
    Clip::from_mono(RATE, 2, &speech.samples[quiet..])
}

struct Heard {
    clip: Clip,
    /// What the receiver printed.
    said: String,
}

/// Sends `sound` to `host`, which is this machine, and compares what came out.
fn send_to_self(device: &Device, host: &str, sound: &Clip) -> (Comparison, Heard) {
    let wav =
        wav_of(device, &framed(sound, Duration::from_millis(800), Duration::from_millis(300)));
    let receiver = Receiver::start(device, "port=0 audio-port=0", |command| command).unwrap();
    let pipeline = sending(&wav, &format!("host={host} port={}", receiver.port()));
    let mut sender = Process::spawn(device.launch(&pipeline)).unwrap();
    let status = sender.wait(sound.duration() + SOON).unwrap();
    assert!(status.success(), "{}", sender.output());
    receiver.wait_for("velin/stream-removed", SOON).unwrap();
    // What the playout delay holds back comes out within this.
    let end = receiver.frames() + RATE as usize / 5;
    assert!(proc::wait_until(SOON, || receiver.frames() >= end));
    let heard = Heard { clip: receiver.heard(), said: receiver.output() };
    let result = compare(sound, &heard.clip).unwrap_or_else(|e| panic!("{e}:\n{}", heard.said));
    println!("{host}:\n{result}");
    (result, heard)
}

fn wav_of(device: &Device, clip: &Clip) -> PathBuf {
    let wav = device.folder().join("played.wav");
    clip.write_16(&wav).unwrap();
    wav
}

#[track_caller]
fn assert_whole(result: &Comparison) {
    assert!(result.correlation >= 0.99, "{result}");
    assert_eq!(result.gaps, [], "{result}");
    assert!(result.wrong <= Duration::from_millis(20), "{result}");
    assert!(result.lost_at_start <= Duration::from_millis(5), "{result}");
    assert!(result.lost_at_end <= Duration::from_millis(5), "{result}");
    assert!(result.level_db.abs() < 0.2, "{result}");
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
