//! The two elements against each other, over real sockets on this machine.

mod card;
mod clocks;
mod embed;
mod exact;
mod life;
mod links;
mod mixing;
mod opus;
mod opus_loss;
// Signals, and /proc.
#[cfg(target_os = "linux")]
mod process;
mod properties;
mod recording;
mod refusals;
mod relay;
mod repair;
#[cfg(target_os = "linux")]
mod scale;
mod states;
mod support;
mod timing;
