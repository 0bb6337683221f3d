//! From two device keys to session keys: Noise XX, its packets, and the key schedule.

pub mod mac1;
pub mod noise;
pub mod packets;
pub mod retry;
pub mod schedule;
