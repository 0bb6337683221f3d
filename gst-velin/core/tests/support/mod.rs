//! What the integration tests share: a seeded network, and two sessions joined by it in virtual
//! time.
#![allow(dead_code, unreachable_pub, unused_imports)] // Every test crate uses its own part.

pub mod netem;
pub mod pair;
pub mod rng;
pub mod rogue;
pub mod setup;
pub mod sound;
pub mod way;

use std::time::Duration;

use velin_core::time::MonoTime;

/// `ms` milliseconds after the start.
pub fn at(ms: u64) -> MonoTime {
    MonoTime::from_nanos(ms * 1_000_000)
}

/// `n` milliseconds.
pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
