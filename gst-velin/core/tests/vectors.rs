//! Published and own test vectors, each computed through the crate's public interface.

use std::net::SocketAddr;
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use velin_core::entropy::Entropy;
use velin_core::handshake::mac1::Mac1Key;
use velin_core::handshake::noise::{Established, HandshakeError, Initiator, Responder};
use velin_core::handshake::packets::{Init, InitHead, SessionIndex};
use velin_core::handshake::retry::TokenMint;
use velin_core::handshake::schedule::{Direction, EpochSecrets, Exporter};
use velin_core::identity::{Identity, PublicKey};
use velin_core::session::aead::{Aead, AeadError, Nonce, RingAead, Tag};
use velin_core::session::opener::{OpenError, Opener};
use velin_core::session::replay::ReplayError;
use velin_core::session::sealer::Sealers;
use velin_core::time::MonoTime;
use velin_core::units::StreamId;

use Direction::{InitiatorToResponder, ResponderToInitiator};

const IDX_I: u32 = 0x1122_3344;
const IDX_R: u32 = 0x5566_7788;
const RESP_PAYLOAD: &[u8] = br#"{"versions":[1]}"#;
const FINI_PAYLOAD: &[u8] = br#"{"versions":[1],"intent":"stream"}"#;

/// Gives the same 32 bytes each time.
struct Fixed([u8; 32]);

impl Entropy for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self.0[..out.len()]);
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| Some(c.to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().expect("32 bytes")
}

/// A value of appendix A.
fn own(name: &str) -> Vec<u8> {
    let text = include_str!("data/appendix-a.txt");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    hex(value.unwrap_or_else(|| panic!("no {name}")))
}

fn own32(name: &str) -> [u8; 32] {
    own(name).try_into().expect("32 bytes")
}

fn idx(index: u32) -> SessionIndex {
    SessionIndex::new(index).expect("not zero")
}

fn identity(side: &str) -> Identity {
    Identity::from_secret(own32(&format!("secret_{side}")))
}

fn handshake() -> (Initiator, Responder) {
    let head = InitHead::new(idx(IDX_I));
    let initiator = Initiator::new(&identity("i"), head, &mut Fixed(own32("ephemeral_i"))).unwrap();
    let responder = Responder::new(
        &identity("r"),
        head,
        initiator.message1(),
        RESP_PAYLOAD,
        &mut Fixed(own32("ephemeral_r")),
    )
    .unwrap();
    (initiator, responder)
}

fn established() -> (Established, Established) {
    let (initiator, responder) = handshake();
    let ready = initiator.read(responder.message2()).unwrap();
    let (a, message3) = ready.write(FINI_PAYLOAD).unwrap();
    let (b, _) = responder.read(&message3).unwrap();
    (a, b)
}

fn epoch0() -> EpochSecrets {
    EpochSecrets::initial(&established().0, idx(IDX_I), idx(IDX_R))
}

fn init() -> Init {
    Init {
        initiator: idx(IDX_I),
        mac1: None,
        token: None,
        message: own("msg1").try_into().expect("32 bytes"),
    }
}

#[test]
fn the_device_keys_and_fingerprints_are_those_of_the_appendix() {
    for side in ["i", "r"] {
        let public = identity(side).public();
        assert_eq!(public.0, own32(&format!("public_{side}")));
        let digest = Sha256::new().chain_update("velin/1 fingerprint").chain_update(public.0);
        assert_eq!(digest.finalize()[..20], own(&format!("fingerprint_{side}")));
    }
}

#[test]
fn the_handshake_is_that_of_the_appendix() {
    assert_eq!(InitHead::new(idx(IDX_I)).to_bytes()[..], own("init_head"));
    let (initiator, responder) = handshake();
    assert_eq!(initiator.message1()[..], own("msg1"));
    assert_eq!(responder.message2(), own("msg2"));

    let ready = initiator.read(responder.message2()).unwrap();
    assert_eq!(ready.remote(), identity("r").public());
    assert_eq!(ready.payload(), RESP_PAYLOAD);
    let (a, message3) = ready.write(FINI_PAYLOAD).unwrap();
    assert_eq!(message3, own("msg3"));

    let (b, payload) = responder.read(&message3).unwrap();
    assert_eq!(payload, FINI_PAYLOAD);
    assert_eq!(b.remote, identity("i").public());
    for end in [a, b] {
        assert_eq!((end.h, *end.k1, *end.k2), (own32("h"), own32("k1"), own32("k2")));
    }
}

