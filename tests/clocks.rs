//! Plain `gst-launch-1.0` pipelines run on the clock of the sound card they play to. Those of sound
//! servers are in `sound_servers.rs`.

use velin::launch::{Device, SOON};
use velin::proc::Process;

/// ALSA's card that plays nothing, in real time, and is there without one.
const CARD: &str = "alsasink device=null";

#[test]
fn a_pipeline_to_alsa_runs_on_the_clock_of_its_card_with_and_without_a_queue() {
    for between in ["", "queue !"] {
        let device = Device::new().unwrap();
        let line = format!("velinsrc port=0 audio-port=0 ! {between} audioconvert ! {CARD}");
        let receiver = Process::spawn(device.launch(&line)).unwrap();
        let clock = receiver.wait_for_line("New clock", SOON).unwrap();
        assert!(clock.contains("GstAudioSinkClock"), "{line}: {clock}\n{}", receiver.output());
    }
}
