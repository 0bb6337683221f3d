//! The way out of one stream to one peer, for the streaming thread.

use std::sync::Arc;
use std::time::Duration;

use velin_core::handshake::packets::SessionIndex;
use velin_core::identity::PublicKey;
use velin_core::session::{MediaError, MediaTx, Route};
use velin_core::time::MonoTime;
use velin_core::wire::AudioHeader;

use super::clock;
use super::tcp_media::TcpMedia;
use super::udp::UdpShared;

/// Seals and sends blocks; waits for nothing.
#[derive(Clone, Debug)]
pub struct Outlet {
    tx: MediaTx,
    session: SessionIndex,
    peer: PublicKey,
    udp: Option<Arc<UdpShared>>,
    tcp: Arc<TcpMedia>,
    since: MonoTime,
}

impl Outlet {
    pub(crate) fn new(
        tx: MediaTx,
        session: SessionIndex,
        peer: PublicKey,
        udp: Option<Arc<UdpShared>>,
        tcp: Arc<TcpMedia>,
    ) -> Self {
        Self { tx, session, peer, udp, tcp, since: clock::now() }
    }

    /// Which session this is a part of.
    pub(crate) fn session(&self) -> SessionIndex {
        self.session
    }

    /// Who takes the stream.
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Sends the payload that stands at `packet[32..32 + payload_len]` and lasts `duration`;
    /// `packet` has 48 bytes more than the payload. `Ok(false)`: the packet was dropped on this machine.
    pub fn send(
        &self,
        header: &AudioHeader,
        payload_len: usize,
        packet: &mut [u8],
        duration: Duration,
    ) -> Result<bool, MediaError> {
        let (n, route) = self.tx.seal(header, payload_len, packet)?;
        Ok(match route {
            Route::Datagram(to) => self.udp.as_ref().is_some_and(|u| u.send(to, &packet[..n])),
            Route::Stream => self.tcp.push(self.tx.id(), &packet[..n], duration),
            Route::Held => false,
        })
    }

    /// Our UDP port; 0 = none.
    pub fn local_port(&self) -> u16 {
        self.udp.as_ref().map_or(0, |u| u.local().port())
    }

    /// Packets and bytes sealed so far.
    pub fn sent(&self) -> (u64, u64) {
        self.tx.sent()
    }

    /// Bytes that TCP has taken and not sent yet, as far as the system says.
    pub fn tcp_unsent(&self) -> u64 {
        self.tcp.unsent()
    }

    /// How much audio waits for TCP at the most, and packets that waited in vain.
    pub fn tcp_queue(&self) -> (Duration, u64) {
        (self.tcp.queued(), self.tcp.dropped())
    }

    /// How long the peer has been taking the stream.
    pub fn uptime(&self) -> Duration {
        clock::now().since(self.since)
    }

    /// Which way packets leave.
    pub fn route(&self) -> Route {
        self.tx.route()
    }
}
