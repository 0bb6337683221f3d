//! What the workspace's tests and examples share. Not published.
//!
//! - [`audio`]: test material (speech, melody, noise), WAV files, and the comparison of a recording
//!   with what was played
//! - [`proc`]: child processes that cannot outlive the test
//! - [`sound`]: private PulseAudio and PipeWire servers with null sinks
//! - [`net`]: two machines on one, as network namespaces
//! - [`capture`]: what an eavesdropper on the wire records
//! - [`launch`]: the elements in `gst-launch-1.0`, as users run them
//! - [`machines`]: both together: a sender's and a receiver's machine that trust each other
//! - [`firewall`]: what stands between the machines at times
//! - [`scene`]: a tune on its way from one machine to the other

pub mod audio;
pub mod capture;
pub mod firewall;
pub mod launch;
pub mod machines;
pub mod net;
pub mod proc;
pub mod scene;
pub mod sound;

/// True after printing why a test is skipped: for what a machine may lack, such as root.
///
/// Use it at the head of a test: `if velin::skipped(net::available()) { return; }`. With
/// `VELIN_REQUIRE_ALL=1` in the environment nothing may be skipped, and this panics instead.
#[must_use]
pub fn skipped(available: Result<(), String>) -> bool {
    let Err(reason) = available else { return false };
    assert!(
        std::env::var_os("VELIN_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "VELIN_REQUIRE_ALL is set, and this machine cannot run the test: {reason}"
    );
    eprintln!("skipped: {reason}");
    true
}
