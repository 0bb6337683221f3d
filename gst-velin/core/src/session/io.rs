//! What goes into a session and comes out of it, but for events.

use std::net::SocketAddr;

use crate::units::StreamId;
use crate::wire::{AudioFrame, NackEntries, Report};

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The calling side: the Noise initiator.
    Caller,
    /// The listening side: the Noise responder.
    Listener,
}

/// How a TCP connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The other side closed or reset it: its process is gone, or somebody on the way did that.
    Closed,
    /// Our system gave it up, or there was an error on our side.
    TimedOut,
}

/// Something to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// These bytes go into the TCP connection, in order.
    Stream(Vec<u8>),
    /// This packet goes to `to` by UDP.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// The packet.
        packet: Vec<u8>,
    },
}

/// Takes what arrives on media streams. Called on the thread that handed in the packet.
pub trait MediaSink {
    /// A block of `stream`, authenticated and never seen before under its packet's number. The
    /// same *block* may come again, as a copy or over another path.
    fn audio(&mut self, stream: StreamId, frame: &AudioFrame<'_>);

    /// How the receiver of our `stream` fares.
    fn report(&mut self, _stream: StreamId, _report: &Report) {}

    /// The receiver of our `stream` asks for blocks again.
    fn nack(&mut self, _stream: StreamId, _entries: NackEntries<'_>) {}
}

/// Takes nothing.
impl MediaSink for () {
    fn audio(&mut self, _: StreamId, _: &AudioFrame<'_>) {}
}
