//! Whatever the network does, and in whatever order: no panic, both ends agree in the end, nothing
//! is heard that was not sent, and a session that survives carries audio again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use velin_core::session::nonce_guard::isolated;
use velin_core::session::{Event, Role, StreamEnd};
use velin_core::units::StreamId;
use velin_core::wire::{AudioFlags, CloseCode};

use crate::support::ms;
use crate::support::netem::{GilbertElliott, Settings};
use crate::support::pair::{Caller, Listener, Pair, Setup, other};

#[derive(Clone, Debug)]
enum Action {
    Wait(u16),
    Network(Box<Settings>),
    BlockUdp(bool, bool),
    StallTcp(u16),
    Outage(u16),
    Rebind(bool, u16),
    Rekey(bool),
    Play(bool),
    Remove(bool, u8),
    CutTcp,
    EndTcp(bool, bool),
    Suspend(bool, u16),
    Wake(bool),
    Spoof(u8),
    DamageTcp,
    Close(bool),
}

fn network() -> impl Strategy<Value = Settings> {
    let probability = || prop_oneof![Just(0.0), 0.0..0.4_f64];
    (probability(), probability(), probability(), probability(), 0..100_u64, any::<bool>())
        .prop_map(|(loss, duplicate, reorder, corrupt, time, bursts)| Settings {
            delay: ms(time / 4),
            jitter: ms(time / 2),
            loss,
            bursts: bursts.then_some(GilbertElliott { p: 0.05, r: 0.2 }),
            duplicate,
            reorder,
            reorder_by: ms(time),
            corrupt,
            ..Settings::default()
        })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..2000_u16).prop_map(Action::Wait),
        3 => network().prop_map(|n| Action::Network(Box::new(n))),
        2 => any::<(bool, bool)>().prop_map(|(a, b)| Action::BlockUdp(a, b)),
        2 => (0..8000_u16).prop_map(Action::StallTcp),
        2 => prop_oneof![9 => 0..8000_u16, 1 => 0..65_000_u16].prop_map(Action::Outage),
        1 => any::<bool>().prop_map(Action::Wake),
        1 => any::<u8>().prop_map(Action::Spoof),
        1 => any::<(bool, bool)>().prop_map(|(a, b)| Action::EndTcp(a, b)),
        1 => (any::<bool>(), 0..20_000_u16).prop_map(|(a, b)| Action::Suspend(a, b)),
        2 => (any::<bool>(), 1..9_u16).prop_map(|(a, b)| Action::Rebind(a, b)),
        3 => any::<bool>().prop_map(Action::Rekey),
        3 => any::<bool>().prop_map(Action::Play),
        1 => any::<(bool, u8)>().prop_map(|(a, b)| Action::Remove(a, b)),
        1 => prop_oneof![
            Just(Action::CutTcp),
            Just(Action::DamageTcp),
            any::<bool>().prop_map(Action::Close),
        ],
    ]
}

fn role(listener: bool) -> Role {
    if listener { Listener } else { Caller }
}

/// Sends a block of every stream of both every 20 ms, for `time` ms.
fn play(pair: &mut Pair, streams: &mut [(Role, StreamId, u32)], time: u64) {
    for _ in 0..time.div_ceil(20) {
        for (role, id, next) in streams.iter_mut() {
            let Some(tx) = pair.session(*role).media_tx(*id) else { continue };
            if pair.send_block(*role, &tx, *next, AudioFlags::NONE).is_ok() {
                *next += 1;
            }
        }
        pair.run_for(ms(20.min(time)));
    }
}

