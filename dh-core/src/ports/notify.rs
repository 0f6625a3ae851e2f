//! Telling people.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::domain::Result;

/// Tells people on or around an engine something. Failing to tell never stops what is told about.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Notifier: Debug + Send + Sync + 'static {
    /// Tells it, and returns how many were reached.
    async fn notify(&self, message: &str) -> Result<usize>;
}
