//! From received blocks to the samples the output needs now.
//!
//! ```text
//! receive thread:   ReceiverHalf::insert(arrival, block) ──ring──▶ PlayerHalf   :streaming thread
//!                                                       ◀─atomics─   Mixer::render
//! ```
