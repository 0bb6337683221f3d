//! The Velin GStreamer plugin: encrypted live audio between machines, at the lowest latency the
//! network allows.
//!
//! - [`velinsink`] sends: it calls a receiver and offers its audio as a stream;
//! - [`velinsrc`] receives: it listens, mixes every stream of every trusted caller, and plays them
//!   in time with the pipeline's clock.
//!
//! [`link`] is everything behind them that touches sockets, files and threads.
#![allow(unused_doc_comments)]

use gst::glib;

mod format;
pub mod link;
mod link_options;
mod messages;
mod options;
mod reports;
mod uri;
#[allow(missing_docs)] // GStreamer's documentation tool reads the C-style block in each.
pub mod velinsink;
#[allow(missing_docs)]
pub mod velinsrc;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    velinsink::register(plugin)?;
    velinsrc::register(plugin)
}

pub use definition::*;

#[allow(missing_docs)] // The macro's entry points.
mod definition {
    use super::plugin_init;

    gst::plugin_define!(
        velin,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_REPOSITORY"),
        env!("BUILD_REL_DATE")
    );
}
