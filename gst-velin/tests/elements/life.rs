//! Senders and receivers come, go and come back.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::relay::Relay;
use crate::support::{
    Device, FLOAT_STEREO, Line, Receiver, Sender, amplitude, count, element, floats, rms,
    undisturbed, until,
};

fn streams(receiver: &Receiver) -> Vec<gst::Structure> {
    let stats = receiver.stats();
    let list = stats.get::<gst::List>("streams").unwrap();
    list.iter().map(|s| s.get::<gst::Structure>().unwrap()).collect()
}

fn uuids(receiver: &Receiver) -> Vec<String> {
    let mut uuids: Vec<_> =
        streams(receiver).iter().map(|s| s.get::<String>("uuid").unwrap()).collect();
    uuids.sort();
    uuids
}

/// The amplitude of `hz` in the next 200 ms that hold it without a gap.
fn level(receiver: &Receiver, hz: f64) -> f64 {
    amplitude(&receiver.tape.next_f32(2 * 9600), hz)
}

#[test]
fn a_receiver_that_starts_again_on_its_port_is_heard_again_by_itself() {
    let device = Device::new();
    let first = Receiver::start(&device);
    let (port, audio) = (first.port(), first.count("audio-port"));
    let sender = Sender::start(&device, port, 1000);
    first.tape.heard("sound", |b| rms(b) > 0.1);
    drop(first);
    sender.messages().element("peer-lost");
    let second =
        Receiver::playing(&device, &format!("port={port} audio-port={audio}"), FLOAT_STEREO);
    second.tape.heard("sound again", |b| rms(b) > 0.1);
    sender.messages().no_error();
    second.messages().no_error();
    assert_eq!(sender.messages().warnings(), 1, "one warning per outage");
}

#[test]
fn a_receiver_that_goes_to_ready_and_back_keeps_its_ports_and_its_senders() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let ports = (receiver.port(), receiver.count("audio-port"));
    let _sender = Sender::start(&device, receiver.port(), 1000);
    for _ in 0..3 {
        receiver.tape.heard("sound", |b| rms(b) > 0.1);
        receiver.line.set(gst::State::Ready);
        assert_eq!(ports, (receiver.port(), receiver.count("audio-port")));
        assert_eq!(receiver.count("peers"), 0);
        receiver.line.set(gst::State::Playing);
    }
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    receiver.messages().no_error();
}

#[test]
fn a_sender_that_starts_again_brings_a_new_stream_and_the_old_one_is_gone() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::start(&device, receiver.port(), 1000);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let before = uuids(&receiver);
    sender.line.set(gst::State::Null);
    receiver.messages().element("stream-removed");
    receiver.tape.heard("silence", |b| rms(b) == 0.0);
    sender.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let after = uuids(&receiver);
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_ne!(before, after);
}

#[test]
fn more_senders_leave_the_level_of_the_first_alone() {
    let here = Device::new();
    let others: Vec<_> = (0..4).map(|_| Device::new()).collect();
    here.trust(&others.iter().collect::<Vec<_>>());
    others.iter().for_each(|o| o.trust(&[&here]));
    let receiver = Receiver::playing(&here, "profile=fixed latency=200", FLOAT_STEREO);
    let _first = Sender::start(&here, receiver.port(), 500);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    until("the level of the first alone", || {
        ((level(&receiver, 500.0) - 0.2).abs() < 0.002).then_some(())
    });
    let mut senders = Vec::new();
    for (i, other) in others.iter().enumerate() {
        let hz = 1000 + 500 * i as u32;
        senders.push(Sender::start(other, receiver.port(), hz));
        until("both at their levels", || {
            let heard = receiver.tape.next_f32(2 * 9600);
            let fine = |hz| (amplitude(&heard, hz) - 0.2).abs() < 0.002;
            (fine(500.0) && fine(f64::from(hz))).then_some(())
        });
    }
    assert_eq!((receiver.count("peers"), streams(&receiver).len()), (5, 5));
    receiver.messages().no_error();
}

#[test]
fn two_sinks_to_one_host_share_a_link_and_live_on_their_own() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let first = Sender::start(&device, receiver.port(), 500);
    let second = Sender::start(&device, receiver.port(), 1500);
    until("two streams", || (streams(&receiver).len() == 2).then_some(()));
    assert_eq!(receiver.count("peers"), 1, "one connection");
    let before = uuids(&receiver);

    second.line.set(gst::State::Null);
    receiver.messages().element("stream-removed");
    until("the first goes on alone", || {
        let heard = receiver.tape.next_f32(2 * 4800);
        (amplitude(&heard, 500.0) > 0.19 && amplitude(&heard, 1500.0) < 0.001).then_some(())
    });
    second.line.set(gst::State::Playing);
    until("both again", || {
        let heard = receiver.tape.next_f32(2 * 4800);
        (amplitude(&heard, 500.0) > 0.19 && amplitude(&heard, 1500.0) > 0.19).then_some(())
    });
    let after = uuids(&receiver);
    assert_eq!(after.len(), 2);
    assert_eq!(after.iter().filter(|u| before.contains(u)).count(), 1, "a new stream");
    assert_eq!(receiver.count("peers"), 1);
    assert_eq!(count(&first.stats(), "sessions"), 1);
    first.messages().no_error();
    second.messages().no_error();
}

