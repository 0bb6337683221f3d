//! The Velin GStreamer plugin: `velinsink` and `velinsrc`.

pub mod link;