#[test]
fn the_key_schedule_is_that_of_the_appendix() {
    let secrets = epoch0();
    assert_eq!(secrets.prk().expose(), &own32("prk_0"));
    assert_eq!(secrets.root().expose(), &own32("root_0"));
    let i_to_r = secrets.traffic(InitiatorToResponder);
    let r_to_i = secrets.traffic(ResponderToInitiator);
    assert_eq!(i_to_r.expose(), &own32("ts_0_0"));
    assert_eq!(r_to_i.expose(), &own32("ts_1_0"));
    assert_eq!(i_to_r.stream_key(StreamId(0)).expose(), &own32("k_0_0_0"));
    assert_eq!(i_to_r.stream_key(StreamId(1)).expose(), &own32("k_0_0_1"));
    assert_eq!(r_to_i.stream_key(StreamId(0)).expose(), &own32("k_1_0_0"));
}

#[test]
fn the_rekey_is_that_of_the_appendix() {
    let (a, b) = (Identity::from_secret(own32("rekey_a")), Identity::from_secret(own32("rekey_b")));
    let dh = a.agree(&b.public()).unwrap();
    assert_eq!(dh.0, own32("rekey_dh"));

    let secrets = epoch0().next(&dh, None);
    assert_eq!(secrets.epoch().0, 1);
    assert_eq!(secrets.prk().expose(), &own32("prk_1"));
    let traffic = secrets.traffic(InitiatorToResponder);
    assert_eq!(traffic.expose(), &own32("ts_0_1"));
    assert_eq!(traffic.stream_key(StreamId(1)).expose(), &own32("k_0_1_1"));

    let hybrid = epoch0().next(&dh, Some(&[7; 32]));
    let (expected, _) =
        Hkdf::<Sha256>::extract(Some(&own("root_0")), &[&dh.0[..], &[7; 32]].concat());
    assert_eq!(hybrid.prk().expose()[..], expected[..]);
}

#[test]
fn the_data_packet_is_that_of_the_appendix_and_opens_once() {
    let secrets = epoch0();
    let mut sealers = Sealers::new(&secrets, InitiatorToResponder, idx(IDX_R));
    let sealer = sealers.sealer(StreamId(1)).unwrap();
    let frame = own("frame");
    let mut packet = vec![0; 16 + frame.len() + 16];
    for _ in 0..=7 {
        packet[16..16 + frame.len()].copy_from_slice(&frame);
        assert_eq!(sealer.seal(&mut packet, frame.len()), Ok(packet.len()));
    }
    assert_eq!(packet, own("data"));

    let mut opener = Opener::new(&secrets, InitiatorToResponder, idx(IDX_R), StreamId(1));
    let opened = opener.open(&mut packet).unwrap();
    assert_eq!(opened.frames, frame);
    assert_eq!(opened.counter.get(), 7);
    assert!(opened.newest);
    assert_eq!(opener.open(&mut own("data")), Err(OpenError::Replay(ReplayError::Seen)));
}

#[test]
fn mac1_is_that_of_the_appendix() {
    let key = Mac1Key::new(&identity("r").public());
    let mac1 = key.compute(init().head(), &init().message);
    assert_eq!(mac1.0[..], own("mac1"));
    assert!(key.admits(&Init { mac1: Some(mac1), ..init() }, true));
}

#[test]
fn the_exporter_and_the_sas_are_those_of_the_appendix() {
    let exporter = Exporter::new(&established().1);
    let e = exporter.export::<32>("sas");
    assert_eq!(e[..], own("exp_sas"));

    let (n_i, n_r) = ([0xa1; 32], [0xb2; 32]);
    let commit = Sha256::new().chain_update("velin/1 sas commit").chain_update(&e[..]);
    assert_eq!(commit.chain_update(n_r).finalize()[..], own("sas_commit"));
    let mut s = [0; 16];
    let hkdf = Hkdf::<Sha256>::new(Some(&e[..]), &[n_i, n_r].concat());
    hkdf.expand(b"velin/1 sas", &mut s).unwrap();
    assert_eq!(s[..], own("sas_s"));
    let digits = u64::from_be_bytes(s[..8].try_into().unwrap()) % 1_000_000;
    assert_eq!(format!("{digits:06}"), "021374");
    let bits = u32::from_be_bytes([0, s[8], s[9], s[10]]);
    assert_eq!([18, 12, 6, 0].map(|shift| bits >> shift & 63), [61, 41, 20, 61]);
}

