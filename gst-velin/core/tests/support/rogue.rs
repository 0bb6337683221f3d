//! A trusted peer that breaks the rules: a caller with keys and without manners.

use std::collections::HashMap;

use velin_core::handshake::noise::Initiator;
use velin_core::handshake::packets::{
    Carriage, Fini, HandshakePacket, Init, InitHead, SessionIndex,
};
use velin_core::handshake::schedule::{Direction, EpochSecrets};
use velin_core::identity::Identity;
use velin_core::session::opener::Opener;
use velin_core::session::sealer::Sealers;
use velin_core::session::{Session, Transmit};
use velin_core::units::StreamId;
use velin_core::wire::{Deframer, Frame, Frames, frame_packet, put_ctrl};

use super::pair::{Caller, Listener, Pair, Setup};
use super::rng::Rng;

/// The Hello of an honest caller with a UDP socket.
pub const HELLO: &str = r#"{"versions":[1],"intent":"stream","udp":{"port":50001,"mtu":1200}}"#;

/// The rogue, and the honest listener it talks to inside a [`Pair`] whose caller is dead.
pub struct Rogue {
    /// The pair; only its listener lives.
    pub pair: Pair,
    sealers: Sealers,
    openers: HashMap<StreamId, Opener>,
    secrets: EpochSecrets,
    index: SessionIndex,
    deframer: Deframer,
    offset: u64,
}

impl Rogue {
    /// Shakes hands with `hello`.
    pub fn new(setup: Setup, hello: &str) -> Self {
        let identity = Identity::from_secret(setup.caller.secret);
        let mut rng = Rng::new(setup.seed).fork(99);
        // What the honest caller sends never arrives; what the listener says is taken directly.
        let mut pair = setup.attacked(|_| Vec::new()).build();
        pair.keep_connection(Caller);
        let index = SessionIndex::new(0x0BAD_0001).expect("not zero");
        let initiator = Initiator::new(&identity, InitHead::new(index), &mut rng).expect("keys");
        let init =
            Init { initiator: index, mac1: None, token: None, message: *initiator.message1() };
        let listener = pair.session(Listener);
        feed(listener, &HandshakePacket::Init(init));
        let Some(Transmit::Stream(bytes)) = listener.poll_transmit() else { panic!("no RESP") };
        let Ok(HandshakePacket::Resp(resp)) =
            HandshakePacket::decode(&bytes[2..], Carriage::Stream)
        else {
            panic!("no RESP")
        };
        let ready = initiator.read(resp.message).expect("a genuine RESP");
        let (established, message) = ready.write(hello.as_bytes()).expect("a short Hello");
        let fini = Fini { responder: resp.responder, message: &message };
        feed(listener, &HandshakePacket::Fini(fini));
        let secrets = EpochSecrets::initial(&established, index, resp.responder);
        let sealers = Sealers::new(&secrets, Direction::InitiatorToResponder, resp.responder);
        let mut deframer = Deframer::new();
        deframer.authenticated();
        let openers = HashMap::new();
        Self { pair, sealers, openers, secrets, index, deframer, offset: 0 }
    }

    /// The honest listener.
    pub fn listener(&mut self) -> &mut Session {
        self.pair.session(Listener)
    }

    /// A genuine packet with any content.
    pub fn packet(&mut self, stream: StreamId, frames: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 16 + frames.len() + 16];
        packet[16..16 + frames.len()].copy_from_slice(frames);
        let sealer = self.sealers.sealer(stream).expect("never retired");
        sealer.seal(&mut packet, frames.len()).expect("room");
        packet
    }

    /// Sends it by TCP.
    pub fn send(&mut self, stream: StreamId, frames: &[u8]) {
        let packet = self.packet(stream, frames);
        let mut framed = Vec::new();
        frame_packet(&packet, &mut framed);
        self.pair.inject_tcp(Listener, &framed);
    }

    /// Sends it by UDP.
    pub fn send_udp(&mut self, stream: StreamId, frames: &[u8]) {
        let packet = self.packet(stream, frames);
        let from = self.pair.end(Caller).address;
        self.pair.inject_udp(Listener, from, &packet);
    }

    /// Sends any bytes as one control message.
    pub fn say(&mut self, json: &str) {
        let message = [&(json.len() as u16).to_be_bytes()[..], json.as_bytes()].concat();
        let mut frames = Vec::new();
        put_ctrl(self.offset, &message, &mut frames);
        self.offset += message.len() as u64;
        self.send(StreamId::CONTROL, &frames);
    }

    /// Opens what the listener sent by TCP; gives each frame as `each` sees it.
    pub fn read<T>(&mut self, bytes: &[u8], mut each: impl FnMut(&Frame<'_>) -> T) -> Vec<T> {
        let mut out = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.deframer.push(rest);
            rest = &rest[taken..];
            while let Some(packet) = self.deframer.next().expect("honest framing") {
                let stream = StreamId(u16::from_be_bytes([packet[2], packet[3]]));
                let opener = self.openers.entry(stream).or_insert_with(|| {
                    let direction = Direction::ResponderToInitiator;
                    Opener::new(&self.secrets, direction, self.index, stream)
                });
                let opened = opener.open(packet).expect("a genuine packet");
                out.extend(Frames::new(stream, opened.frames).map(|f| each(&f.expect("a frame"))));
            }
        }
        out
    }
}

fn feed(listener: &mut Session, packet: &HandshakePacket<'_>) {
    let (mut bytes, mut framed) = (Vec::new(), Vec::new());
    packet.encode(Carriage::Stream, &mut bytes).expect("it fits");
    frame_packet(&bytes, &mut framed);
    listener.handle_stream(velin_core::time::MonoTime::ZERO, &framed, &mut ());
}
