//! From a host as the user wrote it to a TCP connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::sys;
use super::udp::{canonical, set_dscp};

/// One address gets this long. Windows takes two seconds to believe that nothing listens.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(if cfg!(windows) { 3 } else { 1 });

/// A name gets this long.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Something answered that nothing listens there.
    #[error(
        "nothing listens at {to}; start the receiver there (for instance `velin-pipe run \
         presets/play.toml`), or check host and port"
    )]
    Refused {
        /// Host and port.
        to: String,
    },
    /// The name has no address.
    #[error("the name {host:?} does not resolve ({detail}); check its spelling or use an address")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// The system knows no way there.
    #[error("there is no route to {to}; check the network cable, Wi-Fi or VPN, and the address")]
    NoRoute {
        /// Host and port.
        to: String,
    },
    /// Nobody answered.
    #[error(
        "{to} does not answer; check that it is switched on and that its firewall lets in \
         TCP port {port} (and UDP port 49001 for the audio)"
    )]
    Timeout {
        /// Host and port.
        to: String,
        /// The port.
        port: u16,
    },
    /// `bind-address` is not one of this machine's.
    #[error("cannot send from bind-address {address}: {detail}; use an address of this machine")]
    Bind {
        /// The address.
        address: IpAddr,
        /// What the system said.
        detail: String,
    },
    /// Our own UDP port is not to be had.
    #[error(
        "cannot use UDP port {port} of this machine: {detail}; choose another with audio-port= \
         (0 = any)"
    )]
    UdpPort {
        /// The port.
        port: u16,
        /// What the system said.
        detail: String,
    },
    /// Everything else.
    #[error("cannot connect to {to}: {detail}")]
    Other {
        /// Host and port.
        to: String,
        /// What the system said.
        detail: String,
    },
}

/// Whether the user asked for this very machine: a loopback literal or `localhost`.
pub(crate) fn names_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Host and port as people write them.
pub(crate) fn display(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Resolves and connects, one address after the other.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    bind: Option<IpAddr>,
    dscp: Option<u8>,
) -> Result<TcpStream, ConnectError> {
    let to = display(host, port);
    let mut last = None;
    for address in resolve(host, port).await? {
        if bind.is_some_and(|b| b.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        let attempt = connect_to(address, bind, dscp);
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(classify(error, &to, port)),
            Err(_) => last = Some(ConnectError::Timeout { to: to.clone(), port }),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::Name {
        host: host.to_owned(),
        detail: "no address of the family of bind-address".into(),
    }))
}

/// What both ends set on their TCP connection.
pub(crate) fn tune(stream: &TcpStream, dscp: Option<u8>) {
    // Each of these makes a good connection better; none is needed for a correct one.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2));
    let _ = socket.set_tcp_keepalive(&keepalive);
    set_dscp(&socket, dscp);
    sys::limit_waiting(&socket);
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    let failed = |detail: String| ConnectError::Name { host: host.to_owned(), detail };
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((bare, port)))
        .await
        .map_err(|_| failed("the name server does not answer".into()))?
        .map_err(|e| failed(e.to_string()))?;
    Ok(found.collect())
}

async fn connect_to(
    address: SocketAddr,
    bind: Option<IpAddr>,
    dscp: Option<u8>,
) -> Result<TcpStream, Failure> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(Failure::Connect)?;
    socket.set_nonblocking(true).map_err(Failure::Connect)?;
    if let SocketAddr::V6(v6) = address {
        let only = v6.ip().to_ipv4_mapped().is_none();
        socket.set_only_v6(only).map_err(Failure::Connect)?;
    }
    sys::prepare_caller(&socket, address);
    if let Some(ip) = bind {
        socket
            .bind(&SocketAddr::new(ip, 0).into())
            .map_err(|e| Failure::Bind(ip, e.to_string()))?;
    }
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(address)
        .await
        .map_err(Failure::Connect)?;
    // A port of the ephemeral range may connect to itself (RFC 9293, simultaneous open).
    if stream.local_addr().ok().map(canonical) == Some(canonical(address)) {
        return Err(Failure::Connect(io::ErrorKind::ConnectionRefused.into()));
    }
    tune(&stream, dscp);
    Ok(stream)
}

enum Failure {
    Bind(IpAddr, String),
    Connect(io::Error),
}

fn classify(failure: Failure, to: &str, port: u16) -> ConnectError {
    let to = to.to_owned();
    match failure {
        Failure::Bind(address, detail) => ConnectError::Bind { address, detail },
        Failure::Connect(e) => match e.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { to },
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => ConnectError::NoRoute { to },
            io::ErrorKind::TimedOut => ConnectError::Timeout { to, port },
            _ => ConnectError::Other { to, detail: e.to_string() },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_literals_and_localhost_name_this_machine() {
        for yes in ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LocalHost"] {
            assert!(names_this_machine(yes), "{yes}");
        }
        for no in ["0.0.0.0", "192.168.1.5", "localhost.example.org", "127.0.0.1.example", "", "::"]
        {
            assert!(!names_this_machine(no), "{no}");
        }
    }

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        assert_eq!(display("::1", 5), "[::1]:5");
        assert_eq!(display("[::1]", 5), "[::1]:5");
        assert_eq!(display("room", 49000), "room:49000");
    }
}
