//! What the link's events become on the bus.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use velin_core::session::Ended;

use super::VelinSrc;
use super::imp::CAT;
use super::receiver::Receiver;
use super::settings::OnPeerLost;
use crate::link::{LinkEvent, Observer};
use crate::messages::{about_peer, caller_refusal, post, route_name};

/// Strangers are told about at most this often.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);

/// An observer that reports to `element` for as long as it lives.
pub(super) fn observer(element: &VelinSrc, receiver: Arc<Receiver>) -> Observer {
    let weak = element.downgrade();
    // An unknown device is news even if somebody's connection has just broken off.
    let last_refusals: Mutex<[Option<Instant>; 2]> = Mutex::default();
    Arc::new(move |event| {
        let Some(element) = weak.upgrade() else { return };
        gst::debug!(CAT, obj = element, "link: {event:?}");
        match event {
            LinkEvent::Connected(peer) => {
                receiver.peers.fetch_add(1, Ordering::Relaxed);
                receiver.abandoned.store(false, Ordering::Relaxed);
                post(&element, about_peer("peer-connected", &peer).build());
            }
            LinkEvent::Lost { peer, ended, .. } => {
                let before = receiver.peers.fetch_sub(1, Ordering::Relaxed);
                let structure = about_peer("peer-lost", &peer).field("reason", ended.to_string());
                post(&element, structure.build());
                if before == 1 {
                    last_is_gone(&element, &receiver, &ended);
                }
            }
            LinkEvent::Stalled(peer) => post(&element, about_peer("stalled", &peer).build()),
            LinkEvent::Recovered(peer, silence) => {
                let ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
                post(&element, about_peer("recovered", &peer).field("silence-ms", ms).build());
            }
            LinkEvent::RouteChanged(route) => {
                let structure = gst::Structure::builder("velin/route-changed")
                    .field("route", route_name(route))
                    .build();
                post(&element, structure);
            }
            LinkEvent::CallerRefused { address, ended } => {
                let mut lasts = last_refusals.lock().unwrap_or_else(PoisonError::into_inner);
                let last = &mut lasts[usize::from(matches!(ended, Ended::UnknownPeer(_)))];
                if last.is_some_and(|t| t.elapsed() < REFUSAL_INTERVAL) {
                    return;
                }
                *last = Some(Instant::now());
                drop(lasts);
                refused(&element, address, &ended);
            }
            LinkEvent::TrustUnreadable(text) => gst::element_warning!(
                element,
                gst::ResourceError::Read,
                ("{}", text),
                ["the trust read before stays in force"]
            ),
            _ => {}
        }
    })
}

/// Posted and logged, never asked: nobody is prompted by a stranger.
fn refused(element: &VelinSrc, address: std::net::SocketAddr, ended: &Ended) {
    let text = caller_refusal(ended);
    gst::warning!(CAT, obj = element, "refused a caller at {address}: {text}");
    let mut structure = gst::Structure::builder("velin/caller-refused")
        .field("address", address.to_string())
        .field("reason", &text);
    if let Ended::UnknownPeer(key) = ended {
        structure = structure
            .field("peer", key.recipient())
            .field("fingerprint", key.fingerprint().to_string());
        gst::element_warning!(
            element,
            gst::ResourceError::NotAuthorized,
            ("At {}: {}", address, text)
        );
    }
    post(element, structure.build());
}

fn last_is_gone(element: &VelinSrc, receiver: &Receiver, ended: &Ended) {
    let action = element.property::<OnPeerLost>("on-peer-lost");
    match action {
        OnPeerLost::Wait => {}
        OnPeerLost::Eos => receiver.abandoned.store(true, Ordering::Relaxed),
        OnPeerLost::Error => gst::element_error!(
            element,
            gst::ResourceError::Read,
            ("The last sender is gone: {}", ended),
            ["on-peer-lost=error"]
        ),
    }
}
