//! Which device a pipeline really uses, as its element knows once it is open.

use gst::prelude::*;

/// The device at the end of `pipeline`, such as `Monitor of Speakers (speakers.monitor)`.
pub(super) fn in_use(pipeline: &gst::Pipeline) -> Option<String> {
    pipeline.iterate_recurse().into_iter().flatten().find_map(|element| {
        let text = |name: &str| {
            element
                .find_property(name)
                .filter(|pspec| pspec.value_type() == String::static_type())?;
            element.property::<Option<String>>(name).filter(|text| !text.is_empty())
        };
        // Only what opens a device of a sound server has both.
        let id = text("current-device")?;
        Some(match text("device-name") {
            Some(label) if label != id => format!("{label} ({id})"),
            _ => id,
        })
    })
}
