//! Applications that run on tokio themselves.

use gst::prelude::*;

use crate::support::{Device, Receiver, Sender, rms};

fn plays_inside(runtime: &tokio::runtime::Runtime) {
    let device = Device::new();
    let (receiver, sender) = runtime.block_on(async {
        let receiver = Receiver::start(&device);
        let sender = Sender::start(&device, receiver.port(), 600);
        tokio::task::yield_now().await;
        (receiver, sender)
    });
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    runtime.block_on(async {
        sender.line.set(gst::State::Ready);
        sender.line.set(gst::State::Playing);
        receiver.line.set(gst::State::Paused);
        receiver.line.set(gst::State::Playing);
        let _: gst::Structure = receiver.src.property("stats");
    });
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    runtime.block_on(async {
        receiver.line.set(gst::State::Null);
        sender.line.set(gst::State::Null);
    });
    receiver.messages().no_error();
}

#[test]
fn both_elements_work_inside_a_current_thread_runtime() {
    plays_inside(&tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
}

#[test]
fn both_elements_work_inside_a_multi_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    plays_inside(&{ runtime }.worker_threads(2).enable_all().build().unwrap());
}
