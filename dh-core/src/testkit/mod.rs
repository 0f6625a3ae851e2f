//! What tests need that the real thing must not have.

pub mod conformance;
