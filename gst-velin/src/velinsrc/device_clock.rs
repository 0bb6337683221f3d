//! Whether the output runs on the clock of the card it ends in, and a warning if it does not.

use gst::prelude::*;

use super::imp::CAT;
use crate::messages::post;

/// Says once what to do if `clock`, which `element` runs on, is the system's, though there is a sink
/// with a clock of its own: that one corrects the difference by jumps, where no resampling can help.
pub(super) fn check(element: &super::VelinSrc, clock: &gst::Clock) {
    if *clock != gst::SystemClock::obtain() {
        gst::info!(CAT, obj = element, "runs on {}", clock.name());
        return;
    }
    let Some(sink) = card(element) else { return };
    let name = sink.name();
    gst::warning!(CAT, obj = element, "runs on the system's clock, and {name} does not");
    let message = gst::Structure::builder("velin/clock-not-device")
        .field("clock", clock.name())
        .field("sink", &name)
        .build();
    post(element, message);
    gst::element_warning!(
        element,
        gst::StreamError::Failed,
        (
            "The pipeline runs on the system's clock and not on that of {}: expect a jump of 20 ms \
             every few minutes. Nothing between velinsrc and the sink should wait for data; an \
             application can call gst_pipeline_use_clock() with the sink's clock; velin-pipe does.",
            name
        )
    );
}

/// Whether nobody has to wait for the card: it offers its clock once it knows the format.
pub(super) fn is_ready(element: &super::VelinSrc) -> bool {
    card(element).is_none_or(|card| card.provide_clock().is_some())
}

/// The sink of the same pipeline that has a clock, however deep it is.
fn card(element: &super::VelinSrc) -> Option<gst::Element> {
    let has_clock = |e: &gst::Element| e.element_flags().contains(gst::ElementFlags::PROVIDE_CLOCK);
    sinks(element).into_iter().find(has_clock)
}

/// The sinks of the same pipeline, however deep they are.
pub(super) fn sinks(element: &super::VelinSrc) -> Vec<gst::Element> {
    let Some(mut top) = element.parent() else { return Vec::new() };
    while let Some(parent) = top.parent() {
        top = parent;
    }
    let Ok(bin) = top.downcast::<gst::Bin>() else { return Vec::new() };
    let is_sink = |e: &gst::Element| e.element_flags().contains(gst::ElementFlags::SINK);
    let elements = bin.iterate_recurse().into_iter().flatten();
    elements.filter(|e| is_sink(e) && !e.is::<gst::Bin>()).collect()
}
