//! State changes, flushes, end of stream, timestamps, latency.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::support::{Device, FLOAT_STEREO, Line, PATIENCE, Receiver, Sender, rms, until};

/// What "at once" means on a machine that runs other tests, too. Whatever really waits here waits
/// for ever, or for seconds.
const AT_ONCE: Duration = Duration::from_millis(900);

fn quickly(what: &str, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    assert!(start.elapsed() < AT_ONCE, "{what} took {:?}", start.elapsed());
}

#[test]
fn a_receiver_that_waits_for_its_clock_stops_at_once_and_answers_meanwhile() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "", FLOAT_STEREO);
    // A clock that stands still: the second buffer is never due.
    let clock = gst_check::TestClock::new();
    receiver.line.pipeline.use_clock(Some(&clock));
    receiver.line.set(gst::State::Playing);
    receiver.tape.wait("the first buffer", |b| (!b.is_empty()).then_some(()));
    clock.wait_for_next_pending_id();
    quickly("stats", || assert_eq!(receiver.count("peers"), 0));
    quickly("pause", || receiver.line.set(gst::State::Paused));
    quickly("play", || receiver.line.set(gst::State::Playing));
    quickly("stop", || receiver.line.set(gst::State::Null));
    receiver.messages().no_error();
}

#[test]
fn a_sender_that_waits_for_its_clock_stops_at_once() {
    let device = Device::new();
    let line = Line::parse(&format!(
        "audiotestsrc ! {FLOAT_STEREO} ! velinsink name=sink port=1 {}",
        device.files()
    ));
    let clock = gst_check::TestClock::new();
    line.pipeline.use_clock(Some(&clock));
    line.set(gst::State::Playing);
    clock.wait_for_next_pending_id();
    quickly("stats", || {
        line.element("sink").property::<gst::Structure>("stats");
    });
    quickly("stop", || line.set(gst::State::Null));
}

#[test]
fn a_dead_host_never_holds_a_state_change() {
    let device = Device::new();
    // A closed port, an address that nobody has (RFC 5737), a name that nobody can resolve.
    for host in ["127.0.0.1", "198.51.100.7", "no-such-host.invalid"] {
        let sender = Sender::build(&device, 9, 500, &format!("host={host}"));
        quickly("play", || sender.line.set(gst::State::Playing));
        sender
            .messages()
            .wait("progress", |m| (m.type_() == gst::MessageType::Progress).then_some(()));
        quickly("stop", || sender.line.set(gst::State::Null));
    }
}

#[test]
fn pausing_and_going_on_works_again_and_again() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::start(&device, receiver.port(), 700);
    for _ in 0..3 {
        receiver.tape.heard("sound", |b| rms(b) > 0.1);
        receiver.line.set(gst::State::Paused);
        receiver.line.set(gst::State::Playing);
        receiver.tape.heard("sound", |b| rms(b) > 0.1);
        sender.line.set(gst::State::Paused);
        sender.line.set(gst::State::Playing);
    }
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    sender.line.set(gst::State::Ready);
    sender.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    receiver.messages().no_error();
    sender.messages().no_error();
}

#[test]
fn pauses_that_are_over_at_once_never_end_the_sound() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let _sender = Sender::start(&device, receiver.port(), 700);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    // The streaming thread may learn of a pause only when it is over.
    for _ in 0..100 {
        receiver.line.set(gst::State::Paused);
        receiver.line.set(gst::State::Playing);
    }
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    receiver.messages().no_error();
}

#[test]
fn the_end_of_the_input_passes_and_can_end_the_output() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, "on-peer-lost=eos", FLOAT_STEREO);
    let sender = Line::parse(&format!(
        "audiotestsrc num-buffers=40 ! {FLOAT_STEREO} ! velinsink port={} {}",
        receiver.port(),
        device.files()
    ))
    .play();
    let eos = |m: &gst::Message| (m.type_() == gst::MessageType::Eos).then_some(());
    sender.messages.wait("EOS of the sender", eos);
    sender.set(gst::State::Null);
    receiver.messages().wait("EOS of the receiver", eos);
    receiver.messages().no_error();
    // Once more: the end of the last time is not the end of this one.
    receiver.line.set(gst::State::Ready);
    receiver.line.set(gst::State::Playing);
    receiver.tape.rewind();
    receiver.tape.wait("output", |b| (b.len() > 100_000).then_some(()));
}

#[test]
fn an_output_that_shall_fail_without_senders_fails() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, "on-peer-lost=error", FLOAT_STEREO);
    let sender = Sender::start(&device, receiver.port(), 700);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    drop(sender);
    let (error, text) = receiver.messages().error();
    assert!(error.matches(gst::ResourceError::Read) && text.contains("last sender"), "{text}");
}

#[test]
fn a_flush_passes_through_the_sender() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::start(&device, receiver.port(), 700);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let pad = sender.sink.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::FlushStart::new()));
    assert!(pad.send_event(gst::event::FlushStop::new(false)));
    let source = sender.line.pipeline.iterate_sources().next().unwrap().unwrap();
    // Whoever flushes a running source starts it again.
    source.set_state(gst::State::Ready).unwrap();
    source.sync_state_with_parent().unwrap();
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    sender.messages().no_error();
}

