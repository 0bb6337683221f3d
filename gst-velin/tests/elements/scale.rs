//! Many: callers, receivers, clocks, devices that come back, strangers at the door.
//!
//! The two sides are processes of their own, so that threads can be counted and processes stopped.
//! The streams are light (8 kHz, 50 packets a second): what counts here is how many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::process::Process;
use crate::support::{Device, FLOAT_STEREO, Receiver, Sender, amplitude, count, until};

/// 320 bytes of samples every 20 ms.
const LIGHT: &str = "audio/x-raw,format=S16LE,rate=8000,channels=1,layout=interleaved";
const LIGHT_SOURCE: &str = "audiotestsrc is-live=true samplesperbuffer=160 volume=0.005";
const PACKET: &str = "packet-time=20000000";

/// Where blocks that came are never too late.
const PATIENT: &str = "profile=fixed latency=1000 output-period=20000000";

/// One of these tests at a time: together they would measure each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `n` devices that all trust `here`, as it trusts them.
fn friends(here: &Device, n: usize) -> Vec<Device> {
    let friends: Vec<_> = (0..n).map(|_| Device::new()).collect();
    here.trust(&friends.iter().collect::<Vec<_>>());
    friends.iter().for_each(|f| f.trust(&[here]));
    friends
}

fn listening(device: &Device, properties: &str) -> String {
    format!(
        "velinsrc name=src bind-address=127.0.0.1 {PATIENT} {properties} {} ! {LIGHT} ! \
         fakesink sync=false",
        device.files()
    )
}

/// One sender for each device: `s0` and so on.
fn senders(devices: &[Device], from: usize, port: u32) -> String {
    let sender = |(i, device): (usize, &Device)| {
        let i = from + i;
        format!(
            "{LIGHT_SOURCE} ! {LIGHT} ! velinsink name=s{i} stream-name=s{i} link=s{i} {PACKET} \
             host=127.0.0.1 port={port} {} ",
            device.files()
        )
    };
    devices.iter().enumerate().map(sender).collect()
}

fn list(stats: &gst::Structure, field: &str) -> Vec<gst::Structure> {
    let list = stats.get::<gst::List>(field).unwrap_or_else(|_| panic!("no {field} in {stats}"));
    list.iter().map(|s| s.get::<gst::Structure>().unwrap()).collect()
}

/// The streams that a `velinsrc` plays, by name.
fn streams(process: &mut Process) -> BTreeMap<String, gst::Structure> {
    let streams = list(&process.stats("src"), "streams");
    streams.into_iter().map(|s| (s.get::<String>("name").unwrap(), s)).collect()
}

/// What a `velinsink` sent to each receiver, by key. Without what it dropped itself before UDP
/// answered: on a busy machine packets grow too old while they wait for TCP, and that is counted.
fn sent(process: &mut Process, element: &str) -> BTreeMap<String, (u64, u64)> {
    let one = |r: gst::Structure| {
        let dropped = count(&r, "tcp-packets-dropped");
        let sent = count(&r, "packets-sent") - count(&r, "resent") - dropped;
        (r.get::<String>("peer").unwrap(), (sent, dropped))
    };
    list(&process.stats(element), "receivers").into_iter().map(one).collect()
}

