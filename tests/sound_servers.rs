//! The main job, with real sound servers: what is played into the sender's sink is what the
//! receiver's sink plays.

use std::process::Command;
use std::time::Duration;

use velin::audio::{Clip, compare, melody};
use velin::launch::{Device, RATE, SOON, alone, number_after};
use velin::proc::{Process, wait_until};
use velin::skipped;
use velin::sound::{
    PipeWireServer, PulseServer, RECEIVER_MONITOR, RECEIVER_SINK, SENDER_MONITOR, SENDER_SINK,
    SoundServer,
};

const LENGTH: Duration = Duration::from_secs(30);

#[test]
fn pulseaudio_to_pulseaudio_delivers_half_a_minute_without_a_gap() {
    if skipped(PulseServer::available()) {
        return;
    }
    let _alone = alone();
    let server = PulseServer::start().unwrap();
    let receiver = deliver(
        &server,
        &format!("pulsesrc device={SENDER_MONITOR}"),
        &format!("pulsesink device={RECEIVER_SINK}"),
        LENGTH,
    );
    assert!(receiver.contains("GstPulseSinkClock"), "the wrong clock:\n{receiver}");
}

#[test]
fn pipewire_to_pipewire_delivers_half_a_minute_without_a_gap() {
    if skipped(PipeWireServer::available()) {
        return;
    }
    let _alone = alone();
    let server = PipeWireServer::start().unwrap();
    deliver(
        &server,
        &format!("pulsesrc device={SENDER_MONITOR}"),
        &format!("pulsesink device={RECEIVER_SINK}"),
        LENGTH,
    );
}

#[test]
fn the_default_output_is_found_by_itself() {
    if skipped(PulseServer::available()) {
        return;
    }
    let _alone = alone();
    let server = PulseServer::start().unwrap();
    server.pactl(&["set-default-sink", RECEIVER_SINK]).unwrap();
    let length = Duration::from_secs(4);
    deliver(&server, &format!("pulsesrc device={SENDER_MONITOR}"), "autoaudiosink", length);
}

/// Plays a tune into the sender's sink and compares what the receiver's sink plays; gives what the
/// receiver printed.
fn deliver(server: &impl SoundServer, capture: &str, playback: &str, length: Duration) -> String {
    let device = Device::new().unwrap();
    let on_server = |mut command: Command| {
        command.envs(server.environment());
        Process::spawn(command).unwrap()
    };
    let receiver = on_server(
        device.launch(&format!("velinsrc port=0 audio-port=0 ! audioconvert ! {playback}")),
    );
    let line = receiver.wait_for_line("velin/listening", SOON).unwrap();
    let port: u16 = number_after(&line, "port=(uint)").unwrap();
    let sender =
        on_server(device.launch(&format!("{capture} ! velinsink host=127.0.0.1 port={port}")));
    sender.wait_for_line("velin/peer-connected", SOON).unwrap();

    let (tune_file, heard_file) =
        (device.folder().join("tune.wav"), device.folder().join("heard.wav"));
    let tune = melody(RATE, 2, length);
    tune.write_16(&tune_file).unwrap();
    let mut recorder = server.record(RECEIVER_MONITOR, &heard_file).unwrap();
    let recorded = || std::fs::metadata(&heard_file).map_or(0, |meta| meta.len());
    assert!(wait_until(SOON, || recorded() > 4096), "parec: {}", recorder.output());
    let mut player = server.play(SENDER_SINK, &tune_file).unwrap();
    assert!(player.wait(length + SOON).unwrap().success(), "paplay: {}", player.output());
    // What is under way through both servers.
    let end = recorded() + 4 * u64::from(RATE);
    assert!(wait_until(SOON, || recorded() >= end), "parec: {}", recorder.output());
    recorder.terminate();
    recorder.wait(SOON).unwrap();

    let said = receiver.output();
    let heard = Clip::read(&heard_file).unwrap();
    let result =
        compare(&tune, &heard).unwrap_or_else(|e| panic!("{e}:\n{said}\n{}", sender.output()));
    println!("{capture} to {playback}:\n{result}");
    assert!(result.correlation >= 0.99, "{result}\n{said}");
    assert_eq!(result.gaps, [], "{result}\n{said}");
    assert!(result.lost_at_start < Duration::from_millis(20), "{result}\n{said}");
    assert!(result.lost_at_end < Duration::from_millis(20), "{result}\n{said}");
    assert!(result.level_db.abs() < 0.5, "{result}\n{said}");
    said
}
