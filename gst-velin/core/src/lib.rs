//! The Velin link without its I/O.
//!
//! **One invariant:** after every call that takes `now`, drain [`Session::poll_transmit`] and
//! [`Session::poll_event`] until both return `None`, then sleep until [`Session::poll_timeout`].
//! Nothing in this crate reads a clock, a socket, a file or a random number generator of its own:
//! time, bytes and entropy are arguments, and what to do comes back as a value. That is what lets
//! the tests run a day in seconds and replay any failure from its seed.
//!
//! - [`identity`]: device keys as age strings, fingerprints, the trust model;
//! - [`wire`]: packets and frames, bounded decoding;
//! - [`handshake`]: Noise XX through `snow`, the key schedule;
//! - [`session`]: sealing, replay windows, control stream, paths, liveness, rekey, close;
//! - [`playout`]: from received blocks to the samples the output needs now;
//! - [`codec`]: PCM sample formats.
//!
//! [`Session::poll_transmit`]: session::Session::poll_transmit
//! [`Session::poll_event`]: session::Session::poll_event
//! [`Session::poll_timeout`]: session::Session::poll_timeout
#![forbid(unsafe_code)]

pub mod codec;
pub mod entropy;
pub mod handshake;
pub mod identity;
pub mod playout;
pub mod session;
pub mod time;
pub mod units;
pub mod wire;
