//! Time, randomness, and who runs.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::RunnerId;

/// Time. Virtual in tests.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns the wall clock's time. It may step.
    fn now(&self) -> Timestamp;

    /// Returns the time since boot, suspended time included. It never steps.
    fn since_boot(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// Randomness, for ids. Seeded in tests.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Returns 64 random bits.
    fn next_u64(&self) -> u64;
}

/// Who runs operations: this process, and whether another one still can.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Runners: Debug + Send + Sync + 'static {
    /// Returns this process.
    fn this(&self) -> RunnerId;

    /// Returns whether a runner is known to be gone: it was on this host and its process has ended. When in doubt, false.
    fn is_gone(&self, runner: &RunnerId) -> bool;
}
