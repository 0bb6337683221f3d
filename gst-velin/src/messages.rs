//! What users read: bus messages about the link, in words that say what to do next.

use std::time::Duration;

use gst::prelude::*;
use velin_core::identity::PublicKey;
use velin_core::session::{Ended, Route};
use velin_core::wire::CloseCode;

use crate::link::{Listener, PeerInfo};
use crate::reports::Side;

/// A `velin/<event>` element message about `peer`.
pub(crate) fn about_peer(event: &str, peer: &PeerInfo) -> gst::structure::Builder {
    gst::Structure::builder(format!("velin/{event}"))
        .field("peer", peer.key.recipient())
        .field("fingerprint", peer.key.fingerprint().to_string())
        .field("name", peer.name.as_ref().map(|n| n.to_string()).unwrap_or_default())
        .field("address", peer.address.to_string())
}

/// Posts an element message.
pub(crate) fn post(
    element: &(impl IsA<gst::Element> + IsA<gst::Object>),
    structure: gst::Structure,
) {
    let message = gst::message::Element::builder(structure).src(element).build();
    // Without a bus nobody wants to know.
    let _ = element.post_message(message);
}

/// Posts PROGRESS "connect".
pub(crate) fn progress(
    element: &(impl IsA<gst::Element> + IsA<gst::Object>),
    kind: gst::ProgressType,
    text: &str,
) {
    let message = gst::message::Progress::builder(kind, "connect", text).src(element).build();
    let _ = element.post_message(message);
}

/// The name of a route, for messages and stats.
pub(crate) fn route_name(route: Route) -> &'static str {
    match route {
        Route::Datagram(_) => "udp",
        Route::Stream => "tcp",
        Route::Held => "held",
    }
}

/// Says where callers may call.
pub(crate) fn post_listening(
    element: &(impl IsA<gst::Element> + IsA<gst::Object>),
    listener: &Listener,
) {
    let structure = gst::Structure::builder("velin/listening")
        .field("port", u32::from(listener.port()))
        .field("audio-port", u32::from(listener.audio_port()));
    post(element, structure.build());
}

/// What a user does about a refusal. `own` is this device's key, `to` whom it called.
pub(crate) fn refusal(ended: &Ended, own: &PublicKey, to: &str, side: Side) -> String {
    let (peer, purpose, grant) = match side {
        Side::Sender => ("receiver", "play there", "play-to-me"),
        Side::Receiver => ("sender", "capture from there", "capture-from-me"),
    };
    match ended {
        Ended::UnknownPeer(key) => format!(
            "This device does not trust the {peer} at {to}. If it is yours, run here: \
             velin-pipe trust add {} --name NAME",
            key.recipient()
        ),
        Ended::IdentityMismatch { expected, got } => format!(
            "Another device than the one in peer= answered at {to}: expected {}, got {}. Check \
             the address; if the {peer}'s key was changed on purpose, change peer=",
            expected.recipient(),
            got.recipient()
        ),
        Ended::OwnKey => format!(
            "The device at {to} has this device's own key. Give every machine a key of its own: \
             remove the copied identity file there, then run velin-pipe identity show"
        ),
        Ended::Version { theirs } => format!(
            "The {peer} at {to} speaks version {theirs:?} of the link and this device version \
             1: install the same release of Velin on both"
        ),
        Ended::Downgrade => format!(
            "Somebody on the way to {to} tampers with the connection: do not trust this network"
        ),
        Ended::NotVelin(_) => format!(
            "What answers at {to} is no Velin {peer} of this version: check the port, or update \
             the {peer}"
        ),
        Ended::ByPeer(reason) => match reason.code {
            CloseCode::UNTRUSTED => format!(
                "The {peer} at {to} does not trust this device. Run there: velin-pipe trust \
                 add {} --name NAME",
                own.recipient()
            ),
            CloseCode::PERMISSION => format!(
                "The {peer} at {to} trusts this device, but not to {purpose}. Run \
                 there: velin-pipe trust add {} --may {grant}",
                own.recipient()
            ),
            _ => format!("The {peer} at {to} refused: {reason}"),
        },
        other => format!("{to}: {other}"),
    }
}

/// What the listening side tells its user about a caller it turned away.
pub(crate) fn caller_refusal(ended: &Ended) -> String {
    match ended {
        Ended::UnknownPeer(key) => format!(
            "an unknown device calls. If it is yours, run: velin-pipe trust add {} \
             --name NAME",
            key.recipient()
        ),
        other => other.to_string(),
    }
}

/// `1.4 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
