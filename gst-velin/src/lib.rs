//! The Velin GStreamer plugin: `velinsink` and `velinsrc`.
