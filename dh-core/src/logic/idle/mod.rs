//! When an engine is idle, what is done about it, and why: pure functions over readings and times.
//!
//! [`decide()`] judges one look of all sensors. [`IdleTracker`] counts on the boot clock, and goes from warning to stop in
//! two phases. [`LedgerEntry`] is what one tick leaves behind, and [`explain()`] reads that back for people.

#![deny(clippy::disallowed_methods)]

mod decide;
mod explain;
mod ledger;
mod tracker;

pub use decide::*;
pub use explain::*;
pub use ledger::*;
pub use tracker::*;

#[cfg(test)]
mod tests;
