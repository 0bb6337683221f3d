//! What a session needs to know before it starts.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::identity::{Grants, Identity, Name, PublicKey};
use crate::wire::UdpEndpoint;

/// Whom we trust, and for what. Asked once per handshake and for every stream.
pub trait Trust: Send + Sync {
    /// What `peer` may do, or `None` if it is a stranger.
    fn grants(&self, peer: &PublicKey) -> Option<Grants>;
}

/// What carries a session's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Carrier {
    /// Control by TCP; media by UDP where UDP is proved, and by TCP until then.
    #[default]
    Lan,
    /// Everything by TCP. No UDP is announced, and none is taken.
    Tcp,
}

/// Everything a session is told at its start.
#[derive(Clone)]
pub struct SessionConfig {
    /// Our own key.
    pub identity: Arc<Identity>,
    /// Whom we trust.
    pub trust: Arc<dyn Trust>,
    /// On a caller: the one key that may answer. Consent for this link, whatever the trust says.
    pub expected_peer: Option<PublicKey>,
    /// Whether our own key on the other side is welcome: only on one machine, where both socket
    /// ends are loopback and the caller was given a loopback literal or `localhost`.
    pub accept_own_key: bool,
    /// Program and version, told to authenticated peers.
    pub agent: Option<Name>,
    /// What this device calls itself, told to authenticated peers.
    pub name: Option<Name>,
    /// What carries the packets.
    pub carrier: Carrier,
    /// Where we receive UDP, if we do. Nobody is told on [`Carrier::Tcp`].
    pub udp: Option<UdpEndpoint>,
    /// The other end of the TCP connection.
    pub peer_address: SocketAddr,
    /// Largest UDP payload sent, in bytes.
    pub mtu: usize,
}

impl SessionConfig {
    /// Where the peer is told that we receive UDP.
    pub(super) fn announced_udp(&self) -> Option<UdpEndpoint> {
        self.udp.filter(|_| self.carrier == Carrier::Lan)
    }
}
