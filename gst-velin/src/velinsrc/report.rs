//! What the link's events become on the bus.

use std::sync::atomic::{AtomicUsize, Ordering};
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
    // Of this listening alone: what ends late may not disturb the next one.
    let peers = AtomicUsize::new(0);
    // Noise from anywhere must not hide a device that its owner waits for.
    let (strangers, noise, trust) = (Pace::default(), Pace::default(), Pace::default());
    Arc::new(move |event| {
        let Some(element) = weak.upgrade() else { return };
        gst::debug!(CAT, obj = element, "link: {event:?}");
        match event {
            LinkEvent::Connected(peer) => {
                peers.fetch_add(1, Ordering::Relaxed);
                receiver.abandoned.store(false, Ordering::Relaxed);
                post(&element, about_peer("peer-connected", &peer).build());
            }
            LinkEvent::Lost { peer, ended, .. } => {
                let before = peers.fetch_sub(1, Ordering::Relaxed);
                let structure = about_peer("peer-lost", &peer).field("reason", ended.to_string());
                post(&element, structure.build());
                if before == 1 && !matches!(ended, Ended::ByUs(_)) {
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
                let pace = match ended {
                    Ended::UnknownPeer(_) => &strangers,
                    _ => &noise,
                };
                if pace.allows() {
                    refused(&element, address, &ended);
                }
            }
            LinkEvent::TrustUnreadable(text) if trust.allows() => gst::element_warning!(
                element,
                gst::ResourceError::Read,
                ("{}", text),
                ["the trust read before stays in force"]
            ),
            _ => {}
        }
    })
}

/// Something that anybody on the network can cause is told only now and then.
#[derive(Default)]
struct Pace(Mutex<Option<Instant>>);

impl Pace {
    fn allows(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|t| t.elapsed() < REFUSAL_INTERVAL) {
            return false;
        }
        *last = Some(Instant::now());
        true
    }
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
