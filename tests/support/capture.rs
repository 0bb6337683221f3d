//! What somebody sees who sits on the wire: every packet of an interface, recorded by a packet socket.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::launch::SOON;
use crate::proc::{Process, run};

/// Whether this machine lets us record packets, or why not.
///
/// # Errors
/// The reason, for [`crate::skipped`].
pub fn available() -> Result<(), String> {
    let probe = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)";
    run(python(&[probe]), SOON).map(drop).map_err(|e| format!("cannot record packets: {e}"))
}

/// A recording that goes on until it is dropped.
#[derive(Debug)]
pub struct Capture {
    _process: Process,
    file: PathBuf,
    _folder: TempDir,
}

/// One packet, as far as the transport goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// What the transport carries; may be empty for TCP.
    pub payload: Vec<u8>,
}

/// The transports that Velin uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// With the sequence number of the payload's first byte.
    Tcp(u32),
    /// One datagram.
    Udp,
}

impl Capture {
    /// Records what passes through `interface`, by way of `place` (a namespace, or nothing); returns
    /// when it does.
    ///
    /// # Errors
    /// It cannot; the text says why.
    pub fn start(interface: &str, place: impl FnOnce(&Command) -> Command) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = folder.path().join("packets");
        let command = python(&[SCRIPT, interface, &file.display().to_string()]);
        let process = Process::spawn(place(&command)).map_err(|e| e.to_string())?;
        process.wait_for_line("recording", SOON).map_err(|e| e.to_string())?;
        Ok(Self { _process: process, file, _folder: folder })
    }

    /// The TCP and UDP packets until now, in order.
    ///
    /// # Panics
    /// The recording cannot be read.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        let bytes = fs::read(&self.file).expect("the recording exists since the start");
        let mut rest = bytes.as_slice();
        let mut packets = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*head) as usize;
            // The last one may be half written.
            let Some(frame) = tail.get(..length) else { break };
            packets.extend(parse(frame));
            rest = &tail[length..];
        }
        packets
    }
}

/// The bytes of the TCP connections to `port`, put together as the listener read them, one connection
/// after the other.
#[must_use]
pub fn streams_to(port: u16, packets: &[Packet]) -> Vec<Vec<u8>> {
    let mut callers: Vec<u16> = Vec::new();
    for packet in packets.iter().filter(|p| p.to == port && is_tcp(p)) {
        if !callers.contains(&packet.from) {
            callers.push(packet.from);
        }
    }
    let of = |caller: u16| {
        let mut bytes = Vec::new();
        let mut next: Option<u32> = None;
        for packet in packets.iter().filter(|p| p.to == port && p.from == caller) {
            let Protocol::Tcp(sequence) = packet.protocol else { continue };
            if packet.payload.is_empty() {
                continue;
            }
            let due = *next.get_or_insert(sequence);
            // What was sent twice is skipped; nothing overtakes on a virtual wire.
            let known = due.wrapping_sub(sequence) as usize;
            if let Some(new) = packet.payload.get(known..) {
                bytes.extend_from_slice(new);
                next = Some(due.wrapping_add(new.len() as u32));
            }
        }
        bytes
    };
    callers.into_iter().map(of).collect()
}

fn is_tcp(packet: &Packet) -> bool {
    matches!(packet.protocol, Protocol::Tcp(_))
}

/// Ethernet with IPv4 or IPv6 (no extension headers: nobody uses them here) and TCP or UDP.
fn parse(frame: &[u8]) -> Option<Packet> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let ip = frame.get(14..)?;
    let (next, header, length) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            (*ip.get(9)?, usize::from(ip[0] & 15) * 4, usize::from(be16(ip.get(2..4)?)))
        }
        [0x86, 0xdd] => (*ip.get(6)?, 40, 40 + usize::from(be16(ip.get(4..6)?))),
        _ => return None,
    };
    // A short frame is padded; a segment too long for its length field has zero there.
    let end = if length == 0 { ip.len() } else { length };
    let transport = ip.get(header..end)?;
    let (from, to) = (be16(transport.get(..2)?), be16(transport.get(2..4)?));
    let (protocol, header) = match next {
        TCP => {
            let sequence = transport.get(4..8)?.try_into().ok()?;
            let header = usize::from(*transport.get(12)? >> 4) * 4;
            (Protocol::Tcp(u32::from_be_bytes(sequence)), header)
        }
        UDP => (Protocol::Udp, 8),
        _ => return None,
    };
    Some(Packet { protocol, from, to, payload: transport.get(header..)?.to_vec() })
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").args(arguments);
    command
}

/// Writes each packet after its length. Over loopback a packet passes twice: it is taken as it leaves.
const SCRIPT: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE: lose nothing
s.bind((sys.argv[1], 0))
with open(sys.argv[2], "wb", buffering=0) as f:
    print("recording", flush=True)
    while True:
        frame, address = s.recvfrom(1 << 17)
        if sys.argv[1] == "lo" and address[2] != socket.PACKET_OUTGOING:
            continue
        f.write(struct.pack("<I", len(frame)) + frame)
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn datagrams_and_streams_are_recorded_byte_by_byte() {
        if crate::skipped(available()) {
            return;
        }
        let capture = Capture::start("lo", |c| {
            let mut same = Command::new(c.get_program());
            same.args(c.get_args());
            same
        })
        .unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp = receiver.local_addr().unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"a datagram", udp).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = listener.local_addr().unwrap();
        let mut stream = TcpStream::connect(tcp).unwrap();
        for part in [&b"one "[..], b"two ", b"three"] {
            stream.write_all(part).unwrap();
        }

        let seen = || {
            let packets = capture.packets();
            let datagram = packets.iter().any(|p| p.to == udp.port() && p.payload == b"a datagram");
            datagram && streams_to(tcp.port(), &packets) == [b"one two three"]
        };
        assert!(crate::proc::wait_until(SOON, seen), "{:?}", capture.packets());
    }
}
