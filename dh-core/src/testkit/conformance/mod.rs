//! The suites that every implementation of a port must pass: one registry of cases each.

pub mod backend;
