//! Links either way round: senders that listen, receivers that call, elements that share a link.

use std::fs;

use gst::prelude::*;

use crate::support::{
    Device, FLOAT_STEREO, Line, Receiver, Sender, amplitude, count, element, rms, until,
};

const CALLING: &str = "mode=caller host=127.0.0.1 profile=fixed latency=60";

/// A live sine into a `velinsink` that listens.
fn server(device: &Device, port: u32, hz: u32, properties: &str) -> Sender {
    let ports = "mode=listener bind-address=127.0.0.1 audio-port=0";
    let server = Sender::build(device, port, hz, &format!("{ports} {properties}"));
    server.line.set(gst::State::Playing);
    server.messages().element("listening");
    server
}

fn port_of(server: &Sender) -> u32 {
    server.sink.property("current-port")
}

fn calling(device: &Device, port: u32, properties: &str) -> Receiver {
    let receiver =
        Receiver::build(device, &format!("{CALLING} port={port} {properties}"), FLOAT_STEREO);
    receiver.line.set(gst::State::Playing);
    receiver
}

fn listening(device: &Device, port: u32, properties: &str) -> Receiver {
    let fixed = "bind-address=127.0.0.1 profile=fixed latency=60";
    Receiver::playing(device, &format!("{fixed} port={port} {properties}"), FLOAT_STEREO)
}

/// Waits until `hz` is heard at about the level it was sent with, and the other tones are not.
fn hears_only(receiver: &Receiver, hz: f64, others: &[f64]) {
    receiver.tape.heard(&format!("{hz} Hz alone"), |samples| {
        amplitude(samples, hz) > 0.15
            && others.iter().all(|other| amplitude(samples, *other) < 0.02)
    });
}

fn free_port() -> u32 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().into()
}

fn children(receiver: &Receiver) -> Vec<gst::glib::Object> {
    let proxy = receiver.src.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
    (0..proxy.children_count()).filter_map(|i| proxy.child_by_index(i)).collect()
}

/// Trust with grants, which a list of recipients cannot say.
fn trust_with(device: &Device, other: &Device, may: &str) {
    let text = format!(
        "version = 1\n[[peer]]\nrecipient = \"{}\"\nname = \"other\"\nmay = [{may}]\n",
        other.key.recipient()
    );
    fs::write(device.trust_file(), text).unwrap();
    #[cfg(unix)]
    crate::support::set_mode(&device.trust_file(), 0o600);
}

#[test]
fn a_sender_that_listens_serves_whoever_calls_and_one_that_goes_disturbs_nobody() {
    let device = Device::new();
    let server = server(&device, 0, 1000, "");
    let port = port_of(&server);
    let first = calling(&device, port, "link=first");
    let second = calling(&device, port, "link=second");
    for receiver in [&first, &second] {
        receiver.tape.heard("sound", |b| rms(b) > 0.1);
        receiver.messages().no_error();
    }
    until("two receivers", || {
        (server.stats().get::<gst::List>("receivers").unwrap().len() == 2).then_some(())
    });
    drop(first);
    server.messages().element("peer-lost");
    let before = second.count("lost");
    let still = second.tape.next_f32(2 * 24_000);
    assert!(rms(&still) > 0.1);
    // What comes late on a busy machine is not lost.
    assert_eq!(second.count("lost"), before);
    server.messages().no_error();
}

/// 16 receivers at one sender: each has keys of its own, and no thread belongs to any of them.
#[test]
#[cfg(target_os = "linux")]
fn sixteen_receivers_of_one_sender_need_no_thread_more_than_one() {
    let device = Device::new();
    let server = server(&device, 0, 1000, "");
    let port = port_of(&server);
    let callers: Vec<_> = (0..16).map(|i| calling(&device, port, &format!("link=r{i}"))).collect();
    for receiver in &callers {
        receiver.tape.heard("sound", |b| rms(b) > 0.1);
    }
    let list = server.stats().get::<gst::List>("receivers").unwrap();
    assert_eq!(list.len(), 16);
    let names: Vec<_> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|t| fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .collect();
    let count = |name: &str| names.iter().filter(|n| n.trim() == name).count();
    // One for the server's socket, and one for that of each caller, which has a link of its own here.
    assert_eq!(count("velin-receive"), 17);
    // One that works, and up to four that read files.
    assert!(count("velin-link") <= 5, "{names:?}");
}

