//! Who and what is turned away, and what the user reads then.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

#[cfg(unix)]
use crate::support::set_mode;
use crate::support::{Device, FLOAT_STEREO, Line, Receiver, Sender, element, rms, until};

/// A receiver's and a sender's device.
fn strangers() -> (Device, Device) {
    (Device::new(), Device::new())
}

fn not_authorized(sender: &Sender) -> String {
    let (error, text) = sender.messages().error();
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{error:?}");
    text
}

#[test]
fn an_unknown_caller_is_told_the_command_and_so_is_the_listener_at_most_once_in_ten_seconds() {
    let (here, there) = strangers();
    there.trust(&[&here]);
    let receiver = Receiver::start(&here);
    let command = format!("velin-pipe trust add {}", there.key.recipient());
    for refused in 1..=3 {
        let sender = Sender::start(&there, receiver.port(), 500);
        let text = not_authorized(&sender);
        assert!(text.contains(&command) && text.contains("Run there"), "{text}");
        until("the refusal counted", || {
            (receiver.count("callers-refused") == refused).then_some(())
        });
    }
    let message = receiver.messages().element("caller-refused");
    assert_eq!(message.get::<String>("peer").unwrap(), there.key.recipient());
    assert!(message.get::<String>("reason").unwrap().contains(&command));
    assert!(message.get::<String>("address").unwrap().starts_with("127.0.0.1:"));
    assert!(receiver.messages().warning().contains(&command));
    let told = |m: &gst::Message| element(m, "velin/caller-refused").is_some();
    assert_eq!(receiver.messages().count(told), 1);
    receiver.messages().no_error();
}

#[test]
fn a_caller_that_does_not_trust_the_listener_stops_and_does_not_say_who_it_is() {
    let (here, there) = strangers();
    here.trust(&[&there]);
    let receiver = Receiver::start(&here);
    let sender = Sender::start(&there, receiver.port(), 500);
    let text = not_authorized(&sender);
    let command = format!("run here: velin-pipe trust add {}", here.key.recipient());
    assert!(text.contains(&command), "{text}");
    let message = receiver.messages().element("caller-refused");
    assert!(!message.has_field("peer"), "{message:?}");
}

#[test]
fn another_device_than_the_one_asked_for_learns_nothing_and_the_user_reads_whom_to_check() {
    let (here, there) = strangers();
    let asked = Device::new();
    here.trust(&[&there]);
    there.trust(&[&here, &asked]);
    let receiver = Receiver::start(&here);
    let peer = format!("peer={}", asked.key.recipient());
    let sender = Sender::build(&there, receiver.port(), 500, &peer);
    sender.line.set(gst::State::Playing);
    let (error, text) = sender.messages().error();
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{text}");
    for key in [&asked.key, &here.key] {
        assert!(text.contains(&key.recipient()), "{text}");
    }
    let refused = receiver.messages().element("caller-refused");
    assert!(!refused.has_field("peer"), "{refused:?}");
    assert_eq!(receiver.count("peers"), 0);
    drop(sender);
    let peer = format!("peer={}", here.key.recipient());
    let sender = Sender::build(&there, receiver.port(), 500, &peer);
    sender.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
}

#[test]
fn the_right_peer_needs_no_entry_in_the_trust_file() {
    let (here, there) = strangers();
    here.trust(&[&there]);
    let receiver = Receiver::start(&here);
    let peer = format!("peer={}", here.key.recipient());
    let sender = Sender::build(&there, receiver.port(), 500, &peer);
    sender.line.set(gst::State::Playing);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
}

#[test]
fn a_receiver_whose_key_changed_is_refused() {
    let (here, there) = strangers();
    let impostor = Device::new();
    here.trust(&[&there]);
    impostor.trust(&[&there]);
    there.trust(&[&here]);
    let receiver = Receiver::start(&here);
    let ports = format!("port={} audio-port={}", receiver.port(), receiver.count("audio-port"));
    let sender = Sender::start(&there, receiver.port(), 500);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    drop(receiver);
    let other = Receiver::playing(&impostor, &ports, FLOAT_STEREO);
    let text = not_authorized(&sender);
    assert!(text.contains(&impostor.key.recipient()), "{text}");
    assert_eq!(other.count("peers"), 0);
}

