//! The launcher: presets that build capture, mix and playback pipelines.

#![forbid(unsafe_code)]

pub mod commands;
pub mod plan;
pub mod preset;
