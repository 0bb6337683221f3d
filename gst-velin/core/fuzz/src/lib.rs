//! The fuzzer's targets. They live with the ordinary tests, which replay the corpus through them.

#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/support/fuzz/mod.rs"]
pub mod targets;
