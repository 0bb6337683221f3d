//! Two sessions in virtual time: one file per behaviour.

#[path = "../support/mod.rs"]
mod support;

mod attack;
mod chaos;
mod close;
mod handshake;
mod hostile;
mod liveness;
mod path;
mod rekey;
mod streams;
mod trace;
