//! What the core costs: sealing, opening, rendering, shaking hands. No sockets, one thread.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gstvelin::link::OsEntropy;
use velin_core::codec::{ChannelMap, SampleFormat, StreamFormat};
use velin_core::entropy::Entropy;
use velin_core::handshake::packets::SessionIndex;
use velin_core::identity::{Grants, Identity, Name, PublicKey};
use velin_core::playout::{
    Block, Body, Drift, Mixer, OutputFormat, PlayoutDelay, Profile, ReceiverHalf, RenderTime,
    RepairWish, StreamSettings, stream,
};
use velin_core::session::{
    Carrier, Event, MEDIA_HEAD, MEDIA_OVERHEAD, MediaSink, MediaTx, Session, SessionConfig,
    Transmit, Trust,
};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex, SampleRate, StreamId};
use velin_core::wire::{AudioFlags, AudioFrame, AudioHeader, Hex, StreamUuid};

use crate::allocations;

/// 2.5 ms at 48 kHz.
const FRAMES: u32 = 120;
const BLOCK_NS: u64 = 2_500_000;

pub(crate) fn run(short: bool) {
    println!("### Cost per packet\n");
    println!("S16LE stereo, 48 kHz, 2.5 ms: 480 bytes of samples, 528 on UDP. One thread.\n");
    println!("| step | ns | allocations | packets a second and core |");
    println!("|---|---|---|---|");
    let packets = if short { 40_000 } else { 400_000 };
    let mut ends = Ends::connected();
    let (sealing, opening) = packets_cost(&mut ends, packets);
    row("packetise and seal", &sealing);
    row("open and insert", &opening);

    println!("\n| streams mixed | ns to render 1 ms | share of a core | allocations |");
    println!("|---|---|---|---|");
    for streams in [1, 16, 128] {
        let cost = render_cost(streams, packets / 40);
        let share = cost.ns / 1e6 * 100.0;
        println!("| {streams} | {:.0} | {share:.2} % | {} |", cost.ns, cost.allocations);
    }

    let rounds = if short { 100 } else { 1000 };
    let [caller, listener] = handshake_cost(rounds);
    println!("\n### Handshake\n");
    println!("Processor time from INIT to the session being open, mean of {rounds}.\n");
    println!("| caller | listener | both |\n|---|---|---|");
    println!("| {caller:.0} µs | {listener:.0} µs | {:.0} µs |\n", caller + listener);
}

struct Cost {
    ns: f64,
    /// Of all rounds together.
    allocations: u64,
}

fn row(name: &str, cost: &Cost) {
    println!("| {name} | {:.0} | {} | {:.2} million |", cost.ns, cost.allocations, 1e3 / cost.ns);
}

fn format() -> StreamFormat {
    StreamFormat {
        coding: SampleFormat::S16Le.into(),
        rate: SampleRate::HZ_48000,
        map: ChannelMap::stereo(),
        frames_per_block: FRAMES,
    }
}

fn playout() -> StreamSettings {
    let output = OutputFormat { rate: SampleRate::HZ_48000, map: ChannelMap::stereo() };
    let delay = PlayoutDelay::Adaptive(Profile::Music);
    let (drift, repair) = (Drift::Follow, RepairWish::Auto);
    StreamSettings { format: format(), output, delay, drift, repair }
}

