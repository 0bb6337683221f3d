//! The way out of one stream to one peer, for the streaming thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use velin_core::handshake::packets::SessionIndex;
use velin_core::identity::PublicKey;
use velin_core::resend::{AnswerCounters, History, put_copies};
use velin_core::session::{MEDIA_HEAD, MediaError, MediaTx, Route};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, StreamId};
use velin_core::wire::{AudioHeader, Copies, Report};

use super::clock;
use super::out_repair::OutRepair;
use super::tcp_media::TcpMedia;
use super::udp::UdpShared;

/// Bytes of a packet behind its frames.
const TAG: usize = 16;

/// Seals and sends blocks; waits for nothing.
#[derive(Clone, Debug)]
pub struct Outlet {
    tx: MediaTx,
    session: SessionIndex,
    peer: PublicKey,
    udp: Option<Arc<UdpShared>>,
    tcp: Arc<TcpMedia>,
    since: MonoTime,
    repair: Arc<OutRepair>,
}

impl Outlet {
    pub(crate) fn new(
        tx: MediaTx,
        session: SessionIndex,
        peer: PublicKey,
        udp: Option<Arc<UdpShared>>,
        tcp: Arc<TcpMedia>,
        history: Option<History>,
    ) -> Self {
        let repair = Arc::new(OutRepair::new(history));
        Self { tx, session, peer, udp, tcp, since: clock::now(), repair }
    }

    /// Which session this is a part of.
    pub(crate) fn session(&self) -> SessionIndex {
        self.session
    }

    /// Who takes the stream.
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Sends the payload that stands at `packet[32..32 + payload_len]` and lasts `duration`, and
    /// behind it the copies that the receiver wants, as far as they fit its packets and `packet`;
    /// `packet` has at least 48 bytes more than the payload. `Ok(false)`: the packet was dropped on this
    /// machine.
    pub fn send(
        &self,
        header: &AudioHeader,
        payload_len: usize,
        packet: &mut [u8],
        duration: Duration,
    ) -> Result<bool, MediaError> {
        let extra = self.add_copies(header.block, payload_len, packet);
        let (n, route) = self.tx.seal_with(header, payload_len, extra, packet)?;
        Ok(match route {
            Route::Datagram(to) => self.udp.as_ref().is_some_and(|u| u.send(to, &packet[..n])),
            Route::Stream => self.tcp.push(self.tx.id(), &packet[..n], duration),
            Route::Held => false,
        })
    }

    /// Writes copies of older blocks behind the payload; gives how many bytes they take.
    fn add_copies(&self, block: BlockIndex, payload_len: usize, packet: &mut [u8]) -> usize {
        let Some((copies, history)) = self.repair.copies() else { return 0 };
        // TCP loses nothing.
        if !matches!(self.route(), Route::Datagram(_)) {
            return 0;
        }
        // The tag stands behind them.
        let end = self.tx.mtu().min(packet.len()).saturating_sub(TAG);
        let room = packet.get_mut(MEDIA_HEAD + payload_len..end).unwrap_or_default();
        put_copies(history, copies, block, room)
    }

    /// The stream's number in its session.
    pub(super) fn id(&self) -> StreamId {
        self.tx.id()
    }

    /// Whether the stream or its session is over.
    pub(super) fn is_over(&self) -> bool {
        self.tx.is_closed()
    }

    /// Seals again what of `blocks` makes sense, and gives each packet to `put`: whoever holds no
    /// lock sends it, by UDP.
    pub(super) fn answer(
        &self,
        now: MonoTime,
        rtt: Duration,
        blocks: impl Iterator<Item = BlockIndex>,
        mut put: impl FnMut(SocketAddr, &[u8]),
    ) {
        self.repair.answer(now, rtt, blocks, |header, payload_len, packet| {
            // Somebody who asks by TCP has lost nothing there.
            if let Route::Datagram(_) = self.route()
                && let Ok((n, Route::Datagram(to))) = self.tx.seal(header, payload_len, packet)
            {
                put(to, &packet[..n]);
            }
        });
    }

    pub(super) fn set_report(&self, report: &Report) {
        self.repair.set_report(report);
    }

    pub(super) fn set_copies(&self, copies: Copies) {
        self.repair.set_copies(copies);
    }

    /// What the receiver told last about itself.
    pub fn report(&self) -> Option<Report> {
        self.repair.report()
    }

    /// What became of the receiver's requests for lost blocks.
    pub fn answers(&self) -> AnswerCounters {
        self.repair.counters()
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
