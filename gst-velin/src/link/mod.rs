//! The only I/O in the plugin: sockets, files, the runtime.

pub mod store;
