//! The two elements against each other, over real sockets on this machine.

mod exact;
mod support;
