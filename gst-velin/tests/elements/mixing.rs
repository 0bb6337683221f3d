//! Each stream's place in the mix: set at any time, from the first sample on, for as long as the
//! element lives.

use std::f64::consts::{SQRT_2, TAU};

use gst::prelude::*;

use crate::support::{Device, FLOAT_STEREO, Line, Receiver, Sender, amplitude, count, until};

/// Blocks that come late on a busy machine are not too late.
const PATIENT: &str = "profile=fixed latency=100";

fn proxy(receiver: &Receiver) -> &gst::ChildProxy {
    receiver.src.dynamic_cast_ref().expect("a child proxy")
}

/// A playing sender of a tone at 0.2, as the stream `name`.
fn sender(device: &Device, port: u32, name: &str, hz: u32) -> Sender {
    let sender = Sender::build(device, port, hz, &format!("stream-name={name} link=mix-{name}"));
    sender.line.set(gst::State::Playing);
    sender
}

/// The amplitude of `hz` on the right.
fn right(samples: &[f32], hz: f64) -> f64 {
    let swapped: Vec<f32> = samples.chunks_exact(2).flat_map(|f| [f[1], f[0]]).collect();
    amplitude(&swapped, hz)
}

fn near(level: f64, expected: f64) -> bool {
    (level - expected).abs() < 0.02 * 0.2
}

/// The loudest sample so far.
fn loudest(receiver: &Receiver) -> f32 {
    receiver.tape.wait("sound", |bytes| {
        let samples = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let peak = samples.fold(0.0_f32, |peak, x| peak.max(x.abs()));
        (peak > 0.0).then_some(peak)
    })
}

#[test]
fn what_is_set_as_a_child_is_added_holds_from_the_first_sample() {
    let device = Device::new();
    let receiver = Receiver::build(&device, PATIENT, FLOAT_STEREO);
    receiver.src.connect("child-added", false, |values| {
        let child = values[1].get::<gst::glib::Object>().expect("a child");
        assert_eq!(values[2].get::<&str>(), Ok("quiet"));
        assert_eq!(child.property::<String>("stream"), "quiet");
        child.set_property("volume", 0.25);
        child.set_property("pan", 1.0);
        None
    });
    receiver.line.set(gst::State::Playing);
    receiver.messages().element("listening");
    let _sender = sender(&device, receiver.port(), "quiet", 1000);
    receiver.tape.heard("a quarter on the right", |b| {
        amplitude(b, 1000.0) < 1e-6 && near(right(b, 1000.0), 0.05)
    });
    let peak = loudest(&receiver);
    assert!(peak < 0.0501, "{peak} was heard");
}

#[test]
fn a_bus_handler_that_is_called_at_once_is_early_enough_too() {
    let device = Device::new();
    let receiver = Receiver::build(&device, PATIENT, FLOAT_STEREO);
    let src = receiver.src.clone();
    let bus = receiver.line.pipeline.bus().expect("a bus");
    bus.set_sync_handler(move |_, message| {
        if message.structure().is_some_and(|s| s.name() == "velin/stream-added") {
            let proxy = src.dynamic_cast_ref::<gst::ChildProxy>().expect("a child proxy");
            proxy.set_child_property("quiet::volume", 0.25.to_value());
        }
        gst::BusSyncReply::Pass
    });
    receiver.line.set(gst::State::Playing);
    receiver.messages().element("listening");
    let _sender = sender(&device, receiver.port(), "quiet", 1000);
    receiver.tape.heard("a quarter", |b| near(amplitude(b, 1000.0), 0.05));
    let peak = loudest(&receiver);
    assert!(peak < 0.0501, "{peak} was heard");
}