/// 128 callers, each with a session and keys of its own, and no thread that belongs to any of them.
#[test]
fn of_128_callers_every_stream_comes_whole_and_none_needs_a_thread() {
    const N: usize = 128;
    let _alone = alone();
    let here = Device::new();
    let devices = friends(&here, N);
    let mut receiver = Process::play(&listening(&here, "port=0 audio-port=0"));
    let port = receiver.port("src");
    let mut first = Process::play(&senders(&devices[..1], 0, port));
    receiver.streams("src", 1);
    let threads = |p: &Process| {
        let link = p.threads(Some("velin-link"));
        (p.threads(Some("velin-receive")), p.threads(None) - link)
    };
    let with_one = threads(&receiver);
    let mut others = Process::play(&senders(&devices[1..], 1, port));
    let ms = receiver.streams("src", N);
    println!("{N} streams {ms} ms after the receiver's start");
    assert_eq!(threads(&receiver), with_one);
    assert_eq!(with_one.0, 1);
    // One that drives all links, and up to four that wait for the disk.
    assert!(receiver.threads(Some("velin-link")) <= 5);

    // Three seconds of each; then the senders are quiet and every packet has time to arrive.
    until("enough", || {
        let streams = streams(&mut receiver);
        streams.values().all(|s| count(s, "blocks") >= 150).then_some(())
    });
    first.set("paused");
    others.set("paused");
    let sent: BTreeMap<_, _> = (0..N)
        .map(|i| {
            let name = format!("s{i}");
            let sent = sent(if i == 0 { &mut first } else { &mut others }, &name);
            (name, sent[&here.key.recipient()])
        })
        .collect();
    let came = |receiver: &mut Process| -> BTreeMap<String, u64> {
        streams(receiver).into_iter().map(|(name, s)| (name, count(&s, "blocks"))).collect()
    };
    let all: BTreeMap<_, _> = sent.iter().map(|(name, (n, _))| (name.clone(), *n)).collect();
    let deadline = Instant::now() + Duration::from_secs(2);
    while came(&mut receiver) != all && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    for (name, stats) in streams(&mut receiver) {
        let (sent, dropped) = sent[&name];
        assert_eq!(count(&stats, "blocks"), sent, "{name}, {dropped} dropped: {stats}");
        assert!(count(&stats, "lost") <= dropped, "{name}, {dropped} dropped: {stats}");
        // On the way from TCP to UDP one may overtake another.
        assert_eq!(count(&stats, "malformed"), 0, "{name}");
        // On a busy machine a packet may be asked for that was only late.
        assert!(count(&stats, "duplicate") <= 2 * count(&stats, "asked"), "{name}: {stats}");
        assert!(count(&stats, "received") > 0, "{name} is not played");
    }
    let keys: BTreeSet<_> =
        streams(&mut receiver).values().map(|s| s.get::<String>("peer").unwrap()).collect();
    assert_eq!(keys, devices.iter().map(|d| d.key.recipient()).collect());
    let stats = receiver.stats("src");
    for counter in
        ["packets-forged", "packets-unknown", "packets-unknown-stream", "callers-refused"]
    {
        assert_eq!(count(&stats, counter), 0, "{counter}");
    }
    assert_eq!(count(&stats, "peers"), N as u64);
    receiver.no_error();
    others.no_error();
}

/// One receiver for each device: `r0` and so on.
fn receivers(devices: &[Device], port: u32, properties: &str) -> String {
    let receiver = |(i, device): (usize, &Device)| {
        format!(
            "velinsrc name=r{i} link=r{i} mode=caller host=127.0.0.1 port={port} {PATIENT} \
             {properties} {} ! {LIGHT} ! fakesink sync=false ",
            device.files()
        )
    };
    devices.iter().enumerate().map(receiver).collect()
}

