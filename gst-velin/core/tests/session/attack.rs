//! Everything that arrives and was not sealed by the peer for this place: nothing plays, no state
//! moves, each is counted and named.

use velin_core::session::{Event, Role, Route, SessionCounters};
use velin_core::units::StreamId;

use crate::support::pair::{Caller, Carrier, Heard, Listener, Pair, Setup, other};
use crate::support::{at, ms};

const ROLES: [Role; 2] = [Caller, Listener];

/// What an attack must not move.
#[derive(Debug, PartialEq)]
struct State {
    events: usize,
    heard: Heard,
    route: Option<Route>,
    counters: SessionCounters,
}

fn state(pair: &mut Pair, role: Role) -> State {
    let end = pair.end(role);
    State {
        events: end.events.len(),
        heard: end.heard.clone(),
        route: end.session.route(),
        counters: end.session.counters(),
    }
}

/// An open pair with audio both ways over UDP, quiet for the moment, and every packet of it.
struct Prey {
    pair: Pair,
    up: StreamId,
    down: StreamId,
    /// Towards whom, and the packet. Of TCP, too.
    packets: Vec<(Role, Carrier, Vec<u8>)>,
}

fn prey(seed: u64) -> Prey {
    let mut pair = Setup::seeded(seed).build();
    pair.record();
    pair.run_until_open();
    pair.run_until_udp(Caller);
    pair.run_until_udp(Listener);
    let up = pair.play(Caller, ms(5));
    let down = pair.play(Listener, ms(5));
    pair.run_until(at(1100));
    pair.stop(Caller);
    pair.stop(Listener);
    pair.run_until(at(1150));
    let packets = pair.recorded();
    let packets = packets
        .iter()
        .flat_map(|w| w.packets().into_iter().map(|p| (w.to, w.carrier, p)))
        .collect();
    Prey { pair, up, down, packets }
}

impl Prey {
    /// Sends `packet` to `role` by UDP from the peer's address and from a foreign one. Nothing
    /// may change but `count`, which is how many of them were counted under the right name.
    #[track_caller]
    fn assert_ignored(
        &mut self,
        role: Role,
        packet: &[u8],
        count: impl Fn(&mut SessionCounters) -> &mut u64,
    ) {
        let home = self.pair.end(other(role)).address;
        for from in [home, "203.0.113.9:9".parse().unwrap()] {
            let mut wanted = state(&mut self.pair, role);
            *count(&mut wanted.counters) += 1;
            self.pair.inject_udp(role, from, packet);
            assert_eq!(state(&mut self.pair, role), wanted);
        }
    }

    /// The session is as good as before: audio passes both ways, nothing was sent astray.
    #[track_caller]
    fn assert_healthy(&mut self) {
        let pair = &mut self.pair;
        assert!(pair.astray.is_empty());
        for (role, id) in [(Caller, self.up), (Listener, self.down)] {
            let peer = other(role);
            let before = pair.end(peer).heard.blocks.get(&id).map_or(0, Vec::len);
            pair.start(role, id, ms(5));
            pair.run_for(ms(498));
            assert_eq!(pair.stop(role)[&id], 100);
            pair.run_for(ms(10));
            assert_eq!(pair.end(peer).heard.blocks[&id].len(), before + 100, "{role:?}");
        }
        pair.run_for(ms(3000));
        for role in ROLES {
            assert_eq!(pair.end(role).heard.wrong, 0);
            assert!(pair.end(role).ended().is_none());
            assert_eq!(pair.end(role).count(|e| *e == Event::Stalled), 0);
            assert!(matches!(pair.session(role).route(), Some(Route::Datagram(_))));
        }
    }
}

fn is_data(packet: &[u8]) -> bool {
    packet[0] == 0x5D
}

#[test]
fn a_replayed_session_plays_nothing() {
    let mut prey = prey(0xA7_0001);
    let packets = prey.packets.clone();
    for (to, carrier, packet) in packets.iter().filter(|(.., p)| is_data(p)) {
        if *carrier != Carrier::Tcp {
            prey.assert_ignored(*to, packet, |c| &mut c.replayed);
        }
    }
    prey.assert_healthy();
}

#[test]
fn handshake_packets_mean_nothing_to_a_living_session() {
    let mut prey = prey(0xA7_0002);
    let packets = prey.packets.clone();
    for (to, _, packet) in packets.iter().filter(|(.., p)| !is_data(p)) {
        prey.assert_ignored(*to, packet, |c| &mut c.malformed);
    }
    prey.assert_healthy();
}