#[test]
fn streams_are_asked_for_by_name() {
    let device = Device::new();
    let port = free_port();
    let _desktop = server(&device, port, 700, "stream-name=desktop");
    let _mic = server(&device, port, 1900, "stream-name=mic");
    let all = calling(&device, port, "link=all");
    let mic = calling(&device, port, "link=mic streams=m*");
    let not_mic = calling(&device, port, "link=other streams=!mic");
    hears_only(&mic, 1900.0, &[700.0]);
    hears_only(&not_mic, 700.0, &[1900.0]);
    all.tape.heard("both", |b| amplitude(b, 700.0) > 0.15 && amplitude(b, 1900.0) > 0.15);
    assert_eq!(children(&all).len(), 2);
    assert_eq!(children(&mic)[0].property::<String>("stream"), "mic");
}

#[test]
fn a_name_that_nobody_sends_is_waited_for_with_one_warning() {
    let device = Device::new();
    let port = free_port();
    let _desktop = server(&device, port, 700, "stream-name=desktop");
    let receiver = calling(&device, port, "streams=mic");
    let text = receiver.messages().warning();
    assert!(text.contains("mode=listener") && text.contains("streams="), "{text}");
    let _mic = server(&device, port, 1900, "stream-name=mic");
    hears_only(&receiver, 1900.0, &[700.0]);
}

#[test]
fn four_receivers_share_a_port_and_each_plays_its_own_streams() {
    let device = Device::new();
    let port = free_port();
    let tones = [500_u32, 900, 1700, 2900];
    let names = ["a", "b", "c"];
    let mut receivers: Vec<_> =
        names.iter().map(|n| listening(&device, port, &format!("streams={n}"))).collect();
    receivers.push(listening(&device, port, ""));
    let _senders: Vec<_> = tones
        .iter()
        .zip(["a", "b", "c", "d"])
        .map(|(hz, name)| {
            let link = format!("stream-name={name} link=four-{name}");
            let sender = Sender::build(&device, port, *hz, &link);
            sender.line.set(gst::State::Playing);
            sender
        })
        .collect();
    for (i, receiver) in receivers.iter().enumerate() {
        let others: Vec<_> = tones
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, hz)| f64::from(*hz))
            .collect();
        hears_only(receiver, f64::from(tones[i]), &others);
        receiver.messages().no_error();
    }
    // The last one would play everything.
    let taken = receivers[3].messages().element("stream-taken");
    assert!(names.contains(&taken.get::<&str>("stream").unwrap()), "{taken:?}");
}

#[test]
fn a_stream_passes_to_the_next_who_wants_it_when_its_owner_goes() {
    let device = Device::new();
    let port = free_port();
    let first = listening(&device, port, "streams=x");
    let second = listening(&device, port, "");
    let sender = Sender::build(&device, port, 800, "stream-name=x");
    sender.line.set(gst::State::Playing);
    first.tape.heard("sound", |b| rms(b) > 0.1);
    second.messages().element("stream-taken");
    drop(first);
    second.tape.heard("sound", |b| rms(b) > 0.1);
    sender.messages().no_error();
}

#[test]
fn a_sender_and_a_receiver_share_one_link_for_both_directions() {
    let (here, there) = (Device::new(), Device::new());
    trust_with(&there, &here, "\"play-to-me\", \"capture-from-me\"");
    trust_with(&here, &there, "\"play-to-me\", \"capture-from-me\"");
    let port = free_port();
    let hears = listening(&there, port, "");
    let speaks = server(&there, port, 600, "stream-name=answer");
    let speaker = Sender::build(&here, port, 1500, "stream-name=question");
    speaker.line.set(gst::State::Playing);
    let listener = calling(&here, port, "");
    hears_only(&hears, 1500.0, &[600.0]);
    hears_only(&listener, 600.0, &[1500.0]);
    assert_eq!(count(&speaker.stats(), "sessions"), 1);
    assert_eq!(hears.count("peers"), 1, "one session for both directions");
    for line in [&hears.line, &speaks.line, &speaker.line, &listener.line] {
        line.messages.no_error();
    }
}

