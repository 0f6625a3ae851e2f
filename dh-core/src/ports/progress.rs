//! Where progress goes.

use std::fmt::Debug;

use crate::domain::ProgressEvent;

/// Receives the events of operations. It never blocks and never fails: what it cannot take, it drops.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait ProgressSink: Debug + Send + Sync + 'static {
    /// Takes one event.
    fn emit(&self, event: &ProgressEvent);
}

/// The sink that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl ProgressSink for NoProgress {
    fn emit(&self, _event: &ProgressEvent) {}
}
