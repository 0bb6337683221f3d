//! The Velin link without its I/O.
//!
//! **One invariant:** after every call that takes `now`, drain [`Session::poll_transmit`] and
//! [`Session::poll_event`] until both return `None`, then sleep until [`Session::poll_timeout`].
//! The end of the TCP connection is told by [`Session::handle_stream_end`] and need not be the end of
//! the session.
//! Nothing in this crate reads a clock, a socket, a file or a random number generator of its own:
//! time, bytes and entropy are arguments, and what to do comes back as a value. That is what lets
//! the tests run a day in seconds and replay any failure from its seed.
//!
//! - [`identity`]: device keys as age strings, fingerprints, the trust model;
//! - [`wire`]: packets and frames, bounded decoding;
//! - [`handshake`]: Noise XX through `snow`, the key schedule;
//! - [`session`]: sealing, replay windows, control stream, paths, liveness, rekey, close;
//! - [`playout`]: from received blocks to the samples the output needs now;
//! - [`resend`]: what a sender keeps and sends again;
//! - [`codec`]: PCM sample formats, and Opus.
//!
//! Two sessions that meet in memory. A driver does the same with sockets, clocks and the operating
//! system's randomness.
//!
//! ```
//! use std::sync::Arc;
//!
//! use velin_core::entropy::Entropy;
//! use velin_core::handshake::packets::SessionIndex;
//! use velin_core::identity::{Grants, Identity, PublicKey};
//! use velin_core::session::{Carrier, Event, Session, SessionConfig, Transmit, Trust};
//! use velin_core::time::MonoTime;
//!
//! struct Everybody; // Real trust is a list of keys.
//! impl Trust for Everybody {
//!     fn grants(&self, _: &PublicKey) -> Option<Grants> {
//!         Some(Grants::PLAY_TO_ME)
//!     }
//! }
//!
//! struct Counting(u8); // Real entropy is random.
//! impl Entropy for Counting {
//!     fn fill(&mut self, out: &mut [u8]) {
//!         out.fill_with(|| {
//!             self.0 = self.0.wrapping_add(1);
//!             self.0
//!         });
//!     }
//! }
//!
//! let config = |secret| SessionConfig {
//!     identity: Arc::new(Identity::from_secret([secret; 32])),
//!     trust: Arc::new(Everybody),
//!     expected_peer: None,
//!     accept_own_key: false,
//!     agent: None,
//!     name: None,
//!     carrier: Carrier::Lan,
//!     udp: None,
//!     peer_address: ([127, 0, 0, 1], 49000).into(),
//!     mtu: 1200,
//! };
//! let index = |n| SessionIndex::new(n).expect("not zero");
//! let mut now = MonoTime::ZERO;
//! let mut ends = [
//!     Session::caller(config(1), index(1), Box::new(Counting(0)), now),
//!     Session::listener(config(2), index(2), Box::new(Counting(99)), now),
//! ];
//! let mut open = 0;
//! while open < 2 {
//!     let mut idle = true;
//!     for i in 0..2 {
//!         while let Some(transmit) = ends[i].poll_transmit() {
//!             idle = false;
//!             match transmit {
//!                 Transmit::Stream(bytes) => ends[1 - i].handle_stream(now, &bytes, &mut ()),
//!                 Transmit::Datagram { .. } => unreachable!("nobody has a UDP port"),
//!             }
//!         }
//!         while let Some(event) = ends[i].poll_event() {
//!             match event {
//!                 Event::Open { .. } => open += 1,
//!                 Event::Closed(why) => panic!("{why}"),
//!                 _ => {}
//!             }
//!         }
//!     }
//!     if idle {
//!         // Nothing is under way: sleep until the first timeout.
//!         now = ends.iter().filter_map(Session::poll_timeout).min().expect("alive");
//!         ends.iter_mut().for_each(|end| end.handle_timeout(now));
//!     }
//! }
//! assert_eq!(ends[0].peer(), Some(Identity::from_secret([2; 32]).public()));
//! ```
//!
//! [`Session::poll_transmit`]: session::Session::poll_transmit
//! [`Session::handle_stream_end`]: session::Session::handle_stream_end
//! [`Session::poll_event`]: session::Session::poll_event
//! [`Session::poll_timeout`]: session::Session::poll_timeout
#![forbid(unsafe_code)]

pub mod codec;
pub mod entropy;
pub mod handshake;
pub mod identity;
pub mod playout;
pub mod resend;
pub mod session;
pub mod time;
pub mod units;
pub mod wire;
