//! What the link's events become on the bus.

use gst::prelude::*;
use velin_core::identity::PublicKey;

use super::VelinSink;
use super::imp::CAT;
use crate::link::{LinkEvent, Observer};
use crate::messages::{about_peer, post, progress, refusal, route_name, seconds};

/// An observer that reports to `element` for as long as it lives. `own` is this device's key.
pub(super) fn observer(element: &VelinSink, own: PublicKey) -> Observer {
    let weak = element.downgrade();
    // One warning per outage, not per attempt.
    let warned = std::sync::atomic::AtomicBool::new(false);
    std::sync::Arc::new(move |event| {
        if let Some(element) = weak.upgrade() {
            report(&element, &own, &warned, event);
        }
    })
}

fn report(
    element: &VelinSink,
    own: &PublicKey,
    warned: &std::sync::atomic::AtomicBool,
    event: LinkEvent,
) {
    use std::sync::atomic::Ordering::Relaxed;
    gst::debug!(CAT, obj = element, "link: {event:?}");
    match event {
        LinkEvent::Connecting { to } => {
            let kind = if warned.load(Relaxed) {
                gst::ProgressType::Continue
            } else {
                gst::ProgressType::Start
            };
            progress(element, kind, &format!("Connecting to {to}"));
        }
        LinkEvent::ConnectFailed { error, retry_in: Some(wait) } => {
            let text = format!("{error}. Trying again in {}", seconds(wait));
            progress(element, gst::ProgressType::Continue, &text);
            if !warned.swap(true, Relaxed) {
                gst::element_warning!(
                    element,
                    gst::ResourceError::OpenWrite,
                    ("{}", error),
                    ["trying again until it works"]
                );
            }
        }
        LinkEvent::ConnectFailed { error, retry_in: None } => {
            progress(element, gst::ProgressType::Error, &error.to_string());
            gst::element_error!(
                element,
                gst::ResourceError::OpenWrite,
                ("{}", error),
                ["auto-reconnect is off"]
            );
        }
        LinkEvent::Connected(peer) => {
            warned.store(false, Relaxed);
            let text = format!("Connected to {}", peer.address);
            progress(element, gst::ProgressType::Complete, &text);
            post(element, about_peer("peer-connected", &peer).build());
        }
        LinkEvent::Streaming => {}
        LinkEvent::RouteChanged(route) => {
            let structure = gst::Structure::builder("velin/route-changed")
                .field("route", route_name(route))
                .build();
            post(element, structure);
        }
        LinkEvent::Stalled(peer) => post(element, about_peer("stalled", &peer).build()),
        LinkEvent::Recovered(peer, silence) => {
            let ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
            post(element, about_peer("recovered", &peer).field("silence-ms", ms).build());
        }
        LinkEvent::Lost { peer, ended, retry_in } => {
            let structure = about_peer("peer-lost", &peer).field("reason", ended.to_string());
            post(element, structure.build());
            if let Some(wait) = retry_in {
                let text = format!("{ended}. Connecting again in {}", seconds(wait));
                progress(element, gst::ProgressType::Start, &text);
                if !warned.swap(true, Relaxed) {
                    gst::element_warning!(
                        element,
                        gst::ResourceError::Write,
                        ("The receiver at {} is gone: {}", peer.address, ended),
                        ["connecting again until it is back"]
                    );
                }
            } else {
                progress(element, gst::ProgressType::Error, &ended.to_string());
                gst::element_error!(
                    element,
                    gst::ResourceError::Write,
                    ("The receiver at {} is gone: {}", peer.address, ended),
                    ["auto-reconnect is off"]
                );
            }
        }
        LinkEvent::Refused { ended, to } => {
            let text = refusal(&ended, own, &to);
            progress(element, gst::ProgressType::Error, &text);
            gst::element_error!(
                element,
                gst::ResourceError::NotAuthorized,
                ("{}", text),
                ["{ended}"]
            );
        }
        LinkEvent::StreamRefused { peer, reason } => stream_refused(element, own, &peer, &reason),
        LinkEvent::TrustUnreadable(text) => gst::element_warning!(
            element,
            gst::ResourceError::Read,
            ("{}", text),
            ["the trust read before stays in force"]
        ),
        _ => {}
    }
}

fn stream_refused(
    element: &VelinSink,
    own: &PublicKey,
    peer: &crate::link::PeerInfo,
    reason: &velin_core::wire::CloseReason,
) {
    use velin_core::wire::CloseCode;
    match reason.code {
        CloseCode::OK | CloseCode::SHUTDOWN | CloseCode::BUSY => {
            post(element, about_peer("stream-stopped", peer).build());
        }
        CloseCode::PERMISSION => {
            let ended = velin_core::session::Ended::ByPeer(reason.clone());
            let text = refusal(&ended, own, &peer.address.to_string());
            gst::element_error!(element, gst::ResourceError::NotAuthorized, ("{}", text));
        }
        CloseCode::CAPS => gst::element_error!(
            element,
            gst::StreamError::Format,
            (
                "The receiver at {} cannot play this format: put audioconvert ! audioresample \
                 before velinsink and choose fewer channels or another rate",
                peer.address
            )
        ),
        _ => gst::element_error!(
            element,
            gst::ResourceError::Write,
            ("The receiver at {} refused the stream: {}", peer.address, reason)
        ),
    }
}
