//! The launcher: presets that build capture, mix and playback pipelines.

pub mod commands;
