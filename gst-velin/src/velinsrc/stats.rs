//! `velinsrc`'s `stats`.

use std::time::Duration;

use gst::prelude::*;
use velin_core::playout::StreamStats;

use super::receiver::{Entry, Receiver};
use crate::link::{Listener, StreamKey};
use crate::link_options::OpenLink;

/// Everything that was counted.
pub(super) fn structure(
    receiver: &Receiver,
    bound: Option<&Listener>,
    link: Option<&OpenLink>,
) -> gst::Structure {
    let mut sum = receiver.past();
    let mut streams = Vec::new();
    receiver.for_each(|key, entry| {
        let stats = entry.counters.snapshot();
        add(&mut sum, &stats);
        streams.push(one(key, entry, &stats).to_send_value());
    });
    let mix = receiver.mix();
    let link = link.map(OpenLink::figures).unwrap_or_default();
    let builder = gst::Structure::builder("application/x-velin-src-stats")
        .field("peers", link.peers)
        .field("audio-port", u32::from(bound.map_or(link.audio_port, Listener::audio_port)))
        .field("limiter-gain", mix.as_ref().map_or(1.0, |m| f64::from(m.limiter_gain())))
        .field("limited", mix.as_ref().map_or(0, |m| m.limited()))
        .field("streams", gst::List::from_iter(streams));
    link.put(with_playout(builder, &sum)).build()
}

fn one(key: &StreamKey, entry: &Entry, stats: &StreamStats) -> gst::Structure {
    let builder = gst::Structure::builder("application/x-velin-stream-stats")
        .field("name", &entry.name)
        .field("peer", key.peer.recipient())
        .field("uuid", String::from(key.uuid.0))
        .field("format", entry.format.coding.name())
        .field("rate", entry.format.rate.hz())
        .field("channels", entry.format.channels().get() as u32);
    with_playout(builder, stats).build()
}

/// What one stream counted, for its child object.
pub(super) fn of_child(stats: &StreamStats) -> gst::Structure {
    with_playout(gst::Structure::builder("application/x-velin-stream-stats"), stats).build()
}

fn with_playout(builder: gst::structure::Builder, s: &StreamStats) -> gst::structure::Builder {
    builder
        .field("received", s.received)
        .field("repaired", s.repaired)
        .field("concealed", s.concealed)
        .field("silence", s.silence)
        .field("played", s.played)
        .field("blocks", s.blocks)
        .field("late", s.late)
        .field("duplicate", s.duplicate)
        .field("lost", s.lost)
        .field("reordered", s.reordered)
        .field("malformed", s.malformed)
        .field("overrun", s.overrun)
        .field("nacks", s.nacks)
        .field("asked", s.asked)
        .field("by-retransmission", s.by_retransmission)
        .field("by-redundancy", s.by_redundancy)
        .field("repaired-late", s.repaired_late)
        .field("needless", s.needless)
        .field("reanchors", s.reanchors)
        .field("delay-us", micros(s.delay))
        .field("target-us", micros(s.target))
        .field("repair-us", micros(s.allowance))
        .field("rtt-us", micros(s.rtt))
        .field("block-us", micros(s.block))
        .field("codec-us", micros(s.codec))
        .field("jitter-us", micros(s.jitter))
        .field("output-us", micros(s.output))
        .field("drift-ppm", s.drift_ppb as f64 / 1_000.0)
}

/// Frames add up; of the delays the longest counts, and of the drifts the largest.
pub(super) fn add(sum: &mut StreamStats, s: &StreamStats) {
    sum.received += s.received;
    sum.repaired += s.repaired;
    sum.concealed += s.concealed;
    sum.silence += s.silence;
    sum.played += s.played;
    sum.blocks += s.blocks;
    sum.late += s.late;
    sum.duplicate += s.duplicate;
    sum.lost += s.lost;
    sum.reordered += s.reordered;
    sum.malformed += s.malformed;
    sum.overrun += s.overrun;
    sum.nacks += s.nacks;
    sum.asked += s.asked;
    sum.by_retransmission += s.by_retransmission;
    sum.by_redundancy += s.by_redundancy;
    sum.repaired_late += s.repaired_late;
    sum.needless += s.needless;
    sum.reanchors += s.reanchors;
    sum.delay = sum.delay.max(s.delay);
    sum.target = sum.target.max(s.target);
    sum.allowance = sum.allowance.max(s.allowance);
    sum.rtt = sum.rtt.max(s.rtt);
    sum.block = sum.block.max(s.block);
    sum.codec = sum.codec.max(s.codec);
    sum.jitter = sum.jitter.max(s.jitter);
    sum.output = sum.output.max(s.output);
    if s.drift_ppb.abs() > sum.drift_ppb.abs() {
        sum.drift_ppb = s.drift_ppb;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
