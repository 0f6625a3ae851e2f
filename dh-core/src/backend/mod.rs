//! Providers of machines and volumes. No backend imports another.

#[cfg(feature = "local")]
pub mod local;