#[test]
fn the_retry_token_is_that_of_the_appendix() {
    let mint = TokenMint::new(MonoTime::ZERO, &mut Fixed([0x5a; 32]));
    let now = MonoTime::ZERO + Duration::from_secs(1000);
    for address in ["192.0.2.7:50000", "[::ffff:192.0.2.7]:50000"] {
        let from: SocketAddr = address.parse().unwrap();
        let token = mint.mint(now, from, &init());
        assert_eq!(token.0[..], own("retry_token"), "{address}");
        assert!(mint.accepts(now, from, &Init { token: Some(token), ..init() }));
    }
}

/// The second implementation of the cipher.
struct RustCrypto(ChaCha20Poly1305);

impl RustCrypto {
    fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }
}

impl Aead for RustCrypto {
    fn seal_in_place(&self, nonce: Nonce, aad: &[u8], buf: &mut [u8]) -> Result<Tag, AeadError> {
        let tag = self.0.encrypt_in_place_detached(&nonce.0.into(), aad, buf);
        tag.map(|tag| Tag(tag.into())).map_err(|_| AeadError::TooLong)
    }

    fn open_in_place<'a>(
        &self,
        nonce: Nonce,
        aad: &[u8],
        buf: &'a mut [u8],
    ) -> Result<&'a mut [u8], AeadError> {
        let at = buf.len().checked_sub(16).ok_or(AeadError::Forged)?;
        let (text, tag) = buf.split_at_mut(at);
        self.0
            .decrypt_in_place_detached(&nonce.0.into(), aad, text, (&*tag).into())
            .map_err(|_| AeadError::Forged)?;
        Ok(text)
    }
}

fn both(key: &[u8; 32]) -> [Box<dyn Aead>; 2] {
    [Box::new(RingAead::from_bytes(key)), Box::new(RustCrypto::new(key))]
}