fn run(seed: u64, actions: &[Action]) -> Result<(), TestCaseError> {
    let damage = Arc::new(AtomicBool::new(false));
    let flag = damage.clone();
    // How many datagrams more arrive with the victim's address first, and what they weighed.
    let (spoof, aimed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (left, weight) = (spoof.clone(), aimed.clone());
    let victim: SocketAddr = "203.0.113.9:9".parse().expect("an address");
    let mut pair = Setup::seeded(seed)
        .attacked(move |mut wire| {
            if wire.carrier == crate::support::pair::Carrier::Tcp
                && flag.swap(false, Ordering::Relaxed)
            {
                let middle = wire.bytes.len() / 2;
                wire.bytes[middle] ^= 0x10;
            }
            let count = left.load(Ordering::Relaxed);
            if let crate::support::pair::Carrier::Udp { to, .. } = wire.carrier
                && count > 0
            {
                left.store(count - 1, Ordering::Relaxed);
                weight.fetch_add(wire.bytes.len(), Ordering::Relaxed);
                let mut copy = wire.clone();
                copy.carrier = crate::support::pair::Carrier::Udp { from: victim, to };
                return vec![copy, wire];
            }
            vec![wire]
        })
        .build();
    let mut streams: Vec<(Role, StreamId, u32)> = Vec::new();
    for action in actions {
        let now = pair.now;
        match action {
            Action::Wait(time) => play(&mut pair, &mut streams, u64::from(*time)),
            Action::Network(settings) => {
                for net in &mut pair.udp {
                    let outages = net.settings.outages.clone();
                    net.settings = Settings { outages, ..(**settings).clone() };
                }
            }
            Action::BlockUdp(a, b) => pair.udp_blocked = [*a, *b],
            Action::StallTcp(time) => {
                pair.tcp.outages.push((now, now + ms(u64::from(*time))));
            }
            Action::Outage(time) => pair.outage(ms(u64::from(*time))),
            Action::Rebind(who, host) => {
                let _ = pair.rebind(role(*who), &format!("198.51.100.{host}:4000"));
            }
            Action::Rekey(who) => pair.session(role(*who)).rekey(now),
            Action::Play(who) => {
                let ask = pair.end(role(*who)).asked;
                if *who && ask.is_none() {
                    let _ = pair.session(Caller).ask("*".parse().expect("a pattern"));
                }
                let session = pair.session(role(*who));
                let name = velin_core::identity::Name::new("x").expect("a name");
                let uuid = velin_core::wire::StreamUuid(velin_core::wire::Hex([1; 16]));
                let format = crate::support::pair::format();
                if let Ok(id) = session.open_stream(name, uuid, vec![format], ask) {
                    streams.push((role(*who), id, 0));
                }
            }
            Action::Remove(who, nth) => {
                if let Some((_, id, _)) = streams.get(usize::from(*nth)) {
                    pair.session(role(*who)).remove_stream(*id, CloseCode::OK);
                }
            }
            Action::CutTcp => pair.cut_tcp(),
            Action::EndTcp(a, b) => {
                let kind = |gone| if gone { StreamEnd::Closed } else { StreamEnd::TimedOut };
                pair.end_tcp(Caller, kind(*a));
                pair.end_tcp(Listener, kind(*b));
            }
            Action::Suspend(who, time) => pair.suspend(role(*who), ms(u64::from(*time))),
            Action::Spoof(count) => spoof.store(usize::from(*count), Ordering::Relaxed),
            Action::Wake(who) => pair.session(role(*who)).wake(now),
            Action::DamageTcp => damage.store(true, Ordering::Relaxed),
            Action::Close(who) => pair.session(role(*who)).close(CloseCode::OK, ""),
        }
    }
    // The network heals.
    damage.store(false, Ordering::Relaxed);
    pair.udp_blocked = [false; 2];
    for net in &mut pair.udp {
        net.settings = Settings { delay: ms(1), ..Settings::default() };
    }
    pair.tcp.outages.clear();
    pair.stopped = [pair.now; 2];
    play(&mut pair, &mut streams, 12_000);
    if pair.session(Caller).is_closed() != pair.session(Listener).is_closed() {
        // One has given up, and the other keeps its keys for a minute.
        pair.run_for(ms(66_000));
    }

    let closed = [Caller, Listener].map(|role| pair.session(role).is_closed());
    prop_assert_eq!(
        closed[0],
        closed[1],
        "{:?} {:?}",
        pair.end(Caller).events,
        pair.end(Listener).events
    );
    let before: Vec<_> = streams.iter().map(|(_, _, next)| *next).collect();
    play(&mut pair, &mut streams, 1000);
    pair.run_for(ms(100));
    for ((from, id, sent), before) in streams.iter().zip(before) {
        let to = pair.end(other(*from));
        let heard = to.blocks(*id);
        prop_assert!(heard.iter().all(|block| block < sent), "a block that was not sent");
        let fresh = heard.iter().filter(|block| **block >= before).count();
        prop_assert_eq!(fresh, (sent - before) as usize, "{:?} {:?}", id, to.events);
    }
    let hit: usize = pair
        .astray
        .iter()
        .filter(
            |w| matches!(w.carrier, crate::support::pair::Carrier::Udp { to, .. } if to == victim),
        )
        .map(|w| w.bytes.len())
        .sum();
    let aimed = aimed.load(Ordering::Relaxed);
    prop_assert!(hit <= 3 * aimed, "{hit} bytes to an address that {aimed} came from");
    for role in [Caller, Listener] {
        let end = pair.end(role);
        prop_assert_eq!(end.heard.wrong, 0);
        for (id, blocks) in &end.heard.blocks {
            // Each block was sealed once, so a packet that counts twice would be heard twice.
            prop_assert_eq!(blocks.len(), end.blocks(*id).len(), "{:?} was heard twice", id);
        }
        prop_assert!(end.count(|e| matches!(e, Event::Closed(_))) <= 1);
        let after_end = end.events.iter().skip_while(|(_, e)| !matches!(e, Event::Closed(_)));
        prop_assert!(after_end.count() <= 1, "nothing happens after the end");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_schedule_ends_in_agreement_and_invents_no_sound(
        seed: u64,
        actions in prop::collection::vec(action(), 0..25),
    ) {
        isolated(|| run(seed, &actions))?;
    }
}