/// Seals `count` packets and opens them again, a few at a time, as time goes by.
fn packets_cost(ends: &mut Ends, count: u64) -> (Cost, Cost) {
    const BATCH: usize = 40;
    let tx = ends.offer();
    let from: SocketAddr = ([127, 0, 0, 1], 1).into();
    let mut payload = vec![0; format().block_bytes()];
    OsEntropy.fill(&mut payload);
    let mut slots = vec![vec![0_u8; payload.len() + MEDIA_OVERHEAD]; BATCH];
    let (receiver, player) = stream(playout()).expect("a playable format");
    let mut mixer = Mixer::new(playout().output);
    mixer.add(player).expect("made for this output");
    let mut sink = Insert { receiver, now: ends.now };
    let mut period = [0.0; 2 * FRAMES as usize];

    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    let (mut seal_allocations, mut open_allocations) = (0, 0);
    let start = ends.now;
    // What a thread sets up once, on its first look at the session's key.
    let _ = tx.route();
    let first = AudioHeader { flags: AudioFlags::SILENCE, block: BlockIndex(0), ts: FrameIndex(0) };
    tx.seal(&first, 2, &mut [0; 64]).expect("the session lives");
    for batch in 0..count / BATCH as u64 {
        let (before, clock) = (allocations(), Instant::now());
        for (i, packet) in slots.iter_mut().enumerate() {
            let block = batch * BATCH as u64 + i as u64;
            let header = AudioHeader {
                flags: AudioFlags::NONE,
                block: BlockIndex(block as u32),
                ts: FrameIndex(block * u64::from(FRAMES)),
            };
            packet[MEDIA_HEAD..MEDIA_HEAD + payload.len()].copy_from_slice(&payload);
            black_box(tx.seal(&header, payload.len(), packet)).expect("the session lives");
        }
        sealing += clock.elapsed();
        seal_allocations += allocations() - before;

        // A packet arrives, then as much is played.
        for (i, packet) in slots.iter_mut().enumerate() {
            let block = batch * BATCH as u64 + i as u64;
            sink.now = start + Duration::from_nanos((block + 1) * BLOCK_NS);
            let (before, clock) = (allocations(), Instant::now());
            ends.listener.handle_datagram(sink.now, from, packet, &mut sink);
            opening += clock.elapsed();
            open_allocations += allocations() - before;
            mixer.render(RenderTime { mono: sink.now }, &mut period);
        }
    }
    let opened = ends.listener.counters().received;
    assert!(opened >= count, "only {opened} of {count} packets were opened");
    let played = sink.receiver.counters().snapshot().received;
    assert!(played > count * u64::from(FRAMES) * 9 / 10, "only {played} frames were played");
    let each = |time: Duration| time.as_nanos() as f64 / count as f64;
    (
        Cost { ns: each(sealing), allocations: seal_allocations },
        Cost { ns: each(opening), allocations: open_allocations },
    )
}

/// Renders `rounds` times ten milliseconds of `streams` streams.
fn render_cost(streams: usize, rounds: u64) -> Cost {
    let rounds = rounds / streams.min(16) as u64;
    let mut payload = vec![0; format().block_bytes()];
    OsEntropy.fill(&mut payload);
    // Quiet enough that the limiter stays out of it.
    for sample in payload.chunks_exact_mut(2) {
        sample[1] = 0;
    }
    let mut mixer = Mixer::new(playout().output);
    let mut receivers: Vec<_> = (0..streams)
        .map(|_| {
            let (receiver, player) = stream(playout()).expect("a playable format");
            mixer.add(player).expect("made for this output");
            receiver
        })
        .collect();
    let mut period = [0.0; 2 * 48];
    let (mut time, mut count) = (Duration::ZERO, 0);
    let mut before = 0;
    for round in 0..rounds {
        for i in 0..4 {
            let index = round * 4 + i;
            let now = MonoTime::from_nanos((index + 1) * BLOCK_NS);
            for receiver in &mut receivers {
                receiver.insert(now, block(index, &payload));
            }
        }
        if round == 10 {
            (time, count, before) = (Duration::ZERO, 0, allocations());
        }
        let clock = Instant::now();
        for ms in 0..10 {
            let mono = MonoTime::from_nanos((round + 1) * 10_000_000 + ms * 1_000_000);
            black_box(mixer.render(RenderTime { mono }, &mut period));
        }
        time += clock.elapsed();
        count += 10;
    }
    let allocations = allocations() - before;
    let played = receivers[0].counters().snapshot().received;
    assert!(played > rounds * 4 * u64::from(FRAMES) * 8 / 10, "only {played} frames were played");
    Cost { ns: time.as_nanos() as f64 / f64::from(count), allocations }
}

/// Mean microseconds of each end, for `rounds` handshakes.
fn handshake_cost(rounds: u32) -> [f64; 2] {
    let mut spent = [Duration::ZERO; 2];
    for _ in 0..rounds {
        let ends = Ends::connected();
        spent[0] += ends.spent[0];
        spent[1] += ends.spent[1];
    }
    spent.map(|time| time.as_nanos() as f64 / 1e3 / f64::from(rounds))
}

