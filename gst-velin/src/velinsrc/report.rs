//! What the link's events become on the bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;
use velin_core::session::Ended;

use super::VelinSrc;
use super::imp::CAT;
use super::receiver::Receiver;
use super::settings::OnPeerLost;
use crate::link::{LinkEvent, Observer};
use crate::link_options::OpenLink;
use crate::reports::{Reporter, Side};

/// An observer that reports to `element` for as long as it lives.
pub(super) fn observer(element: &VelinSrc, link: &OpenLink, receiver: Arc<Receiver>) -> Observer {
    let weak = element.downgrade();
    let reporter = Reporter::new(Side::Receiver, link.mode(), link.identity.public());
    // Of this attachment alone: what ends late may not disturb the next one.
    let peers = AtomicUsize::new(0);
    Arc::new(move |event| {
        let Some(element) = weak.upgrade() else { return };
        gst::debug!(CAT, obj = element, "link: {event:?}");
        let gone = match &event {
            LinkEvent::Connected(_) => {
                peers.fetch_add(1, Ordering::Relaxed);
                receiver.abandoned.store(false, Ordering::Relaxed);
                None
            }
            LinkEvent::Left { ended, .. } | LinkEvent::Lost { ended, .. } => {
                let before = peers
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .unwrap_or(0);
                (before == 1 && !matches!(ended, Ended::ByUs(_))).then(|| ended.clone())
            }
            _ => None,
        };
        reporter.report(element.upcast_ref(), event);
        if let Some(ended) = gone {
            last_is_gone(&element, &receiver, &ended);
        }
    })
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
