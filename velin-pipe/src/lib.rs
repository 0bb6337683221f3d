//! The launcher: presets that build capture, mix and playback pipelines.
//!
//! The way of a preset: [`preset`] reads and checks it, [`plan`] says as plain data what to build,
//! [`pipeline`] builds it with GStreamer and runs it. Only the last one knows GStreamer's objects.

#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod error;
pub mod pipeline;
pub mod plan;
pub mod preset;
