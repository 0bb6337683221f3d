//! Presets: one TOML file says in plain words what is captured, sent, received and played.
//!
//! Reading one goes file → [`schema::File`] (spelling and types) → [`model::Preset`] (sense).
//! Nothing here knows GStreamer's objects; names of elements and properties appear as text only.

pub mod check;
pub mod diagnostic;
pub mod load;
pub mod model;
pub mod schema;
pub mod units;

mod overrides;
mod target;
mod variables;

pub use variables::Lookup;
