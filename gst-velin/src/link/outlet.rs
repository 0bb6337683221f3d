//! The way out of one stream to one peer, for the streaming thread.

use std::sync::Arc;
use std::time::Duration;

use velin_core::session::{MediaError, MediaTx, Route};
use velin_core::time::MonoTime;
use velin_core::wire::AudioHeader;

use super::clock;
use super::tcp_media::TcpMedia;
use super::udp::UdpShared;

/// What a packet on TCP counts for: the default packet time.
const PACKET_TIME: Duration = Duration::from_micros(2500);

/// Seals and sends blocks; waits for nothing.
#[derive(Clone, Debug)]
pub struct Outlet {
    tx: MediaTx,
    udp: Arc<UdpShared>,
    tcp: Arc<TcpMedia>,
    since: MonoTime,
}

impl Outlet {
    pub(crate) fn new(tx: MediaTx, udp: Arc<UdpShared>, tcp: Arc<TcpMedia>) -> Self {
        Self { tx, udp, tcp, since: clock::now() }
    }

    /// Sends the payload that stands at `packet[32..32 + payload_len]`; `packet` has 48 bytes
    /// more than the payload. `Ok(false)`: the packet was dropped on this machine.
    pub fn send(
        &self,
        header: &AudioHeader,
        payload_len: usize,
        packet: &mut [u8],
    ) -> Result<bool, MediaError> {
        let (n, route) = self.tx.seal(header, payload_len, packet)?;
        Ok(match route {
            Route::Datagram(to) => self.udp.send(to, &packet[..n]),
            Route::Stream => self.tcp.push(self.tx.id(), &packet[..n], PACKET_TIME),
        })
    }

    /// Our UDP port.
    pub fn local_port(&self) -> u16 {
        self.udp.local().port()
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