#[test]
fn a_session_replayed_into_another_of_the_same_devices_plays_nothing() {
    let old = prey(0xA7_0003);
    let mut setup = Setup::seeded(0xA7_0004);
    let same = Setup::seeded(0xA7_0003);
    (setup.caller.secret, setup.listener.secret) = (same.caller.secret, same.listener.secret);
    let mut pair = setup.open();
    let up = pair.play(Caller, ms(5));
    let down = pair.play(Listener, ms(5));
    pair.run_until(at(1000));
    for role in ROLES {
        pair.stop(role);
    }
    let mut new = Prey { pair, up, down, packets: Vec::new() };
    for (to, _, packet) in old.packets.iter().filter(|(.., p)| is_data(p)) {
        new.assert_ignored(*to, packet, |c| &mut c.malformed);
        // The index is in the open: write the new one into it.
        let mut packet = packet.clone();
        packet[4..8].copy_from_slice(&new.pair.session(*to).index().to_bytes());
        let mut far = packet.clone();
        far[8..16].copy_from_slice(&(1_u64 << 20).to_be_bytes());
        if packet[2..4] != [0, 0] {
            new.assert_ignored(*to, &far, |c| &mut c.forged);
        }
    }
    new.assert_healthy();
}

#[test]
fn packets_pasted_into_another_stream_direction_or_epoch_are_forged() {
    let mut prey = prey(0xA7_0005);
    let ids = [prey.up, prey.down, StreamId::PATH];
    let packets = prey.packets.clone();
    let media = packets.iter().filter(|(_, c, p)| is_data(p) && *c != Carrier::Tcp);
    for (to, _, packet) in media.step_by(7) {
        for id in ids {
            for role in ROLES {
                for epoch in [0, 1, 255] {
                    let mut pasted = packet.clone();
                    pasted[1] = epoch;
                    pasted[2..4].copy_from_slice(&id.0.to_be_bytes());
                    pasted[4..8].copy_from_slice(&prey.pair.session(role).index().to_bytes());
                    if pasted == *packet && role == *to {
                        continue;
                    }
                    // A number that was not seen, so that the seal is looked at.
                    pasted[8..16].copy_from_slice(&(1_u64 << 30).to_be_bytes());
                    if epoch == 0 {
                        prey.assert_ignored(role, &pasted, |c| &mut c.forged);
                    } else {
                        prey.assert_ignored(role, &pasted, |c| &mut c.wrong_epoch);
                    }
                }
            }
        }
    }
    prey.assert_healthy();
}

#[test]
fn reflected_packets_are_not_ours() {
    let mut prey = prey(0xA7_0006);
    let packets = prey.packets.clone();
    for (to, _, packet) in packets.iter().filter(|(_, c, p)| is_data(p) && *c != Carrier::Tcp) {
        prey.assert_ignored(other(*to), packet, |c| &mut c.malformed);
    }
    prey.assert_healthy();
}

#[test]
fn forged_counters_move_no_window() {
    let mut prey = prey(0xA7_0007);
    let packets = prey.packets.clone();
    let (to, _, packet) =
        packets.iter().rfind(|(_, c, p)| is_data(p) && *c != Carrier::Tcp).unwrap();
    for counter in [1 << 48, u64::MAX, (1 << 48) + 1] {
        let mut forged = packet.clone();
        forged[8..16].copy_from_slice(&u64::to_be_bytes(counter));
        prey.assert_ignored(*to, &forged, |c| &mut c.malformed);
    }
    for counter in [(1 << 48) - 1, 1 << 32, 3000, 300] {
        let mut forged = packet.clone();
        forged[8..16].copy_from_slice(&u64::to_be_bytes(counter));
        prey.assert_ignored(*to, &forged, |c| &mut c.forged);
    }
    prey.assert_healthy();
}

