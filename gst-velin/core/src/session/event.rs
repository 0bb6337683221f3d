//! What a session tells its driver.

use std::net::SocketAddr;
use std::time::Duration;

use super::asks::AskId;
use super::live::UNRENEWED_AFTER;
use crate::codec::StreamFormat;
use crate::identity::{Grants, Name, PublicKey};
use crate::units::StreamId;
use crate::wire::{CloseCode, CloseReason, Copies, FramingError, NameGlob, StreamOffer};

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The peer proved its key and we trust it. Streams may be opened.
    Authenticated {
        /// Who it is.
        peer: PublicKey,
        /// What it may do here.
        grants: Grants,
    },
    /// The peer accepted us, too.
    Open {
        /// What it calls itself.
        name: Option<Name>,
    },
    /// The peer offers a stream; answer with `accept_stream` or `remove_stream`.
    StreamOffered(StreamOffer),
    /// The peer takes our stream; media may flow.
    StreamAccepted {
        /// Which.
        id: StreamId,
        /// The format it chose.
        format: StreamFormat,
    },
    /// A stream is over. For an offer of ours, `reason` may be a refusal.
    StreamRemoved {
        /// Which.
        id: StreamId,
        /// Why.
        reason: CloseReason,
    },
    /// The peer wants every stream of ours whose name fits, now and from now on: offer them with
    /// this ask, or `refuse_ask`. Never on a caller, which offers what it has by itself, and never
    /// without the grant `capture-from-me`.
    StreamAsked {
        /// Which.
        ask: AskId,
        /// What for.
        name: NameGlob,
    },
    /// An ask is over. Streams that were opened for it go on.
    AskEnded {
        /// Which.
        ask: AskId,
        /// Why.
        code: CloseCode,
        /// Whether it was ours, which the peer refuses, or the peer's, which it withdraws.
        ours: bool,
    },
    /// The peer wants copies of older blocks in the packets of our stream, or none any more.
    CopiesWanted {
        /// Which.
        id: StreamId,
        /// Which blocks.
        copies: Copies,
    },
    /// Media goes another way from now on, or none ([`Route::Held`]).
    RouteChanged(Route),
    /// Nothing authenticated arrived for a second.
    Stalled,
    /// Nothing authenticated arrived for five seconds, or this long. Media is held, every way to
    /// the peer is tried eight times a second, and the keys are kept for a minute.
    Lost(Duration),
    /// The connection ended, and the session goes on by UDP for a while: a new session with this
    /// peer should take over.
    Detached,
    /// This program or machine was stopped for about this long.
    Woke(Duration),
    /// Something arrived again, after this long.
    Recovered(Duration),
    /// The session is a day old, or out of stream ids: a new one should take over, and this one be
    /// closed with `SUPERSEDED`. Told once; nothing else happens by itself.
    RenewalDue,
    /// New keys are in use.
    Rekeyed {
        /// Their epoch.
        epoch: u32,
    },
    /// The session is over. The last event.
    Closed(Ended),
}

/// Which way packets of stream 0xFFFF and media leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// UDP to this address, which answered a challenge.
    Datagram(SocketAddr),
    /// Inside the TCP connection.
    Stream,
    /// There is no way: nothing is sealed until the peer is heard again.
    Held,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// We closed it.
    #[error("closed: {0}")]
    ByUs(CloseReason),
    /// The peer closed it, authenticated.
    #[error("the peer closed the session: {0}")]
    ByPeer(CloseReason),
    /// The connection ended without a CLOSE: a crash, a reset, or somebody cut it.
    #[error("the connection ended without a goodbye")]
    Truncated,
    /// The connection ended, UDP went on, and no new session took over.
    #[error("the control connection was not renewed within {} s", UNRENEWED_AFTER.as_secs())]
    Unrenewed,
    /// Nothing authenticated for too long.
    #[error("nothing was heard from the peer for {} s", .0.as_secs())]
    PathLost(Duration),
    /// The handshake did not finish in time.
    #[error("the peer did not finish the handshake within {} s", .0.as_secs())]
    HandshakeTimeout(Duration),
    /// What arrived is not this protocol.
    #[error("the other side does not speak the Velin link: {0}")]
    NotVelin(#[from] FramingError),
    /// A handshake packet that is none, or one that nobody with the right key wrote.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// The peer speaks other versions only.
    #[error("no common version: the peer speaks {theirs:?}, this is version 1")]
    Version {
        /// What the peer speaks.
        theirs: Vec<u8>,
    },
    /// Somebody edited the version list on the way.
    #[error("the version was tampered with on the way")]
    Downgrade,
    /// The key is nobody we trust. On a caller, nothing about us was revealed.
    #[error("the peer is not trusted: {recipient}", recipient = .0.recipient())]
    UnknownPeer(PublicKey),
    /// Another key answered than the one asked for.
    #[error("another device answered: expected {}, got {}", .expected.recipient(), .got.recipient())]
    IdentityMismatch {
        /// The key asked for.
        expected: PublicKey,
        /// The key that answered.
        got: PublicKey,
    },
    /// We called ourselves.
    #[error("the other end has this device's own key")]
    OwnKey,
    /// The authenticated peer broke the rules.
    #[error("the peer misbehaved: {0}")]
    PeerMisbehaved(String),
}
