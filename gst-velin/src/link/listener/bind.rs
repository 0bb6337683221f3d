//! Taking the port, and why that fails.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::super::registry::Conflict;
use super::super::runtime::RuntimeError;
use super::super::sys;

pub(super) fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    sys::prepare_listener(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(256)?;
    Ok(socket.into())
}

/// Why a listener has no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program has it.
    #[error(
        "{protocol} port {port} is already in use; stop the other program (another receiver?) or \
         choose another port with {property}="
    )]
    InUse {
        /// TCP or UDP.
        protocol: &'static str,
        /// The element's property.
        property: &'static str,
        /// The port.
        port: u16,
    },
    /// It disagrees with the listener it would share.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Not one of this machine's addresses.
    #[error("bind-address {address} is not an address of this machine; leave it out to use all")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Everything else.
    #[error("cannot bind {protocol} port {port}: {detail}; choose another with {property}=")]
    Other {
        /// TCP or UDP.
        protocol: &'static str,
        /// The element's property.
        property: &'static str,
        /// The port.
        port: u16,
        /// What the system said.
        detail: String,
    },
}

impl BindError {
    pub(super) fn new(
        protocol: &'static str,
        property: &'static str,
        port: u16,
        bind: Option<IpAddr>,
        error: &io::Error,
    ) -> Self {
        match (error.kind(), bind) {
            (io::ErrorKind::AddrInUse, _) => Self::InUse { protocol, property, port },
            (io::ErrorKind::AddrNotAvailable, Some(address)) => Self::Address { address },
            _ => Self::Other { protocol, property, port, detail: error.to_string() },
        }
    }
}

/// Why a bound listener does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another element keeps it open with other files.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// No threads.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The system refused the socket.
    #[error("cannot listen: {0}; check the limit on open files")]
    Socket(#[from] io::Error),
}
