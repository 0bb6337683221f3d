//! What the link tells the elements.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use velin_core::identity::{Name, PublicKey};
use velin_core::session::{Ended, Route};

use super::connect::ConnectError;
use super::trust::ExpiredTrust;

/// Takes events on a network thread, with no lock held. Must not wait.
pub type Observer = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// A peer, authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who it is.
    pub key: PublicKey,
    /// What it calls itself, or what the trust file calls it.
    pub name: Option<Name>,
    /// The other end of the TCP connection.
    pub address: SocketAddr,
}

/// Something happened on a link.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// An attempt starts.
    Connecting {
        /// Host and port as the user wrote them.
        to: String,
    },
    /// An attempt failed; another follows unless `retry_in` is `None`.
    ConnectFailed {
        /// Why.
        error: ConnectError,
        /// When the next attempt starts.
        retry_in: Option<Duration>,
    },
    /// Both sides accepted each other.
    Connected(PeerInfo),
    /// The peer takes our stream: audio flows.
    Streaming(PeerInfo),
    /// Which way media to and from a peer goes from now on, and why.
    Carried {
        /// Whose.
        peer: PeerInfo,
        /// The way.
        route: Route,
        /// Why this one.
        why: CarrierReason,
    },
    /// Nothing heard for a second.
    Stalled(PeerInfo),
    /// Heard again after this long.
    Recovered(PeerInfo, Duration),
    /// An established session ended; a new one follows unless `retry_in` is `None`.
    Lost {
        /// With whom.
        peer: PeerInfo,
        /// Why.
        ended: Ended,
        /// When the next attempt starts.
        retry_in: Option<Duration>,
    },
    /// The session of a listener with one of its callers ended.
    Left {
        /// Who it was.
        peer: PeerInfo,
        /// Why.
        ended: Ended,
    },
    /// The caller gives up: trying again cannot help before somebody changes something.
    Refused {
        /// Why.
        ended: Ended,
        /// Whom we called.
        to: String,
        /// If it is a stranger only because our trust in it ran out.
        expired: Option<ExpiredTrust>,
    },
    /// Our stream alone was refused.
    StreamRefused {
        /// By whom.
        peer: PeerInfo,
        /// Why.
        reason: velin_core::wire::CloseReason,
    },
    /// A stream that this element wants is played by another one on the same link.
    StreamTaken {
        /// Whose stream.
        peer: PeerInfo,
        /// What it is called.
        name: Name,
    },
    /// Nothing that the peer offers is wanted here.
    NothingToPlay(PeerInfo),
    /// A listener turned a caller away.
    CallerRefused {
        /// Where it called from.
        address: SocketAddr,
        /// Why.
        ended: Ended,
        /// If it is a stranger only because our trust in it ran out.
        expired: Option<ExpiredTrust>,
    },
    /// The trust file could not be read again; the last good one stays in force.
    TrustUnreadable(String),
}

/// Why media goes the way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierReason {
    /// UDP answered.
    UdpAnswers,
    /// UDP has not answered yet, or answers no more: perhaps a firewall drops it.
    UdpSilent,
    /// The peer has not been heard for 5 s.
    PeerSilent,
    /// The user chose it.
    Chosen,
}

impl CarrierReason {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UdpAnswers => "UDP answers",
            Self::UdpSilent => {
                "UDP does not answer; let it through the firewalls between both ends"
            }
            Self::PeerSilent => "the peer is silent",
            Self::Chosen => "carrier=tcp",
        }
    }
}
