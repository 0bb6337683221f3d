//! The handshake and its packets under hostile bytes.

use proptest::prelude::*;

use velin_core::entropy::Entropy;
use velin_core::handshake::mac1::{Mac1, Mac1Key};
use velin_core::handshake::noise::{Established, HandshakeError, Initiator, Responder};
use velin_core::handshake::packets::{
    Carriage, DATAGRAM_LEN, DecodeError, Fini, HandshakePacket, Init, InitHead, Resp, Retry,
    SessionIndex, Vers,
};
use velin_core::handshake::retry::Token;
use velin_core::identity::Identity;

/// Different bytes each time, the same from each seed (SplitMix64).
struct Seeded(u64);

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

fn pair(seed: u64) -> (Initiator, Responder) {
    let mut entropy = Seeded(seed);
    let head = InitHead::new(SessionIndex::new(0x0102_0304).unwrap());
    let (a, b) = (Identity::from_secret([3; 32]), Identity::from_secret([4; 32]));
    let initiator = Initiator::new(&a, head, &mut entropy).unwrap();
    let responder = Responder::new(&b, head, initiator.message1(), b"resp", &mut entropy).unwrap();
    (initiator, responder)
}

fn same(a: &Established, b: &Established) -> bool {
    (a.h, &a.k1, &a.k2) == (b.h, &b.k1, &b.k2)
}

fn index() -> impl Strategy<Value = SessionIndex> {
    (1_u32..).prop_map(|index| SessionIndex::new(index).unwrap())
}

fn carriage() -> impl Strategy<Value = Carriage> {
    prop_oneof![Just(Carriage::Datagram), Just(Carriage::Stream)]
}

fn round_trip(packet: HandshakePacket<'_>, carriage: Carriage) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    packet.encode(carriage, &mut bytes).unwrap();
    prop_assert_eq!(HandshakePacket::decode(&bytes, carriage), Ok(packet));
    if carriage == Carriage::Datagram && bytes[0] <= 0x53 {
        prop_assert_eq!(bytes.len(), DATAGRAM_LEN);
    }
    // Strict: one byte more or less is another packet, or none.
    bytes.push(0);
    prop_assert!(HandshakePacket::decode(&bytes, carriage).is_err());
    bytes.truncate(bytes.len() - 2);
    prop_assert_ne!(HandshakePacket::decode(&bytes, carriage), Ok(packet));
    Ok(())
}

#[test]
fn a_damaged_copy_of_the_genuine_fini_does_not_end_the_handshake() {
    let (initiator, mut responder) = pair(1);
    let ready = initiator.read(responder.message2()).unwrap();
    let (a, message3) = ready.write(b"hello").unwrap();
    // Each byte damaged in turn: the sealed key, the payload, the tag. Then truncated, extended.
    let mut forgeries: Vec<Vec<u8>> = (0..message3.len())
        .map(|at| {
            let mut forged = message3.clone();
            forged[at] ^= 0x40;
            forged
        })
        .collect();
    forgeries.push(message3[..message3.len() - 1].to_vec());
    forgeries.push([&message3[..], &[0]].concat());
    for forged in forgeries {
        let rejected = responder.read(&forged).unwrap_err();
        assert_eq!(rejected.error, HandshakeError::Unauthentic);
        responder = rejected.state;
    }
    let (b, payload) = responder.read(&message3).unwrap();
    assert_eq!(payload, b"hello");
    assert!(same(&a, &b));
}

#[test]
fn a_damaged_copy_of_the_genuine_resp_does_not_end_the_handshake() {
    let (mut initiator, responder) = pair(2);
    for at in 0..responder.message2().len() {
        let mut forged = responder.message2().to_vec();
        forged[at] ^= 0x40;
        initiator = initiator.read(&forged).unwrap_err().state;
    }
    let (a, message3) = initiator.read(responder.message2()).unwrap().write(b"").unwrap();
    let (b, _) = responder.read(&message3).unwrap();
    assert!(same(&a, &b));
}

#[test]
fn a_resp_of_an_impostor_shows_the_impostors_key_before_we_reveal_ours() {
    let (initiator, _) = pair(3);
    let impostor = Identity::from_secret([9; 32]);
    let head = InitHead::new(SessionIndex::new(0x0102_0304).unwrap());
    let answer =
        Responder::new(&impostor, head, initiator.message1(), b"", &mut Seeded(4)).unwrap();
    assert_eq!(initiator.read(answer.message2()).unwrap().remote(), impostor.public());
}

#[test]
fn an_init_head_that_changed_on_the_way_breaks_the_handshake() {
    let (initiator, _) = pair(5);
    let b = Identity::from_secret([4; 32]);
    let head = InitHead::new(SessionIndex::new(0x0102_0305).unwrap());
    let answer = Responder::new(&b, head, initiator.message1(), b"", &mut Seeded(6)).unwrap();
    assert!(initiator.read(answer.message2()).is_err());
}

#[test]
fn a_payload_past_the_limit_is_refused_before_it_is_sent() {
    let (initiator, responder) = pair(7);
    let ready = initiator.read(responder.message2()).unwrap();
    assert_eq!(ready.write(&[0; 1025]).unwrap_err(), HandshakeError::PayloadLength);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let (initiator, responder) = pair(8);
    let ready = initiator.read(responder.message2()).unwrap();
    let (a, message3) = ready.write(b"").unwrap();
    assert_eq!(format!("{responder:?}"), "Responder { .. }");
    let (b, _) = responder.read(&message3).unwrap();
    for end in [a, b] {
        let text = format!("{end:?}");
        assert!(text.starts_with("Established { remote: PublicKey("), "{text}");
        assert!(!text.contains("k1") && !text.contains("h:"), "{text}");
    }
}

