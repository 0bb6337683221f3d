//! One file per command.

mod context;
pub mod identity;
mod prompt;
pub mod trust;

pub use context::CommandError;