#[test]
fn without_auto_reconnect_the_end_is_an_error_and_nothing_tries_again() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::build(&device, receiver.port(), 500, "auto-reconnect=false");
    sender.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let port = receiver.port();
    drop(receiver);
    let (error, text) = sender.messages().error();
    assert!(error.matches(gst::ResourceError::Write), "{error:?}");
    assert!(text.contains("is gone"), "{text}");
    // The first retry would come after 0.24 s at the latest.
    let listener = TcpListener::bind(("127.0.0.1", port as u16)).unwrap();
    let timeout = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
    let mut fds = [rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 0, "it tried again");
}

#[test]
fn nothing_listening_without_auto_reconnect_is_an_error() {
    let device = Device::new();
    let sender = Sender::build(&device, closed_port(), 500, "auto-reconnect=false");
    sender.line.set(gst::State::Playing);
    let (error, text) = sender.messages().error();
    assert!(error.matches(gst::ResourceError::OpenWrite), "{error:?}");
    assert!(text.contains("nothing listens at 127.0.0.1:"), "{text}");
}

fn closed_port() -> u32 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port().into()
}

#[test]
fn mute_goes_on_and_off_without_a_click() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::start(&device, receiver.port(), 440);
    receiver.tape.heard("sound", |b| rms(b) > 0.13);
    receiver.tape.rewind();
    for mute in [true, false, true, false] {
        sender.sink.set_property("mute", mute);
        let mut from = 0;
        receiver.tape.wait("mute to act", |bytes| {
            let done = bytes[from..].chunks_exact(3840).any(|b| (rms(&floats(b)) == 0.0) == mute);
            from = bytes.len() / 3840 * 3840;
            done.then_some(())
        });
    }
    let heard = receiver.tape.wait("the end", |b| (!b.is_empty()).then(|| floats(b)));
    // The steepest step of 440 Hz at 0.2 is 0.0115; the fades add little.
    let step = heard.chunks_exact(2).zip(heard.chunks_exact(2).skip(1));
    let step = step.map(|(a, b)| (a[0] - b[0]).abs()).fold(0.0, f32::max);
    assert_eq!(receiver.count("concealed"), 0);
    assert!(step < 0.016, "a step of {step}");
}

/// Sends a tone until it is heard, then silence in both forms with tones between.
fn gaps_come_out_as_they_went_in() -> bool {
    let device = Device::new();
    let caps = "audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved";
    let receiver = Receiver::playing(&device, "drift=off profile=fixed latency=400", caps);
    let sender = Line::parse(&format!(
        "appsrc name=in format=time caps=\"{caps}\" ! velinsink port={} {}",
        receiver.port(),
        device.files()
    ));
    let input = sender.element("in").downcast::<gst_app::AppSrc>().unwrap();
    sender.set(gst::State::Playing);
    let time = |frames: u64| gst::ClockTime::from_nseconds(frames * 1_000_000_000 / 48_000);
    let push = |from: u64, frames: u64, value: i16, flags: gst::BufferFlags| {
        let bytes: Vec<u8> = (0..frames).flat_map(|_| value.to_le_bytes()).collect();
        let mut buffer = gst::Buffer::from_slice(bytes);
        let fields = buffer.get_mut().unwrap();
        fields.set_pts(time(from));
        fields.set_duration(time(frames));
        fields.set_flags(flags);
        input.push_buffer(buffer).unwrap();
    };
    let nothing = gst::BufferFlags::empty();
    // The receiver hears it within a second; the rest follows the tone whenever that is.
    push(0, 48_000, 1000, nothing);
    // What a GAP buffer holds is silence, whatever its bytes say.
    push(48_000, 960, 77, gst::BufferFlags::GAP);
    push(48_960, 4800, 2000, nothing);
    let pad = input.static_pad("src").unwrap();
    until("everything is sent", || (input.current_level_bytes() == 0).then_some(()));
    let gap = gst::event::Gap::builder(time(53_760)).duration(time(1920)).build();
    assert!(pad.push_event(gap));
    push(55_680, 4800, 3000, nothing);
    push(60_480, 24_000, 4000, nothing);
    input.end_of_stream().unwrap();

    let (undisturbed, runs) = receiver.tape.wait("the last tone", |bytes| {
        let samples = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
        let mut runs: Vec<(i16, usize)> = Vec::new();
        for sample in samples {
            match runs.last_mut() {
                Some((value, n)) if *value == sample => *n += 1,
                _ => runs.push((sample, 1)),
            }
        }
        if !receiver.was_undisturbed() {
            return Some((false, runs));
        }
        let from = runs.iter().position(|(v, _)| *v == 1000)?;
        (runs.len() > from + 5).then(|| (true, runs[from + 1..from + 5].to_vec()))
    });
    if undisturbed {
        assert_eq!(runs, [(0, 960), (2000, 4800), (0, 1920), (3000, 4800)]);
    }
    undisturbed
}

