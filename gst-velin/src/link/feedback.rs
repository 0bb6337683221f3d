//! What leaves after a packet came: requests for missing blocks, reports, and what the peer asked
//! for. Collected under the connection's lock, sent without it.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use velin_core::playout::ReceiverHalf;
use velin_core::session::{FeedbackTx, Route, Session};
use velin_core::time::MonoTime;
use velin_core::units::StreamId;
use velin_core::wire::{Copies, MAX_NACK_LEN, NackRange, Report, frame_packet};

use super::outlet::Outlet;

/// A sender hears how its receiver fares so often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that sealing adds.
const SEALED: usize = 32;

/// Room for what one packet leads to; it grows if that is not enough, and stays.
const PACKETS: usize = 32;

/// Bytes of an answer, about.
const PACKET: usize = 1500;

/// Ranges of blocks that one packet may ask for: more do not fit into any.
const MAX_ASKED: usize = 512;

/// What is to be done once the lock is released. Used again and again.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    packets: Vec<(SocketAddr, Range<usize>)>,
    /// What the peer asked for.
    asked: Vec<(StreamId, NackRange)>,
    /// The session's round-trip time.
    rtt: Duration,
}

impl Outbox {
    /// With room, so that nothing is allocated later.
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(PACKETS * PACKET),
            packets: Vec::with_capacity(PACKETS),
            asked: Vec::with_capacity(MAX_ASKED),
            rtt: Duration::ZERO,
        }
    }

    /// For a thread that has seldom something to send.
    pub(super) fn small() -> Self {
        Self { bytes: Vec::new(), packets: Vec::new(), asked: Vec::new(), rtt: Duration::ZERO }
    }

    /// The peer asks for these blocks of our stream.
    pub(super) fn ask(&mut self, stream: StreamId, range: NackRange) {
        if self.asked.len() < MAX_ASKED {
            self.asked.push((stream, range));
        }
    }

    /// Whether the peer asked for anything.
    pub(super) fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Collects what our streams answer to what the peer asked for.
    pub(super) fn answer(&mut self, now: MonoTime, outlets: &[Outlet]) {
        let Self { bytes, packets, asked, rtt } = self;
        for ranges in asked.chunk_by(|a, b| a.0 == b.0) {
            let Some((stream, _)) = ranges.first() else { continue };
            let Some(outlet) = outlets.iter().find(|outlet| outlet.id() == *stream) else {
                continue;
            };
            let blocks = ranges.iter().flat_map(|(_, range)| range.blocks());
            outlet.answer(now, *rtt, blocks, |to, packet| {
                let from = bytes.len();
                bytes.extend_from_slice(packet);
                packets.push((to, from..bytes.len()));
            });
        }
    }

    /// Gives each packet that is to be sent.
    pub(super) fn for_each_packet(&self, mut f: impl FnMut(SocketAddr, &[u8])) {
        for (to, place) in &self.packets {
            f(*to, &self.bytes[place.clone()]);
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.asked.clear();
    }

    pub(super) fn set_rtt(&mut self, rtt: Option<Duration>) {
        self.rtt = rtt.unwrap_or_default();
    }

    /// Seals `frame` and keeps it; what goes by TCP is added to `pending`.
    fn put(&mut self, feedback: &FeedbackTx, frame: &[u8], pending: &mut Vec<u8>) {
        let from = self.bytes.len();
        self.bytes.resize(from + SEALED + frame.len(), 0);
        match feedback.seal(frame, &mut self.bytes[from..]) {
            Ok((n, Route::Datagram(to))) => self.packets.push((to, from..from + n)),
            Ok((n, Route::Stream)) => {
                frame_packet(&self.bytes[from..from + n], pending);
                self.bytes.truncate(from);
            }
            // Before the session knows a way, or after the stream.
            Ok((_, Route::Held)) | Err(_) => self.bytes.truncate(from),
        }
    }
}

/// A stream that is played here, with what its sender is told.
#[derive(Debug)]
pub(super) struct Playing {
    pub(super) receiver: ReceiverHalf,
    feedback: Option<FeedbackTx>,
    /// What the sender was last asked to copy.
    copies: Copies,
    reported: MonoTime,
}

impl Playing {
    pub(super) fn new(receiver: ReceiverHalf, now: MonoTime) -> Self {
        Self { receiver, feedback: None, copies: Copies::None, reported: now }
    }

    pub(super) fn set_feedback(&mut self, feedback: Option<FeedbackTx>) {
        self.feedback = feedback;
    }

    /// Puts out what is due now.
    pub(super) fn poll(
        &mut self,
        now: MonoTime,
        id: StreamId,
        session: &mut Session,
        out: &mut Outbox,
        pending: &mut Vec<u8>,
    ) {
        let Some(feedback) = &self.feedback else { return };
        // TCP repairs itself.
        self.receiver.set_way_back(matches!(feedback.route(), Route::Datagram(_)));
        if let Some(rtt) = session.rtt() {
            self.receiver.set_rtt(rtt);
        }
        while let Some(request) = self.receiver.poll_nack(now) {
            let mut frame = [0; MAX_NACK_LEN];
            let n = request.nack.encode(&mut frame);
            // A number of its own for each.
            for _ in 0..1 + usize::from(request.twice) {
                out.put(feedback, &frame[..n], pending);
            }
        }
        if now.since(self.reported) >= REPORT_INTERVAL {
            self.reported = now;
            let report: Report = self.receiver.report();
            out.put(feedback, &report.encode(), pending);
        }
        let copies = self.receiver.copies();
        if copies != self.copies {
            self.copies = copies;
            session.want_copies(id, copies);
        }
    }

    /// When [`poll`](Self::poll) has something to do, if nothing comes before.
    pub(super) fn next(&self) -> Option<MonoTime> {
        self.feedback.as_ref().and_then(|_| self.receiver.next_nack())
    }
}