#[test]
fn a_launch_line_sets_streams_that_are_yet_to_come() {
    let device = Device::new();
    let properties = format!("{PATIENT} laptop::volume=0.5 laptop::pan=-1.0 phone::mute=true");
    let receiver = Receiver::playing(&device, &properties, FLOAT_STEREO);
    let _other = sender(&device, receiver.port(), "other", 600);
    let _phone = sender(&device, receiver.port(), "phone", 900);
    let laptop = sender(&device, receiver.port(), "laptop", 1300);
    let as_the_line_says = |b: &[f32]| {
        near(amplitude(b, 600.0), 0.2)
            && near(right(b, 600.0), 0.2)
            && amplitude(b, 900.0) < 1e-3
            && near(amplitude(b, 1300.0), 0.1)
            && right(b, 1300.0) < 1e-3
    };
    receiver.tape.heard("what the line says", as_the_line_says);
    until("the muted one", || (proxy(&receiver).children_count() == 3).then_some(()));
    // And when it comes again.
    drop(laptop);
    receiver.messages().element("stream-removed");
    let _laptop = sender(&device, receiver.port(), "laptop", 1300);
    receiver.tape.rewind();
    receiver.tape.heard("the same again", as_the_line_says);
}

#[test]
fn all_settings_of_a_stream_outlive_it_and_a_pause_of_the_receiver() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, PATIENT, FLOAT_STEREO);
    let [a, _b] = [("a", 600), ("b", 1300)].map(|(n, hz)| sender(&device, receiver.port(), n, hz));
    receiver
        .tape
        .heard("both", |b| near(amplitude(b, 600.0), 0.2) && near(amplitude(b, 1300.0), 0.2));
    let set = |child: &str, property: &str, value: gst::glib::Value| {
        let name = format!("{child}::{property}");
        proxy(&receiver).set_child_property(&name, value);
    };
    set("a", "volume", 0.5.to_value());
    set("a", "pan", 0.5.to_value());
    set("a", "solo", true.to_value());
    set("b", "mute", true.to_value());
    let cosine = std::f64::consts::FRAC_1_SQRT_2;
    let as_set = |b: &[f32]| {
        near(amplitude(b, 600.0), 0.1 * cosine)
            && near(right(b, 600.0), 0.1)
            && amplitude(b, 1300.0) < 1e-3
    };
    receiver.tape.rewind();
    receiver.tape.heard("as set", as_set);

    drop(a);
    receiver.messages().element("stream-removed");
    until("a gone", || (proxy(&receiver).children_count() == 1).then_some(()));
    let _a = sender(&device, receiver.port(), "a", 600);
    receiver.tape.rewind();
    receiver.tape.heard("as set before", as_set);

    // The senders call again.
    receiver.line.set(gst::State::Ready);
    assert_eq!(proxy(&receiver).children_count(), 0);
    receiver.line.set(gst::State::Playing);
    until("both back", || (proxy(&receiver).children_count() == 2).then_some(()));
    receiver.tape.rewind();
    receiver.tape.heard("as set before the pause", as_set);
    let child = proxy(&receiver).child_by_name("a").expect("a");
    assert_eq!(child.property::<f64>("volume"), 0.5);
    assert_eq!(child.property::<f64>("pan"), 0.5);
    assert!(child.property::<bool>("solo") && !child.property::<bool>("mute"));
    let child = proxy(&receiver).child_by_name("b").expect("b");
    assert!(child.property::<bool>("mute") && !child.property::<bool>("solo"));
}

#[test]
fn who_joins_while_another_is_soloed_is_received_and_not_heard() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, PATIENT, FLOAT_STEREO);
    let _a = sender(&device, receiver.port(), "a", 600);
    receiver.tape.heard("a", |b| near(amplitude(b, 600.0), 0.2));
    proxy(&receiver).set_child_property("a::solo", true.to_value());
    let _b = sender(&device, receiver.port(), "b", 1300);
    let child = until("b", || proxy(&receiver).child_by_name("b"));
    until("half a second of b", || {
        (count(&child.property("stats"), "received") > 24_000).then_some(())
    });
    receiver.tape.heard("a alone", |b| near(amplitude(b, 600.0), 0.2));
    let second = receiver.tape.next_f32(96_000);
    assert!(amplitude(&second, 1300.0) < 1e-4);
    // Both soloed is as good as none.
    child.set_property("solo", true);
    receiver.tape.rewind();
    receiver
        .tape
        .heard("both", |b| near(amplitude(b, 600.0), 0.2) && near(amplitude(b, 1300.0), 0.2));
    proxy(&receiver).set_child_property("a::solo", false.to_value());
    receiver.tape.rewind();
    receiver
        .tape
        .heard("b alone", |b| amplitude(b, 600.0) < 1e-3 && near(amplitude(b, 1300.0), 0.2));
    child.set_property("solo", false);
    receiver.tape.rewind();
    receiver
        .tape
        .heard("both", |b| near(amplitude(b, 600.0), 0.2) && near(amplitude(b, 1300.0), 0.2));
}

