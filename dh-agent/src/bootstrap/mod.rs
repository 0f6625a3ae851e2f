//! The stages that make a machine an engine.

pub mod ssh;
