//! DATA packets: what one side seals, the other opens once, and nobody else at all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;

use velin_core::entropy::Entropy;
use velin_core::handshake::noise::{Established, Initiator, Responder};
use velin_core::handshake::packets::{InitHead, SessionIndex};
use velin_core::handshake::schedule::{Direction, EpochSecrets};
use velin_core::identity::{Identity, SharedSecret};
use velin_core::session::header::{Header, HeaderError, OVERHEAD};
use velin_core::session::opener::{OpenError, Opener};
use velin_core::session::replay::ReplayError;
use velin_core::session::sealer::{Retired, SealError, Sealer, Sealers};
use velin_core::units::StreamId;

use Direction::{InitiatorToResponder, ResponderToInitiator};

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: forwards to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// `seed`, then `seed + 1`, and so on: 32 equal bytes each.
struct Steps(u8);

impl Entropy for Steps {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill(self.0);
        self.0 += 1;
    }
}

fn idx(index: u32) -> SessionIndex {
    SessionIndex::new(index).unwrap()
}

/// Each test takes its own `seed`: the nonce guard counts keys process-wide.
fn secrets(seed: u8) -> EpochSecrets {
    let mut entropy = Steps(seed);
    let head = InitHead::new(idx(1));
    let (a, b) = (Identity::from_secret([3; 32]), Identity::from_secret([4; 32]));
    let initiator = Initiator::new(&a, head, &mut entropy).unwrap();
    let responder = Responder::new(&b, head, initiator.message1(), b"", &mut entropy).unwrap();
    let (established, _): (Established, _) =
        initiator.read(responder.message2()).unwrap().write(b"").unwrap();
    EpochSecrets::initial(&established, idx(1), idx(2))
}

fn sealer(secrets: &EpochSecrets, stream: u16) -> Arc<Sealer> {
    Sealers::new(secrets, InitiatorToResponder, idx(2)).sealer(StreamId(stream)).unwrap()
}

fn seal(sealer: &Sealer, frames: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; frames.len() + OVERHEAD];
    packet[16..16 + frames.len()].copy_from_slice(frames);
    sealer.seal(&mut packet, frames.len()).unwrap();
    packet
}

#[test]
fn packets_open_in_any_order_and_once() {
    let secrets = secrets(10);
    let sealer = sealer(&secrets, 1);
    let packets: Vec<_> = (0..50_u8).map(|i| seal(&sealer, &[i; 100])).collect();
    let mut opener = Opener::new(&secrets, InitiatorToResponder, idx(2), StreamId(1));
    for i in (0..50).rev() {
        let mut packet = packets[i].clone();
        let opened = opener.open(&mut packet).unwrap();
        assert_eq!(opened.frames, [i as u8; 100]);
        assert_eq!(opened.newest, i == 49);
    }
    for packet in &packets {
        assert_eq!(opener.open(&mut packet.clone()), Err(OpenError::Replay(ReplayError::Seen)));
    }
}

#[test]
fn a_packet_opens_under_no_other_direction_epoch_stream_or_session() {
    let secrets = secrets(20);
    let packet = seal(&sealer(&secrets, 1), b"frames");
    let next = secrets.next(&SharedSecret([7; 32]), None);
    let other = self::secrets(30);

    // As it is, it is turned away by its header.
    let mut streams = Opener::new(&secrets, InitiatorToResponder, idx(2), StreamId(3));
    assert_eq!(streams.open(&mut packet.clone()), Err(OpenError::Elsewhere));
    let mut epochs = Opener::new(&next, InitiatorToResponder, idx(2), StreamId(1));
    assert_eq!(epochs.open(&mut packet.clone()), Err(OpenError::Elsewhere));

    // With its header bent to match, it does not authenticate.
    let mut bent = packet.clone();
    bent[3] = 3;
    assert_eq!(streams.open(&mut bent), Err(OpenError::Forged));
    let mut bent = packet.clone();
    bent[1] = 1;
    assert_eq!(epochs.open(&mut bent), Err(OpenError::Forged));
    let mut bent = packet.clone();
    bent[7] = 1;
    let mut reflected = Opener::new(&secrets, ResponderToInitiator, idx(1), StreamId(1));
    assert_eq!(reflected.open(&mut bent), Err(OpenError::Forged));
    let mut sessions = Opener::new(&other, InitiatorToResponder, idx(2), StreamId(1));
    assert_eq!(sessions.open(&mut packet.clone()), Err(OpenError::Forged));

    let mut right = Opener::new(&secrets, InitiatorToResponder, idx(2), StreamId(1));
    assert!(right.open(&mut packet.clone()).is_ok());
}

