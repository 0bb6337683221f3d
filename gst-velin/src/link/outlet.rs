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
use velin_core::wire::{AUDIO_HEADER, AudioHeader, Copies, Report};

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

    /// Sends a packet of `blocks`, the header and payload length of each, which last `duration` each;
    /// and behind them the copies that the receiver wants, as far as they fit its packets and `packet`.
    ///
    /// The first block's payload stands at `packet[32..]`, those of others follow it as whole AUDIO
    /// frames; `packet` has at least 16 bytes more. `Ok(false)`: the packet was dropped on this machine.
    pub fn send(
        &self,
        blocks: &[(AudioHeader, usize)],
        packet: &mut [u8],
        duration: Duration,
    ) -> Result<bool, MediaError> {
        let Some(((first, payload_len), others)) = blocks.split_first() else { return Ok(false) };
        let bundled = others.iter().map(|(_, length)| AUDIO_HEADER + length).sum::<usize>();
        let extra = bundled + self.add_copies(blocks, payload_len + bundled, packet);
        let (n, route) = self.tx.seal_with(first, *payload_len, extra, packet)?;
        Ok(match route {
            Route::Datagram(to) => self.udp.as_ref().is_some_and(|u| u.send(to, &packet[..n])),
            Route::Stream => {
                let duration = duration.saturating_mul(blocks.len() as u32);
                self.tcp.push(self.tx.id(), &packet[..n], duration)
            }
            Route::Held => false,
        })
    }

    /// Writes copies of older blocks behind `used` bytes; gives how many bytes they take.
    fn add_copies(&self, blocks: &[(AudioHeader, usize)], used: usize, packet: &mut [u8]) -> usize {
        let Some((copies, history)) = self.repair.copies() else { return 0 };
        // TCP loses nothing.
        if !matches!(self.route(), Route::Datagram(_)) {
            return 0;
        }
        let Some((first, _)) = blocks.first() else { return 0 };
        // The tag stands behind them.
        let end = self.tx.mtu().min(packet.len()).saturating_sub(TAG);
        let mut room = packet.get_mut(MEDIA_HEAD + used..end).unwrap_or_default();
        let all = room.len();
        for (header, _) in blocks {
            let n = put_copies(history, copies, header.block, first.block, room);
            room = &mut room[n..];
        }
        all - room.len()
    }

    /// The longest packet that this receiver takes, in bytes.
    pub fn mtu(&self) -> usize {
        self.tx.mtu()
    }

    /// The share of blocks lost on the way to this receiver, before repair, from 0 to 1, in the
    /// time between its last two reports; with the number of reports so far.
    pub fn loss(&self) -> (u32, f64) {
        self.repair.loss()
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
