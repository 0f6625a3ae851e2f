//! The suites that every implementation of a port passes. Each suite is one list of named cases.

pub mod backend;
pub mod sensor;
pub mod store;
