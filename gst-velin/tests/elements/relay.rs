//! A hop between a sender and a receiver that sees, drops and holds what passes.
//!
//! The receiver listens on 127.0.0.1, the sender sends from 127.0.0.3, and both believe that the
//! other is 127.0.0.2, where this listens under both their UDP ports.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::spawn;

use crate::support::{Device, Receiver, Sender};

#[derive(Default)]
pub(crate) struct Hop {
    /// No datagram passes.
    pub(crate) drop_udp: AtomicBool,
    /// Of a thousand datagrams so many do not pass.
    pub(crate) loss_permille: AtomicUsize,
    /// Until the sender connects again, nothing from the receiver reaches it, and only its
    /// datagrams reach the receiver.
    pub(crate) deaf: AtomicBool,
    /// Every datagram comes again, comes altered, and comes back to who sent it.
    pub(crate) tamper: AtomicBool,
    /// TCP connections so far.
    pub(crate) connections: AtomicUsize,
    /// The largest UDP payload, and how many there were.
    pub(crate) largest: AtomicUsize,
    pub(crate) datagrams: AtomicUsize,
    stop: AtomicBool,
}

pub(crate) struct Relay {
    pub(crate) hop: Arc<Hop>,
    port: u16,
    audio_port: u16,
}

impl Relay {
    /// In front of a receiver that was made with `bind-address=127.0.0.1`.
    pub(crate) fn new(receiver: &Receiver) -> Self {
        let hop = Arc::new(Hop::default());
        let audio: u16 = receiver.count("audio-port").try_into().unwrap();
        let to_receiver = UdpSocket::bind(("127.0.0.2", 0)).unwrap();
        let to_sender = UdpSocket::bind(("127.0.0.2", audio)).unwrap();
        let audio_port = to_receiver.local_addr().unwrap().port();
        let receiver_udp = SocketAddr::from(([127, 0, 0, 1], audio));
        let sender_udp = SocketAddr::from(([127, 0, 0, 3], audio_port));
        datagrams(&hop, &to_sender, &to_receiver, receiver_udp, true);
        datagrams(&hop, &to_receiver, &to_sender, sender_udp, false);

        let tcp = TcpListener::bind(("127.0.0.2", 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let target = SocketAddr::from(([127, 0, 0, 1], receiver.port() as u16));
        let shared = hop.clone();
        spawn(move || {
            for sender in tcp.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(out) = connect(target) else { continue };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                shared.deaf.store(false, Ordering::Relaxed);
                let connection = shared.connections.load(Ordering::Relaxed);
                bytes(&shared, &sender, &out, None);
                bytes(&shared, &out, &sender, Some(connection));
            }
        });
        Self { hop, port, audio_port }
    }

    /// What leads a `velinsink` through it.
    pub(crate) fn properties(&self) -> String {
        let Self { port, audio_port, .. } = self;
        format!("host=127.0.0.2 port={port} bind-address=127.0.0.3 audio-port={audio_port}")
    }

    /// A sender through it, playing.
    pub(crate) fn sender(&self, device: &Device, hz: u32) -> Sender {
        let sender = Sender::build(device, 1, hz, &self.properties());
        sender.line.set(gst::State::Playing);
        sender
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.hop.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.2", self.port));
    }
}

/// From 127.0.0.2, so that the receiver sends its datagrams there.
fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into())?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

fn datagrams(hop: &Arc<Hop>, from: &UdpSocket, out: &UdpSocket, to: SocketAddr, forth: bool) {
    let (hop, from, out) = (hop.clone(), from.try_clone().unwrap(), out.try_clone().unwrap());
    from.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    spawn(move || {
        let mut buffer = [0; 2048];
        let mut random = 1_u32;
        while !hop.stop.load(Ordering::Relaxed) {
            let Ok((n, sender)) = from.recv_from(&mut buffer) else { continue };
            if n == 0 {
                continue;
            }
            hop.largest.fetch_max(n, Ordering::Relaxed);
            hop.datagrams.fetch_add(1, Ordering::Relaxed);
            // Numerical Recipes' quick generator; the upper bits are good enough.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if ((random >> 16) % 1000) < hop.loss_permille.load(Ordering::Relaxed) as u32 {
                continue;
            }
            let held = !forth && hop.deaf.load(Ordering::Relaxed);
            if !held && !hop.drop_udp.load(Ordering::Relaxed) {
                let tamper = hop.tamper.load(Ordering::Relaxed);
                // The tag, the stream, the packet's number: before the packet itself, because a
                // number that was seen is turned away unread.
                for at in [n - 1, 9, 15].into_iter().filter(|at| tamper && *at < n) {
                    buffer[at] ^= 1;
                    let _ = out.send_to(&buffer[..n], to);
                    buffer[at] ^= 1;
                }
                let _ = out.send_to(&buffer[..n], to);
                if tamper {
                    let _ = out.send_to(&buffer[..n], to);
                    let _ = from.send_to(&buffer[..n], sender);
                }
            }
        }
    });
}

/// `back`: the number of the connection whose answers these are.
fn bytes(hop: &Arc<Hop>, from: &TcpStream, to: &TcpStream, back: Option<usize>) {
    let (hop, mut from, mut to) = (hop.clone(), from.try_clone().unwrap(), to.try_clone().unwrap());
    spawn(move || {
        let mut buffer = [0; 4096];
        let mut cut = false;
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                break;
            }
            // Once deaf, deaf for good: the connection hangs, it does not end.
            cut |= hop.deaf.load(Ordering::Relaxed);
            let newer = back.is_some_and(|mine| mine < hop.connections.load(Ordering::Relaxed));
            if cut || newer {
                cut = true;
                continue;
            }
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        // The receiver must not learn either that the connection which went deaf is over.
        if !cut && !hop.deaf.load(Ordering::Relaxed) {
            let _ = to.shutdown(Shutdown::Write);
        }
    });
}
