//! One file per command.

pub mod check;
mod context;
mod expiry;
pub mod identity;
mod plot;
mod prompt;
pub mod run;
pub mod simulate;
pub mod trust;
pub mod version;

pub use context::CommandError;
pub use expiry::ExpiryError;
