//! What operating systems do differently about sockets, timers and the access to files: the rest of
//! the link knows none of them. The only unsafe code of Velin is the Windows half of this.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

#[cfg(windows)]
pub(super) use system::access;
pub(super) use system::{
    Ancillary, FineTimers, concerns_one_datagram, limit_waiting, mark, was_too_long,
};
pub(super) use system::{prepare_caller, prepare_listener, prepare_udp, receive};
