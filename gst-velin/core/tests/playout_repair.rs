//! Loss and its repair in virtual time: the receiver half asks, a sender's history answers, and what
//! is lost on the way is lost in both directions.

mod playout_lab;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use playout_lab::*;
use velin_core::codec::{ChannelMap, StreamFormat};
use velin_core::playout::{
    Block, Body, Drift, Mixer, PlayoutDelay, Profile, ReceiverHalf, RenderTime, RepairWish,
    StreamSettings, StreamStats, stream,
};
use velin_core::resend::{Answerer, Budget, HistoryWriter, history};
use velin_core::session::{MEDIA_HEAD, MEDIA_OVERHEAD};
use velin_core::time::MonoTime;
use velin_core::units::{BlockIndex, FrameIndex};
use velin_core::wire::{AudioFlags, AudioHeader, MAX_NACK_LEN, Nack};

/// 2.5 ms.
const BLOCK: u64 = MS * 5 / 2;
/// What the output and the resampler add to the playout delay.
const OUTPUT_US: u64 = 2_330;
/// Ethernet, IPv4 and UDP around a packet, without preamble and gap.
const AROUND: u64 = 14 + 20 + 8 + 4;

/// Which packets get through.
#[derive(Clone, Copy)]
enum Loss {
    None,
    Random(f64),
    /// Gilbert–Elliott: share lost, mean burst in packets. The state changes with each packet.
    Bursts(f64, f64),
    /// The same, but the state changes with time, for both directions alike.
    TimedBursts(f64, f64),
    /// Nothing passes for a mean (exponential) time, once a second.
    Outages(f64),
}

struct Net {
    seed: Seed,
    loss: Loss,
    jitter: u64,
    delay: u64,
    /// Until when the path is in its state.
    until: u64,
    bad: bool,
    bytes: u64,
}

impl Net {
    fn new(seed: u64, loss: Loss, delay: u64, jitter: u64) -> Self {
        Self { seed: Seed(seed), loss, jitter, delay, until: 0, bad: false, bytes: 0 }
    }

    fn unit(&mut self) -> f64 {
        self.seed.next() as f64 / u64::MAX as f64
    }

    fn exponential(&mut self, mean_ns: f64) -> u64 {
        (-mean_ns * self.unit().max(1e-12).ln()) as u64
    }

    /// When a packet sent now arrives, if it does.
    fn send(&mut self, now: u64, bytes: usize) -> Option<u64> {
        self.bytes += bytes as u64 + AROUND;
        let lost = match self.loss {
            Loss::None => false,
            Loss::Random(p) => self.unit() < p,
            Loss::Bursts(p, mean) => {
                let leave = if self.bad { 1.0 / mean } else { p / ((1.0 - p) * mean) };
                self.bad ^= self.unit() < leave;
                self.bad
            }
            Loss::TimedBursts(p, mean) => {
                while now >= self.until {
                    let bad = mean * BLOCK as f64;
                    let mean = if self.bad { bad * (1.0 - p) / p } else { bad };
                    self.bad = !self.bad;
                    self.until += self.exponential(mean);
                }
                self.bad
            }
            Loss::Outages(mean) => {
                while now >= self.until {
                    self.bad = !self.bad;
                    let second = self.until.next_multiple_of(1_000 * MS).max(1_000 * MS);
                    let lasts = self.exponential(mean * MS as f64);
                    self.until = if self.bad { self.until + lasts } else { second };
                    if !self.bad && self.until <= now {
                        self.until = now.next_multiple_of(1_000 * MS);
                    }
                }
                self.bad
            }
        };
        let jitter = if self.jitter == 0 { 0 } else { self.seed.below(self.jitter) };
        (!lost).then_some(now + self.delay + jitter)
    }
}

/// What is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Capture(u32),
    Packet { index: u32, repair: bool },
    Request(usize),
    Poll,
    Render,
}

struct Run {
    net: Net,
    format: StreamFormat,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    order: u64,
    rx: ReceiverHalf,
    mixer: Mixer,
    writer: HistoryWriter,
    answerer: Answerer,
    requests: Vec<Nack>,
    arrived: Vec<u64>,
    /// Blocks the sender makes.
    blocks: u32,
    /// Requests never arrive.
    no_way_back: bool,
    polled: u64,
    requested: Vec<u64>,
}

