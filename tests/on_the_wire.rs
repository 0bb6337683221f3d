//! What somebody on the wire can see and do: nothing but sizes and times, and nothing at all.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gst::prelude::*;
use velin::audio::{Clip, compare, melody, noise};
use velin::capture::{self, Capture, Packet, Protocol, streams_to};
use velin::launch::{Device, RATE, SOON, alone, first_sound, framed, sending};
use velin::machines::Machines;
use velin::net::{self, Side};
use velin::proc::{Process, wait_until};
use velin::skipped;

const NAME: &str = "grandmothers-kitchen-radio";

#[test]
fn the_wire_shows_neither_sound_nor_keys_nor_names_and_no_large_packet() {
    if skipped(net::available().and_then(|()| capture::available())) {
        return;
    }
    let _alone = alone();
    // Format, rate, channels, and how many bytes a second of it has.
    for (format, rate, channels) in [("s16le", 96_000_u32, 2_usize), ("s24le", 48_000, 8)] {
        let machines = Machines::friends().unwrap();
        let width = if format == "s16le" { 2 } else { 3 };
        let pcm = random_bytes(rate as usize * channels * width * 3 / 2);
        let file = machines.a.folder().join("pcm");
        std::fs::write(&file, &pcm).unwrap();
        let capture = Capture::start("velin0", |c| machines.on(Side::B, c)).unwrap();

        let caps = format!("audio/x-raw,rate={rate},channels={channels}");
        let receive = machines.b.launch(&format!("velinsrc ! {caps} ! fakesink"));
        let receiver = Process::spawn(machines.on(Side::B, &receive)).unwrap();
        receiver.wait_for_line("velin/listening", SOON).unwrap();
        let send = machines.a.launch(&format!(
            "filesrc location={} ! rawaudioparse format=pcm pcm-format={format} \
             sample-rate={rate} num-channels={channels} \
             ! velinsink stream-name={NAME} host={}",
            file.display(),
            Side::B.ipv4()
        ));
        let mut sender = Process::spawn(machines.on(Side::A, &send)).unwrap();
        assert!(sender.wait(SOON).unwrap().success(), "{}", sender.output());
        receiver.wait_for_line("velin/stream-removed", SOON).unwrap();
        let said = format!("{}\n{}", sender.output(), receiver.output());
        assert!(receiver.output().contains(NAME), "the name arrives, so it was sent:\n{said}");

        let packets: Vec<Packet> = velin_packets(&capture.packets());
        let datagrams: Vec<usize> = packets
            .iter()
            .filter(|p| p.protocol == Protocol::Udp)
            .map(|p| p.payload.len())
            .collect();
        let (count, largest) = (datagrams.len(), datagrams.iter().max().copied().unwrap_or(0));
        let sent: usize = packets.iter().filter(|p| p.to >= 49_000).map(|p| p.payload.len()).sum();
        println!("{format} × {channels}: {count} datagrams, the largest {largest} bytes");
        assert!(largest <= 1200, "a datagram of {largest} bytes");
        assert!(sent > pcm.len() / 2, "only {sent} bytes were seen:\n{said}");

        let both = [&machines.a, &machines.b].map(Device::key);
        let mut secrets: Vec<Vec<u8>> = vec![NAME.into(), b"laptop".into(), b"living-room".into()];
        secrets.extend(both.iter().map(|k| k.recipient().into_bytes()));
        secrets.extend(both.iter().map(|k| k.0.to_vec()));
        secrets.push(b"velin/".into());
        let seen = seen_by_port(&packets);
        for secret in secrets {
            let found = seen.iter().any(|bytes| contains(bytes, &secret));
            assert!(!found, "{:?} went in the clear", String::from_utf8_lossy(&secret));
        }
        let pieces: HashSet<&[u8]> = pcm.chunks_exact(PIECE).collect();
        assert!(!packets.iter().any(|p| shows(&p.payload, &pieces)), "sound went in the clear");
        // Both searches do find what is there.
        assert!(shows(&[&[1, 2, 3][..], &pcm[777..777 + 2 * PIECE]].concat(), &pieces));
        assert!(contains(b"..laptop", b"laptop"));
    }
}