#[test]
fn what_the_link_does_not_carry_is_refused() {
    let device = Device::new();
    for caps in [
        "audio/x-raw,format=S32LE,rate=48000,channels=2",
        "audio/x-raw,format=S16LE,rate=4000,channels=2",
        "audio/x-raw,format=S16LE,rate=48000,channels=16,channel-mask=(bitmask)0x0",
    ] {
        crate::support::init();
        let line = format!("audiotestsrc ! {caps} ! velinsink {}", device.files());
        let Ok(pipeline) = gst::parse::launch(&line) else { continue };
        let line = Line {
            messages: crate::support::Messages::new(pipeline.downcast_ref().unwrap()),
            pipeline: pipeline.downcast().unwrap(),
        };
        if !line.refuses(gst::State::Playing) {
            line.messages.error();
        }
    }
}

#[test]
fn latency_is_small_live_and_known_in_every_state() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "output-period=5000000", FLOAT_STEREO);
    for state in [gst::State::Null, gst::State::Ready, gst::State::Paused, gst::State::Playing] {
        receiver.line.set(state);
        let mut query = gst::query::Latency::new();
        if state > gst::State::Ready {
            assert!(receiver.src.query(&mut query));
            let (live, min, max) = query.result();
            assert!(live);
            assert_eq!((min, max), (gst::ClockTime::from_mseconds(1), gst::ClockTime::NONE));
        }
    }
}

#[test]
fn a_live_pipeline_has_no_more_latency_than_the_allowance() {
    let device = Device::new();
    let line = Line::parse(&format!(
        "velinsrc name=src port=0 audio-port=0 {} ! fakesink sync=true processing-deadline=0",
        device.files()
    ))
    .play();
    line.messages.wait("PLAYING", |m| match m.view() {
        gst::MessageView::AsyncDone(_) => Some(()),
        _ => None,
    });
    let mut query = gst::query::Latency::new();
    assert!(line.pipeline.query(&mut query));
    assert_eq!(query.result().1, gst::ClockTime::from_mseconds(1));
    line.messages.no_error();
}

#[test]
fn timestamps_are_contiguous_to_the_nanosecond_and_only_the_first_buffer_is_discont() {
    let device = Device::new();
    let caps = "audio/x-raw,format=F32LE,rate=44100,channels=1";
    let receiver = Receiver::build(&device, "", caps);
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let list = seen.clone();
    receiver.src.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(b)) = &info.data {
            let at = (b.pts().unwrap(), b.duration().unwrap(), b.offset(), b.offset_end());
            list.lock().unwrap().push((at, b.flags(), b.size()));
        }
        gst::PadProbeReturn::Ok
    });
    receiver.line.set(gst::State::Playing);
    until("500 buffers", || (seen.lock().unwrap().len() >= 500).then_some(()));
    let seen = seen.lock().unwrap().clone();
    let origin = seen[0].0.0.nseconds();
    for (i, ((pts, duration, offset, end), flags, size)) in seen.iter().enumerate() {
        let frames = i as u64 * 44;
        assert_eq!(pts.nseconds(), origin + frames * 1_000_000_000 / 44_100);
        assert_eq!((*offset, *end, *size), (frames, frames + 44, 176));
        assert_eq!(flags.contains(gst::BufferFlags::DISCONT), i == 0, "buffer {i}");
        if let Some(((next, ..), ..)) = seen.get(i + 1) {
            assert_eq!(*pts + *duration, *next);
        }
    }
}

#[test]
fn caps_are_downstream_when_the_receiver_reaches_paused() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "", FLOAT_STEREO);
    receiver.line.set(gst::State::Paused);
    let pad = receiver.line.element("out").static_pad("sink").unwrap();
    assert!(pad.current_caps().is_some_and(|c| c.is_fixed()));
}

#[test]
fn without_wishes_the_output_is_float_stereo_at_48_khz() {
    let device = Device::new();
    let line = Line::parse(&format!(
        "velinsrc name=src port=0 audio-port=0 {} ! fakesink sync=false",
        device.files()
    ));
    line.set(gst::State::Paused);
    let caps = line.element("src").static_pad("src").unwrap().current_caps().unwrap();
    let info = gst_audio::AudioInfo::from_caps(&caps).unwrap();
    assert_eq!(info.format(), gst_audio::AudioFormat::F32le);
    assert_eq!((info.rate(), info.channels()), (48_000, 2));
}

#[test]
fn another_output_format_in_the_middle_brings_the_senders_back() {
    let device = Device::new();
    let receiver = Receiver::build(&device, "profile=fixed latency=60", "capsfilter name=filter");
    let filter = receiver.line.element("filter");
    let caps = |rate: i32| gst_audio::AudioCapsBuilder::new_interleaved().rate(rate).channels(2);
    let caps = |rate| caps(rate).format(gst_audio::AudioFormat::F32le).build();
    filter.set_property("caps", caps(48_000));
    receiver.line.set(gst::State::Playing);
    receiver.messages().element("listening");
    let sender = Sender::start(&device, receiver.port(), 700);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let mark = receiver.messages().mark();
    filter.set_property("caps", caps(44_100));
    receiver.messages().element_from(mark, "stream-added");
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    receiver.messages().no_error();
    sender.messages().no_error();
    assert!(PATIENCE > AT_ONCE);
}
