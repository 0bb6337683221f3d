//! When the receiver hands out its buffers: by a clock that a test sets, and at its sender's pace.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::support::{Device, FLOAT_STEREO, Line, Receiver, floats, undisturbed, until};

/// A buffer as it was pushed.
#[derive(Clone, Debug)]
struct Pushed {
    pts: gst::ClockTime,
    discont: bool,
    silent: bool,
    at: Instant,
}

/// Writes down what `pad` pushes.
fn watch(pad: &gst::Pad) -> Arc<Mutex<Vec<Pushed>>> {
    let seen: Arc<Mutex<Vec<Pushed>>> = Arc::default();
    let into = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(b)) = &info.data {
            into.lock().expect("no panic").push(Pushed {
                pts: b.pts().expect("a timestamp"),
                discont: b.flags().contains(gst::BufferFlags::DISCONT),
                silent: b.map_readable().is_ok_and(|map| map.iter().all(|byte| *byte == 0)),
                at: Instant::now(),
            });
        }
        gst::PadProbeReturn::Ok
    });
    seen
}

#[test]
fn a_late_output_catches_up_for_a_tenth_of_a_second_and_beyond_that_goes_on_from_now() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "", FLOAT_STEREO);
    let clock = gst_check::TestClock::new();
    let ms = gst::ClockTime::from_mseconds;
    clock.set_time(ms(5_000));
    receiver.line.pipeline.use_clock(Some(&clock));
    let seen = watch(&receiver.src.static_pad("src").expect("a pad"));
    receiver.line.set(gst::State::Playing);
    let count = || seen.lock().expect("no panic").len();
    until("the first buffer", || (count() == 1).then_some(()));

    // Wakes whoever waits for a time that has come.
    let until_pushed = |what: &str, n: usize| {
        until(what, || {
            let _ = clock.process_next_clock_id();
            (count() >= n).then_some(())
        });
        // It waits again: there was nothing more to push.
        clock.wait_for_next_pending_id();
        assert_eq!(count(), n);
    };
    clock.wait_for_next_pending_id();
    clock.set_time(ms(5_080));
    until_pushed("what was due in 80 ms", 81);
    clock.set_time(ms(5_380));
    until_pushed("what is due now", 82);
    let seen = seen.lock().expect("no panic").clone();
    let first = seen[0].pts;
    for (i, buffer) in seen[..81].iter().enumerate() {
        assert_eq!(buffer.pts, first + ms(i as u64));
        assert_eq!(buffer.discont, i == 0, "buffer {i}");
    }
    assert_eq!((seen.len(), seen[81].pts, seen[81].discont), (82, first + ms(380), true));
    // Nobody sends: silence, and in time.
    assert!(seen.iter().all(|buffer| buffer.silent));
}

/// A sender whose clock is fast by this share.
const FAST: f64 = 2_000e-6;

/// Sends for four seconds and gives what came out, or `None` if the machine did not keep up, and that
/// was counted.
fn at_the_pace_of_a_fast_sender(drift: &str) -> Option<(Vec<Pushed>, Vec<f32>)> {
    let device = Device::new();
    let properties = format!("drift={drift} profile=fixed latency=100");
    let receiver = Receiver::playing(&device, &properties, FLOAT_STEREO);
    let sender = Line::parse(&format!(
        "appsrc name=in is-live=true format=time \
         caps=\"{FLOAT_STEREO},layout=interleaved,channel-mask=(bitmask)0x3\" ! \
         velinsink port={} sync=false {}",
        receiver.port(),
        device.files()
    ))
    .play();
    let input = sender.element("in").downcast::<gst_app::AppSrc>().expect("an appsrc");
    let began = Instant::now();
    let block = Duration::from_secs_f64(0.002_5 / (1.0 + FAST));
    let mut seen = None;
    for i in 0..2_000_u32 {
        let frames = (i * 120 + 1)..=(i * 120 + 120);
        // Every frame tells its number.
        let sound = frames.flat_map(|n| [n as f32 / 1e6; 2]).flat_map(f32::to_le_bytes);
        let buffer = gst::Buffer::from_slice(sound.collect::<Vec<_>>());
        std::thread::sleep((began + block * i).saturating_duration_since(Instant::now()));
        input.push_buffer(buffer).expect("it flows");
        if i == 400 {
            receiver.tape.rewind();
            seen = Some(watch(&receiver.src.static_pad("src").expect("a pad")));
        }
    }
    let sound = receiver.tape.wait("four seconds", |b| Some(floats(b)));
    let seen = seen?.lock().expect("no panic").clone();
    receiver.was_undisturbed().then_some((seen, sound))
}

#[test]
fn an_output_with_drift_source_goes_at_its_senders_pace_and_resamples_nothing() {
    undisturbed(|| {
        let Some((seen, sound)) = at_the_pace_of_a_fast_sender("source") else { return false };
        // Frame by frame what was sent: nothing left out, nothing doubled, nothing in between.
        let left: Vec<_> = sound.chunks_exact(2).map(|f| (f[0] * 1e6).round() as u32).collect();
        if let Some(at) = left.windows(2).position(|w| w[1] != w[0] + 1) {
            panic!("{:?} follow each other after {at} frames", &left[at..at + 2]);
        }
        // Handed out faster than the timestamps say, by what the sender is fast.
        let (first, last) = (&seen[0], &seen[seen.len() - 1]);
        let nominal = Duration::from(last.pts - first.pts).as_secs_f64();
        let gained = nominal - (last.at - first.at).as_secs_f64();
        let expected = nominal * FAST;
        assert!((gained - expected).abs() < 0.004, "{gained} s gained in {nominal} s");
        true
    });
}