/// 64 receivers of one sender, while two more stop reading: one that hears by UDP, one by TCP.
#[test]
fn of_64_receivers_every_one_hears_all_while_others_do_not_read() {
    const N: usize = 64;
    let _alone = alone();
    let here = Device::new();
    let devices = friends(&here, N + 2);
    let grants: String = devices
        .iter()
        .map(|d| {
            let key = d.key.recipient();
            format!("[[peer]]\nrecipient = \"{key}\"\nmay = [\"capture-from-me\"]\n")
        })
        .collect();
    fs::write(here.trust_file(), format!("version = 1\n{grants}")).unwrap();
    let mut sender = Process::play(&format!(
        "{LIGHT_SOURCE} ! {LIGHT} ! velinsink name=sink mode=listener bind-address=127.0.0.1 \
         port=0 audio-port=0 {PACKET} {}",
        here.files()
    ));
    let port = sender.port("sink");
    let mut many = Process::play(&receivers(&devices[..N], port, ""));
    let mut frozen = [
        Process::play(&receivers(&devices[N..N + 1], port, "")),
        Process::play(&receivers(&devices[N + 1..], port, "carrier=tcp")),
    ];
    until("all receivers", || {
        (list(&sender.stats("sink"), "receivers").len() == N + 2).then_some(())
    });
    for process in &mut frozen {
        process.streams("r0", 1);
        process.freeze();
    }
    let before = sent(&mut sender, "sink");
    until("three seconds more", || {
        let now = sent(&mut sender, "sink");
        let more = |d: &Device| now[&d.key.recipient()].0 >= before[&d.key.recipient()].0 + 150;
        devices[..N].iter().all(more).then_some(())
    });
    sender.set("paused");
    let sent = sent(&mut sender, "sink");
    for (i, device) in devices[..N].iter().enumerate() {
        let (sent, dropped) = sent[&device.key.recipient()];
        let came = |many: &mut Process| count(&many.stats(&format!("r{i}")), "blocks");
        let deadline = Instant::now() + Duration::from_secs(2);
        while came(&mut many) != sent && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let stats = many.stats(&format!("r{i}"));
        assert_eq!(count(&stats, "blocks"), sent, "r{i}, {dropped} dropped: {stats}");
        assert!(count(&stats, "lost") <= dropped, "r{i}, {dropped} dropped: {stats}");
    }
    frozen.iter().for_each(Process::thaw);
    sender.set("playing");
    for process in &mut frozen {
        let before = count(&process.stats("r0"), "blocks");
        until("sound again", || {
            (count(&process.stats("r0"), "blocks") > before + 50).then_some(())
        });
        process.no_error();
    }
    many.no_error();
    sender.no_error();
}

#[test]
fn four_receivers_share_a_port_each_on_a_clock_and_at_a_rate_of_its_own() {
    let _alone = alone();
    let device = Device::new();
    let tones = [500_u32, 900, 1700, 2900];
    let rates = [48_000_u32, 44_100, 96_000, 8_000];
    // Parts per million that a clock is fast.
    let speeds = [0_i64, 300, -300, 1000];
    let mut port = 0;
    let mut receivers = Vec::new();
    for i in 0..4 {
        let caps = format!("audio/x-raw,format=F32LE,rate={},channels=2", rates[i]);
        // The first takes any port, under a name by which the others share it.
        let properties =
            format!("bind-address=127.0.0.1 link=clocks profile=fixed latency=100 streams=tone{i}");
        let receiver = Receiver::build(&device, &properties, &caps);
        receiver.line.pipeline.use_clock(Some(&clock(speeds[i])));
        receiver.line.set(gst::State::Playing);
        receiver.line.messages.element("listening");
        port = receiver.port();
        receivers.push(receiver);
    }
    assert!(receivers.iter().all(|r| r.port() == port));
    let _senders: Vec<_> = (0..4)
        .map(|i| {
            let properties = format!("stream-name=tone{i} link=clock{i}");
            let sender = Sender::build(&device, port, tones[i], &properties);
            sender.line.set(gst::State::Playing);
            sender
        })
        .collect();
    for (i, receiver) in receivers.iter().enumerate() {
        // As if it were at 48 kHz.
        let level = |samples: &[f32], j: usize| {
            amplitude(samples, f64::from(tones[j]) * 48_000.0 / f64::from(rates[i]))
        };
        receiver.tape.heard(&format!("{} Hz alone", tones[i]), |samples| {
            level(samples, i) > 0.15 && (0..4).filter(|j| *j != i).all(|j| level(samples, j) < 0.03)
        });
        receiver.messages().no_error();
    }
}

/// A clock that is `ppm` fast.
fn clock(ppm: i64) -> gst::Clock {
    let clock = gst::glib::Object::builder::<gst::SystemClock>().build().upcast::<gst::Clock>();
    let now = clock.internal_time();
    clock.set_calibration(now, now, (1_000_000 + ppm) as u64, 1_000_000);
    clock
}

