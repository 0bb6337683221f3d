//! A recorded network is what was received, and can be played again.

use std::fs;
use std::time::Duration;

use velin_core::playout::{PlayoutDelay, Profile, SimulationSettings, Trace, simulate};

use crate::support::{Device, FLOAT_STEREO, Receiver, Sender, until};

#[test]
fn a_recording_holds_what_arrived_and_can_be_simulated() {
    let device = Device::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loopback.csv");
    let shown = path.display().to_string().replace('\\', "/");
    let properties = format!("profile=fixed latency=60 trace-file={shown}");
    let receiver = Receiver::playing(&device, &properties, FLOAT_STEREO);
    let sender = Sender::start(&device, receiver.port(), 440);
    until("two seconds", || (receiver.count("received") >= 2 * 48_000).then_some(()));
    drop(sender);
    drop(receiver);

    // The file is whole when its last line says so.
    let bytes = until("the end of the recording", || {
        let bytes = fs::read(&path).unwrap();
        bytes.split(|b| *b == b'\n').any(|line| line.starts_with(b"# end: ")).then_some(bytes)
    });
    let trace = Trace::parse(&bytes).unwrap();
    assert_eq!(trace.packet_time(), Duration::from_micros(2_500));
    assert!(trace.blocks().len() >= 400, "{}", trace.blocks().len());
    let settings = SimulationSettings::new(PlayoutDelay::Adaptive(Profile::Music));
    let simulation = simulate(&trace, &settings).unwrap();
    assert!(simulation.stats.received >= 40_000, "{simulation:?}");
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with(" 0 not recorded\n"), "{}", text.lines().last().unwrap());
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_at_once() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "trace-file=/nosuch/trace.csv", FLOAT_STEREO);
    assert!(receiver.line.refuses(gst::State::Playing));
    let (error, _) = receiver.messages().error();
    assert!(error.matches(gst::ResourceError::OpenWrite), "{error}");
    assert!(error.to_string().contains("/nosuch/trace.csv"), "{error}");
}
