//! What a sender keeps of its stream, and what of it is sent again.
//!
//! ```text
//! streaming thread: HistoryWriter::push ──ring of sequence locks──▶ History::read :receive thread
//!                                                                  Answerer::answer
//! ```
//!
//! The history holds plaintext: an answer is a new packet with a new number through the stream's
//! one sealer, so repair never repeats a nonce.

mod answerer;
mod history;

pub use answerer::{AnswerCounters, Answerer, Budget};
pub use history::{History, HistoryWriter, history};