#[test]
fn when_a_receiver_dies_and_starts_again_128_known_devices_are_back_at_once() {
    const N: usize = 128;
    let _alone = alone();
    let here = Device::new();
    let devices = friends(&here, N);
    let mut first = Process::play(&listening(&here, "port=0 audio-port=0"));
    let (port, audio) = (first.port("src"), count(&first.stats("src"), "audio-port"));
    let mut others = Process::play(&senders(&devices, 0, port));
    first.streams("src", N);
    drop(first);
    let mut second = Process::play(&listening(&here, &format!("port={port} audio-port={audio}")));
    let ms = second.streams("src", N);
    println!("{N} known devices are back after {ms} ms");
    assert!(ms <= 3000, "{ms} ms");
    let keys: BTreeSet<_> =
        streams(&mut second).values().map(|s| s.get::<String>("peer").unwrap()).collect();
    assert_eq!(keys, devices.iter().map(|d| d.key.recipient()).collect());
    let stats = second.stats("src");
    assert_eq!((count(&stats, "peers"), count(&stats, "callers-limited")), (N as u64, 0));
    others.no_error();
    second.no_error();
}

/// Connections that are made and held, and never say a word.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Flood {
    /// Seven a second from each of `from`.
    fn start(to: SocketAddr, from: Vec<IpAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for ip in &from {
                    let socket = socket2::Socket::new(
                        socket2::Domain::for_address(to),
                        socket2::Type::STREAM,
                        None,
                    )
                    .unwrap();
                    socket.bind(&SocketAddr::new(*ip, 0).into()).unwrap();
                    if socket.connect_timeout(&to.into(), Duration::from_secs(1)).is_ok() {
                        held.push(TcpStream::from(socket));
                    }
                }
                std::thread::sleep(Duration::from_secs(1) / 7);
            }
            held.len()
        });
        Self { stop, thread: Some(thread) }
    }

    /// How many there were.
    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// An address of this machine that others could reach, if it has one. Sends nothing.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("203.0.113.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Calls again and again for ten seconds, beside a flood; gives how long each time took.
fn calls_beside_a_flood(host: IpAddr, from: Vec<IpAddr>) -> Vec<u128> {
    let here = Device::new();
    let caller = friends(&here, 1).remove(0);
    let receiver = Receiver::playing(&here, &format!("bind-address={host}"), FLOAT_STEREO);
    let to = SocketAddr::new(host, receiver.port() as u16);
    let flood = Flood::start(to, from);
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < Duration::from_secs(10) {
        let sender =
            Sender::build(&caller, receiver.port(), 1000, &format!("host={host} link=honest"));
        let called = Instant::now();
        sender.line.set(gst::State::Playing);
        until("a session beside the flood", || {
            let state = sender.stats().get::<String>("session-state").unwrap();
            (state == "streaming").then_some(())
        });
        times.push(called.elapsed().as_millis());
        sender.messages().no_error();
        drop(sender);
        std::thread::park_timeout(Duration::from_millis(500));
    }
    let strangers = flood.end();
    assert!(strangers >= 50, "only {strangers} came");
    receiver.messages().no_error();
    times.sort_unstable();
    times
}

#[test]
fn an_honest_caller_gets_in_beside_strangers_who_say_nothing() {
    let _alone = alone();
    let loopback = |n| IpAddr::from([127, 0, 0, n]);
    let mut runs = vec![(loopback(1), vec![loopback(1), loopback(9)])];
    // From other addresses a stranger has fewer rights than from this machine.
    runs.extend(outer_address().map(|ip| (ip, vec![ip])));
    for (host, from) in runs {
        let times = calls_beside_a_flood(host, from);
        println!("in at {host} after {times:?} ms");
        // The middle one: the machine may have been busy at times.
        assert!(times[times.len() / 2] <= 500, "{times:?}");
    }
}
