//! Windows: sockets that would share their port, fail because of a peer or wait for long, and timers
//! that tick 64 times a second, unless told otherwise.
#![allow(unsafe_code)]

pub(crate) mod access;

use std::ffi::c_void;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::windows::io::AsRawSocket;
use std::ptr::{from_ref, null_mut};
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Media::{timeBeginPeriod, timeEndPeriod};
use windows_sys::Win32::Networking::WinSock::{
    IPPROTO_TCP, SIO_TCP_INITIAL_RTO, SIO_UDP_CONNRESET, SIO_UDP_NETRESET, SO_EXCLUSIVEADDRUSE,
    SOCKET, SOL_SOCKET, TCP_INITIAL_RTO_PARAMETERS, TCP_MAXRT, WSAECONNRESET, WSAEINTR,
    WSAEMSGSIZE, WSAENETRESET, WSAIoctl, setsockopt,
};

/// `TCP_INITIAL_RTO_UNSPECIFIED_RTT` and `TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS` of mstcpip.h.
const NO_SECOND_SYN: TCP_INITIAL_RTO_PARAMETERS =
    TCP_INITIAL_RTO_PARAMETERS { Rtt: u16::MAX, MaxSynRetransmissions: u8::MAX - 1 };

/// Seconds: sent bytes that nobody acknowledged for this long end the connection.
const MAX_RETRANSMISSION: i32 = 10;

/// While one of these lives, timers of this process are good to a millisecond instead of sixteen.
#[derive(Debug)]
pub(crate) struct FineTimers(());

impl FineTimers {
    pub(crate) fn new() -> Self {
        // SAFETY: it takes a number and keeps a count in the system, which `drop` takes back.
        unsafe { timeBeginPeriod(1) };
        Self(())
    }
}

impl Drop for FineTimers {
    fn drop(&mut self) {
        // SAFETY: as above; `new` has called the counterpart.
        unsafe { timeEndPeriod(1) };
    }
}

/// Before a UDP socket is bound: the port is ours alone, and a packet that could not be delivered
/// does not make the next receiving fail.
pub(crate) fn prepare_udp(socket: &Socket) -> io::Result<()> {
    let off: u32 = 0;
    // Systems without these have nothing to switch off; should a reset come, it is passed over.
    let _ = control(socket, SIO_UDP_CONNRESET, &off);
    let _ = control(socket, SIO_UDP_NETRESET, &off);
    use_exclusively(socket)
}

/// Nothing comes with a datagram.
#[derive(Debug)]
pub(crate) struct Ancillary;

impl Ancillary {
    pub(crate) fn new() -> Self {
        Self
    }
}

/// Receives a datagram: its length, its sender, and how long ago the system had it, which is not
/// known here.
pub(crate) fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    _: &mut Ancillary,
) -> io::Result<(usize, SocketAddr, Duration)> {
    socket.recv_from(buffer).map(|(n, from)| (n, from, Duration::ZERO))
}

/// Before a listening TCP socket is bound: nobody else may bind its port as well.
pub(crate) fn prepare_listener(socket: &Socket) -> io::Result<()> {
    use_exclusively(socket)
}

/// Before a TCP socket connects to `to`. Windows calls three times, in two seconds, where nobody
/// listens; on this machine the first answer is the right one.
pub(crate) fn prepare_caller(socket: &Socket, to: SocketAddr) {
    if to.ip().to_canonical().is_loopback() {
        let _ = control(socket, SIO_TCP_INITIAL_RTO, &NO_SECOND_SYN);
    }
}

/// On a TCP connection: how long for an acknowledgement. Best effort; how much waits to be sent is
/// the system's own business here.
pub(crate) fn limit_waiting(socket: &Socket) {
    let _ = set(socket, IPPROTO_TCP, TCP_MAXRT, MAX_RETRANSMISSION);
}

/// Marks packets. Best effort: Windows leaves marks to its policies, and has no option for IPv6.
pub(crate) fn mark(socket: &Socket, traffic_class: u32) {
    let _ = socket.set_tos_v4(traffic_class);
}

/// Whether receiving failed in a way that the next attempt need not: mostly, because a datagram of
/// ours was not delivered.
pub(crate) fn concerns_one_datagram(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(WSAECONNRESET | WSAENETRESET | WSAEINTR))
}

/// Whether receiving failed because the datagram is longer than the room for it.
pub(crate) fn was_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(WSAEMSGSIZE)
}

fn use_exclusively(socket: &Socket) -> io::Result<()> {
    set(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1)
}

/// Sets an option that is an `int`.
fn set(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the socket is open while it is borrowed; the value lives until the call returns.
    let result = unsafe {
        let length = size_of_val(&value) as i32;
        setsockopt(raw(socket), level, option, from_ref(&value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives `input` to the socket's control function `code`, which must take a `T` and give nothing.
fn control<T>(socket: &Socket, code: u32, input: &T) -> io::Result<()> {
    let mut returned = 0;
    // SAFETY: the socket is open while it is borrowed; input and count outlive the call, which is
    // not overlapped; there is no output.
    let result = unsafe {
        WSAIoctl(
            raw(socket),
            code,
            from_ref(input).cast::<c_void>(),
            size_of::<T>() as u32,
            null_mut(),
            0,
            &mut returned,
            null_mut(),
            None,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn raw(socket: &Socket) -> SOCKET {
    socket.as_raw_socket() as SOCKET
}
