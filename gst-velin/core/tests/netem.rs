//! The network model of the other tests does what its settings say.

mod support;

use std::time::Duration;

use support::netem::{GilbertElliott, Netem, Outages, Packet, Rate, Settings};
use support::rng::Rng;
use support::{at, ms};
use velin_core::entropy::Entropy;
use velin_core::time::MonoTime;

const N: u64 = 100_000;

/// Sends `N` packets of 100 bytes, one each millisecond; gives those that arrive, in order.
fn arrivals(settings: Settings, seed: u64) -> Vec<(MonoTime, u64)> {
    run(&mut Netem::new(settings, seed))
}

fn run(net: &mut Netem) -> Vec<(MonoTime, u64)> {
    let mut out = Vec::new();
    let take = |net: &mut Netem, until: MonoTime, out: &mut Vec<(MonoTime, u64)>| {
        while let Some(due) = net.timeout().filter(|due| *due <= until) {
            let bytes = net.poll(due).expect("it said so").bytes;
            out.push((due, u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"))));
        }
    };
    for n in 0..N {
        take(net, at(n), &mut out);
        net.send(at(n), packet(n));
    }
    take(net, MonoTime::from_nanos(u64::MAX), &mut out);
    out
}

fn packet(n: u64) -> Packet {
    let addr = ([127, 0, 0, 1], 9).into();
    let mut bytes = vec![0; 100];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Packet { from: addr, to: addr, bytes }
}

fn lost(arrivals: &[(MonoTime, u64)]) -> f64 {
    1.0 - arrivals.len() as f64 / N as f64
}

fn near(measured: f64, wanted: f64, tolerance: f64) {
    assert!((measured - wanted).abs() <= tolerance, "{measured} instead of {wanted}");
}

#[test]
fn a_perfect_network_delivers_everything_at_once_and_in_order() {
    let got = arrivals(Settings::default(), 1);
    assert_eq!(got, (0..N).map(|n| (at(n), n)).collect::<Vec<_>>());
}

#[test]
fn one_seed_is_one_network_and_another_is_another() {
    let settings = Settings {
        jitter: ms(20),
        loss: 0.1,
        duplicate: 0.1,
        reorder: 0.1,
        reorder_by: ms(9),
        ..Settings::default()
    };
    assert_eq!(arrivals(settings.clone(), 7), arrivals(settings.clone(), 7));
    assert_ne!(arrivals(settings.clone(), 7), arrivals(settings, 8));
}

#[test]
fn random_loss_has_its_rate() {
    for loss in [0.01, 0.1, 0.5] {
        near(lost(&arrivals(Settings { loss, ..Settings::default() }, 2)), loss, 0.005);
    }
}

#[test]
fn burst_loss_has_its_rate_and_burst_length() {
    let (p, r) = (0.01, 0.25);
    let bursts = Some(GilbertElliott { p, r });
    let got = arrivals(Settings { bursts, ..Settings::default() }, 3);
    near(lost(&got), p / (p + r), 0.006);
    let gaps: Vec<u64> =
        got.windows(2).map(|w| w[1].1 - w[0].1 - 1).filter(|gap| *gap > 0).collect();
    near(gaps.iter().sum::<u64>() as f64 / gaps.len() as f64, 1.0 / r, 0.3);
}

#[test]
fn outages_have_their_share_of_the_time() {
    let outages = Outages::Random { good: ms(900), bad: ms(100) };
    near(lost(&arrivals(Settings { outages, ..Settings::default() }, 4)), 0.1, 0.03);
}

#[test]
fn outage_windows_are_exact() {
    let outages = Outages::Windows(vec![(at(10), at(20)), (at(50), at(51))]);
    let got = arrivals(Settings { outages, ..Settings::default() }, 5);
    let kept = (0..N).filter(|n| !(10..20).contains(n) && *n != 50);
    assert!(got.iter().map(|(_, n)| *n).eq(kept));
}

#[test]
fn delay_and_jitter_stay_in_their_range_and_keep_the_order() {
    let got = arrivals(Settings { delay: ms(10), jitter: ms(20), ..Settings::default() }, 6);
    assert!(got.windows(2).all(|w| w[0].1 < w[1].1));
    let delays: Vec<_> = got.iter().map(|(due, n)| due.since(at(*n))).collect();
    assert!(delays.iter().all(|d| *d >= ms(10) && *d <= ms(30)));
    // Packets queue behind a late one, so short delays are rare when they are sent densely.
    assert!(*delays.iter().min().unwrap() < ms(20) && *delays.iter().max().unwrap() > ms(29));
}

#[test]
fn reordering_and_duplication_have_their_rates() {
    let settings =
        Settings { reorder: 0.05, reorder_by: ms(10), duplicate: 0.02, ..Settings::default() };
    let mut net = Netem::new(settings, 9);
    let got = run(&mut net);
    near((got.len() as f64 - N as f64) / N as f64, 0.02, 0.003);
    near(net.tally().reordered as f64 / N as f64, 0.05, 0.003);
    let mut highest = 0;
    let overtaken = got
        .iter()
        .filter(|(_, n)| {
            highest = highest.max(*n);
            *n < highest
        })
        .count();
    // One in ten is held back by less than a millisecond, which nobody sees.
    near(overtaken as f64 / N as f64, 0.045, 0.005);
}

#[test]
fn a_slow_link_passes_its_rate_and_loses_what_its_queue_cannot_hold() {
    // 800 kbit/s are offered, half of it passes, and nothing waits longer than the queue.
    let rate = Some(Rate { bits: 400_000, queue: 1000 });
    let got = arrivals(Settings { rate, ..Settings::default() }, 10);
    near(lost(&got), 0.5, 0.001);
    let longest = got.iter().map(|(due, n)| due.since(at(*n))).max().unwrap();
    assert!(longest >= ms(20) && longest <= ms(22) + Duration::from_micros(1), "{longest:?}");
}

#[test]
fn corruption_flips_one_bit_at_its_rate() {
    let mut net = Netem::new(Settings { corrupt: 0.03, ..Settings::default() }, 11);
    let mut flipped = 0;
    for n in 0..N {
        net.send(at(n), packet(n));
        let got = net.poll(at(n)).unwrap();
        let bits: u32 =
            got.bytes.iter().zip(packet(n).bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert!(bits <= 1);
        flipped += u64::from(bits);
    }
    near(flipped as f64 / N as f64, 0.03, 0.003);
    assert_eq!(net.tally().corrupted, flipped);
}

#[test]
fn packets_above_the_mtu_are_lost() {
    for (mtu, arrives) in [(99, false), (100, true)] {
        let mut net = Netem::new(Settings { mtu: Some(mtu), ..Settings::default() }, 12);
        net.send(at(0), packet(0));
        assert_eq!(net.poll(at(0)).is_some(), arrives);
    }
}

#[test]
fn entropy_from_one_seed_repeats_and_fills_every_byte() {
    let draw = |seed: u64| {
        let mut bytes = [0_u8; 37];
        Rng::new(seed).fill(&mut bytes);
        bytes
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert_ne!(draw(1)[32..], [0; 5]);
}
