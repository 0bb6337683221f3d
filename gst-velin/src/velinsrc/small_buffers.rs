//! Sinks that cannot play small buffers.

use std::time::Duration;

use gst::prelude::*;

use super::device_clock::sinks;
use super::imp::CAT;

/// `pipewiresink` plays no more than a few buffers in each cycle of the server, which is 21 ms long
/// unless somebody asks for less: of buffers of 1 ms nothing is heard, of 5 ms the half, of 10 ms all
/// (PipeWire 0.3.65).
const PIPEWIRE: Duration = Duration::from_millis(10);

/// The shortest buffers that the sinks of the element's pipeline can do with.
pub(super) fn least_period(element: &super::VelinSrc) -> Duration {
    let short = sinks(element).into_iter().find(|sink| is_pipewire(sink) && !asks_for_less(sink));
    let Some(sink) = short else { return Duration::ZERO };
    gst::info!(
        CAT,
        obj = element,
        "buffers of {PIPEWIRE:?} or more for {}; for shorter ones set its \
         stream-properties=\"p,node.latency=48/48000\"",
        sink.name()
    );
    PIPEWIRE
}

fn is_pipewire(sink: &gst::Element) -> bool {
    sink.factory().is_some_and(|factory| factory.name() == "pipewiresink")
}

/// Whether it was told to have the server's cycle shortened.
fn asks_for_less(sink: &gst::Element) -> bool {
    sink.has_property_with_type("stream-properties", gst::Structure::static_type())
        && sink
            .property::<Option<gst::Structure>>("stream-properties")
            .is_some_and(|properties| properties.has_field("node.latency"))
}
