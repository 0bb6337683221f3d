//! Loss on the way between real sockets, and what the two elements make of it. How fast repair is,
//! virtual time tells; here it only has to happen.

use std::sync::atomic::Ordering;

use crate::relay::Relay;
use crate::support::{Device, FLOAT_STEREO, Receiver, Sender, count, element, rms, until};

/// Packets of the stream that pass before a test looks.
const ENOUGH: u64 = 1_200;

struct Lossy {
    receiver: Receiver,
    sender: Sender,
    // Passes packets on until it is dropped.
    _relay: Relay,
    before: (u64, u64),
}

impl Lossy {
    /// Through a relay that drops one packet in twenty, both ways, once UDP is proved.
    fn new(src: &str, sink: &str) -> Self {
        let device = Device::new();
        let properties = format!("bind-address=127.0.0.1 profile=fixed latency=100 {src}");
        let receiver = Receiver::playing(&device, &properties, FLOAT_STEREO);
        let relay = Relay::new(&receiver);
        let properties = format!("{} {sink}", relay.properties());
        let sender = Sender::build(&device, 1, 1000, &properties);
        sender.line.set(gst::State::Playing);
        sender.messages().wait("route udp", |m| {
            element(m, "velin/route-changed").filter(|s| s.get::<&str>("route") == Ok("udp"))
        });
        receiver.tape.heard("sound", |b| rms(b) > 0.1);
        relay.hop.loss_permille.store(50, Ordering::Relaxed);
        let before = (receiver.count("blocks"), receiver.count("concealed"));
        Self { receiver, sender, _relay: relay, before }
    }

    /// Lets many packets pass.
    fn pass(&self) {
        until("blocks", || (self.receiver.count("blocks") - self.before.0 >= ENOUGH).then_some(()));
    }

    /// What the sender knows about its one receiver.
    fn seen(&self) -> gst::Structure {
        let receivers = self.sender.stats().get::<gst::List>("receivers").expect("receivers");
        receivers[0].get::<gst::Structure>().expect("a structure")
    }
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn lost_packets_come_again() {
    let lossy = Lossy::new("", "");
    lossy.pass();
    let repaired = lossy.receiver.count("by-retransmission");
    assert!(repaired > 20, "{:?}", lossy.receiver.stats());
    let missing = lossy.receiver.count("lost");
    assert!(missing * 5 < repaired, "{:?}", lossy.receiver.stats());
    assert!(lossy.receiver.count("repaired") > 20 * 100);
    // Its sender hears of it once a second.
    until("a report", || (count(&lossy.seen(), "by-retransmission") > 0).then_some(()));
    let seen = lossy.seen();
    assert!(count(&seen, "nacks") > 20 && count(&seen, "resent") > 20, "{seen:?}");
    assert!(count(&seen, "target-us") >= 90_000, "{seen:?}");
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn without_repair_lost_packets_stay_lost() {
    let lossy = Lossy::new("repair=off", "");
    lossy.pass();
    let r = &lossy.receiver;
    assert_eq!((r.count("nacks"), r.count("repaired")), (0, 0));
    assert!(r.count("lost") > 20 && r.count("concealed") - lossy.before.1 > 20 * 50);
    assert_eq!(count(&lossy.seen(), "resent"), 0);
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn a_sender_without_repair_sends_nothing_again() {
    let lossy = Lossy::new("", "repair=off");
    lossy.pass();
    let r = &lossy.receiver;
    assert!(r.count("nacks") > 0 && r.count("lost") > 20, "{:?}", r.stats());
    assert_eq!((r.count("repaired"), count(&lossy.seen(), "resent")), (0, 0));
}

#[cfg_attr(windows, ignore = "Wine gives a UDP port to one loopback address only")]
#[test]
fn copies_fill_gaps_without_being_asked_for_one_by_one() {
    let lossy = Lossy::new("repair=copy", "packet-time=1000000");
    lossy.pass();
    until("copies", || (lossy.receiver.count("by-redundancy") > 20).then_some(()));
    let s = lossy.receiver.stats();
    assert_eq!((count(&s, "nacks"), count(&s, "by-retransmission")), (0, 0), "{s:?}");
}

#[test]
fn the_parts_of_the_delay_and_the_round_trip_are_in_the_stats() {
    let device = Device::new();
    let receiver = Receiver::playing(&device, "bind-address=127.0.0.1", FLOAT_STEREO);
    let _sender = Sender::start(&device, receiver.port(), 1000);
    until("a round trip", || (receiver.count("rtt-us") > 0).then_some(()));
    until("a delay of all its parts", || {
        let [block, jitter, repair, output, target] =
            ["block-us", "jitter-us", "repair-us", "output-us", "target-us"]
                .map(|part| receiver.count(part));
        if target == 0 || output == 0 {
            return None;
        }
        assert_eq!(block, 2_500);
        // A period of a millisecond and half a filter of 128 frames.
        assert_eq!(output, 2_333);
        // Each is rounded down by itself, and the target comes down slowly.
        let parts = block + jitter.max(repair) + output;
        (repair > 0 && target + 4 >= parts && target <= 200_000).then_some(())
    });
}
