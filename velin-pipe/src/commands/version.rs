//! `velin-pipe version`

use crate::error::Error;
use crate::pipeline;

/// Prints the versions, and which copy of the elements is in use.
pub fn run() -> Result<(), Error> {
    println!("velin-pipe {}", env!("CARGO_PKG_VERSION"));
    pipeline::init()?;
    println!("{}", pipeline::gstreamer_version());
    println!("elements: {}", pipeline::elements_in_use());
    Ok(())
}
