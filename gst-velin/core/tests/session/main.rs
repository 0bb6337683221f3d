//! Two sessions in virtual time: one file per behaviour.

#[path = "../support/mod.rs"]
mod support;

mod asks;
mod attack;
mod chaos;
mod close;
mod fallback;
mod handshake;
mod hostile;
mod liveness;
mod outage;
mod path;
mod rekey;
mod renewal;
mod repair;
mod streams;
mod trace;
