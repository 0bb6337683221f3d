//! First audio: from PLAYING of a sender to the first audible buffer of a receiver that waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::Context;
use gst::prelude::*;

use crate::latency::{CHUNK_NS, Device, Feeder, listen};
use crate::stats::Values;
use crate::timer::now;

pub(crate) fn run(starts: usize) -> anyhow::Result<()> {
    let mut times = Values::with_capacity(starts);
    let device = Device::new()?;
    let (heard, first) = channel();
    let receiver = listen(&device, "", false, Arc::new(on_sound(heard)))?;
    for _ in 0..starts {
        while first.try_recv().is_ok() {}
        let began = now();
        let mut sender = Feeder::start(&format!(
            "velinsink host=127.0.0.1 port={} {}",
            receiver.port, device.properties
        ))?;
        // Buffers that were under way from the sender before this one end quickly.
        let at = loop {
            let (at, previous) = first
                .recv_timeout(Duration::from_secs(10))
                .context("a start was never heard; is the machine overloaded?")?;
            if at >= began && previous.is_none_or(|p| at > p + 50_000_000) {
                break at;
            }
        };
        times.push((at - began) as f32 / 1e6);
        sender.stop()?;
        std::thread::sleep(Duration::from_millis(300));
    }
    receiver.pipeline.set_state(gst::State::Null)?;
    let n = times.len();
    let s = times.summary();
    println!("### First audio after start\n");
    println!(
        "PLAYING of the sender to the first audible buffer of a waiting receiver: keys read, TCP, \
         handshake, offer, playout delay. Loopback, {n} starts, chunks of {} ms.\n",
        CHUNK_NS as f64 / 1e6
    );
    println!("| median | p99 | max |\n|---|---|---|");
    println!("| {:.1} ms | {:.1} ms | {:.1} ms |\n", s.median, s.p99, s.max);
    Ok(())
}

/// Tells when a buffer has sound in it, and when the one before it had.
fn on_sound(heard: Sender<(u64, Option<u64>)>) -> impl Fn(u64, &[u8]) + Send + Sync {
    let previous = std::sync::Mutex::new(None);
    move |at, samples| {
        if samples.iter().all(|b| *b == 0) {
            return;
        }
        let Ok(mut previous) = previous.lock() else { return };
        let _ = heard.send((at, previous.replace(at)));
    }
}
