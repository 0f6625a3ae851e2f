//! Fakes, faults and conformance suites, for the tests of this crate and of those who embed it.

pub mod conformance;
mod host;

pub use host::*;
