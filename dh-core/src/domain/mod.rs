//! What dh talks about: names, sizes, states, readings, operations and errors. Plain data and pure rules.

#![deny(clippy::disallowed_methods)]

mod engine;
mod error;
mod id;
mod machine;
mod operation;
mod policy;
mod progress;
mod quantity;
mod reading;
mod studio;

pub use engine::*;
pub use error::*;
pub use id::*;
pub use machine::*;
pub use operation::*;
pub use policy::*;
pub use progress::*;
pub use quantity::*;
pub use reading::*;
pub use studio::*;
