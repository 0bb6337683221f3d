//! Unix: nearly everything is as it should be.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

/// Timers are fine enough without asking.
#[derive(Debug)]
pub(crate) struct FineTimers;

impl FineTimers {
    pub(crate) fn new() -> Self {
        Self
    }
}

/// Before a UDP socket is bound.
pub(crate) fn prepare_udp(_: &Socket) -> io::Result<()> {
    Ok(())
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
        use std::time::Duration;

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
