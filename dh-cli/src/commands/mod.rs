//! What each command does: translate, call the control plane, show.

pub mod completions;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod ops;
pub mod studio;