impl Run {
    fn new(settings: StreamSettings, net: Net, seconds: u64) -> Self {
        let format = settings.format.clone();
        let output = settings.output;
        let (rx, player) = stream(settings).unwrap();
        let mut mixer = Mixer::new(output);
        mixer.add(player).unwrap();
        let (writer, kept) = history(format.block_bytes(), format.block_duration());
        let blocks = (seconds * 1_000 * MS / BLOCK) as u32;
        let mut run = Self {
            net,
            format,
            queue: BinaryHeap::new(),
            order: 0,
            rx,
            mixer,
            writer,
            answerer: Answerer::new(kept, Budget::Lan),
            requests: Vec::new(),
            arrived: vec![u64::MAX; blocks as usize],
            blocks,
            no_way_back: false,
            polled: 0,
            requested: Vec::new(),
        };
        run.at(BLOCK, What::Capture(0));
        run.at(0, What::Render);
        run
    }

    fn at(&mut self, when: u64, what: What) {
        self.order += 1;
        self.queue.push(Reverse((when, self.order, what)));
    }

    fn run(&mut self, until: u64) {
        while let Some(Reverse((now, _, what))) = self.queue.pop() {
            if now > until {
                self.at(now, what);
                return;
            }
            match what {
                What::Capture(index) => self.capture(now, index),
                What::Packet { index, repair } => self.arrive(now, index, repair),
                What::Request(n) => self.answer(now, n),
                What::Poll => self.poll(now),
                What::Render => {
                    let mut out = [0.0; 120];
                    self.mixer.render(RenderTime { mono: MonoTime::from_nanos(now) }, &mut out);
                    self.at(now + BLOCK, What::Render);
                }
            }
        }
    }

    fn capture(&mut self, now: u64, index: u32) {
        let header = header(index);
        self.writer.push(&header, &vec![7; self.format.block_bytes()]);
        if let Some(at) = self.net.send(now, self.format.block_bytes() + MEDIA_OVERHEAD) {
            self.at(at, What::Packet { index, repair: false });
        }
        if index + 1 < self.blocks {
            self.at(now + BLOCK, What::Capture(index + 1));
        }
    }

    fn arrive(&mut self, now: u64, index: u32, repair: bool) {
        let payload = vec![7; self.format.block_bytes()];
        let block = Block {
            index: BlockIndex(index),
            ts: header(index).ts,
            discontinuity: false,
            repair,
            body: Body::Audio(&payload),
        };
        self.rx.insert(MonoTime::from_nanos(now), block);
        let first = &mut self.arrived[index as usize];
        *first = now.min(*first);
        self.poll(now);
    }

    fn poll(&mut self, now: u64) {
        while let Some(request) = self.rx.poll_nack(MonoTime::from_nanos(now)) {
            self.requested.push(now);
            self.requests.push(request.nack);
            let mut bytes = [0; MAX_NACK_LEN];
            let n = request.nack.encode(&mut bytes);
            for _ in 0..1 + usize::from(request.twice) {
                if let Some(at) = self.net.send(now, n + 32).filter(|_| !self.no_way_back) {
                    self.at(at, What::Request(self.requests.len() - 1));
                }
            }
        }
        let Some(next) = self.rx.next_nack() else { return };
        let next = next.as_nanos();
        assert!(next > now, "asked to be called at {next}, now is {now}");
        if self.polled <= now || next < self.polled {
            self.polled = next;
            self.at(next, What::Poll);
        }
    }

    fn answer(&mut self, now: u64, n: usize) {
        let nack = self.requests[n];
        let rtt = Duration::from_nanos(2 * self.net.delay + self.net.jitter);
        let mut sent = Vec::new();
        self.answerer.answer(MonoTime::from_nanos(now), rtt, nack.blocks(), |h, len, packet| {
            assert!(h.flags.contains(AudioFlags::RETRANSMISSION));
            assert!(packet[MEDIA_HEAD..MEDIA_HEAD + len].iter().all(|b| *b == 7));
            sent.push((h.block.0, len));
        });
        for (index, len) in sent {
            if let Some(at) = self.net.send(now, len + MEDIA_OVERHEAD) {
                self.at(at, What::Packet { index, repair: true });
            }
        }
    }

    fn stats(&self) -> StreamStats {
        self.rx.counters().snapshot()
    }