#[test]
fn gaps_travel_as_silence_of_the_same_length() {
    undisturbed(gaps_come_out_as_they_went_in);
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn without_udp_the_audio_goes_by_tcp_and_comes_back() {
    let device = Device::new();
    let receiver =
        Receiver::playing(&device, "bind-address=127.0.0.1 profile=fixed latency=60", FLOAT_STEREO);
    let relay = Relay::new(&receiver);
    let sender = relay.sender(&device, 1000);
    let route = |route: &'static str| {
        move |m: &gst::Message| {
            element(m, "velin/route-changed").filter(|s| s.get::<String>("route").unwrap() == route)
        }
    };
    sender.messages().wait("route udp", route("udp"));
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let mark = sender.messages().mark();
    relay.hop.drop_udp.store(true, Ordering::Relaxed);
    sender.messages().wait_from(mark, "route tcp", route("tcp"));
    receiver.tape.heard("sound by TCP", |b| rms(b) > 0.1);
    let mark = sender.messages().mark();
    relay.hop.drop_udp.store(false, Ordering::Relaxed);
    sender.messages().wait_from(mark, "route udp", route("udp"));
    receiver.tape.heard("sound by UDP", |b| rms(b) > 0.1);
    assert_eq!(count(&sender.stats(), "sessions"), 1);
    assert_eq!(receiver.count("peers"), 1);
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn packets_that_come_again_altered_or_back_are_counted_and_change_nothing() {
    let device = Device::new();
    let receiver = Receiver::playing(
        &device,
        "bind-address=127.0.0.1 profile=fixed latency=200",
        FLOAT_STEREO,
    );
    let relay = Relay::new(&receiver);
    let sender = relay.sender(&device, 1000);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    relay.hop.tamper.store(true, Ordering::Relaxed);
    until("replays and forgeries", || {
        let both = receiver.count("packets-replayed").min(receiver.count("packets-forged"));
        (both > 200).then_some(())
    });
    until("the right level", || {
        let heard = receiver.tape.next_f32(2 * 9600);
        ((amplitude(&heard, 1000.0) - 0.2).abs() < 0.002).then_some(())
    });
    assert_eq!(count(&sender.stats(), "sessions"), 1);
    assert_eq!((receiver.count("peers"), streams(&receiver).len()), (1, 1));
    receiver.messages().no_error();
    sender.messages().no_error();
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn no_datagram_is_larger_than_1200_bytes() {
    let device = Device::new();
    let caps = "audio/x-raw,format=F32LE,rate=192000,channels=8,layout=interleaved,\
                channel-mask=(bitmask)0x0";
    let receiver = Receiver::playing(&device, "bind-address=127.0.0.1", caps);
    let relay = Relay::new(&receiver);
    let _sender = Line::parse(&format!(
        "audiotestsrc is-live=true ! {caps} ! velinsink {} {}",
        relay.properties(),
        device.files()
    ))
    .play();
    until("datagrams", || (relay.hop.datagrams.load(Ordering::Relaxed) > 1000).then_some(()));
    let largest = relay.hop.largest.load(Ordering::Relaxed);
    assert!((1150..=1200).contains(&largest), "{largest} bytes");
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn a_sender_that_finds_its_session_dead_first_gets_its_stream_back() {
    let device = Device::new();
    let receiver =
        Receiver::playing(&device, "bind-address=127.0.0.1 profile=fixed latency=60", FLOAT_STEREO);
    let relay = Relay::new(&receiver);
    let sender = relay.sender(&device, 1000);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let before = uuids(&receiver);
    relay.hop.deaf.store(true, Ordering::Relaxed);
    until("a second session", || (count(&sender.stats(), "sessions") == 2).then_some(()));
    let back = Instant::now();
    // The receiver still heard the old session a moment ago, and would wait for it for 5 s.
    receiver.tape.heard("sound in the new session", |b| rms(b) > 0.1);
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    until("the stream flows", || {
        let state = sender.stats().get::<String>("session-state").unwrap();
        (state == "streaming").then_some(())
    });
    assert_eq!(uuids(&receiver), before, "the same stream");
    until("the old session is gone", || (receiver.count("peers") == 1).then_some(()));
    sender.messages().no_error();
}

#[test]
fn the_sender_counts_its_time_its_packets_and_its_bit_rate() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::start(&device, receiver.port(), 500);
    let stats = until("a second's bit rate", || {
        let stats = sender.stats();
        (count(&stats, "bit-rate") > 0).then_some(stats)
    });
    let [packets, bytes, frames] =
        ["packets-sent", "bytes-sent", "frames"].map(|field| count(&stats, field));
    assert!(packets > 0 && frames >= packets * 100, "{stats:?}");
    // Every packet is as long as every other one.
    let length = bytes / packets;
    assert_eq!(bytes, packets * length, "{stats:?}");
    // At most what a second of such packets makes: 400 of 2.5 ms.
    assert!(count(&stats, "bit-rate") <= 400 * length * 8, "{stats:?}");
    assert!(count(&stats, "uptime-ms") > 0, "{stats:?}");
}

#[test]
fn what_was_counted_of_a_stream_outlives_it() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::start(&device, receiver.port(), 500);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let (played, packets) = (receiver.count("received"), receiver.count("packets-received"));
    drop(sender);
    until("the stream's end", || streams(&receiver).is_empty().then_some(()));
    until("the session's end", || (receiver.count("peers") == 0).then_some(()));
    assert!(played > 0 && receiver.count("received") >= played);
    assert!(packets > 0 && receiver.count("packets-received") >= packets);
    let stats = receiver.stats();
    let causes = ["received", "repaired", "concealed", "silence"].map(|c| count(&stats, c));
    assert_eq!(causes.iter().sum::<u64>(), count(&stats, "played"));
}

/// Longer than a peer may be silent: an input that stops leaves the link to its heartbeat.
#[test]
fn an_input_that_stops_for_six_seconds_goes_on_in_the_same_stream() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Line::parse(&format!(
        "appsrc name=in is-live=true format=time do-timestamp=true caps=\"{FLOAT_STEREO},\
         layout=interleaved\" ! velinsink name=sink port={} {}",
        receiver.port(),
        device.files()
    ));
    let input = sender.element("in").downcast::<gst_app::AppSrc>().unwrap();
    let sent = || count(&sender.element("sink").property("stats"), "packets-sent");
    sender.set(gst::State::Playing);
    // Pushes a square wave, 10 ms at a time, until `done`.
    let while_sounding = |done: &dyn Fn()| {
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let samples = (0..960).flat_map(|i| {
                        let value: f32 = if i / 48 % 2 == 0 { 0.3 } else { -0.3 };
                        value.to_le_bytes()
                    });
                    let buffer = gst::Buffer::from_slice(samples.collect::<Vec<_>>());
                    input.push_buffer(buffer).unwrap();
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            done();
            over.store(true, Ordering::Relaxed);
        });
    };
    while_sounding(&|| receiver.tape.heard("sound", |b| rms(b) > 0.1));
    let (before, packets) = (uuids(&receiver), sent());
    std::thread::sleep(Duration::from_secs(6));
    assert!(sent() <= packets + 8, "nothing is sent but what was on its way");
    while_sounding(&|| receiver.tape.heard("sound again", |b| rms(b) > 0.1));
    assert_eq!(uuids(&receiver), before);
    assert_eq!(receiver.count("peers"), 1);
    for name in ["velin/stalled", "velin/peer-lost", "velin/stream-removed"] {
        assert_eq!(receiver.messages().count(|m| element(m, name).is_some()), 0, "{name}");
    }
}

