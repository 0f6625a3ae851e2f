//! What stands between a caller and a control plane: the places dh keeps things in, its configuration, the clock, the
//! agent's program, and who is calling.

mod agent;
mod config;
mod paths;
mod system;
mod user;
pub mod variables;

pub use agent::find_agent;
pub use config::{BackendKind, Config, DEFAULT_ENVIRONMENT, Defaults, Environment, Filesystem};
pub use paths::{Paths, create_private_dir};
pub use system::{SystemClock, SystemEntropy, SystemRunners};
pub use user::current_user;

use crate::domain::EnvironmentName;

/// What a caller may say of the connection it wants; everything else comes from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The environment; without it, the one in `DH_ENV`, else [`DEFAULT_ENVIRONMENT`].
    pub environment: Option<EnvironmentName>,
}

impl ConnectOptions {
    /// Chooses the environment.
    pub fn with_environment(mut self, environment: Option<EnvironmentName>) -> Self {
        self.environment = environment;
        self
    }
}