#[test]
fn stats_say_what_the_limiter_does() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, PATIENT, FLOAT_STEREO);
    let gain = || receiver.stats().get::<f64>("limiter-gain").expect("a gain");
    let _a = sender(&device, receiver.port(), "a", 600);
    receiver.tape.heard("a", |b| near(amplitude(b, 600.0), 0.2));
    assert_eq!((gain(), receiver.count("limited")), (1.0, 0));
    // Twice full scale.
    proxy(&receiver).set_child_property("a::volume", 10.0.to_value());
    until("the limiter", || (gain() < 0.6).then_some(()));
    assert!(receiver.count("limited") > 0);
    receiver.tape.rewind();
    receiver.tape.heard("full scale", |b| {
        assert!(b.iter().all(|x| x.abs() <= 1.0));
        amplitude(b, 600.0) > 0.9
    });
    proxy(&receiver).set_child_property("a::volume", 1.0.to_value());
    until("the limiter's end", || (gain() == 1.0).then_some(()));
    let limited = receiver.count("limited");
    receiver.tape.rewind();
    receiver.tape.heard("a as sent", |b| near(amplitude(b, 600.0), 0.2));
    assert_eq!(receiver.count("limited"), limited);
}

/// Everything in a block of stereo but the `tones`, on the left, as an amplitude.
fn rest(samples: &[f32], tones: &[f64]) -> f64 {
    let mut left: Vec<f64> = samples.chunks_exact(2).map(|f| f64::from(f[0])).collect();
    let frames = left.len();
    for hz in tones {
        let turn = |i: usize| (TAU * hz * i as f64 / 48_000.0).sin_cos();
        let (mut re, mut im) = (0.0, 0.0);
        for (i, x) in left.iter().enumerate() {
            let (sin, cos) = turn(i);
            re += 2.0 * x * cos / frames as f64;
            im += 2.0 * x * sin / frames as f64;
        }
        for (i, x) in left.iter_mut().enumerate() {
            let (sin, cos) = turn(i);
            *x -= re * cos + im * sin;
        }
    }
    (2.0 * left.iter().map(|x| x * x).sum::<f64>() / frames as f64).sqrt()
}

