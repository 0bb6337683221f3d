//! Packets of strangers: the handshake's, and the header of DATA.

use std::sync::Arc;

use velin_core::handshake::packets::{Carriage, HandshakePacket, SessionIndex};
use velin_core::identity::{Grants, Identity, Name, PublicKey};
use velin_core::session::header::Header;
use velin_core::session::{Carrier, Session, SessionConfig, StreamEnd, Transmit, Trust};
use velin_core::time::MonoTime;
use velin_core::wire::{UdpEndpoint, frame_packet};

use crate::support::rng::Rng;

/// A packet decodes to one value, whose encoding is the packet; and a session that gets it from a
/// stranger neither panics, nor answers at length, nor takes it for more than it is.
pub fn run(data: &[u8]) {
    for carriage in [Carriage::Datagram, Carriage::Stream] {
        if let Ok(packet) = HandshakePacket::decode(data, carriage) {
            let mut again = Vec::new();
            packet.encode(carriage, &mut again).expect("it was a packet before");
            assert_eq!(again, data, "{carriage:?}");
        }
    }
    if let Ok(header) = Header::parse(data) {
        let mut again = [0; 16];
        again[0] = 0x5D;
        again[1] = header.epoch;
        again[2..4].copy_from_slice(&header.stream.0.to_be_bytes());
        again[4..8].copy_from_slice(&header.receiver.to_bytes());
        again[8..].copy_from_slice(&header.counter.get().to_be_bytes());
        assert_eq!(again, data[..16]);
    }
    if !data.is_empty() && data.len() <= 4096 {
        let mut framed = Vec::new();
        frame_packet(data, &mut framed);
        stranger(&framed);
    }
    stranger(data);
}

/// `bytes` come out of a fresh connection.
fn stranger(bytes: &[u8]) {
    let now = MonoTime::ZERO;
    let index = SessionIndex::new(1).expect("not zero");
    let entropy = || Box::new(Rng::new(1));
    for mut session in [
        Session::listener(config(), index, entropy(), now),
        Session::caller(config(), index, entropy(), now),
    ] {
        while session.poll_transmit().is_some() {}
        session.handle_stream(now, bytes, &mut ());
        session.handle_datagram(now, ([192, 0, 2, 9], 9).into(), &mut bytes.to_vec(), &mut ());
        let mut answered = 0;
        while let Some(transmit) = session.poll_transmit() {
            match transmit {
                Transmit::Stream(out) => answered += out.len(),
                Transmit::Datagram { .. } => panic!("UDP to a stranger"),
            }
        }
        // RESP: 2 + 12 + 112; VERS is shorter.
        assert!(answered <= 126, "{answered} bytes");
        assert_eq!(session.peer(), None);
        assert_eq!(session.counters().received, 0);
        let mut events = 0;
        while let Some(event) = session.poll_event() {
            events += 1;
            assert!(events == 1 && session.is_closed(), "{event:?}");
        }
        session.handle_timeout(now);
        session.handle_stream_end(now, StreamEnd::Closed);
        assert!(session.is_closed());
    }
}

fn config() -> SessionConfig {
    SessionConfig {
        carrier: Carrier::Lan,
        identity: Arc::new(Identity::from_secret([1; 32])),
        trust: Arc::new(Everybody),
        expected_peer: None,
        accept_own_key: false,
        agent: Name::new("velin-test").ok(),
        name: Name::new("test device").ok(),
        udp: Some(UdpEndpoint { port: 49001, mtu: 1200 }),
        peer_address: ([192, 0, 2, 9], 49000).into(),
        mtu: 1200,
    }
}

struct Everybody;

impl Trust for Everybody {
    fn grants(&self, _: &PublicKey) -> Option<Grants> {
        Some(Grants::PLAY_TO_ME)
    }
}