#[test]
fn a_caller_that_may_not_play_reads_the_command_that_lets_it() {
    let (here, there) = strangers();
    there.trust(&[&here]);
    let entry = format!(
        "[[peer]]\nrecipient = \"{}\"\nname = \"there\"\nmay = [\"capture-from-me\"]\n",
        there.key.recipient()
    );
    fs::write(here.trust_file(), format!("version = 1\n\n{entry}")).unwrap();
    let receiver = Receiver::start(&here);
    let sender = Sender::start(&there, receiver.port(), 500);
    let text = not_authorized(&sender);
    let command = format!("velin-pipe trust add {} --may play-to-me", there.key.recipient());
    assert!(text.contains(&command), "{text}");
}

/// An address of this machine that others can reach, if there is one.
fn outer_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing, it only chooses the way (RFC 5737 address).
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("198.51.100.7", 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn a_copied_key_is_refused_as_soon_as_the_host_is_not_this_machine() {
    let Some(host) = outer_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let sender = Sender::build(&device, receiver.port(), 500, &format!("host={host}"));
    sender.line.set(gst::State::Playing);
    let text = not_authorized(&sender);
    assert!(text.contains("own key") && text.contains("identity"), "{text}");
}

// Access lists: see src/link/store/strict/windows.rs.
#[cfg(unix)]
#[test]
fn files_that_others_can_change_are_refused_with_the_command() {
    let device = Device::new();
    for mode in [0o620, 0o602, 0o666] {
        set_mode(&device.trust_file(), mode);
        let sender = Sender::build(&device, 9, 500, "");
        assert!(sender.line.refuses(gst::State::Playing));
        let receiver = Receiver::build(&device, "", FLOAT_STEREO);
        assert!(receiver.line.refuses(gst::State::Playing));
        for messages in [sender.messages(), receiver.messages()] {
            let (error, text) = messages.error();
            assert!(error.matches(gst::ResourceError::OpenRead), "{error:?}");
            let command = format!("chmod go-w {}", device.trust_file());
            assert!(text.contains(&command), "{text}");
            assert_eq!(messages.count(|m| m.type_() == gst::MessageType::Error), 1);
        }
    }
}

#[cfg(unix)]
#[test]
fn an_identity_that_others_can_read_is_refused_with_the_command() {
    let device = Device::new();
    set_mode(&device.identity_file(), 0o644);
    let sender = Sender::build(&device, 9, 500, "");
    assert!(sender.line.refuses(gst::State::Playing));
    let (_, text) = sender.messages().error();
    assert!(text.contains(&format!("chmod 600 {}", device.identity_file())), "{text}");
}

#[test]
fn a_missing_trust_file_and_a_place_that_takes_no_identity_are_errors_that_name_the_property() {
    crate::support::init();
    // Not even root, or an administrator, makes a folder there.
    let nowhere = if cfg!(windows) { "Q:/none" } else { "/proc/none" };
    let properties = format!("identity-file={nowhere}/identity.txt");
    for part in ["identity-file", "trust-file"] {
        let line = Line::parse(&format!("audiotestsrc ! velinsink {properties}"));
        assert!(line.refuses(gst::State::Playing));
        assert!(line.messages.error().1.contains(part));
        let line = Line::parse(&format!("velinsrc port=0 audio-port=0 {properties} ! fakesink"));
        assert!(line.refuses(gst::State::Playing));
        assert!(line.messages.error().1.contains(part));
    }
    let device = Device::new();
    fs::remove_file(device.trust_file()).unwrap();
    let sender = Sender::build(&device, 9, 500, "");
    assert!(sender.line.refuses(gst::State::Playing));
    let text = sender.messages().error().1;
    assert!(text.contains(&device.trust_file()), "{text}");
}

const WITHOUT_HOME: &str = "VELIN_TEST_WITHOUT_HOME";

#[test]
fn without_a_home_one_error_names_both_properties() {
    if std::env::var_os(WITHOUT_HOME).is_none() {
        let name = "refusals::without_a_home_one_error_names_both_properties";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([name, "--exact", "--nocapture"]).env(WITHOUT_HOME, "1");
        // Empty is more than missing: the user database knows a home, too.
        for variable in
            ["HOME", "XDG_CONFIG_HOME", "APPDATA", "VELIN_CONFIG_DIR", "CREDENTIALS_DIRECTORY"]
        {
            child.env(variable, "");
        }
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    for line in ["audiotestsrc ! velinsink", "velinsrc port=0 audio-port=0 ! fakesink"] {
        let line = Line::parse(line);
        assert!(line.refuses(gst::State::Playing));
        let (_, text) = line.messages.error();
        assert!(text.contains("identity-file") && text.contains("trust-file"), "{text}");
        assert_eq!(line.messages.count(|m| m.type_() == gst::MessageType::Error), 1);
    }
}

#[test]
fn a_taken_port_is_named_with_its_property() {
    let device = Device::new();
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let holder = Receiver::start(&device);
    assert_ne!(u32::from(tcp), holder.port());
    let audio = holder.count("audio-port");
    for (properties, parts) in [
        (
            format!("port={}", holder.port()),
            [format!("TCP port {}", holder.port()), "port=".into()],
        ),
        (format!("audio-port={audio}"), [format!("UDP port {audio}"), "audio-port=".into()]),
    ] {
        let receiver = Receiver::build(&device, &properties, FLOAT_STEREO);
        assert!(receiver.line.refuses(gst::State::Playing));
        let (error, text) = receiver.messages().error();
        assert!(error.matches(gst::ResourceError::Busy), "{error:?}");
        assert!(parts.iter().all(|p| text.contains(p)), "{text}");
    }
    let sender = Sender::build(&device, holder.port(), 500, &format!("audio-port={audio}"));
    sender.line.set(gst::State::Playing);
    let text = sender.messages().warning();
    assert!(text.contains(&format!("UDP port {audio}")) && text.contains("audio-port="), "{text}");
}

#[test]
fn an_outage_is_one_warning_with_the_next_step_and_progress_for_every_attempt() {
    let device = Device::new();
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let sender = Sender::start(&device, port.into(), 500);
    let text = sender.messages().warning();
    assert!(text.contains(&format!("nothing listens at 127.0.0.1:{port}")), "{text}");
    assert!(text.contains("start the receiver"), "{text}");
    let mut attempts = 0;
    sender.messages().wait("four attempts", |m| {
        if let gst::MessageView::Progress(p) = m.view() {
            let (kind, code, text) = p.get();
            assert_eq!(code, "connect");
            assert_ne!(kind, gst::ProgressType::Error);
            if text.contains("Trying again in") {
                // gst-launch-1.0 waits in PAUSED until what began has ended.
                assert_eq!(kind == gst::ProgressType::Canceled, attempts == 0);
                attempts += 1;
            }
        }
        (attempts == 4).then_some(())
    });
    assert_eq!(sender.messages().warnings(), 1);
    sender.messages().no_error();
    // The outage ends as soon as somebody listens.
    let receiver = Receiver::playing(&device, &format!("port={port}"), FLOAT_STEREO);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
}

#[test]
fn names_and_addresses_that_lead_nowhere_say_so() {
    let device = Device::new();
    for (properties, part) in [
        ("host=no-such-host.invalid", "the name \"no-such-host.invalid\" does not resolve"),
        ("bind-address=198.51.100.7", "cannot send from bind-address 198.51.100.7"),
    ] {
        let sender = Sender::build(&device, 9, 500, properties);
        sender.line.set(gst::State::Playing);
        let text = sender.messages().warning();
        assert!(text.contains(part), "{text}");
    }
    let receiver = Receiver::build(&device, "bind-address=198.51.100.7", FLOAT_STEREO);
    assert!(receiver.line.refuses(gst::State::Ready));
    let text = receiver.messages().error().1;
    assert!(text.contains("198.51.100.7 is not an address of this machine"), "{text}");
}

#[test]
fn settings_that_mean_nothing_are_errors_before_anything_starts() {
    let device = Device::new();
    for (properties, part) in [
        ("bind-address=nonsense", "bind-address \"nonsense\" is no IP address"),
        ("peer=nonsense", "peer: "),
        ("peer=age1qqqqqqqq", "peer: "),
    ] {
        let sender = Sender::build(&device, 9, 500, properties);
        assert!(sender.line.refuses(gst::State::Playing));
        let (error, text) = sender.messages().error();
        assert!(error.matches(gst::ResourceError::Settings), "{error:?}");
        assert!(text.contains(part), "{text}");
    }
    let receiver = Receiver::build(&device, "bind-address=nonsense", FLOAT_STEREO);
    assert!(receiver.line.refuses(gst::State::Ready));
    assert!(receiver.messages().error().1.contains("is no IP address"));
}

/// A connection that says `bytes` and waits until it is thrown out.
fn thrown_out(port: u32, bytes: &[u8]) {
    let mut tcp = TcpStream::connect(("127.0.0.1", port as u16)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = tcp.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "still connected");
                break;
            }
        }
    }
    assert!(answer.len() < 256, "a stranger was told {} bytes", answer.len());
}

