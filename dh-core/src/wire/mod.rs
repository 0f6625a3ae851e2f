//! What crosses a process boundary, versioned.

mod agent;
pub mod view;

pub use agent::*;
