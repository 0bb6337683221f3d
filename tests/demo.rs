//! The demo, run as a newcomer runs it, but with the programs that the tests were built with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use velin::audio::{Clip, compare};
use velin::proc::Process;
use velin::skipped;
use velin::sound::{PulseServer, SENDER_SINK, SoundServer};

#[test]
fn the_demo_delivers_its_sound_to_a_file() {
    if skipped(programs().map(drop)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path());
    demo.env("VELIN_DEMO_OUTPUT", "file");
    assert_delivered(demo, folder.path());
}

#[test]
fn the_demo_plays_its_sound_on_the_default_output() {
    if skipped(programs().and_then(|_| PulseServer::available())) {
        return;
    }
    let server = PulseServer::start().unwrap();
    assert!(server.pactl(&["info"]).unwrap().contains(SENDER_SINK));
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path());
    demo.envs(server.environment());
    assert_delivered(demo, folder.path());
}

fn demo(folder: &Path) -> Command {
    let mut command = Command::new(root().join("scripts/demo.sh"));
    command
        .env("VELIN_DEMO_BIN", programs().unwrap())
        .env("VELIN_DEMO_KEEP", folder)
        .env_remove("VELIN_DEMO_OUTPUT");
    command
}

#[track_caller]
fn assert_delivered(demo: Command, folder: &Path) {
    let mut demo = Process::spawn(demo).unwrap();
    let status = demo.wait(Duration::from_secs(90)).unwrap();
    let said = demo.output();
    assert!(status.success(), "{said}");
    assert!(said.contains("correlation") && said.contains("missing"), "{said}");
    assert!(said.contains("  received ") && said.contains("  concealed "), "no live line: {said}");

    let played = Clip::read(folder.join("played.wav")).unwrap();
    let heard = Clip::read(folder.join("heard.wav")).unwrap();
    let result = compare(&played, &heard).unwrap();
    // Splices are followed; what a busy machine conceals for a moment is all that may be missing.
    assert!(result.correlation >= 0.99, "{said}");
    assert!(result.missing() < Duration::from_millis(60), "{said}");
    assert!(result.lost_at_start < Duration::from_millis(100), "{said}");
    // The sender began when it was heard: not one packet went nowhere.
    let sender = std::fs::read_to_string(folder.join("sender.json")).unwrap();
    assert!(sender.contains("\"packets-dropped\": 0,"), "{sender}");
    assert!(result.level_db.abs() < 0.5, "{said}");
}

/// The folder with velin-pipe, compare and material, as cargo built them for the tests.
fn programs() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_BIN_EXE_compare")).with_file_name("");
    if !folder.join("velin-pipe").exists() {
        return Err("velin-pipe is not built; run cargo build first".into());
    }
    if !root().join("presets/demo-send.toml").exists() {
        return Err("there is no presets/demo-send.toml".into());
    }
    Ok(folder)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