/// Over real sockets: the tones are multiples of 100 Hz, whole in a block of ten milliseconds.
#[test]
#[cfg_attr(windows, ignore = "Wine asks a server for each datagram: too slow")]
fn senders_of_any_format_sound_together_each_as_its_layout_says() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, PATIENT, FLOAT_STEREO);
    let port = receiver.port();
    // In the left surround alone.
    let surround = "mix-matrix=\"<<(float)0>,<(float)0>,<(float)0>,<(float)0>,<(float)1>,\
                    <(float)0>>\"";
    let line = |name: &str, hz: u32, rate: u32, more: &str| {
        let files = device.files();
        Line::parse(&format!(
            "audiotestsrc is-live=true samplesperbuffer={} freq={hz} volume=0.2 ! \
             audio/x-raw,rate={rate},channels=1 ! {more},rate={rate},layout=interleaved ! \
             velinsink stream-name={name} link=format-{name} port={port} {files}",
            rate / 200
        ))
        .play()
    };
    let _senders = [
        line("mono", 600, 44_100, "audioconvert ! audio/x-raw,format=S24LE,channels=1"),
        line("stereo", 1300, 96_000, "audioconvert ! audio/x-raw,format=F32LE,channels=2"),
        line(
            "surround",
            2500,
            48_000,
            &format!(
                "audioconvert {surround} ! \
                 audio/x-raw,format=S24LE,channels=6,channel-mask=(bitmask)0x3f"
            ),
        ),
        line("voice", 3700, 32_000, "audioconvert ! audio/x-raw,format=S16LE,channels=1"),
    ];
    let tones = [600.0, 1300.0, 2500.0, 3700.0];
    let surround = 0.2 * 0.5 / (2.5 + 1.0 / SQRT_2);
    receiver.tape.heard("all four", |b| {
        near(amplitude(b, 600.0), 0.2)
            && near(right(b, 600.0), 0.2)
            && near(amplitude(b, 1300.0), 0.2)
            && near(right(b, 1300.0), 0.2)
            && (amplitude(b, 2500.0) / surround - 1.0).abs() < 0.02
            && right(b, 2500.0) < 2e-4
            && near(amplitude(b, 3700.0), 0.2)
            && near(right(b, 3700.0), 0.2)
            && rest(b, &tones) < 2e-4
    });
    receiver.messages().no_error();
    assert_eq!(receiver.count("limited"), 0);
}

/// Linux tells threads' names and how often each fell asleep.
#[cfg(target_os = "linux")]
#[test]
fn sixteen_senders_need_no_thread_and_no_period_more_than_one() {
    use crate::process::Process;

    const LIGHT: &str = "audio/x-raw,format=S16LE,rate=8000,channels=1,layout=interleaved";
    let here = Device::new();
    let mut receiver = Process::play(&format!(
        "velinsrc name=src bind-address=127.0.0.1 port=0 audio-port=0 profile=fixed latency=500 \
         output-period=10000000 {} ! {LIGHT} ! fakesink sync=false",
        here.files()
    ));
    let port = receiver.port("src");
    let senders = |from: usize, to: usize| {
        let one = |i| {
            format!(
                "audiotestsrc is-live=true samplesperbuffer=160 volume=0.01 ! {LIGHT} ! velinsink \
                 stream-name=s{i} link=s{i} packet-time=20000000 port={port} {} ",
                here.files()
            )
        };
        Process::play(&(from..to).map(one).collect::<String>())
    };
    // In a second of the output's own time, however busy the machine is.
    let sleeps = |receiver: &mut Process| {
        let played = |receiver: &mut Process| {
            let stats = receiver.stats("src");
            count(&stats, "played")
                / stats.get::<gst::List>("streams").expect("streams").len() as u64
        };
        let (from, before) = (played(receiver), receiver.sleeps("src:src"));
        until("two seconds", || (played(receiver) >= from + 16_000).then_some(()));
        let periods = (played(receiver) - from) as f64 / 80.0;
        (receiver.sleeps("src:src") - before) as f64 / periods
    };
    let _first = senders(0, 1);
    receiver.streams("src", 1);
    let (threads, alone) = (receiver.threads_by_name(), sleeps(&mut receiver));
    let _others = senders(1, 16);
    receiver.streams("src", 16);
    let (more, together) = (receiver.threads_by_name(), sleeps(&mut receiver));
    println!(
        "row: {threads:?}; sleeps per period: {alone:.2} with one, {together:.2} with sixteen"
    );
    // Threads that wait for the disk, and those of GLib's pool, come and go.
    let lasting = |mut threads: std::collections::BTreeMap<String, usize>| {
        threads.retain(|name, _| name != "velin-link" && !name.starts_with("pool-"));
        threads
    };
    assert_eq!(lasting(more), lasting(threads));
    assert!(receiver.threads(Some("velin-link")) <= 5);
    assert!(together < 1.3 * alone.max(1.0), "{alone} with one, {together} with sixteen");
    receiver.no_error();
}
