//! What travels between two sessions, and the TCP connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use velin_core::session::{Role, StreamEnd};
use velin_core::time::MonoTime;

/// What travels, as an attacker between the two sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// When.
    pub now: MonoTime,
    /// Towards whom.
    pub to: Role,
    /// In what.
    pub carrier: Carrier,
    /// The bytes: of TCP, whatever was written at once.
    pub bytes: Vec<u8>,
}

/// The two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Bytes in order.
    Tcp,
    /// A datagram with its addresses.
    Udp {
        /// Source.
        from: SocketAddr,
        /// Destination.
        to: SocketAddr,
    },
}

impl Wire {
    /// The whole packets inside a piece of TCP.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        if self.carrier != Carrier::Tcp {
            return vec![self.bytes.clone()];
        }
        let (mut rest, mut out) = (&self.bytes[..], Vec::new());
        while let [a, b, tail @ ..] = rest {
            let (packet, after) = tail.split_at(usize::from(u16::from_be_bytes([*a, *b])));
            out.push(packet.to_vec());
            rest = after;
        }
        out
    }
}

/// Sees everything; gives what goes on in its stead.
pub type Attacker = Box<dyn FnMut(Wire) -> Vec<Wire> + Send>;

/// When something arrives, and what: bytes, or the end.
type Delivery = (MonoTime, Result<Vec<u8>, StreamEnd>);

/// The connection: bytes in order, late perhaps, never lost.
#[derive(Debug, Default)]
pub struct Tcp {
    /// One way.
    pub delay: Duration,
    /// Nothing passes from, up to.
    pub outages: Vec<(MonoTime, MonoTime)>,
    /// Towards caller, towards listener: bytes, or the end of the connection.
    pub(super) queues: [VecDeque<Delivery>; 2],
    pub(super) last_due: [MonoTime; 2],
}

impl Tcp {
    pub(super) fn send(&mut self, now: MonoTime, to: Role, bytes: Result<Vec<u8>, StreamEnd>) {
        let due = (now + self.delay).max(self.last_due[to as usize]);
        self.last_due[to as usize] = due;
        self.queues[to as usize].push_back((due, bytes));
    }

    /// When what waits is due, an outage being over.
    pub(super) fn timeout(&self, to: Role) -> Option<MonoTime> {
        let mut due = self.queues[to as usize].front()?.0;
        for (from, until) in &self.outages {
            if *from <= due && due < *until {
                due = *until + self.delay;
            }
        }
        Some(due)
    }

    pub(super) fn poll(&mut self, now: MonoTime, to: Role) -> Option<Result<Vec<u8>, StreamEnd>> {
        self.timeout(to).filter(|due| *due <= now)?;
        self.queues[to as usize].pop_front().map(|(_, bytes)| bytes)
    }
}