#[test]
fn what_is_not_the_protocol_is_dropped_and_counted_and_the_music_goes_on() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, "profile=fixed latency=200", FLOAT_STEREO);
    let _sender = Sender::start(&device, receiver.port(), 500);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    let stream = receiver.stats().get::<gst::List>("streams").unwrap().len();

    // What a sender of Velin 0.2 says first, with its length and as a line.
    let hello = br#"{"type":"hello","version":"0.2.1","sample_rate":48000,"channels":2}"#;
    let mut framed = (hello.len() as u32).to_be_bytes().to_vec();
    framed.extend_from_slice(hello);
    let mut line = hello.to_vec();
    line.push(b'\n');
    // Bytes that are like no protocol, in a fixed order.
    let noise: Vec<u8> =
        (0_u32..4096).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let four_gib = [0xff; 64];
    let plain_audio = [0_u8; 4000];
    let junk: [&[u8]; 6] =
        [&framed, &line, &noise, &four_gib, &plain_audio, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"];
    for (i, bytes) in junk.iter().enumerate() {
        thrown_out(receiver.port(), bytes);
        until("it is counted", || {
            (receiver.count("callers-refused") == i as u64 + 1).then_some(())
        });
    }

    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let audio = ("127.0.0.1", receiver.count("audio-port") as u16);
    let before = receiver.count("packets-unknown");
    for size in [0, 1, 7, 8, 16, 48, 1200, 2000, 9000] {
        socket.send_to(&noise[..size.min(4096)], audio).unwrap();
    }
    until("all datagrams counted", || {
        (receiver.count("packets-unknown") >= before + 9).then_some(())
    });
    assert_eq!(receiver.stats().get::<gst::List>("streams").unwrap().len(), stream);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    assert_eq!(receiver.count("packets-forged"), 0);
    receiver.messages().no_error();
}