#[test]
fn a_packet_with_any_bit_flipped_is_dropped_and_counted() {
    let mut prey = prey(0xA7_0008);
    // A fresh packet that never arrived.
    let tx = prey.pair.session(Caller).media_tx(prey.up).unwrap();
    let (packet, _) = crate::support::pair::seal(&tx, 500, Default::default()).unwrap();
    for bit in 0..8 * packet.len() {
        let mut flipped = packet.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let name: fn(&mut SessionCounters) -> &mut u64 = match bit / 8 {
            0 | 4..=7 => |c| &mut c.malformed,
            1 => |c| &mut c.wrong_epoch,
            2 | 3 => |c| &mut c.unknown_stream,
            8 | 9 => |c| &mut c.malformed,
            _ => |c| &mut c.forged,
        };
        let stream = StreamId(u16::from_be_bytes([flipped[2], flipped[3]]));
        if stream != prey.up && (stream == prey.down || stream == StreamId::CONTROL) {
            continue;
        }
        // Low counter bits may name a packet that came already.
        if (14..16).contains(&(bit / 8)) {
            let before = prey.pair.session(Listener).counters();
            let from = prey.pair.end(Caller).address;
            prey.pair.inject_udp(Listener, from, &flipped);
            let after = prey.pair.session(Listener).counters();
            let counted = after.forged - before.forged + after.replayed - before.replayed;
            assert_eq!(counted, 1, "bit {bit}");
            continue;
        }
        prey.assert_ignored(Listener, &flipped, name);
    }
    for length in 0..packet.len() {
        let count: fn(&mut SessionCounters) -> &mut u64 =
            if length < 32 { |c| &mut c.malformed } else { |c| &mut c.forged };
        prey.assert_ignored(Listener, &packet[..length], count);
    }
    let longer = [&packet[..], &[0]].concat();
    prey.assert_ignored(Listener, &longer, |c| &mut c.forged);
    // The genuine one is still welcome.
    let from = prey.pair.end(Caller).address;
    prey.pair.inject_udp(Listener, from, &packet);
    assert!(prey.pair.end(Listener).blocks(prey.up).contains(&500));
    prey.assert_healthy();
}

#[test]
fn random_datagrams_change_nothing() {
    let mut prey = prey(0xA7_0009);
    let mut rng = crate::support::rng::Rng::new(9);
    for _ in 0..5000 {
        let mut garbage = vec![0; rng.below(1300) as usize];
        velin_core::entropy::Entropy::fill(&mut rng, &mut garbage);
        prey.assert_ignored(Listener, &garbage, |c| &mut c.malformed);
    }
    prey.assert_healthy();
}

#[test]
fn control_packets_do_not_come_by_udp() {
    // An attacker that reads the TCP connection and is faster by UDP could bring control messages
    // out of order, which ends a session.
    let mut prey = prey(0xA7_000A);
    prey.pair.tcp.delay = ms(300);
    prey.pair.record();
    for _ in 0..3 {
        let _ = prey.pair.offer(Caller);
    }
    prey.pair.run_for(ms(10));
    let control: Vec<_> = prey
        .pair
        .recorded()
        .iter()
        .filter(|w| w.to == Listener && w.carrier == Carrier::Tcp)
        .flat_map(|w| w.packets())
        .collect();
    assert!(control.len() >= 3);
    for packet in control.iter().rev() {
        prey.assert_ignored(Listener, packet, |c| &mut c.unknown_stream);
    }
    prey.pair.tcp.delay = ms(1);
    prey.pair.run_for(ms(1000));
    let accepted = prey.pair.end(Caller).count(|e| matches!(e, Event::StreamAccepted { .. }));
    assert_eq!(accepted, 4);
    prey.assert_healthy();
}

#[test]
fn packets_copied_to_another_place_first_are_counted_once() {
    // The attacker delivers every UDP packet twice, the copy first and from its own address.
    let mut pair = Setup::new()
        .attacked(|wire| {
            let mut copy = wire.clone();
            if let Carrier::Udp { from, .. } = &mut copy.carrier
                && wire.now >= at(1000)
            {
                *from = "203.0.113.9:9".parse().unwrap();
                return vec![copy, wire];
            }
            vec![wire]
        })
        .open();
    let up = pair.play(Caller, ms(5));
    pair.run_until(at(10_000));
    let sent = pair.stop(Caller)[&up];
    pair.run_for(ms(100));
    let heard = &pair.end(Listener).heard.blocks[&up];
    assert_eq!(heard.len(), sent as usize);
    assert!(pair.end(Caller).ended().is_none());
    let counters = pair.session(Listener).counters();
    assert!(counters.replayed > 1000);
    assert!(counters.unproved_addresses <= counters.received);
}
