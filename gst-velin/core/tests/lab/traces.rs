//! Recordings that the laboratory makes.

use std::fs;
use std::path::Path;

use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat};
use velin_core::playout::{
    Block, Body, Drift, OutputFormat, PlayoutDelay, Profile, RepairWish, SimulationSettings,
    StreamSettings, Trace, TracedBlock, simulate, stream, trace_ring,
};

use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex, SampleRate};

use crate::clocks::{Clock, MS, S};
use crate::network::{Delay, Loss, Stalls, Way};

/// Forty seconds of 5 ms packets over the bad Wi-Fi of `docs/protocol.md`, appendix C, from a
/// sender that is 18 ppm fast.
fn bad_wifi() -> Vec<TracedBlock> {
    let mut way = Way::wired(61)
        .delay(Delay::Exponential(2e6))
        .delay(Delay::Spikes { share: 0.05, mean: 10e6 })
        .stalls(Stalls { every: 2 * S, random: true, length: (5 * MS, 55 * MS) })
        .loss(Loss::Bursts { share: 0.004, burst: 1.5 });
    way.in_order = true;
    let mut sender = Clock::ppm(18.0);
    let sent = (0..8_000).filter_map(|i| {
        let media = i * 5 * MS;
        let arrival = way.send(sender.true_at(media + 5 * MS))[0]?;
        Some(TracedBlock { arrival_ns: arrival as u64, media_ns: media as u64 })
    });
    sent.collect()
}

#[test]
fn the_example_is_what_the_laboratory_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/traces/bad-wifi.csv");
    let made = Trace::new(bad_wifi()).unwrap();
    if std::env::var_os("VELIN_UPDATE_SNAPSHOTS").is_some() {
        let lines: Vec<String> = made.blocks().iter().map(ToString::to_string).collect();
        let text = format!(
            "# Made by velin-core's tests: a bad Wi-Fi, 5 ms packets, sender 18 ppm fast\n{}\n{}\n",
            Trace::HEADER,
            lines.join("\n")
        );
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.len() < 200_000, "{}", bytes.len());
    let there = Trace::parse(&bytes).unwrap();
    assert_eq!(made.blocks().len(), there.blocks().len());
    // Another system's logarithm may differ in its last digit.
    let near = |(a, b): (&TracedBlock, &TracedBlock)| {
        a.arrival_ns.abs_diff(b.arrival_ns) < 1_000 && a.media_ns == b.media_ns
    };
    assert!(made.blocks().iter().zip(there.blocks()).all(near));
}

#[test]
fn a_recorded_network_is_played_and_its_losses_are_heard() {
    let trace = Trace::new(bad_wifi()).unwrap();
    for profile in [Profile::Low, Profile::Voice, Profile::Music] {
        let settings = SimulationSettings::new(PlayoutDelay::Adaptive(profile));
        let s = simulate(&trace, &settings).unwrap();
        println!(
            "row: bad Wi-Fi recording, {profile:?}: concealed {:.3} % at {:.1} ms (p99 {:.1}), of \
             it lost {:.3} %, {} re-anchors",
            s.concealed() * 100.0,
            s.delay.median.as_secs_f64() * 1e3,
            s.delay.p99.as_secs_f64() * 1e3,
            s.lost as f64 / 80.0,
            s.stats.reanchors,
        );
        assert!(s.lost > 10 && s.concealed() < 0.05, "{s:?}");
        assert!(s.delay.p99.as_millis() < 200);
    }
}

#[test]
fn a_receiver_records_first_comers_and_no_repairs() {
    let (rate, map) = (SampleRate::HZ_48000, ChannelMap::mono());
    let format =
        StreamFormat { coding: SampleFormat::S16Le.into(), rate, map, frames_per_block: 240 };
    let (mut rx, _player) = stream(StreamSettings {
        format,
        output: OutputFormat { rate, map },
        delay: PlayoutDelay::Adaptive(Profile::Music),
        drift: Drift::Follow,
        repair: RepairWish::Auto,
    })
    .unwrap();
    let (tap, mut drain) = trace_ring(4);
    rx.set_trace(tap);
    // Block 2 comes as a repair, 3 twice; after 5 nobody has emptied the ring for too long.
    for (i, repair) in
        [(0, false), (1, false), (3, false), (3, false), (2, true), (5, false), (6, false)]
    {
        let arrival = MonoTime::from_nanos(1_000_000 + u64::from(i) * 5_000_000);
        let (index, ts) = (BlockIndex(i), FrameIndex(u64::from(i) * 240));
        let body = Body::Silence { frames: 240 };
        rx.insert(arrival, Block { index, ts, discontinuity: false, repair, body });
    }
    drop(rx);
    let recorded: Vec<_> = std::iter::from_fn(|| drain.next()).collect();
    let media: Vec<_> = recorded.iter().map(|b| b.media_ns / 5_000_000).collect();
    assert_eq!(media, [0, 1, 3, 5]);
    assert!(recorded.iter().all(|b| b.arrival_ns == b.media_ns + 1_000_000));
    assert_eq!(drain.dropped(), 1);
    assert!(drain.is_over());
}
