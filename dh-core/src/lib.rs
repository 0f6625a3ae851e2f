//! dh-core launches ephemeral compute **engines**, attaches persistent **studio** volumes to them, senses whether
//! anyone or anything uses them, and stops them when nothing does.
//!
//! Imports point one way: `domain <- ports <- logic <- {backend, store, sensor}`.

#![deny(missing_docs)]

pub mod backend;
pub mod connect;
pub mod domain;
pub mod logic;
pub mod ports;
pub mod sensor;
pub mod store;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod wire;