    /// The share of blocks that were not there when their first sample was due, from block `from`
    /// on, with such a delay between capture and playout.
    fn missing(&self, from: u32, delay_ns: u64) -> f64 {
        let end = self.blocks - 400;
        let late =
            |i: &u32| self.arrived[*i as usize] > u64::from(*i) * BLOCK + delay_ns + self.net.delay;
        (from..end).filter(late).count() as f64 / f64::from(end - from)
    }
}

fn header(index: u32) -> AudioHeader {
    let ts = FrameIndex(u64::from(index) * 120);
    AudioHeader { flags: AudioFlags::NONE, block: BlockIndex(index), ts }
}

fn fixed(delay_us: u64, repair: RepairWish) -> StreamSettings {
    let format = s16(ChannelMap::mono());
    let output = output(48_000, ChannelMap::mono());
    let delay = PlayoutDelay::Fixed(Duration::from_micros(delay_us));
    // A resampler would take most of the test's time.
    StreamSettings { delay, repair, drift: Drift::Exact, ..auto(&format, output) }
}

/// Ten minutes behind a fixed playout delay; gives the share of blocks that are missing after the
/// first ten seconds.
fn ten_minutes(name: &str, loss: Loss, jitter: u64, total_us: u64) -> f64 {
    let delay_us = total_us - OUTPUT_US;
    let mut worst = 0.0_f64;
    let mut sum = 0.0;
    for seed in 1..=3 {
        let net = Net::new(seed, loss, MS / 10, jitter);
        let mut run = Run::new(fixed(delay_us, RepairWish::Nack), net, 600);
        run.run(610_000 * MS);
        let missing = run.missing(4_000, delay_us * 1_000);
        let s = run.stats();
        let concealed_ms = s.concealed as f64 / 48.0;
        let rate = run.net.bytes as f64 / 600.0 / 1e3;
        println!(
            "{name} seed {seed}: missing {missing:.2e}, concealed {concealed_ms:.1} ms, allowance \
             {:?}, nacks {}, asked {}, repaired {}, late {}, needless {}, {rate:.0} kB/s (mono), {:?}",
            s.allowance,
            s.nacks,
            s.asked,
            s.by_retransmission,
            s.repaired_late,
            s.needless,
            run.answerer.counters()
        );
        assert!(s.adds_up());
        worst = worst.max(missing);
        sum += missing;
    }
    println!("{name}: mean {:.2e}, worst {worst:.2e}", sum / 3.0);
    sum / 3.0
}

#[test]
fn five_percent_of_random_loss_is_repaired_within_18_ms() {
    let missing = ten_minutes("random 5 %", Loss::Random(0.05), 2 * MS, 18_000);
    assert!(missing <= 8e-6, "{missing}");
}

#[test]
fn ten_percent_of_random_loss_is_repaired_within_25_ms() {
    let missing = ten_minutes("random 10 %", Loss::Random(0.10), 2 * MS, 25_000);
    assert!(missing <= 2e-4, "{missing}");
}

#[test]
fn twenty_percent_of_random_loss_is_repaired_within_40_ms() {
    let missing = ten_minutes("random 20 %", Loss::Random(0.20), 2 * MS, 40_000);
    assert!(missing <= 1e-3, "{missing}");
}

#[test]
fn bursts_of_three_are_repaired_within_25_ms() {
    let missing = ten_minutes("bursts 5 %, 3", Loss::Bursts(0.05, 3.0), 2 * MS, 25_000);
    assert!(missing <= 5e-3, "{missing}");
}

#[test]
fn bursts_that_last_are_repaired_as_far_as_25_ms_reach() {
    let missing = ten_minutes("timed bursts", Loss::TimedBursts(0.05, 3.0), 2 * MS, 25_000);
    // One burst in eleven lasts so long that no answer can come in time: 4.5e-3.
    assert!(missing <= 7e-3, "{missing}");
}

#[test]
fn outages_of_20_ms_are_repaired_within_75_ms() {
    let missing = ten_minutes("outages 20 ms", Loss::Outages(20.0), 2 * MS, 75_000);
    assert!(missing <= 1e-3, "{missing}");
}

fn adaptive(repair: RepairWish) -> StreamSettings {
    StreamSettings { delay: AUTO, ..fixed(0, repair) }
}

#[test]
fn a_clean_path_is_not_asked_anything() {
    for jitter in [0, MS / 4, MS, 2 * MS] {
        let mut run =
            Run::new(adaptive(RepairWish::Auto), Net::new(1, Loss::None, MS / 10, jitter), 20);
        // Until shortly before the end, after which the last block seems to be missing.
        run.run(19_990 * MS);
        assert_eq!(run.stats().nacks, 0, "jitter {jitter}");
        assert_eq!(run.stats().lost, 0);
    }
}

