//! Two sessions in virtual time: one file per behaviour.

#[path = "../support/mod.rs"]
mod support;

mod handshake;