#[test]
fn an_init_of_another_version_says_so_whatever_follows() {
    let mut bytes = vec![0xff; DATAGRAM_LEN];
    bytes[..8].copy_from_slice(&[0x51, 9, 1, 2, 0, 0, 0, 5]);
    let initiator = SessionIndex::new(5).unwrap();
    assert_eq!(
        HandshakePacket::decode(&bytes, Carriage::Datagram),
        Err(DecodeError::Version { version: 9, initiator })
    );
    // Too short on UDP: a VERS would amplify what a liar sent.
    assert_eq!(
        HandshakePacket::decode(&bytes[..1199], Carriage::Datagram),
        Err(DecodeError::Length)
    );
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    let init = Init {
        initiator: SessionIndex::new(1).unwrap(),
        mac1: None,
        token: None,
        message: [1; 32],
    };
    let mut bytes = Vec::new();
    init.encode(Carriage::Datagram, &mut bytes);
    bytes[1199] = 1;
    assert_eq!(HandshakePacket::decode(&bytes, Carriage::Datagram), Err(DecodeError::NotZero));
}

#[test]
fn a_wrong_mac1_is_never_admitted_and_a_missing_one_only_where_none_is_required() {
    let key = Mac1Key::new(&Identity::from_secret([4; 32]).public());
    let mut init = Init {
        initiator: SessionIndex::new(1).unwrap(),
        mac1: None,
        token: None,
        message: [1; 32],
    };
    assert!(key.admits(&init, false));
    assert!(!key.admits(&init, true));
    let right = key.compute(init.head(), &init.message);
    for (at, admitted) in [(None, true), (Some(0), false), (Some(15), false)] {
        let mut mac1 = right;
        if let Some(at) = at {
            mac1.0[at] ^= 1;
        }
        init.mac1 = Some(mac1);
        assert_eq!(key.admits(&init, false), admitted);
        assert_eq!(key.admits(&init, true), admitted);
    }
    init.mac1 = Some(right);
    init.message[0] ^= 1;
    assert!(!key.admits(&init, false));
}

proptest! {
    #[test]
    fn any_bytes_decode_to_a_packet_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..1400),
        kind in 0x50_u8..0x57,
        carriage in carriage(),
    ) {
        let _ = HandshakePacket::decode(&bytes, carriage);
        // Once more with a beginning that passes the first checks.
        let mut bytes = bytes;
        for (at, value) in [kind, 1, 0].into_iter().enumerate() {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(packet) = HandshakePacket::decode(&bytes, carriage) {
            let mut again = Vec::new();
            packet.encode(carriage, &mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn init_round_trips(
        initiator in index(),
        mac1: [u8; 16],
        token: [u8; 32],
        present: (bool, bool),
        message: [u8; 32],
        carriage in carriage(),
    ) {
        let init = Init {
            initiator,
            mac1: (present.0 && mac1 != [0; 16]).then_some(Mac1(mac1)),
            token: (present.1 && token != [0; 32]).then_some(Token(token)),
            message,
        };
        round_trip(HandshakePacket::Init(init), carriage)?;
    }

    #[test]
    fn resp_and_fini_round_trip(
        initiator in index(),
        responder in index(),
        message in prop::collection::vec(any::<u8>(), 96..=1088),
        carriage in carriage(),
    ) {
        let message = &message[..];
        round_trip(HandshakePacket::Resp(Resp { initiator, responder, message }), carriage)?;
        round_trip(HandshakePacket::Fini(Fini { responder, message }), carriage)?;
    }

    #[test]
    fn retry_and_vers_round_trip(
        initiator in index(),
        token: [u8; 32],
        versions in prop::collection::vec(any::<u8>(), 1..=16),
        carriage in carriage(),
    ) {
        let retry = Retry { initiator, token: Token(token) };
        round_trip(HandshakePacket::Retry(retry), carriage)?;
        let vers = Vers { initiator, versions: &versions };
        round_trip(HandshakePacket::Vers(vers), carriage)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_injected_before_the_genuine_messages_leaves_the_handshake_usable(
        seed: u64,
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5),
    ) {
        let (mut initiator, mut responder) = pair(seed);
        for bytes in &garbage {
            initiator = initiator.read(bytes).unwrap_err().state;
        }
        let ready = initiator.read(responder.message2()).unwrap();
        let (a, message3) = ready.write(b"hello").unwrap();
        for bytes in &garbage {
            responder = responder.read(bytes).unwrap_err().state;
        }
        let (b, _) = responder.read(&message3).unwrap();
        prop_assert!(same(&a, &b));
    }

    #[test]
    fn a_tampered_handshake_never_opens_both_ends_with_different_keys(
        seed: u64,
        which in 1..=3,
        at: prop::sample::Index,
        flip in 1_u8..,
    ) {
        let mut entropy = Seeded(seed);
        let head = InitHead::new(SessionIndex::new(7).unwrap());
        let (a, b) = (Identity::from_secret([3; 32]), Identity::from_secret([4; 32]));
        let tamper = |number, message: &[u8]| {
            let mut message = message.to_vec();
            if which == number {
                let at = at.index(message.len());
                message[at] ^= flip;
            }
            message
        };
        let initiator = Initiator::new(&a, head, &mut entropy).unwrap();
        let message1 = tamper(1, initiator.message1()).try_into().unwrap();
        let Ok(responder) = Responder::new(&b, head, &message1, b"resp", &mut entropy) else {
            return Ok(());
        };
        let Ok(ready) = initiator.read(&tamper(2, responder.message2())) else { return Ok(()) };
        let (a, message3) = ready.write(b"fini").unwrap();
        if let Ok((b, _)) = responder.read(&tamper(3, &message3)) {
            prop_assert!(same(&a, &b), "both ends are open with different keys");
        }
    }
}
