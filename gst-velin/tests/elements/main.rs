//! The two elements against each other, over real sockets on this machine.

mod embed;
mod exact;
mod life;
mod links;
mod process;
mod properties;
mod refusals;
mod relay;
mod scale;
mod states;
mod support;