/// With every category at its most talkative.
#[test]
fn the_log_holds_neither_key_nor_sound() {
    use std::sync::{Arc, Mutex};
    let device = Device::new();
    let log = Arc::new(Mutex::new(String::new()));
    let into = log.clone();
    // It stays: GStreamer would free it under threads that are just writing to it.
    gst::log::add_log_function(move |category, _, _, _, _, _, message| {
        if category.name().starts_with("velin")
            && let Some(text) = message.get()
        {
            let mut log = into.lock().unwrap();
            log.push_str(&text);
            log.push('\n');
        }
    });
    for category in ["velinsink", "velinsrc"] {
        gst::log::set_threshold_for_name(category, gst::DebugLevel::Memdump);
    }
    let receiver = Receiver::start(&device);
    let _sender = Sender::start(&device, receiver.port(), 1000);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    drop(receiver);
    let log = log.lock().unwrap().to_ascii_uppercase();
    assert!(log.contains("CONNECTED"), "{log}");
    let file = std::fs::read_to_string(device.identity_file()).unwrap();
    let secret = file.lines().find(|l| l.starts_with("AGE-SECRET-KEY-1")).unwrap();
    for part in [secret, &secret[20..40], "AGE-SECRET-KEY"] {
        assert!(!log.contains(part), "{part} is in the log");
    }
    assert!(log.lines().all(|line| line.len() < 2000), "no dumps of packets");
}
