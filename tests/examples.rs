//! The examples, run against each other over the loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use velin::proc::Process;
use velin::skipped;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_receiver_hears_the_sender() {
    if skipped(examples().map(drop)) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let receiver = start(
        home.path(),
        "receiver",
        &["--meter", "--bind", "127.0.0.1", "--port", "0", "--audio-port", "0"],
    );
    let line = receiver.wait_for_line("listening on port ", LIMIT).unwrap();
    let port = line.rsplit(' ').next().unwrap().to_owned();
    let mut sender = start(home.path(), "sender", &["--port", &port, "--seconds", "4"]);

    receiver.wait_for_line("velin/stream-added", LIMIT).unwrap();
    sender.wait_for_line("velin/peer-connected", LIMIT).unwrap();
    // A quarter of full scale, through the link and out again.
    receiver.wait_for_line("level -12.0 dB", LIMIT).unwrap();

    let status = sender.wait(LIMIT).unwrap();
    assert!(status.success(), "{}", sender.output());
    assert!(sender.output().contains("packets-sent"), "{}", sender.output());
    receiver.wait_for_line("velin/peer-lost", LIMIT).unwrap();
    receiver.wait_for_line("level -120.0 dB", LIMIT).unwrap();
}

#[test]
fn the_receiver_turns_a_stream_down() {
    if skipped(examples().map(drop)) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let receiver = start(
        home.path(),
        "receiver",
        &[
            ["--meter", "--bind", "127.0.0.1", "--port", "0", "--audio-port", "0"].as_slice(),
            &["--stream", "example::volume=0.5", "--stream", "example::pan=0.4"],
        ]
        .concat(),
    );
    let line = receiver.wait_for_line("listening on port ", LIMIT).unwrap();
    let port = line.rsplit(' ').next().unwrap().to_owned();
    let _sender = start(home.path(), "sender", &["--port", &port, "--seconds", "4"]);
    receiver.wait_for_line("level -18.1 dB", LIMIT).unwrap();
    assert!(!receiver.output().contains("level -12"), "{}", receiver.output());
}

#[test]
fn a_sender_that_nobody_waits_for_says_so_and_goes_on() {
    if skipped(examples().map(drop)) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    // Free a moment ago: nobody answers there.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    drop(taken);
    let mut sender = start(home.path(), "sender", &["--port", &port, "--seconds", "2"]);
    sender.wait_for_line("nothing listens at 127.0.0.1", LIMIT).unwrap();
    assert!(sender.wait(LIMIT).unwrap().success(), "{}", sender.output());
}

#[track_caller]
fn start(home: &Path, name: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(examples().unwrap().join(name));
    // One device: its own key is welcome over the loopback.
    command.args(arguments).env("VELIN_CONFIG_DIR", home.join("velin"));
    Process::spawn(command).unwrap()
}

/// The folder with the examples, as cargo built them for the tests.
fn examples() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_BIN_EXE_compare")).with_file_name("examples");
    let built = ["sender", "receiver"].iter().all(|name| folder.join(name).exists());
    built.then_some(folder).ok_or_else(|| "run cargo build --examples first".into())
}
