//! How two sessions start.

use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use velin_core::handshake::packets::SessionIndex;
use velin_core::identity::{Grant, Grants, Identity, Name, PublicKey};
use velin_core::session::{Carrier as Carriage, Session, SessionConfig, Trust};
use velin_core::time::MonoTime;
use velin_core::wire::UdpEndpoint;

use super::ms;
use super::netem::{Netem, Settings};
use super::pair::{End, Pair};
use super::rng::Rng;
use super::way::{Attacker, Tcp, Wire};

/// How two sessions start. Every field may be changed before [`build`](Self::build).
pub struct Setup {
    /// Everything random follows from it.
    pub seed: u64,
    /// The caller's side.
    pub caller: Party,
    /// The listener's side.
    pub listener: Party,
    /// The UDP network, both ways.
    pub udp: Settings,
    /// One-way delay of the TCP connection.
    pub tcp_delay: Duration,
    /// Between the two.
    pub attacker: Option<Attacker>,
}

/// One side's settings.
pub struct Party {
    /// Secret of the device key.
    pub secret: [u8; 32],
    /// What the other's key may do here; `None`: a stranger.
    pub trusts: Option<Grants>,
    /// `peer=`.
    pub expects: Option<PublicKey>,
    /// Our own key on the other side is welcome.
    pub accept_own_key: bool,
    /// What carries its packets.
    pub carrier: Carriage,
    /// Largest UDP payload, both ways.
    pub mtu: u16,
    /// Whether it has a UDP socket.
    pub udp: bool,
    /// The address of the UDP socket.
    pub address: SocketAddr,
    /// Takes every offered stream it can play.
    pub accepts_streams: bool,
}

impl Setup {
    /// Two devices that trust each other, 1 ms apart. The seed is the place this is called from.
    #[track_caller]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let place = Location::caller();
        let seed = place.file().bytes().fold(u64::from(place.line()), |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self::seeded(seed ^ u64::from(place.column()) << 48)
    }

    /// As [`new`](Self::new), from a seed.
    pub fn seeded(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork(1);
        let mut party = |address: &str| {
            let mut secret = [0; 32];
            velin_core::entropy::Entropy::fill(&mut rng, &mut secret);
            Party {
                secret,
                trusts: Some(Grants::PLAY_TO_ME.with(Grant::CaptureFromMe)),
                expects: None,
                accept_own_key: false,
                carrier: Carriage::Lan,
                mtu: 1200,
                udp: true,
                address: address.parse().expect("an address"),
                accepts_streams: true,
            }
        };
        Self {
            seed,
            caller: party("192.0.2.1:50001"),
            listener: party("192.0.2.2:49001"),
            udp: Settings { delay: ms(1), ..Settings::default() },
            tcp_delay: ms(1),
            attacker: None,
        }
    }

    /// With something between the two.
    #[must_use]
    pub fn attacked(mut self, attacker: impl FnMut(Wire) -> Vec<Wire> + Send + 'static) -> Self {
        self.attacker = Some(Box::new(attacker));
        self
    }

    /// Both sessions exist; nothing has been sent.
    pub fn build(self) -> Pair {
        let now = MonoTime::ZERO;
        let rng = Rng::new(self.seed);
        let index = |purpose| {
            let random = rng.fork(purpose).next() as u32;
            SessionIndex::new(random | 1).expect("not zero")
        };
        let keys = [self.caller.key(), self.listener.key()];
        let config = |own: &Party, peer: &Party| SessionConfig {
            identity: Arc::new(Identity::from_secret(own.secret)),
            trust: Arc::new(Book(own.trusts.map(|grants| (peer.key(), grants)))),
            expected_peer: own.expects,
            accept_own_key: own.accept_own_key,
            agent: Name::new("velin-test").ok(),
            name: Name::new("test device").ok(),
            carrier: own.carrier,
            udp: own.udp.then(|| UdpEndpoint { port: own.address.port(), mtu: own.mtu }),
            peer_address: SocketAddr::new(peer.address.ip(), 49000),
            mtu: own.mtu.into(),
        };
        let caller = Session::caller(
            config(&self.caller, &self.listener),
            index(2),
            Box::new(rng.fork(3)),
            now,
        );
        let listener = Session::listener(
            config(&self.listener, &self.caller),
            index(4),
            Box::new(rng.fork(5)),
            now,
        );
        Pair {
            now,
            ends: [End::new(caller, &self.caller), End::new(listener, &self.listener)],
            keys,
            udp: [Netem::new(self.udp.clone(), self.seed ^ 6), Netem::new(self.udp, self.seed ^ 7)],
            udp_blocked: [false; 2],
            stopped: [MonoTime::ZERO; 2],
            tcp: Tcp { delay: self.tcp_delay, ..Tcp::default() },
            attacker: self.attacker,
            record: None,
            astray: Vec::new(),
        }
    }

    /// Both sessions, open.
    pub fn open(self) -> Pair {
        let mut pair = self.build();
        pair.run_until_open();
        pair
    }
}

impl Party {
    /// The device key.
    pub fn key(&self) -> PublicKey {
        Identity::from_secret(self.secret).public()
    }
}

struct Book(Option<(PublicKey, Grants)>);

impl Trust for Book {
    fn grants(&self, peer: &PublicKey) -> Option<Grants> {
        self.0.filter(|(key, _)| key == peer).map(|(_, grants)| grants)
    }
}
