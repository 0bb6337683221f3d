//! What `velinsink` and `velinsrc` tell, in words: one line for each event.

use gst::prelude::*;
use velin_core::session::Ended;
use velin_core::wire::{CloseCode, CloseReason};

use crate::plan::Direction;

/// The line for an element's message, `None` where another message says the same.
pub(super) fn line(message: &gst::StructureRef, direction: Direction) -> Option<String> {
    let event = message.name().strip_prefix("velin/")?;
    let text = |field: &str| message.get::<String>(field).unwrap_or_default();
    let port = |field: &str| message.get::<u32>(field).unwrap_or_default();
    let peer = || peer(&text("name"), &text("peer"), &text("address"));
    Some(match event {
        "listening" => {
            format!("listening: TCP port {}, UDP port {}", port("port"), port("audio-port"))
        }
        "peer-connected" => format!("peer connected: {}", peer()),
        // A sender also warns, with the same reason.
        "peer-lost" if direction == Direction::Send => return None,
        "peer-lost" if is_goodbye(&text("reason")) => format!("peer left: {}", peer()),
        "peer-lost" => format!("peer lost: {}: {}", peer(), text("reason")),
        "stalled" => format!("nothing heard for a second: {}", peer()),
        "recovered" => {
            let silence = message.get::<u64>("silence-ms").unwrap_or_default() as f64 / 1000.0;
            format!("heard again after {silence:.1} s: {}", peer())
        }
        "stream-added" => format!("stream added: {} from {}", text("stream"), peer()),
        "stream-removed" => format!("stream removed: {} from {}", text("stream"), peer()),
        "stream-stopped" => format!("stream not taken any more: {}", peer()),
        "route-changed" => format!("audio travels over {}", text("route").to_uppercase()),
        // A caller with a key is warned about, with the command that lets it in.
        "caller-refused" if !text("peer").is_empty() => return None,
        "caller-refused" => format!("caller refused: {}: {}", text("address"), text("reason")),
        // Warned about, too.
        "not-exact" | "clock-not-device" => return None,
        _ => other(event, message),
    })
}

/// `living-room (age1…90ey, 192.168.1.5:50776)`; who has no name is called by its key.
fn peer(name: &str, recipient: &str, address: &str) -> String {
    let key = short(recipient);
    if name.is_empty() {
        format!("{key} ({address})")
    } else {
        format!("{name} ({key}, {address})")
    }
}

/// Enough of a key to tell one's own devices apart; whoever must be sure compares all of it.
fn short(recipient: &str) -> String {
    match (recipient.get(..4), recipient.len().checked_sub(4).and_then(|at| recipient.get(at..))) {
        (Some(start), Some(end)) if recipient.len() > 12 => format!("{start}…{end}"),
        _ => recipient.to_owned(),
    }
}

/// Whether a session ended because the peer ended its program, as the element words it.
fn is_goodbye(reason: &str) -> bool {
    [CloseCode::OK, CloseCode::SHUTDOWN]
        .iter()
        .any(|code| Ended::ByPeer(CloseReason::new(*code, "")).to_string() == reason)
}

/// An event that this version has no words for.
fn other(event: &str, message: &gst::StructureRef) -> String {
    let fields = message.iter().map(|(name, value)| {
        let value = value.get::<String>().ok().or_else(|| Some(value.serialize().ok()?.into()));
        format!("{name} {}", value.unwrap_or_default())
    });
    let fields: Vec<_> = fields.collect();
    format!("{}: {}", event.replace('-', " "), fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "age1ghe4kce9yglu2zq20aj07y0cqypsyvks9tw42fxnhlk85u5ehp7slj2pmq";

    fn about(event: &str, name: &str) -> gst::structure::Builder {
        gst::init().unwrap();
        gst::Structure::builder(format!("velin/{event}"))
            .field("peer", KEY)
            .field("fingerprint", "drg6 hzdu xpf5 tnee 7yih sjo6 xme3 7y3s")
            .field("name", name)
            .field("address", "192.168.1.5:50776")
    }

    fn received(message: gst::structure::Builder) -> Option<String> {
        line(&message.build(), Direction::Receive)
    }

    #[test]
    fn peers_are_called_by_their_name_or_the_ends_of_their_key() {
        assert_eq!(
            received(about("peer-connected", "living-room")).unwrap(),
            "peer connected: living-room (age1…2pmq, 192.168.1.5:50776)"
        );
        assert_eq!(
            received(about("stream-added", "").field("stream", "the desktop")).unwrap(),
            "stream added: the desktop from age1…2pmq (192.168.1.5:50776)"
        );
        assert_eq!(
            received(about("recovered", "").field("silence-ms", 1234u64)).unwrap(),
            "heard again after 1.2 s: age1…2pmq (192.168.1.5:50776)"
        );
    }

    #[test]
    fn a_peer_that_ends_its_program_leaves_and_one_that_vanishes_is_lost() {
        let lost = |ended: Ended| {
            let message = about("peer-lost", "desk").field("reason", ended.to_string());
            received(message).unwrap()
        };
        let closed = Ended::ByPeer(CloseReason::new(CloseCode::SHUTDOWN, ""));
        assert_eq!(lost(closed), "peer left: desk (age1…2pmq, 192.168.1.5:50776)");
        assert!(lost(Ended::Truncated).starts_with("peer lost: desk (age1…2pmq"));
    }

    #[test]
    fn what_a_warning_says_as_well_is_said_once() {
        let lost = || about("peer-lost", "").field("reason", "gone").build();
        assert!(line(&lost(), Direction::Receive).unwrap().ends_with("50776): gone"));
        assert_eq!(line(&lost(), Direction::Send), None);
        assert_eq!(received(about("caller-refused", "").field("reason", "unknown")), None);
        let stranger = gst::Structure::builder("velin/caller-refused")
            .field("address", "10.0.0.1:5")
            .field("reason", "no Velin");
        assert_eq!(received(stranger).unwrap(), "caller refused: 10.0.0.1:5: no Velin");
    }

    #[test]
    fn events_of_a_later_version_are_still_readable() {
        gst::init().unwrap();
        let message = gst::Structure::builder("velin/moon-rising").field("phase", "new moon");
        assert_eq!(received(message).unwrap(), "moon rising: phase new moon");
        assert_eq!(line(&gst::Structure::new_empty("level"), Direction::Send), None);
    }
}