#[test]
fn a_silent_connection_ends_after_five_seconds() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let start = Instant::now();
    thrown_out(receiver.port(), &[]);
    let held = start.elapsed();
    assert!((4..9).contains(&held.as_secs()), "{held:?}");
}

#[test]
fn three_hundred_silent_connections_do_not_keep_an_honest_sender_out() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let silent: Vec<_> = (0..300)
        .map(|_| TcpStream::connect(("127.0.0.1", receiver.port() as u16)).unwrap())
        .collect();
    let _sender = Sender::start(&device, receiver.port(), 500);
    receiver.tape.heard("sound", |b| rms(b) > 0.1);
    until("the oldest made room, or the youngest were refused", || {
        let kept_out = receiver.count("callers-evicted") + receiver.count("callers-limited");
        (kept_out >= 44).then_some(())
    });
    assert_eq!(receiver.count("peers"), 1);
    drop(silent);
    receiver.messages().no_error();
}

#[test]
fn a_receiver_with_strangers_at_its_door_gives_its_ports_back_at_once() {
    let device = Device::new();
    let receiver = Receiver::start(&device);
    let ports = format!("port={} audio-port={}", receiver.port(), receiver.count("audio-port"));
    let _silent: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(("127.0.0.1", receiver.port() as u16)).unwrap())
        .collect();
    drop(receiver);
    let next = Receiver::playing(&device, &ports, FLOAT_STEREO);
    let _sender = Sender::start(&device, next.port(), 500);
    next.tape.heard("sound", |b| rms(b) > 0.1);
}