#[test]
fn settings_that_contradict_each_other_on_one_link_are_an_error_that_names_them() {
    let device = Device::new();
    let port = free_port();
    let _first = Sender::start(&device, port, 1000);
    let second = Sender::build(&device, port, 1000, "mtu=1000");
    assert!(second.line.refuses(gst::State::Playing));
    let (_, text) = second.messages().error();
    assert!(text.contains("mtu") && text.contains("link="), "{text}");
    let _third = {
        let third = Sender::build(&device, port, 1000, "mtu=1000 link=contradicts");
        third.line.set(gst::State::Playing);
        third
    };

    let port = free_port();
    let _receiver = listening(&device, port, "");
    let other = Receiver::build(
        &device,
        &format!("bind-address=127.0.0.1 port={port} qos-dscp=0"),
        FLOAT_STEREO,
    );
    assert!(other.line.refuses(gst::State::Ready));
    let (_, text) = other.messages().error();
    assert!(text.contains("qos-dscp"), "{text}");
}

#[test]
fn nobody_captures_here_without_the_grant() {
    let (here, there) = (Device::new(), Device::new());
    trust_with(&here, &there, "\"play-to-me\"");
    trust_with(&there, &here, "\"play-to-me\"");
    let microphone = server(&here, 0, 1000, "");
    let spy = calling(&there, port_of(&microphone), "");
    let (error, text) = spy.messages().error();
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{error:?}");
    assert!(text.contains("--may capture-from-me"), "{text}");
    let list = microphone.stats().get::<gst::List>("receivers").unwrap();
    assert!(list.is_empty());
    microphone.messages().no_error();
}

#[test]
fn a_listener_in_the_other_mode_is_waited_for_and_said_to_have_nothing() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let other = calling(&device, receiver.port(), "");
    let text = other.messages().warning();
    assert!(text.contains("mode=listener"), "{text}");
}

#[test]
fn each_stream_is_a_child_whose_volume_turns_and_stays_when_its_sender_comes_back() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = |name: &str, hz| {
        let link = format!("stream-name={name} link=child-{name}");
        let sender = Sender::build(&device, receiver.port(), hz, &link);
        sender.line.set(gst::State::Playing);
        sender
    };
    let a = sender("a", 600);
    let _b = sender("b", 1300);
    receiver.tape.heard("both", |b| amplitude(b, 600.0) > 0.15 && amplitude(b, 1300.0) > 0.15);
    let proxy = receiver.src.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
    assert_eq!(proxy.children_count(), 2);
    let child = proxy.child_by_name("a").unwrap();
    assert_eq!(child.property::<String>("peer"), device.key.recipient());
    child.set_property("volume", 0.25);
    receiver.tape.rewind();
    let quarter = |level: f64| (0.045..0.055).contains(&level);
    receiver
        .tape
        .heard("a at a quarter", |b| quarter(amplitude(b, 600.0)) && amplitude(b, 1300.0) > 0.19);
    proxy.set_child_property("b::mute", true.to_value());
    receiver.tape.rewind();
    receiver.tape.heard("b muted", |b| quarter(amplitude(b, 600.0)) && amplitude(b, 1300.0) < 1e-3);
    let stats = child.property::<gst::Structure>("stats");
    assert!(count(&stats, "played") > 0);
    drop(a);
    receiver.messages().element("stream-removed");
    until("child gone", || (proxy.children_count() == 1).then_some(()));
    let _a = sender("a", 600);
    receiver.tape.rewind();
    receiver.tape.heard("a at a quarter again", |b| quarter(amplitude(b, 600.0)));
}

