//! GStreamer: builds a [`Plan`](crate::plan::Plan) and runs it.

pub mod build;

mod clock;
mod console;
mod devices;
mod events;
mod explain;
mod packages;
mod probe;
mod property;
mod register;
mod run;
mod running;
mod stats;

pub use build::BuildError;
pub use probe::{surroundings, surroundings_without_devices};
pub use register::{elements_in_use, gstreamer_version, init};
pub use run::{RunOptions, run};
