//! What the link's events become on the bus.

use std::sync::Arc;

use gst::prelude::*;

use super::VelinSink;
use super::imp::CAT;
use crate::link::Observer;
use crate::link_options::OpenLink;
use crate::reports::{Reporter, Side};

/// An observer that reports to `element` for as long as it lives.
pub(super) fn observer(element: &VelinSink, link: &OpenLink) -> Observer {
    let weak = element.downgrade();
    let reporter = Reporter::new(Side::Sender, link.mode(), link.identity.public());
    Arc::new(move |event| {
        let Some(element) = weak.upgrade() else { return };
        gst::debug!(CAT, obj = element, "link: {event:?}");
        reporter.report(element.upcast_ref(), event);
    })
}
