//! What a session can be asked.

use std::time::Duration;

use super::{Phase, Role, Route, Session, SessionCounters};
use crate::handshake::packets::SessionIndex;
use crate::identity::{Grants, PublicKey};

impl Session {
    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether the connection is gone and the session goes on without.
    pub fn is_detached(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if live.is_detached())
    }

    /// Whether nothing was heard for five seconds, so that media is held.
    pub fn is_lost(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if live.is_lost())
    }

    /// Our index: what UDP packets for this session carry.
    pub fn index(&self) -> SessionIndex {
        self.index
    }

    /// Who connected.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The authenticated peer.
    pub fn peer(&self) -> Option<PublicKey> {
        match &self.phase {
            Phase::Live(live) => Some(live.peer()),
            _ => None,
        }
    }

    /// What the authenticated peer may do here.
    pub fn peer_grants(&self) -> Option<Grants> {
        match &self.phase {
            Phase::Live(live) => Some(live.grants()),
            _ => None,
        }
    }

    /// Smoothed round-trip time.
    pub fn rtt(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Live(live) => live.rtt(),
            _ => None,
        }
    }

    /// The largest packet that both sides take by UDP, in bytes of UDP payload: ours from
    /// [`SessionConfig::mtu`](super::SessionConfig::mtu) until the peer has named its own. A block
    /// needs [`MEDIA_OVERHEAD`](super::MEDIA_OVERHEAD) bytes beside its samples.
    pub fn mtu(&self) -> usize {
        match &self.phase {
            Phase::Live(live) => live.mtu(&self.shell),
            _ => self.shell.config.mtu,
        }
    }

    /// Which way media leaves.
    pub fn route(&self) -> Option<Route> {
        match &self.phase {
            Phase::Live(live) => Some(live.route()),
            _ => None,
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> SessionCounters {
        self.shell.counters
    }
}
