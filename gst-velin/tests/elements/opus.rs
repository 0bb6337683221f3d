//! `codec=opus` between real sockets.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::relay::Relay;
use crate::support::{Device, FLOAT_STEREO, Line, Receiver, amplitude, count, element, rms, until};

/// A live source through a `velinsink` with `codec=opus`.
fn send(device: &Device, source: &str, properties: &str) -> (Line, gst::Element) {
    let line = Line::parse(&format!(
        "audiotestsrc is-live=true samplesperbuffer=240 {source} ! \
         velinsink name=sink codec=opus {} {properties}",
        device.files()
    ))
    .play();
    let sink = line.element("sink");
    (line, sink)
}

fn fixed(device: &Device) -> Receiver {
    let properties = "bind-address=127.0.0.1 profile=fixed latency=120";
    Receiver::playing(device, properties, FLOAT_STEREO)
}

/// The figures of the sink's one receiver.
fn seen(sink: &gst::Element) -> Option<gst::Structure> {
    let stats = sink.property::<gst::Structure>("stats");
    stats.get::<gst::List>("receivers").ok()?.first()?.get::<gst::Structure>().ok()
}

/// Bits per second on the wire to the one receiver, IPv4 and UDP headers included, over `time`.
fn on_the_wire(sink: &gst::Element, time: Duration) -> f64 {
    let sent = || {
        let seen = until("a receiver", || seen(sink));
        count(&seen, "bytes-sent") + 28 * count(&seen, "packets-sent")
    };
    let (since, before) = (Instant::now(), sent());
    while since.elapsed() < time {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    (sent() - before) as f64 * 8.0 / since.elapsed().as_secs_f64()
}

#[test]
fn tones_come_out_clean_and_at_their_level_from_every_packet_time() {
    for (us, channels) in
        [(2_500, 2), (2_500, 1), (5_000, 2), (10_000, 1), (20_000, 2), (40_000, 1), (60_000, 2)]
    {
        let device = Device::new();
        let receiver = fixed(&device);
        let source = format!("freq=1000 volume=0.2 ! audio/x-raw,channels={channels}");
        let properties = format!("port={} packet-time={us}000", receiver.port());
        let (_line, sink) = send(&device, &source, &properties);
        receiver.tape.heard("the tone", |block| {
            let tone = amplitude(block, 1000.0);
            // All else in it.
            let rest = (2.0 * f64::from(rms(block)).powi(2) - tone.powi(2)).max(0.0).sqrt();
            (tone / 0.2 - 1.0).abs() < 0.06 && rest < 0.02
        });
        let stats = receiver.stats();
        let streams = stats.get::<gst::List>("streams").unwrap();
        let stream = streams[0].get::<gst::Structure>().unwrap();
        assert_eq!(stream.get::<&str>("format"), Ok("opus"));
        assert_eq!(count(&stream, "channels"), channels);
        assert_eq!((count(&stats, "block-us"), count(&stats, "codec-us")), (us, 2_500));
        assert_eq!(count(&sink.property("stats"), "codec-bit-rate"), 128_000);
        receiver.messages().no_error();
    }
}

#[test]
fn opus_is_heard_together_with_pcm_of_the_same_delay() {
    let device = Device::new();
    let receiver = fixed(&device);
    let (port, files) = (receiver.port(), device.files());
    let line = Line::parse(&format!(
        "audiotestsrc is-live=true samplesperbuffer=240 freq=100 volume=0.2 ! {FLOAT_STEREO} ! \
         tee name=t \
         t. ! queue ! velinsink port={port} stream-name=plain packet-time=5000000 {files} \
         t. ! queue ! audioconvert mix-matrix=\"<<(float)-1.0,(float)0.0>,<(float)0.0,(float)-1.0>>\" \
         ! velinsink name=sink codec=opus port={port} stream-name=turned packet-time=5000000 {files}"
    ))
    .play();
    let sink = line.element("sink");
    // Each cancels the other if both are heard at the same time: 2.5 ms apart they would add up.
    for _ in 0..2 {
        sink.set_property("mute", true);
        receiver.tape.heard("one tone", |block| amplitude(block, 100.0) > 0.15);
        sink.set_property("mute", false);
        receiver.tape.heard("none", |block| amplitude(block, 100.0) < 0.04);
    }
    until("a delay", || (receiver.count("delay-us") > 0).then_some(()));
    line.messages.no_error();
}

#[test]
fn a_voice_at_32_kbit_per_second_takes_that_and_its_headers_on_the_wire() {
    let device = Device::new();
    let receiver = fixed(&device);
    let properties = format!(
        "port={} packet-time=20000000 bitrate=32000 audio-type=voice repair=off",
        receiver.port()
    );
    let (_line, sink) = send(&device, "wave=pink-noise volume=0.3", &properties);
    receiver.tape.heard("sound", |b| rms(b) > 0.01);
    until("packets", || (count(&seen(&sink)?, "packets-sent") > 10).then_some(()));
    let bits = on_the_wire(&sink, Duration::from_secs(3));
    let wanted = f64::from((80 + 48 + 28) * 8 * 50);
    assert!((bits / wanted - 1.0).abs() < 0.1, "{bits} instead of {wanted}");
    assert_eq!(receiver.count("codec-us"), 6_500);
}

#[test]
fn with_dtx_a_pause_takes_hardly_a_packet_and_is_no_loss() {
    let device = Device::new();
    let receiver = fixed(&device);
    let properties = format!(
        "port={} packet-time=20000000 bitrate=32000 audio-type=voice dtx=true",
        receiver.port()
    );
    let (line, sink) = send(&device, "name=tone freq=440 volume=0.2", &properties);
    receiver.tape.heard("the tone", |b| rms(b) > 0.1);
    line.element("tone").set_property("volume", 0.0);
    receiver.tape.heard("nothing", |b| rms(b) < 0.001);
    // The encoder waits a fifth of a second, to be sure.
    let mut bits = f64::MAX;
    until("a pause on the wire", || {
        bits = on_the_wire(&sink, Duration::from_millis(1_000));
        (bits < 0.2 * 62_400.0).then_some(())
    });
    let before = (receiver.count("concealed"), receiver.count("nacks"));
    bits = on_the_wire(&sink, Duration::from_secs(2));
    assert!(bits < 0.2 * 62_400.0, "{bits}");
    let stats = receiver.stats();
    let concealed = receiver.count("concealed") - before.0;
    assert!(concealed < 9_600 && receiver.count("nacks") - before.1 < 20, "{stats:?}");
    assert_eq!(stats.get::<gst::List>("streams").unwrap().len(), 1);
    line.element("tone").set_property("volume", 0.2);
    receiver.tape.heard("the tone again", |b| rms(b) > 0.1);
    receiver.messages().no_error();
}

#[test]
fn bundled_blocks_leave_in_fewer_packets_and_are_all_heard() {
    for (codec, packet_time) in [("opus", 5_000_000), ("pcm", 1_000_000)] {
        let device = Device::new();
        let receiver = fixed(&device);
        let properties = format!(
            "port={} packet-time={packet_time} bundle=4 codec={codec} bitrate=64000",
            receiver.port()
        );
        let (_line, sink) = send(&device, "freq=1000 volume=0.2", &properties);
        receiver.tape.heard("the tone", |b| (amplitude(b, 1000.0) / 0.2 - 1.0).abs() < 0.06);
        until("blocks", || (receiver.count("blocks") > 400).then_some(()));
        let blocks = receiver.count("blocks");
        let packets = count(&seen(&sink).unwrap(), "packets-sent");
        assert!(packets * 3 < blocks + 40, "{codec}: {packets} packets, {blocks} blocks");
        receiver.messages().no_error();
    }
}

#[test]
fn any_input_is_converted_to_what_opus_takes_and_nothing_else_is_taken() {
    let device = Device::new();
    let receiver = fixed(&device);
    let convert = "freq=1000 volume=0.2 ! audio/x-raw,rate=44100,channels=6,format=S32LE ! \
                   audioconvert ! audioresample";
    let (_line, sink) = send(&device, convert, &format!("port={}", receiver.port()));
    receiver.tape.heard("sound", |b| rms(b) > 0.02);
    let caps = sink.static_pad("sink").unwrap().current_caps().unwrap();
    let structure = caps.structure(0).unwrap();
    assert_eq!(structure.get::<i32>("rate"), Ok(48_000));
    assert!(structure.get::<i32>("channels").unwrap() <= 2);

    let offered = sink.static_pad("sink").unwrap().query_caps(None);
    for (caps, taken) in [
        ("audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved", true),
        ("audio/x-raw,format=F32LE,rate=48000,channels=1,layout=interleaved", true),
        ("audio/x-raw,format=S16LE,rate=44100,channels=2,layout=interleaved", false),
        ("audio/x-raw,format=S16LE,rate=48000,channels=6,layout=interleaved", false),
    ] {
        let caps: gst::Caps = caps.parse().unwrap();
        assert_eq!(offered.can_intersect(&caps), taken, "{caps}");
    }
    // The same element carries anything as PCM.
    let pcm = gst::ElementFactory::make("velinsink").build().unwrap();
    let offered = pcm.static_pad("sink").unwrap().query_caps(None);
    let caps = "audio/x-raw,format=S24LE,rate=96000,channels=6,layout=interleaved";
    assert!(offered.can_intersect(&caps.parse::<gst::Caps>().unwrap()));
}

#[test]
fn silence_and_mute_are_silence_and_the_tone_returns() {
    let device = Device::new();
    let receiver = fixed(&device);
    let properties = format!("port={} packet-time=5000000", receiver.port());
    let (_line, sink) = send(&device, "freq=1000 volume=0.2", &properties);
    for _ in 0..2 {
        receiver.tape.heard("the tone", |b| (amplitude(b, 1000.0) / 0.2 - 1.0).abs() < 0.06);
        sink.set_property("mute", true);
        receiver.tape.heard("nothing at all", |b| b.iter().all(|x| *x == 0.0));
        sink.set_property("mute", false);
    }
    assert_eq!(receiver.count("malformed"), 0);
}

#[test]
fn opus_is_never_exact_and_that_is_said() {
    let device = Device::new();
    let receiver = Receiver::playing(
        &device,
        "bind-address=127.0.0.1 drift=off profile=fixed latency=60",
        FLOAT_STEREO,
    );
    let source = "freq=1000 volume=0.2 ! audio/x-raw,channels=2";
    let (_line, _sink) = send(&device, source, &format!("port={}", receiver.port()));
    let message = receiver.messages().wait("velin/not-exact", |m| element(m, "velin/not-exact"));
    let reason = message.get::<String>("reason").unwrap();
    assert!(reason.contains("codec=pcm"), "{reason}");
    receiver.tape.heard("the tone", |b| (amplitude(b, 1000.0) / 0.2 - 1.0).abs() < 0.06);
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn a_tenth_of_the_packets_lost_is_hardly_heard_and_takes_the_bit_rate_down() {
    let device = Device::new();
    let receiver = fixed(&device);
    let relay = Relay::new(&receiver);
    let properties = format!("{} packet-time=20000000 bitrate=192000", relay.properties());
    let (line, sink) = send(&device, "freq=1000 volume=0.2", &properties);
    line.messages.wait("route udp", |m| {
        element(m, "velin/route-changed").filter(|s| s.get::<&str>("route") == Ok("udp"))
    });
    receiver.tape.heard("the tone", |b| (amplitude(b, 1000.0) / 0.2 - 1.0).abs() < 0.06);
    relay.hop.loss_permille.store(100, Ordering::Relaxed);
    let before = (receiver.count("played"), receiver.count("concealed"));
    until("a lower bit rate", || {
        (count(&sink.property("stats"), "codec-bit-rate") <= 128_000).then_some(())
    });
    // Here answers are faster than copies, which are then of no use.
    until("copies beside answers", || {
        (receiver.count("by-redundancy") + receiver.count("needless") > 10).then_some(())
    });
    assert!(receiver.count("by-retransmission") > 3, "{:?}", receiver.stats());
    let played = receiver.count("played") - before.0;
    let concealed = receiver.count("concealed") - before.1;
    assert!(concealed * 50 < played, "{concealed} of {played}");
    let tail = receiver.tape.next_f32(96_000);
    let loud = tail.chunks(960).filter(|b| rms(b) > 0.1).count();
    assert!(loud > 90, "{loud} of 100 pieces of 10 ms are heard");
    relay.hop.loss_permille.store(0, Ordering::Relaxed);
}
