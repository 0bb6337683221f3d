//! The laboratory: a sender, a network and an output, each with a clock of its own, in virtual
//! time, around the real engine.
//!
//! Two models. The *sample-free* one sends silence, with a single hump now and then that tells how
//! old what is heard really is; it runs a day in seconds. The *audio-exact* one sends a sawtooth so
//! slow that every heard sample names its own frame of the stream, so that a gap, a repeat or a
//! drop cannot hide. Both know the truth (when a frame was captured and when it was heard) without
//! asking the engine; every run holds the engine's counters against its own.
//!
//! Each test prints its figure in one line that begins with `row:`.
// Each subject uses its part of the tools.
#![allow(dead_code, unreachable_pub)]

mod clocks;
mod ears;
mod measure;
mod model;
mod network;
#[path = "../support/rng.rs"]
mod rng;

mod drift;
mod exact;
mod jitter;
mod loss;
mod pauses;
mod tone;
mod traces;