#[test]
fn a_recorded_session_that_is_replayed_plays_nothing_and_is_counted() {
    if skipped(capture::available()) {
        return;
    }
    let _alone = alone();
    let device = Device::new().unwrap();
    let receiver = InProcess::start(&device);
    let capture = Capture::start("lo", same).unwrap();
    let tune = melody(RATE, 2, Duration::from_secs(4));
    let wav = device.folder().join("played.wav");
    framed(&tune, Duration::from_millis(800), Duration::from_millis(300)).write_16(&wav).unwrap();
    let send = sending(&wav, &format!("host=127.0.0.1 port={}", receiver.port));
    let mut sender = Process::spawn(device.launch(&send)).unwrap();

    // While the session lives: every datagram once more, from another port.
    assert!(
        wait_until(SOON, || first_sound(&receiver.heard(), 0).is_some()),
        "{}",
        sender.output()
    );
    std::thread::sleep(Duration::from_secs(1));
    let eavesdropper = UdpSocket::bind("127.0.0.1:0").unwrap();
    let so_far = receiver.datagrams(&capture.packets());
    assert!(so_far.len() > 100, "{} datagrams", so_far.len());
    for datagram in &so_far {
        eavesdropper.send_to(&datagram.payload, receiver.udp()).unwrap();
    }
    let refused = |r: &InProcess| r.count("packets-replayed") + r.count("packets-wrong-epoch");
    let all = so_far.len() as u64;
    assert!(wait_until(SOON, || refused(&receiver) * 10 > all * 9), "{}", receiver.stats());
    println!("while it lived: {} sent again, {}", all, receiver.stats());

    // The sound was not disturbed, and goes on.
    assert!(sender.wait(SOON).unwrap().success(), "{}", sender.output());
    assert!(wait_until(SOON, || receiver.count("peers") == 0), "{}", receiver.stats());
    let result = compare(&tune, &receiver.heard()).unwrap();
    assert!(result.correlation >= 0.99 && result.gaps.is_empty(), "{result}");

    // Afterwards: the whole session again, from the port that it came from.
    std::thread::sleep(Duration::from_millis(300));
    let packets = capture.packets();
    let datagrams = receiver.datagrams(&packets);
    let streams = streams_to(receiver.port, &packets);
    assert_eq!(streams.len(), 1);
    let (unknown, callers) = (receiver.count("packets-unknown"), receiver.count("callers-refused"));
    let from = receiver.frames();

    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, receiver.port)).unwrap();
    tcp.set_read_timeout(Some(SOON)).unwrap();
    tcp.write_all(&streams[0]).unwrap();
    let source = datagrams.last().unwrap().from;
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, source)).unwrap();
    for (i, datagram) in datagrams.iter().enumerate() {
        udp.send_to(&datagram.payload, receiver.udp()).unwrap();
        if i % 50 == 49 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // The receiver hangs up on the replayed handshake.
    let _ = tcp.read_to_end(&mut Vec::new());
    let expected = unknown + datagrams.len() as u64 * 9 / 10;
    assert!(
        wait_until(SOON, || receiver.count("packets-unknown") >= expected),
        "{}",
        receiver.stats()
    );
    assert!(
        wait_until(SOON, || receiver.count("callers-refused") > callers),
        "{}",
        receiver.stats()
    );
    println!(
        "afterwards: {} datagrams and {} bytes again, {}",
        datagrams.len(),
        streams[0].len(),
        receiver.stats()
    );
    assert_eq!(receiver.count("peers"), 0);
    let until = receiver.frames() + RATE as usize / 2;
    assert!(wait_until(SOON, || receiver.frames() > until));
    assert_eq!(first_sound(&receiver.heard(), from), None, "the replayed sound was played");
}

/// A receiver in this process, whose counters can be read.
struct InProcess {
    pipeline: gst::Pipeline,
    source: gst::Element,
    file: std::path::PathBuf,
    port: u16,
}

