//! One UDP socket: media leaves on the caller's thread, arrives on a thread of its own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rustix::event::{Nsecs, PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use velin_core::handshake::packets::SessionIndex;
use velin_core::time::MonoTime;

use super::clock;
use super::connection::Connection;
use super::entropy::random_u64;
use super::feedback::Outbox;
use super::sys::{self, Ancillary, FineTimers};

/// Room for 100 ms of 128 streams of 400 packets a second, each packet with what the kernel keeps
/// beside it: whoever has that many callers on a busy machine loses packets here first. A limit and
/// no allocation; the system may set a lower one (on Linux `net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Little, so that nothing stale waits in the kernel.
const SEND_BUFFER: usize = 64 * 1024;

/// Larger than any packet of the link, so that a longer datagram is seen to be too long.
const MAX_DATAGRAM: usize = 2048;

/// How long the receive thread sleeps at most, should its wake-up get lost.
const NAP: Duration = Duration::from_secs(1);

/// After so many datagrams in a row the thread looks whether something else is due, though there
/// are more.
const PORTION: usize = 1024;

/// Dropping a port waits this long for the receive thread: far longer than it ever takes.
const FAREWELL: Duration = Duration::from_millis(100);

/// A bound socket with its receive thread. Dropping it gives the port back at once, whoever still
/// holds the shared part: from then on that sends nothing.
#[derive(Debug)]
pub(crate) struct UdpPort {
    shared: Arc<UdpShared>,
    /// Disconnects when the receive thread is over.
    thread: Mutex<Receiver<()>>,
    _timers: FineTimers,
}

impl UdpPort {
    /// Binds to `address`; the unspecified IPv6 address also takes IPv4.
    pub(crate) fn bind(address: SocketAddr, dscp: Option<u8>) -> io::Result<Self> {
        let socket = bound_socket(address, dscp)?;
        let local = socket.local_addr()?;
        let shared = Arc::new(UdpShared {
            socket: ArcSwapOption::from_pointee(socket),
            local,
            sessions: Mutex::default(),
            stop: AtomicBool::new(false),
            unknown: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let receiver = shared.clone();
        let (alive, thread) = sync_channel::<()>(0);
        std::thread::Builder::new().name("velin-receive".into()).spawn(move || {
            let _alive = alive;
            receiver.run();
        })?;
        Ok(Self { shared, thread: Mutex::new(thread), _timers: FineTimers::new() })
    }

    /// Binds to `port` on all addresses of both families, or of IPv4 where there is no IPv6.
    pub(crate) fn bind_any(port: u16, dscp: Option<u8>) -> io::Result<Self> {
        Self::bind((Ipv6Addr::UNSPECIFIED, port).into(), dscp).or_else(|e| {
            if e.kind() == io::ErrorKind::AddrInUse {
                return Err(e);
            }
            Self::bind((Ipv4Addr::UNSPECIFIED, port).into(), dscp)
        })
    }

    /// What connections hold.
    pub(crate) fn shared(&self) -> &Arc<UdpShared> {
        &self.shared
    }
}

impl Drop for UdpPort {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let ip = match self.shared.local.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let Some(socket) = self.shared.socket.swap(None) else { return };
        // An empty datagram to ourselves wakes the thread; if it gets lost, the nap ends.
        let _ = socket.send_to(&[], (ip, self.shared.local.port()));
        let _ =
            self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(FAREWELL);
        // Whoever is sending this very moment still holds the socket, for as long as that takes.
        let started = Instant::now();
        while Arc::strong_count(&socket) > 1 && started.elapsed() < FAREWELL {
            std::thread::yield_now();
        }
    }
}

/// The socket and the sessions that receive on it.
#[derive(Debug)]
pub(crate) struct UdpShared {
    /// Until the port is given back.
    socket: ArcSwapOption<UdpSocket>,
    local: SocketAddr,
    sessions: Mutex<HashMap<SessionIndex, Arc<Connection>>>,
    stop: AtomicBool,
    unknown: AtomicU64,
    dropped: AtomicU64,
}

impl UdpShared {
    /// The bound address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams that belong to no session.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Sends without ever waiting. A full socket buffer drops the packet, as a full network would.
    pub(crate) fn send(&self, to: SocketAddr, packet: &[u8]) -> bool {
        let socket = self.socket.load();
        let sent = socket.as_ref().is_some_and(|s| s.send_to(packet, self.to_family(to)).is_ok());
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// A session index that nothing on this socket uses, held for the connection that `make`
    /// makes with it.
    pub(crate) fn register(
        &self,
        make: impl FnOnce(SessionIndex) -> Arc<Connection>,
    ) -> Arc<Connection> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let index = loop {
            let candidate = SessionIndex::new(random_u64() as u32);
            if let Some(index) = candidate.filter(|i| !sessions.contains_key(i)) {
                break index;
            }
        };
        let connection = make(index);
        sessions.insert(index, connection.clone());
        connection
    }

