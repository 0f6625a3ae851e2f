//! Sensors: each looks at one kind of use, through [`crate::ports::Host`] and nothing else.
//!
//! [`stock`] are the four of every engine; [`Sweep`] runs them at once, each with a deadline; [`host::ProcHost`] is the
//! real host. A sensor returns an error where it could not see; the sweep turns that into a reading of unknown.

mod coffee;
mod docker;
pub mod host;
mod ide;
mod ssh;
mod sshd;
mod sweep;
mod text;

pub use coffee::{CoffeeLock, CoffeeSensor};
pub use docker::DockerSensor;
pub use ide::IdeSensor;
pub use ssh::SshSensor;
pub use sweep::{Sweep, stock};
pub use text::plain;
