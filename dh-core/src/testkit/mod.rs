//! Fakes, faults and conformance suites, for the tests of this crate and of those who embed it.
//!
//! Everything here runs on a [`TestClock`]: under `#[tokio::test(start_paused = true)]` a launch of two minutes takes a
//! millisecond, and the same test runs the same way every time.

mod backend;
mod clock;
pub mod conformance;
mod entropy;
mod faults;
mod faulty_store;
mod host;
mod recording;
mod runners;
pub mod scaffold;

pub use backend::*;
pub use clock::*;
pub use entropy::*;
pub use faults::*;
pub use faulty_store::*;
pub use host::*;
pub use recording::*;
pub use runners::*;
