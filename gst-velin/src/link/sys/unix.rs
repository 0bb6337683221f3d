//! Unix: nearly everything is as it should be.

use std::io;
#[cfg(target_os = "linux")]
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

#[cfg(target_os = "linux")]
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
#[cfg(target_os = "linux")]
use nix::sys::time::TimeSpec;
#[cfg(target_os = "linux")]
use rustix::time::{ClockId, clock_gettime};
use socket2::Socket;

/// A datagram that is said to have waited longer has not: somebody has set the clock.
#[cfg(target_os = "linux")]
const OLDEST: Duration = Duration::from_millis(50);

/// Timers are fine enough without asking.
#[derive(Debug)]
pub(crate) struct FineTimers;

impl FineTimers {
    pub(crate) fn new() -> Self {
        Self
    }
}

/// Before a UDP socket is bound: the kernel stamps what it receives, if it can.
pub(crate) fn prepare_udp(_socket: &Socket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    let _ = setsockopt(_socket, sockopt::ReceiveTimestampns, &true);
    Ok(())
}

/// Receives a datagram: its length, its sender, and how long ago the kernel had it. `ancillary` is
/// room for the stamp.
#[cfg(target_os = "linux")]
pub(crate) fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    ancillary: &mut Ancillary,
) -> io::Result<(usize, SocketAddr, Duration)> {
    use std::os::fd::AsRawFd;

    let mut room = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::empty();
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut room, Some(&mut ancillary.0), flags)?;
    let from = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    let mut age = Duration::ZERO;
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmTimestampns(stamp) = control {
            age = since(stamp);
        }
    }
    Ok((message.bytes, from, age))
}

/// Room for the kernel's stamp.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Ancillary(Vec<u8>);

#[cfg(target_os = "linux")]
impl Ancillary {
    pub(crate) fn new() -> Self {
        Self(nix::cmsg_space!(TimeSpec))
    }
}

#[cfg(target_os = "linux")]
fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    use std::net::{SocketAddrV4, SocketAddrV6};

    let v4 = from.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| from.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

/// The stamp is of the clock that can be set, so it only counts as an age, and a short one.
#[cfg(target_os = "linux")]
fn since(stamp: TimeSpec) -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = now.tv_sec.saturating_sub(stamp.tv_sec());
    let nanos = seconds.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec - stamp.tv_nsec());
    u64::try_from(nanos).map_or(Duration::ZERO, Duration::from_nanos).min(OLDEST)
}

/// Receives a datagram: its length, its sender, and how long ago the kernel had it, which is not
/// known here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    _: &mut Ancillary,
) -> io::Result<(usize, SocketAddr, Duration)> {
    socket.recv_from(buffer).map(|(n, from)| (n, from, Duration::ZERO))
}

/// Nothing comes with a datagram.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct Ancillary;

#[cfg(not(target_os = "linux"))]
impl Ancillary {
    pub(crate) fn new() -> Self {
        Self
    }
}

/// Before a listening TCP socket is bound. This only skips the wait after a restart.
pub(crate) fn prepare_listener(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Before a TCP socket connects to `_to`.
pub(crate) fn prepare_caller(_: &Socket, _to: SocketAddr) {}

/// On a TCP connection: how much waits to be sent, and how long for an acknowledgement. Best effort.
pub(crate) fn limit_waiting(_socket: &Socket) {
    #[cfg(target_os = "linux")]
    {
        /// Sent bytes that nobody acknowledged for this long end the connection.
        const USER_TIMEOUT: Duration = Duration::from_secs(10);
        /// Unsent bytes that TCP keeps: what waits longer is stale.
        const UNSENT_LOW_WATER: u32 = 16 * 1024;

        let _ = _socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let _ = _socket.set_tcp_notsent_lowat(UNSENT_LOW_WATER);
    }
}

/// Marks packets of both families. Best effort.
pub(crate) fn mark(socket: &Socket, traffic_class: u32) {
    let _ = socket.set_tos_v4(traffic_class);
    let _ = socket.set_tclass_v6(traffic_class);
}

/// Whether receiving failed in a way that the next attempt need not.
pub(crate) fn concerns_one_datagram(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Whether receiving failed because the datagram is longer than the room for it. Here what fits of it
/// is received.
pub(crate) fn was_too_long(_: &io::Error) -> bool {
    false
}
