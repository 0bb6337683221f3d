//! One recorded session, byte by byte: the wire format does not change unnoticed.
//!
//! `tests/data/session-trace.txt` has a line for everything that was sent: nanoseconds, towards
//! whom, by what, the bytes. When the format is changed on purpose, run this test with
//! `VELIN_RECORD_TRACE=1` and say so in `docs/protocol.md`.

use velin_core::session::nonce_guard::isolated;
use velin_core::session::{AskId, Ended};
use velin_core::time::MonoTime;
use velin_core::wire::{CloseCode, CloseReason};

use crate::support::pair::{Caller, Carrier, Listener, Pair, Setup, Wire, payload};
use crate::support::{at, ms};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/session-trace.txt");

fn setup() -> Setup {
    let mut setup = Setup::seeded(0x7E11_0001);
    (setup.caller.secret, setup.listener.secret) = ([0x11; 32], [0x22; 32]);
    setup
}

/// When keys are renewed.
const REKEY: u64 = 60;

/// What a side does by itself.
#[derive(Clone, Copy)]
enum Act {
    Ask,
    Offer(Option<AskId>),
    Rekey,
}

/// A short life with everything in it; and what each side did when.
fn live() -> (Pair, [Vec<(MonoTime, Act)>; 2]) {
    let mut pair = setup().build();
    pair.record();
    pair.run_until_open();
    let mut acts = [vec![(pair.now, Act::Offer(None))], Vec::new()];
    let up = pair.play(Caller, ms(10));
    acts[Caller as usize].push((pair.now, Act::Ask));
    let ask = pair.ask_listener();
    acts[Listener as usize] = vec![(pair.now, Act::Offer(Some(ask))), (at(REKEY), Act::Rekey)];
    let _ = pair.play(Listener, ms(15));
    pair.run_until(at(REKEY));
    pair.session(Listener).rekey(at(REKEY));
    pair.run_until(at(100));
    pair.stop(Caller);
    pair.session(Caller).remove_stream(up, CloseCode::OK);
    pair.run_until(at(300));
    pair.session(Caller).close(CloseCode::SHUTDOWN, "done");
    pair.run_until(at(400));
    (pair, acts)
}

fn write(wires: &[Wire]) -> String {
    let line = |wire: &Wire| {
        let by = match wire.carrier {
            Carrier::Tcp => "tcp",
            Carrier::Udp { .. } => "udp",
        };
        let hex: String = wire.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {:?} {by} {hex}\n", wire.now.as_nanos(), wire.to).to_lowercase()
    };
    wires.iter().map(line).collect()
}

/// When, whether towards the listener, whether by TCP, what.
fn read(text: &str) -> Vec<(MonoTime, bool, bool, Vec<u8>)> {
    text.lines()
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let [time, to, by, hex] = fields[..] else { panic!("{line}") };
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes = (0..hex.len()).step_by(2).map(byte).collect();
            let time = MonoTime::from_nanos(time.parse().unwrap());
            (time, to == "listener", by == "tcp", bytes)
        })
        .collect()
}

#[test]
fn the_same_seeds_send_the_same_bytes_as_ever() {
    let now = write(&isolated(live).0.recorded());
    if std::env::var_os("VELIN_RECORD_TRACE").is_some() {
        std::fs::write(PATH, &now).unwrap();
    }
    let then = std::fs::read_to_string(PATH).unwrap();
    for (now, then) in now.lines().zip(then.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(now.len(), then.len());
}

#[test]
fn a_recorded_session_still_means_what_it_meant() {
    let trace = read(&std::fs::read_to_string(PATH).unwrap());
    let (_, acts) = isolated(live);
    for listener in [false, true] {
        isolated(|| {
            // One end lives again; the other's part comes from the record.
            let role = if listener { Listener } else { Caller };
            let mut pair = setup().attacked(|_| Vec::new()).build();
            pair.keep_connection(crate::support::pair::other(role));
            let from = pair.end(crate::support::pair::other(role)).address;
            let mut own = acts[role as usize].clone();
            for (sent, to_listener, by_tcp, bytes) in &trace {
                while let Some((time, act)) = own.first().copied().filter(|(t, _)| t <= sent) {
                    own.remove(0);
                    pair.run_until(time);
                    match act {
                        Act::Ask => drop(pair.session(role).ask("*".parse().unwrap()).unwrap()),
                        Act::Offer(ask) => drop(pair.offer_for(role, ask)),
                        Act::Rekey => pair.session(role).rekey(time),
                    }
                }
                pair.run_until(*sent + ms(1));
                match (*to_listener == listener, by_tcp) {
                    (true, true) => pair.inject_tcp(role, bytes),
                    (true, false) => pair.inject_udp(role, from, bytes),
                    (false, _) => {}
                }
            }
            if listener {
                let ended = Ended::ByPeer(CloseReason::new(CloseCode::SHUTDOWN, "done"));
                assert_eq!(pair.end(Listener).ended(), Some(&ended));
                let up = velin_core::units::StreamId(1);
                assert_eq!(pair.end(Listener).blocks(up), (0..=9).collect::<Vec<_>>());
            } else {
                let down = velin_core::units::StreamId(2);
                assert!(pair.end(Caller).blocks(down).len() >= 6);
            }
            assert_eq!(pair.end(role).heard.wrong, 0);
            let counters = pair.session(role).counters();
            assert_eq!((counters.forged, counters.malformed, counters.replayed), (0, 0, 0));
        });
    }
}

#[test]
fn no_sample_travels_in_the_clear() {
    let trace = std::fs::read_to_string(PATH).unwrap();
    for (stream, block) in [(1, 0), (1, 5), (2, 1)] {
        let samples = payload(velin_core::units::StreamId(stream), block);
        let hex: String = samples[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!trace.contains(&hex));
    }
    for name in ["velin-test", "test device", "sound", "S16LE"] {
        let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!trace.contains(&hex), "{name}");
    }
}
