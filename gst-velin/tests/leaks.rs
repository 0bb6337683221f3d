//! A hundred lives of both elements leave nothing behind. Alone in its process, so that what it
//! counts is its own. It counts by way of Linux's /proc.
#![cfg(target_os = "linux")]

#[path = "elements/support.rs"]
mod support;

use std::fs;

use gst::prelude::*;
use support::{Device, Receiver, Sender, rms, until};

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

/// Resident memory in KiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_hundred_lives_leave_no_descriptor_no_thread_and_no_memory_behind() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "", support::FLOAT_STEREO);
    let ports = {
        receiver.line.set(gst::State::Ready);
        (receiver.port(), receiver.count("audio-port"))
    };
    // On ports of its own: every start needs those that the last one had.
    receiver.line.set(gst::State::Null);
    receiver.src.set_property("port", ports.0);
    receiver.src.set_property("audio-port", ports.1 as u32);
    let sender = Sender::build(&device, ports.0, 500, "");
    let live = |n: usize| {
        for i in 0..n {
            receiver.line.set(gst::State::Playing);
            sender.line.set(gst::State::Playing);
            if i % 10 == 0 {
                receiver.tape.heard("sound", |b| rms(b) > 0.1);
            }
            // By turns, so that every end meets the other in every state.
            let both = [&receiver.line, &sender.line];
            both[i % 2].set(gst::State::Null);
            both[(i + 1) % 2].set(gst::State::Null);
            receiver.tape.rewind();
            receiver.messages().all().clear();
            sender.messages().all().clear();
        }
    };
    live(20);
    let settled = || (entries("/proc/self/fd"), entries("/proc/self/task"));
    let before = settled();
    let kib = memory();
    live(100);
    until("descriptors and threads to be gone", || {
        let now = settled();
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
    let more = memory().saturating_sub(kib);
    assert!(more < 8 * 1024, "{more} KiB more");
}