#[test]
fn a_path_that_reorders_is_hardly_asked_anything() {
    let mut run = Run::new(adaptive(RepairWish::Auto), Net::new(1, Loss::None, MS, 20 * MS), 60);
    run.run(5_000 * MS);
    let learned = run.stats().asked;
    run.run(59_900 * MS);
    let asked = run.stats().asked - learned;
    println!("asked {learned} while learning, {asked} in 55 s");
    assert!(learned < 100 && asked < 22_000 / 50, "{learned}, {asked}");
}

#[test]
fn a_stream_that_ends_is_not_asked_for_long() {
    let mut run = Run::new(adaptive(RepairWish::Auto), Net::new(1, Loss::Random(0.05), MS, MS), 20);
    run.run(60_000 * MS);
    let after: Vec<_> = run.requested.iter().filter(|at| **at > 20_010 * MS).collect();
    assert!(after.len() < 120, "{}", after.len());
    assert!(after.iter().all(|at| **at < 20_600 * MS));
    assert_eq!(run.rx.next_nack(), None);
}

#[test]
fn without_repair_nothing_is_asked_and_no_delay_is_added() {
    for repair in [RepairWish::Off, RepairWish::Copy] {
        let net = Net::new(1, Loss::Random(0.05), MS, MS);
        let mut run = Run::new(adaptive(repair), net, 20);
        run.run(30_000 * MS);
        let s = run.stats();
        assert_eq!((s.nacks, s.by_retransmission), (0, 0));
        assert!(s.lost > 300, "{}", s.lost);
        assert_eq!(s.allowance.is_zero(), repair == RepairWish::Off);
        assert_eq!(run.rx.copies().distances().is_empty(), repair == RepairWish::Off);
    }
}

#[test]
fn whoever_is_never_answered_asks_for_copies_instead() {
    let net = Net::new(1, Loss::Random(0.05), MS, MS);
    let mut run = Run::new(adaptive(RepairWish::Auto), net, 60);
    run.no_way_back = true;
    run.run(15_000 * MS);
    assert_eq!(run.rx.copies().distances(), [1]);
    let asked = run.stats().asked;
    run.run(55_000 * MS);
    assert!(run.stats().asked - asked < 1_500, "{}", run.stats().asked - asked);
}

#[test]
fn where_a_round_trip_takes_longer_than_the_delay_copies_are_asked_for() {
    let net = Net::new(1, Loss::Random(0.05), 40 * MS, MS);
    let mut run = Run::new(fixed(20_000, RepairWish::Auto), net, 30);
    run.rx.set_rtt(Duration::from_millis(80));
    run.run(25_000 * MS);
    assert_eq!(run.rx.copies().distances(), [1]);
    assert_eq!(run.stats().by_retransmission, 0);
}

#[test]
fn the_allowance_follows_loss_and_calm() {
    let quiet = |profile| {
        let settings =
            StreamSettings { delay: PlayoutDelay::Adaptive(profile), ..adaptive(RepairWish::Auto) };
        let mut run = Run::new(settings, Net::new(1, Loss::None, MS / 10, MS / 10), 200);
        run.rx.set_rtt(Duration::from_micros(300));
        run.run(59_000 * MS);
        let before = run.stats().allowance;
        run.run(70_000 * MS);
        let calm = run.stats().allowance;
        run.net.loss = Loss::Random(0.05);
        run.run(72_000 * MS);
        (before, calm, run.stats().allowance)
    };
    let (before, calm, lossy) = quiet(Profile::Low);
    assert!(before > Duration::from_millis(1) && before < Duration::from_millis(3), "{before:?}");
    assert!(calm.is_zero());
    assert!(lossy >= before, "{lossy:?}");
    let (before, calm, lossy) = quiet(Profile::Music);
    assert_eq!(before, calm);
    assert!(lossy > before);
}

#[test]
fn by_tcp_nothing_is_asked() {
    let net = Net::new(1, Loss::Random(0.05), MS, MS);
    let mut run = Run::new(adaptive(RepairWish::Auto), net, 10);
    run.rx.set_way_back(false);
    run.run(20_000 * MS);
    assert_eq!(run.stats().nacks, 0);
    assert_eq!((run.rx.next_nack(), run.stats().allowance), (None, Duration::ZERO));
}
