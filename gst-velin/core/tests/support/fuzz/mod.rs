//! What the fuzzer runs on stable, too: one function for each target, any bytes in, a panic where a
//! promise is broken.
//!
//! `fuzz/fuzz_targets` calls these with bytes that libFuzzer thinks of; `tests/corpus.rs` with every
//! file in `fuzz/corpus`, in each run of the ordinary tests.
#![allow(dead_code, unreachable_pub)] // Every target program uses one of them.

pub mod bytes;
pub mod control_json;
pub mod frames_post_auth;
pub mod host;
pub mod identity_text;
pub mod name;
pub mod opus_blocks;
pub mod packet_pre_auth;
pub mod playout_ops;
pub mod recipient;
pub mod seeds;
pub mod session_pair;
pub mod session_rogue;
pub mod tcp_deframer;
pub mod trace;
pub mod trust_toml;

/// A target: its name, which is its folder in the corpus too, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 14] = [
    ("control_json", control_json::run),
    ("frames_post_auth", frames_post_auth::run),
    ("host", host::run),
    ("identity_text", identity_text::run),
    ("name", name::run),
    ("opus_blocks", opus_blocks::run),
    ("packet_pre_auth", packet_pre_auth::run),
    ("playout_ops", playout_ops::run),
    ("recipient", recipient::run),
    ("session_pair", session_pair::run),
    ("session_rogue", session_rogue::run),
    ("tcp_deframer", tcp_deframer::run),
    ("trace", trace::run),
    ("trust_toml", trust_toml::run),
];

/// What stands in an error or an event may be printed to a terminal.
#[track_caller]
pub fn assert_printable(text: &impl ToString) {
    let text = text.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?} moves a terminal's cursor");
}
