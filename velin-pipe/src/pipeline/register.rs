//! GStreamer itself, and our own elements in it.

use std::sync::OnceLock;

use crate::error::Error;

/// Starts GStreamer and registers the built-in elements. May be called again.
pub fn init() -> Result<(), Error> {
    gst::init().map_err(|error| Error::Unusable {
        message: format!("GStreamer does not start: {error}"),
        help: "check the installation with gst-inspect-1.0".to_owned(),
    })?;
    // Before any factory is used: then the built-in copy replaces an installed one cleanly.
    register().map_err(|error| Error::Unusable {
        message: format!("the built-in elements cannot be registered: {error}"),
        help: "another copy of the velin plugin is in use; remove it from GST_PLUGIN_PATH"
            .to_owned(),
    })
}

fn register() -> Result<(), gst::glib::BoolError> {
    static REGISTERED: OnceLock<Result<(), gst::glib::BoolError>> = OnceLock::new();
    REGISTERED.get_or_init(gstvelin::plugin_register_static).clone()
}

/// GStreamer's own words about itself.
pub fn gstreamer_version() -> String {
    gst::version_string().to_string()
}

/// Which copy of the elements is in use.
pub fn elements_in_use() -> String {
    use gst::prelude::*;

    let Some(factory) = gst::ElementFactory::find("velinsink") else { return "none".to_owned() };
    let Some(plugin) = factory.plugin() else { return "built in".to_owned() };
    match plugin.filename() {
        Some(path) => format!("{} from {}", plugin.version(), path.display()),
        None => format!("{}, built in", plugin.version()),
    }
}