    /// The session is over.
    pub(crate) fn unregister(&self, index: SessionIndex) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
    }

    fn run(&self) {
        let Some(socket) = self.socket.load_full() else { return };
        let mut buffer = [0; MAX_DATAGRAM];
        let (mut ancillary, mut out) = (Ancillary::new(), Outbox::new());
        let mut due = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            // With nothing left to read, so that nothing is asked for that has come.
            let nap = self.ask_again(&mut due, &mut out);
            let mut fds = [PollFd::new(&*socket, PollFlags::IN)];
            if poll(&mut fds, Some(&nap)).is_err() {
                continue;
            }
            for _ in 0..PORTION {
                match sys::receive(&socket, &mut buffer, &mut ancillary) {
                    Ok((n, from, age)) => self.dispatch(age, from, &mut buffer[..n], &mut out),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if sys::was_too_long(&e) => {
                        self.unknown.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(e) if sys::concerns_one_datagram(&e) => {}
                    Err(_) => {
                        // For instance the interface is gone. Do not spin until it is back.
                        std::thread::sleep(Duration::from_millis(5));
                        break;
                    }
                }
                if self.stop.load(Ordering::Acquire) {
                    return;
                }
            }
        }
    }

    /// Lets the sessions ask for missing blocks whose time has come; gives how long to wait for the
    /// next.
    fn ask_again(&self, due: &mut Vec<Arc<Connection>>, out: &mut Outbox) -> Timespec {
        loop {
            let now = clock::now();
            let mut next = MonoTime::from_nanos(u64::MAX);
            {
                let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                for connection in sessions.values() {
                    let at = connection.next_nack();
                    if at <= now {
                        due.push(connection.clone());
                    }
                    next = next.min(at);
                }
            }
            if due.is_empty() {
                let nanos = next.since(now).as_nanos().min(NAP.as_nanos()) as i64;
                let (tv_sec, tv_nsec) = (nanos / 1_000_000_000, (nanos % 1_000_000_000) as Nsecs);
                return Timespec { tv_sec, tv_nsec };
            }
            for connection in due.drain(..) {
                connection.poll_nacks(now, out);
            }
        }
    }

    fn dispatch(&self, age: Duration, from: SocketAddr, packet: &mut [u8], out: &mut Outbox) {
        let now = clock::now();
        let index = packet
            .get(4..8)
            .and_then(|b| b.try_into().ok())
            .and_then(|b| SessionIndex::new(u32::from_be_bytes(b)));
        let connection = index.and_then(|i| {
            let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.get(&i).cloned()
        });
        match connection {
            Some(connection) => connection.on_datagram(now, age, canonical(from), packet, out),
            None => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// An IPv6 socket reaches IPv4 through mapped addresses.
    fn to_family(&self, to: SocketAddr) -> SocketAddr {
        match (self.local, to) {
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => to,
        }
    }
}

/// IPv4 as IPv4, whichever socket it came through. A link-local address keeps its interface.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => (ip, v6.port()).into(),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Marks packets with the DSCP value `dscp` (RFC 2474), as far as the system allows.
pub(crate) fn set_dscp(socket: &Socket, dscp: Option<u8>) {
    let Some(dscp) = dscp else { return };
    // Marking is best effort: a system that refuses it still carries audio.
    sys::mark(socket, u32::from(dscp) << 2);
}

fn bound_socket(address: SocketAddr, dscp: Option<u8>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    sys::prepare_udp(&socket)?;
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    set_dscp(&socket, dscp);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    #[test]
    fn sockets_carry_the_dscp_they_were_given() {
        let bound = |dscp| bound_socket("127.0.0.1:0".parse().unwrap(), dscp).unwrap();
        let tos = |socket: &UdpSocket| socket2::SockRef::from(socket).tos_v4().unwrap();
        assert_eq!(tos(&bound(Some(46))), 46 << 2);
        assert_eq!(tos(&bound(Some(0))), 0);
        assert_eq!(tos(&bound(None)), 0);
    }

    #[test]
    fn addresses_keep_what_names_them() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:5".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.7:5".parse().unwrap());
        let local = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 0, 3));
        assert_eq!(canonical(local), local);
    }
}