#[test]
fn carrier_tcp_needs_no_udp_at_all() {
    let device = Device::new();
    let receiver = listening(&device, 0, "carrier=tcp");
    assert_eq!(receiver.count("audio-port"), 0);
    let sender = Sender::build(&device, receiver.port(), 1000, "carrier=tcp");
    sender.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let route = sender.messages().element("route-changed");
    assert_eq!(route.get::<&str>("route"), Ok("tcp"));
    assert_eq!(route.get::<&str>("reason"), Ok("carrier=tcp"));
    assert_eq!(sender.stats().get::<&str>("route"), Ok("tcp"));
}

#[test]
fn one_end_on_carrier_tcp_is_enough() {
    let device = Device::new();
    let receiver = listening(&device, 0, "carrier=tcp");
    let sender = Sender::start(&device, receiver.port(), 1000);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    assert_eq!(sender.stats().get::<&str>("route"), Ok("tcp"));

    let receiver = listening(&device, 0, "");
    let sender = Sender::build(&device, receiver.port(), 1000, "carrier=tcp");
    sender.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    assert_eq!(sender.stats().get::<&str>("route"), Ok("tcp"));
}

#[test]
fn no_more_callers_than_max_sessions_come_in() {
    let device = Device::new();
    let receiver = listening(&device, 0, "max-sessions=1");
    let _first = Sender::start(&device, receiver.port(), 1000);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let second = Sender::build(&device, receiver.port(), 1000, "link=full");
    second.line.set(gst::State::Playing);
    second.messages().element("peer-lost");
    // Until its goodbye is written, the receiver counts the second one, too.
    until("the first alone", || (receiver.count("peers") == 1).then_some(()));
    assert!(receiver.count("callers-busy") >= 1);
}

#[test]
fn callers_from_elsewhere_than_allowed_do_not_get_in() {
    let device = Device::new();
    let receiver = listening(&device, 0, "allow=\"10.0.0.0/8,127.0.0.9\"");
    let sender = Sender::start(&device, receiver.port(), 1000);
    sender.messages().warning();
    assert_eq!(receiver.count("peers"), 0);
    assert!(receiver.count("callers-not-allowed") >= 1);
    let allowed =
        Sender::build(&device, receiver.port(), 1000, "bind-address=127.0.0.9 link=allowed");
    allowed.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let other = Receiver::build(&device, "allow=\"10.0.0.0/99\"", FLOAT_STEREO);
    assert!(other.line.refuses(gst::State::Ready));
    let (_, text) = other.messages().error();
    assert!(text.contains("10.0.0.0/99"), "{text}");
}

#[test]
fn taking_trust_back_ends_the_session_within_seconds() {
    let (here, there) = (Device::new(), Device::new());
    here.trust(&[&there]);
    there.trust(&[&here]);
    let receiver = Receiver::start(&here);
    let sender = Sender::start(&there, receiver.port(), 1000);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    here.trust(&[]);
    let (error, text) = sender.messages().error();
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{error:?}");
    assert!(text.contains("does not trust this device"), "{text}");
    until("no peer", || (receiver.count("peers") == 0).then_some(()));
    receiver.messages().element("stream-removed");
}

#[test]
fn a_uri_makes_a_receiver_call() {
    let device = Device::new();
    let server = server(&device, 0, 1000, "stream-name=mic");
    let line =
        Line::parse(&format!("velinsrc name=src {} ! {FLOAT_STEREO} ! fakesink", device.files()));
    let src = line.element("src").dynamic_cast::<gst::URIHandler>().unwrap();
    let uri = format!("velin://127.0.0.1:{}/mic?mode=caller", port_of(&server));
    src.set_uri(&uri).unwrap();
    assert_eq!(src.uri().unwrap(), uri);
    line.set(gst::State::Playing);
    let added = line.messages.wait("stream-added", |m| element(m, "velin/stream-added"));
    assert_eq!(added.get::<&str>("stream"), Ok("mic"));
}