/// RFC 8439 §2.8.2.
#[test]
fn rfc_8439_sealing_example() {
    let key = hex32("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce = Nonce(hex("070000004041424344454647").try_into().unwrap());
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
        for the future, sunscreen would be it.";
    let sealed = hex("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
        3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
        92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
        3ff4def08e4b7a9de576d26586cec64b6116");
    for cipher in both(&key) {
        let mut text = plain.to_vec();
        let tag = cipher.seal_in_place(nonce, &aad, &mut text).unwrap();
        assert_eq!(text, sealed);
        assert_eq!(tag.0[..], hex("1ae10b594f09e26a7e902ecbd0600691"));
        text.extend(tag.0);
        assert_eq!(cipher.open_in_place(nonce, &aad, &mut text).unwrap(), plain);
    }
}

/// RFC 8439 appendix A.5.
#[test]
fn rfc_8439_opening_example() {
    let key = hex32("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
    let nonce = Nonce(hex("000000000102030405060708").try_into().unwrap());
    let aad = hex("f33388860000000000004e91");
    let sealed = hex("64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2\
        4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf\
        332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855\
        9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4\
        b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e\
        af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a\
        0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10\
        49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29\
        a6ad5cb4022b02709b");
    let tag = hex("eead9d67890cbb22392336fea1851f38");
    for cipher in both(&key) {
        let mut text = [&sealed[..], &tag].concat();
        let plain = cipher.open_in_place(nonce, &aad, &mut text).unwrap();
        let plain = std::str::from_utf8(plain).unwrap();
        assert!(plain.starts_with("Internet-Drafts are draft documents valid for a maximum"));
        assert!(plain.ends_with("other than as /\u{201c}work in progress./\u{201d}"), "{plain}");

        for damaged in [0, sealed.len() - 1, sealed.len(), sealed.len() + 15] {
            let mut text = [&sealed[..], &tag].concat();
            text[damaged] ^= 1;
            assert_eq!(cipher.open_in_place(nonce, &aad, &mut text), Err(AeadError::Forged));
        }
        assert_eq!(cipher.open_in_place(nonce, &aad, &mut [0; 15]), Err(AeadError::Forged));
    }
}

/// RFC 5869 appendix A.1 to A.3.
#[test]
fn rfc_5869_examples() {
    let a2 = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let cases = [
        (
            vec![0x0b; 22],
            Some(hex("000102030405060708090a0b0c")),
            hex("f0f1f2f3f4f5f6f7f8f9"),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            a2(0x00, 0x4f),
            Some(a2(0x60, 0xaf)),
            a2(0xb0, 0xff),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c\
             59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71\
             cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            None,
            vec![],
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ];
    for (ikm, salt, info, prk, okm) in cases {
        let (extracted, hkdf) = Hkdf::<Sha256>::extract(salt.as_deref(), &ikm);
        assert_eq!(extracted[..], hex(prk));
        let okm = hex(okm);
        let mut expanded = vec![0; okm.len()];
        hkdf.expand(&info, &mut expanded).unwrap();
        assert_eq!(expanded, okm);
    }
}

/// RFC 7748 §5.2, the two single examples and the iterated one.
#[test]
fn rfc_7748_function_examples() {
    for (scalar, u, result) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        let shared = Identity::from_secret(hex32(scalar)).agree(&PublicKey(hex32(u))).unwrap();
        assert_eq!(shared.0, hex32(result));
    }
    let nine = hex32("0900000000000000000000000000000000000000000000000000000000000000");
    let (mut k, mut u) = (nine, nine);
    for i in 1..=1000 {
        (k, u) = (Identity::from_secret(k).agree(&PublicKey(u)).unwrap().0, k);
        if i == 1 {
            let once = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
            assert_eq!(k, hex32(once));
        }
    }
    assert_eq!(k, hex32("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

/// RFC 7748 §6.1.
#[test]
fn rfc_7748_agreement_example() {
    let a = hex32("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let b = hex32("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let (a, b) = (Identity::from_secret(a), Identity::from_secret(b));
    let public_a = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    let public_b = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    assert_eq!((a.public().0, b.public().0), (hex32(public_a), hex32(public_b)));
    let shared = hex32("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(a.agree(&b.public()).unwrap().0, shared);
    assert_eq!(b.agree(&a.public()).unwrap().0, shared);
}

/// RFC 7748 §6.1: an all-zero result is refused. The points of order 1, 2, 4 and 8, reduced and
/// not.
#[test]
fn low_order_keys_agree_on_nothing_and_cannot_shake_hands() {
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for point in points {
        let point = hex32(point);
        assert!(identity("i").agree(&PublicKey(point)).is_none());

        let answer = Responder::new(
            &identity("r"),
            InitHead::new(idx(IDX_I)),
            &point,
            RESP_PAYLOAD,
            &mut Fixed(own32("ephemeral_r")),
        );
        assert_eq!(answer.unwrap_err(), HandshakeError::LowOrderKey);

        let (initiator, responder) = handshake();
        let mut forged = responder.message2().to_vec();
        forged[..32].copy_from_slice(&point);
        let rejected = initiator.read(&forged).unwrap_err();
        assert_eq!(rejected.error, HandshakeError::LowOrderKey);
        assert!(rejected.state.read(responder.message2()).is_ok());
    }
}

proptest! {
    #[test]
    fn both_ciphers_agree_on_any_packet(
        key: [u8; 32],
        nonce: [u8; 12],
        aad in prop::collection::vec(any::<u8>(), 0..64),
        plain in prop::collection::vec(any::<u8>(), 0..1300),
    ) {
        velin_core::session::nonce_guard::isolated(|| {
            let [ring, other] = both(&key);
            let (mut a, mut b) = (plain.clone(), plain.clone());
            let tag_a = ring.seal_in_place(Nonce(nonce), &aad, &mut a).unwrap();
            let tag_b = other.seal_in_place(Nonce(nonce), &aad, &mut b).unwrap();
            prop_assert_eq!((&a, tag_a), (&b, tag_b));
            a.extend(tag_a.0);
            prop_assert_eq!(&*other.open_in_place(Nonce(nonce), &aad, &mut a).unwrap(), &plain);
            Ok(())
        })?;
    }
}
