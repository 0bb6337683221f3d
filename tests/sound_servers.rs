//! The main job, with real sound servers: what is played into the sender's sink is what the
//! receiver's sink plays.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use velin::audio::{Clip, Comparison, compare, melody};
use velin::launch::{Device, PATIENT, RATE, SOON, alone, framed, number_after};
use velin::proc::{Process, wait_until};
use velin::skipped;
use velin::sound::{
    PipeWireServer, PulseServer, RECEIVER_MONITOR, RECEIVER_SINK, SENDER_MONITOR, SENDER_SINK,
    SoundServer,
};

const LENGTH: Duration = Duration::from_secs(30);

/// Silence before the tune.
const SETTLE: Duration = Duration::from_secs(3);

#[test]
fn pulseaudio_to_pulseaudio_delivers_half_a_minute_without_a_gap() {
    if skipped(PulseServer::available()) {
        return;
    }
    let _alone = alone();
    let server = PulseServer::start().unwrap();
    let (receive, playback) =
        (format!("velinsrc {PATIENT}"), format!("pulsesink device={RECEIVER_SINK}"));
    let delivered = deliver(&server, &CAPTURE, &receive, &playback, LENGTH);
    delivered.assert_whole();
    delivered.assert_clock_of_the_sink();
}

#[test]
fn pipewire_to_pipewire_delivers_half_a_minute_without_a_gap() {
    if skipped(PipeWireServer::available()) {
        return;
    }
    let _alone = alone();
    let server = PipeWireServer::start().unwrap();
    let (receive, playback) =
        (format!("velinsrc {PATIENT}"), format!("pulsesink device={RECEIVER_SINK}"));
    let delivered = deliver(&server, &CAPTURE, &receive, &playback, LENGTH);
    delivered.assert_whole();
    delivered.assert_clock_of_the_sink();
}

#[test]
fn the_shortest_command_plays_on_the_default_output() {
    if skipped(PulseServer::available()) {
        return;
    }
    let _alone = alone();
    let server = PulseServer::start().unwrap();
    server.pactl(&["set-default-sink", RECEIVER_SINK]).unwrap();
    let length = Duration::from_secs(4);
    let delivered = deliver(&server, &CAPTURE, "velinsrc", "autoaudiosink", length);
    // The default playout delay is short, and the machine may be busy with something else.
    let Delivered { result, said } = &delivered;
    assert!(result.correlation >= 0.9, "{result}\n{said}");
    assert!(result.missing() < length / 20, "{result}\n{said}");
    delivered.assert_clock_of_the_sink();
}

static CAPTURE: LazyLock<String> = LazyLock::new(|| format!("pulsesrc device={SENDER_MONITOR}"));

struct Delivered {
    /// Of what the sender's sink played with what the receiver's sink played.
    result: Comparison,
    /// What the receiver printed.
    said: String,
}

impl Delivered {
    #[track_caller]
    fn assert_whole(&self) {
        let Self { result, said } = self;
        assert!(result.correlation >= 0.99, "{result}\n{said}");
        assert_eq!(result.gaps, [], "{result}\n{said}");
        assert!(result.lost_at_start < Duration::from_millis(20), "{result}\n{said}");
        assert!(result.lost_at_end < Duration::from_millis(20), "{result}\n{said}");
        assert!(result.level_db.abs() < 0.5, "{result}\n{said}");
    }

    /// Otherwise the sink corrects its drift against another clock, by jumps.
    #[track_caller]
    fn assert_clock_of_the_sink(&self) {
        assert!(self.said.contains("New clock: GstPulseSinkClock"), "{}", self.said);
    }
}

/// Plays a tune into the sender's sink and compares what the receiver's sink plays with what the
/// sender's did: a gap in both is the server's own.
fn deliver(
    server: &impl SoundServer,
    capture: &str,
    receive: &str,
    playback: &str,
    length: Duration,
) -> Delivered {
    let device = Device::new().unwrap();
    let on_server = |mut command: Command| {
        command.envs(server.environment());
        Process::spawn(command).unwrap()
    };
    let receiver = on_server(
        device.launch(&format!("{receive} port=0 audio-port=0 ! audioconvert ! {playback}")),
    );
    let line = receiver.wait_for_line("velin/listening", SOON).unwrap();
    let port: u16 = number_after(&line, "port=(uint)").unwrap();
    let sender =
        on_server(device.launch(&format!("{capture} ! velinsink host=127.0.0.1 port={port}")));
    sender.wait_for_line("velin/peer-connected", SOON).unwrap();
    receiver.wait_for_line("New clock", SOON).unwrap();

    let file = |name: &str| device.folder().join(name);
    let recorded = |file: &Path| std::fs::metadata(file).map_or(0, |meta| meta.len());
    let tune = melody(RATE, 2, length);
    // A server changes its period when a player joins it, which moves what it captures by 40 ms; the
    // receiver follows with a splice. Both are over when the tune begins.
    framed(&tune, SETTLE, Duration::ZERO).write_16(file("tune.wav")).unwrap();
    let mut recordings = [(SENDER_MONITOR, "played.wav"), (RECEIVER_MONITOR, "heard.wav")]
        .map(|(source, name)| (server.record(source, &file(name)).unwrap(), file(name)));
    for (recorder, file) in &recordings {
        assert!(wait_until(SOON, || recorded(file) > 4096), "parec: {}", recorder.output());
    }
    let mut player = server.play(SENDER_SINK, &file("tune.wav")).unwrap();
    assert!(player.wait(SETTLE + length + SOON).unwrap().success(), "paplay: {}", player.output());
    for (recorder, file) in &mut recordings {
        // What is under way through both servers: a second of 16-bit stereo.
        let end = recorded(file) + 4 * u64::from(RATE);
        assert!(wait_until(SOON, || recorded(file) >= end), "parec: {}", recorder.output());
        recorder.terminate();
        recorder.wait(SOON).unwrap();
    }

    let said = format!("{}\n{}", sender.output(), receiver.output());
    let [played, heard] = recordings.map(|(_, file)| Clip::read(file).unwrap());
    let own = compare(&tune, &played).unwrap();
    assert!(own.correlation > 0.9 && own.missing() < length / 20, "the server itself: {own}");
    // From where the tune begins to where it ends.
    let begin = (own.offset.max(0.0) * f64::from(RATE)) as usize * 2;
    let end = (begin + tune.samples.len()).min(played.samples.len());
    let played = Clip { samples: played.samples[begin..end].to_vec(), ..played };
    let result = compare(&played, &heard).unwrap_or_else(|e| panic!("{e}:\n{said}"));
    println!("{capture} to {playback}:\n{result}");
    Delivered { result, said }
}
