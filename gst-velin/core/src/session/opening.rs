//! From the first byte to the keys: INIT, RESP, FINI, and whether the peer is one we talk to.

use super::event::{Ended, Event};
use super::live::Live;
use super::{Phase, Role, Session};
use crate::handshake::mac1::Mac1Key;
use crate::handshake::noise::{Initiator, Responder};
use crate::handshake::packets::{
    Carriage, DecodeError, Fini, HandshakePacket, Resp, SessionIndex, Vers,
};
use crate::identity::{Grants, PublicKey};
use crate::time::MonoTime;
use crate::wire::{CloseCode, CloseReason, Hello, Intent, VERSIONS, common_version};

/// The payload of RESP: nothing about the device, which an active stranger could read.
const RESP_PAYLOAD: &[u8] = br#"{"versions":[1]}"#;

impl Session {
    pub(super) fn on_init(&mut self, packet: &[u8]) -> Result<Phase, Ended> {
        let init = match HandshakePacket::decode(packet, Carriage::Stream) {
            Ok(HandshakePacket::Init(init)) => init,
            Err(DecodeError::Version { version, initiator }) => {
                let vers = Vers { initiator, versions: VERSIONS };
                self.shell.send_handshake(&HandshakePacket::Vers(vers));
                return Err(Ended::Version { theirs: vec![version] });
            }
            _ => return Err(self.not_a_handshake("an INIT was expected")),
        };
        let own = self.shell.config.identity.public();
        if !Mac1Key::new(&own).admits(&init, false) {
            return Err(self.not_a_handshake("the caller expects another device here"));
        }
        let responder = Responder::new(
            &self.shell.config.identity,
            init.head(),
            &init.message,
            RESP_PAYLOAD,
            &mut *self.shell.entropy,
        )
        .map_err(|e| Ended::Handshake(e.to_string()))?;
        let resp = Resp {
            initiator: init.initiator,
            responder: self.index,
            message: responder.message2(),
        };
        self.shell.send_handshake(&HandshakePacket::Resp(resp));
        Ok(Phase::RespSent { responder: Box::new(responder), peer_index: init.initiator })
    }

    pub(super) fn on_resp(
        &mut self,
        now: MonoTime,
        initiator: Initiator,
        packet: &[u8],
    ) -> Result<Phase, Ended> {
        let resp = match HandshakePacket::decode(packet, Carriage::Stream) {
            Ok(HandshakePacket::Resp(resp)) if resp.initiator == self.index => resp,
            Ok(HandshakePacket::Vers(vers)) if vers.initiator == self.index => {
                return Err(Ended::Version { theirs: vers.versions.to_vec() });
            }
            _ => return Err(self.not_a_handshake("a RESP was expected")),
        };
        let ready = initiator
            .read(resp.message)
            .map_err(|rejected| Ended::Handshake(rejected.error.to_string()))?;
        let peer = ready.remote();
        let grants = self.judge(&peer)?;
        check_versions(ready.payload())?;
        let config = &self.shell.config;
        let hello = Hello {
            versions: VERSIONS.to_vec(),
            intent: Intent::Stream,
            agent: config.agent.clone(),
            name: config.name.clone(),
            udp: config.announced_udp(),
            critical: Vec::new(),
        };
        let (established, message3) =
            ready.write(&hello.encode()).map_err(|e| Ended::Handshake(e.to_string()))?;
        let fini = Fini { responder: resp.responder, message: &message3 };
        self.shell.send_handshake(&HandshakePacket::Fini(fini));
        let live = Live::new(now, self.role, self.index, resp.responder, established, grants);
        self.shell.events.push_back(Event::Authenticated { peer, grants });
        Ok(Phase::Live(Box::new(live)))
    }

    pub(super) fn on_fini(
        &mut self,
        now: MonoTime,
        responder: Responder,
        peer_index: SessionIndex,
        packet: &[u8],
    ) -> Result<Phase, Ended> {
        let fini = match HandshakePacket::decode(packet, Carriage::Stream) {
            Ok(HandshakePacket::Fini(fini)) if fini.responder == self.index => fini,
            _ => return Err(self.not_a_handshake("a FINI was expected")),
        };
        let (established, payload) = responder
            .read(fini.message)
            .map_err(|rejected| Ended::Handshake(rejected.error.to_string()))?;
        let peer = established.remote;
        let mut live = Live::new(now, self.role, self.index, peer_index, established, Grants::NONE);
        let verdict = self.judge(&peer).and_then(|grants| {
            let hello = Hello::decode(&payload)
                .map_err(|e| Ended::PeerMisbehaved(format!("its Hello: {e}")))?;
            if common_version(&hello.versions) != Some(1) {
                return Err(Ended::Downgrade);
            }
            Ok((grants, hello))
        });
        match verdict {
            Ok((grants, hello)) => {
                self.deadline = None;
                self.shell.events.push_back(Event::Authenticated { peer, grants });
                live.welcome(&mut self.shell, now, grants, hello);
                Ok(Phase::Live(Box::new(live)))
            }
            Err(ended) => {
                live.say_close(&mut self.shell, &close_reason_for(&ended));
                Err(ended)
            }
        }
    }

    /// Whether we talk to `peer`, and what it may do (see `docs/protocol.md`, section 2.3). The
    /// caller asks before it reveals itself, the listener when the caller has proved its key.
    fn judge(&self, peer: &PublicKey) -> Result<Grants, Ended> {
        let config = &self.shell.config;
        if let Some(expected) = config.expected_peer
            && expected != *peer
        {
            return Err(Ended::IdentityMismatch { expected, got: *peer });
        }
        if *peer == config.identity.public() {
            return if config.accept_own_key { Ok(Grants::ALL) } else { Err(Ended::OwnKey) };
        }
        match config.trust.grants(peer) {
            Some(grants) => Ok(grants),
            // A caller that names the key consents to this link; a listener needs the trust.
            None if self.role == Role::Caller && config.expected_peer.is_some() => Ok(Grants::NONE),
            None => Err(Ended::UnknownPeer(*peer)),
        }
    }

    fn not_a_handshake(&mut self, what: &str) -> Ended {
        self.shell.counters.malformed += 1;
        Ended::Handshake(what.to_owned())
    }
}

/// What the other side is told.
pub(super) fn close_reason_for(ended: &Ended) -> CloseReason {
    let code = match ended {
        Ended::ByUs(reason) => return reason.clone(),
        Ended::UnknownPeer(_) => CloseCode::UNTRUSTED,
        Ended::IdentityMismatch { .. } => CloseCode::IDENTITY_MISMATCH,
        Ended::OwnKey => CloseCode::SELF,
        Ended::Downgrade => CloseCode::DOWNGRADE,
        Ended::Version { .. } => CloseCode::VERSION,
        Ended::PathLost(_) => CloseCode::PATH_LOST,
        Ended::HandshakeTimeout(_) => CloseCode::IDLE_TIMEOUT,
        _ => CloseCode::PROTOCOL,
    };
    CloseReason::new(code, "")
}

/// RESP's payload: `{"versions":[…]}`. The version in use must be the highest common one.
fn check_versions(payload: &[u8]) -> Result<(), Ended> {
    #[derive(serde::Deserialize)]
    struct Versions {
        versions: Vec<u8>,
    }
    let parsed: Versions = serde_json::from_slice(payload)
        .map_err(|_| Ended::PeerMisbehaved("its list of versions".into()))?;
    if common_version(&parsed.versions) == Some(1) { Ok(()) } else { Err(Ended::Downgrade) }
}