fn block(index: u64, payload: &[u8]) -> Block<'_> {
    Block {
        index: BlockIndex(index as u32),
        ts: FrameIndex(index * u64::from(FRAMES)),
        discontinuity: false,
        repair: false,
        body: Body::Audio(payload),
    }
}

struct Insert {
    receiver: ReceiverHalf,
    now: MonoTime,
}

impl MediaSink for Insert {
    fn audio(&mut self, _: StreamId, frame: &AudioFrame<'_>) {
        let AudioHeader { block, ts, .. } = frame.header;
        let body = Body::Audio(frame.payload);
        self.receiver.insert(
            self.now,
            Block { index: block, ts, discontinuity: false, repair: false, body },
        );
    }
}

/// Two sessions that have met in memory.
struct Ends {
    caller: Session,
    listener: Session,
    now: MonoTime,
    /// Time spent in the caller and in the listener.
    spent: [Duration; 2],
}

impl Ends {
    fn connected() -> Self {
        let now = MonoTime::from_nanos(1_000_000_000);
        let [a, b] = [fresh(), fresh()];
        let trust = Arc::new(Both([a.public(), b.public()]));
        let config = |identity| SessionConfig {
            carrier: Carrier::Lan,
            identity: Arc::new(identity),
            trust: trust.clone(),
            expected_peer: None,
            accept_own_key: false,
            agent: None,
            name: None,
            udp: None,
            peer_address: ([127, 0, 0, 1], 49_000).into(),
            mtu: 1200,
        };
        let index = |n| SessionIndex::new(n).expect("not zero");
        let (a, b) = (config(a), config(b));
        let clock = Instant::now();
        let caller = Session::caller(a, index(1), Box::new(OsEntropy), now);
        let calling = clock.elapsed();
        let clock = Instant::now();
        let listener = Session::listener(b, index(2), Box::new(OsEntropy), now);
        let mut ends = Self { caller, listener, now, spent: [calling, clock.elapsed()] };
        let mut open = 0;
        ends.exchange(|_, event| open += u32::from(matches!(event, Event::Open { .. })));
        assert_eq!(open, 2, "the handshake failed");
        ends
    }

    /// The sending half of a stream from the caller to the listener.
    fn offer(&mut self) -> MediaTx {
        let name = Name::new("bench").expect("a name");
        let id = self
            .caller
            .open_stream(name, StreamUuid(Hex([1; 16])), vec![format()], None)
            .expect("an open session");
        self.exchange(|listener, event| {
            if let Event::StreamOffered(offer) = event {
                listener.accept_stream(StreamId(offer.id), 0);
            }
        });
        self.caller.media_tx(id).expect("the stream was accepted")
    }

    /// Hands bytes over until both ends are quiet; events of both go to `each`, with the session
    /// they came from.
    fn exchange(&mut self, mut each: impl FnMut(&mut Session, Event)) {
        let Self { caller, listener, now, spent } = self;
        loop {
            let mut idle = true;
            for i in 0..2 {
                let (from, to) = match i {
                    0 => (&mut *caller, &mut *listener),
                    _ => (&mut *listener, &mut *caller),
                };
                let clock = Instant::now();
                let transmit = from.poll_transmit();
                spent[i] += clock.elapsed();
                if let Some(Transmit::Stream(bytes)) = transmit {
                    idle = false;
                    let clock = Instant::now();
                    to.handle_stream(*now, &bytes, &mut ());
                    spent[1 - i] += clock.elapsed();
                }
                while let Some(event) = from.poll_event() {
                    idle = false;
                    each(from, event);
                }
            }
            if idle {
                return;
            }
        }
    }
}

struct Both([PublicKey; 2]);

impl Trust for Both {
    fn grants(&self, peer: &PublicKey) -> Option<Grants> {
        self.0.contains(peer).then_some(Grants::PLAY_TO_ME)
    }
}

fn fresh() -> Identity {
    let mut secret = [0; 32];
    OsEntropy.fill(&mut secret);
    Identity::from_secret(secret)
}
