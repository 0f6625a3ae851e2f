//! What stands between a caller and a control plane: the places dh keeps things in, its configuration, the clock, the
//! agent's program, and who is calling.

mod agent;
mod config;
#[cfg(all(feature = "local", feature = "sqlite"))]
mod open;
mod paths;
mod system;
mod user;
pub mod variables;

pub use agent::find_agent;
pub use config::{BackendKind, Config, DEFAULT_ENVIRONMENT, Defaults, Environment};
#[cfg(all(feature = "local", feature = "sqlite"))]
pub use open::connect;
pub use paths::{Paths, create_private_dir};
pub use system::{SystemClock, SystemEntropy, SystemRunners};
pub use user::current_user;