#[test]
fn a_failed_open_is_counted_and_changes_nothing_else() {
    let secrets = secrets(40);
    let sealer = sealer(&secrets, 1);
    let packet = seal(&sealer, &[5; 60]);
    let mut opener = Opener::new(&secrets, InitiatorToResponder, idx(2), StreamId(1));
    // Each byte of counter, ciphertext and tag; a high counter must not move the window.
    for at in 10..packet.len() {
        let mut forged = packet.clone();
        forged[at] ^= 0x10;
        assert_eq!(opener.open(&mut forged), Err(OpenError::Forged), "byte {at}");
    }
    assert_eq!(opener.failures(), packet.len() as u64 - 10);
    assert_eq!(opener.highest(), None);
    assert_eq!(opener.open(&mut packet.clone()).unwrap().frames, [5; 60]);
}

#[test]
fn a_stream_has_one_sealer_and_none_after_it_is_retired() {
    let secrets = secrets(50);
    let mut sealers = Sealers::new(&secrets, InitiatorToResponder, idx(2));
    let first = sealers.sealer(StreamId(1)).unwrap();
    assert!(Arc::ptr_eq(&first, &sealers.sealer(StreamId(1)).unwrap()));
    sealers.retire(StreamId(1));
    assert_eq!(sealers.sealer(StreamId(1)).unwrap_err(), Retired(StreamId(1)));
    assert!(sealers.sealer(StreamId(3)).is_ok());
}

#[test]
fn a_buffer_without_room_uses_up_no_number() {
    let secrets = secrets(60);
    let sealer = sealer(&secrets, 1);
    let mut packet = [0; 64];
    assert_eq!(sealer.seal(&mut packet, 33), Err(SealError::Room));
    assert_eq!(sealer.seal(&mut packet, usize::MAX), Err(SealError::Room));
    assert_eq!(sealer.sealed(), 0);
    assert_eq!(sealer.seal(&mut packet, 32), Ok(64));
}

#[test]
fn threads_that_share_a_sealer_never_share_a_number() {
    let secrets = secrets(70);
    let sealer = sealer(&secrets, 1);
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let number = |_| Header::parse(&seal(&sealer, b"x")).unwrap().counter.get();
                    (0..2000).map(number).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8000).collect::<Vec<_>>());
}

#[test]
fn sealing_and_opening_allocate_nothing() {
    let secrets = secrets(80);
    let sealer = sealer(&secrets, 1);
    let mut opener = Opener::new(&secrets, InitiatorToResponder, idx(2), StreamId(1));
    let mut packet = [0; 1200];
    let mut pass = || {
        sealer.seal(&mut packet, 976).unwrap();
        opener.open(&mut packet[..976 + OVERHEAD]).map(|opened| opened.counter).unwrap();
    };
    pass();
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        pass();
    }
    assert_eq!(ALLOCATIONS.get(), before);
}

proptest! {
    #[test]
    fn any_bytes_parse_to_a_header_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        data: bool,
    ) {
        let mut bytes = bytes;
        if let (true, Some(kind)) = (data, bytes.first_mut()) {
            *kind = 0x5d;
        }
        match Header::parse(&bytes) {
            Ok(header) => prop_assert_eq!(&header.to_bytes()[..], &bytes[..16]),
            Err(HeaderError::Length) => prop_assert!(bytes.len() < OVERHEAD),
            Err(_) => {}
        }
    }
}
