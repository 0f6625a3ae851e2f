//! The decisions: what may be done when, in which steps, and how it is undone. No clock, disk, network or randomness but
//! through ports.

#![deny(clippy::disallowed_methods)]

mod control;
mod deps;
mod estimate;
pub mod idle;
mod lease;
mod pace;
mod rules;
pub mod saga;

pub use control::InProcess;
pub use deps::{Deps, Settings};
pub use estimate::Estimate;
pub use rules::{may_change_studio, may_operate};