impl InProcess {
    fn start(device: &Device) -> Self {
        gst::init().unwrap();
        gstvelin::plugin_register_static().unwrap();
        let file = device.folder().join("heard.f32");
        let pipeline = gst::parse::launch(&format!(
            "velinsrc name=source port=0 audio-port=0 identity-file={folder}/identity.txt \
             ! audio/x-raw,format=F32LE,rate={RATE},channels=2 \
             ! filesink buffer-mode=unbuffered sync=false location={}",
            file.display(),
            folder = device.folder().display(),
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let source = pipeline.by_name("source").unwrap();
        // One machine: the own key needs no trust, but a named file has to exist.
        let _ = device.key();
        let trust = device.folder().join("trust.toml");
        std::fs::write(&trust, "version = 1\n").unwrap();
        restrict(&trust);
        source.set_property("trust-file", trust.to_str().unwrap());
        pipeline.set_state(gst::State::Playing).unwrap();
        let running = || source.current_state() == gst::State::Playing;
        assert!(wait_until(SOON, running), "{:?}", pipeline.bus().and_then(|b| b.pop()));
        let port = u16::try_from(source.property::<u32>("current-port")).unwrap();
        Self { pipeline, source, file, port }
    }

    fn stats(&self) -> gst::Structure {
        self.source.property("stats")
    }

    fn count(&self, field: &str) -> u64 {
        let stats = self.stats();
        stats.get::<u64>(field).or_else(|_| stats.get::<u32>(field).map(u64::from)).unwrap()
    }

    fn udp(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, u16::try_from(self.count("audio-port")).unwrap()).into()
    }

    fn datagrams(&self, packets: &[Packet]) -> Vec<Packet> {
        let port = self.udp().port();
        let ours = |p: &&Packet| p.protocol == Protocol::Udp && p.to == port;
        packets.iter().filter(ours).cloned().collect()
    }

    fn frames(&self) -> usize {
        std::fs::metadata(&self.file).map_or(0, |meta| meta.len() as usize / 8)
    }

    fn heard(&self) -> Clip {
        let bytes = std::fs::read(&self.file).unwrap_or_default();
        let frames = bytes.chunks_exact(8).flat_map(|f| [&f[..4], &f[4..]]);
        let samples = frames.map(|s| f32::from_le_bytes(s.try_into().unwrap())).collect();
        Clip { rate: RATE, channels: 2, samples }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Long enough never to appear by chance, short enough to fit any packet twice.
const PIECE: usize = 16;

/// Whether one of the pieces stands anywhere in `bytes`.
fn shows(bytes: &[u8], pieces: &HashSet<&[u8]>) -> bool {
    bytes.windows(PIECE).any(|window| pieces.contains(window))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What goes to or comes from the default ports.
fn velin_packets(packets: &[Packet]) -> Vec<Packet> {
    let velin = |p: &&Packet| [p.from, p.to].iter().any(|port| [49_000, 49_001].contains(port));
    packets.iter().filter(velin).cloned().collect()
}

/// All that passed between the same two ports in one piece: a secret may be cut in two by packets.
fn seen_by_port(packets: &[Packet]) -> Vec<Vec<u8>> {
    let mut flows: Vec<((u16, u16), Vec<u8>)> = Vec::new();
    for packet in packets {
        let key = (packet.from, packet.to);
        match flows.iter_mut().find(|(known, _)| *known == key) {
            Some((_, bytes)) => bytes.extend_from_slice(&packet.payload),
            None => flows.push((key, packet.payload.clone())),
        }
    }
    flows.into_iter().map(|(_, bytes)| bytes).collect()
}

fn random_bytes(length: usize) -> Vec<u8> {
    let frames = Duration::from_secs_f64(length as f64 / 48_000.0);
    let noise = noise(5, 48_000, 1, frames, 1.0);
    noise.samples.iter().map(|s| (s * 8_388_608.0) as i32 as u8).collect()
}

fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn same(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same
}
