//! What crosses a process boundary, versioned.

mod agent;

pub use agent::*;
