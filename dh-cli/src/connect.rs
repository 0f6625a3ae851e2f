//! The one place where a command gets its control plane from.

use std::sync::Arc;

use dh_core::connect::{Config, Defaults, Paths};
use dh_core::domain::{EnvironmentName, Result};
use dh_core::ports::ControlPlane;

/// Where the work is done, and where dh keeps things.
#[derive(Debug, Clone)]
pub struct Place {
    /// The environment.
    pub environment: EnvironmentName,
    /// The name of its backend.
    pub backend: String,
    /// What holds for commands that do not say otherwise.
    pub defaults: Defaults,
    /// The whole configuration.
    pub config: Config,
    /// The folders.
    pub paths: Paths,
}

impl Place {
    /// Reads the configuration and chooses the environment.
    pub fn find(asked: Option<&EnvironmentName>) -> Result<Self> {
        let paths = Paths::from_environment()?;
        let config = Config::load(&paths)?;
        Self::choose(paths, config, asked)
    }

    /// Chooses the environment of a configuration.
    pub fn choose(paths: Paths, config: Config, asked: Option<&EnvironmentName>) -> Result<Self> {
        let (environment, settings) = config.choose(asked)?;
        let (backend, defaults) = (settings.backend.to_string(), settings.defaults.clone());
        Ok(Self { environment, backend, defaults, config, paths })
    }
}

/// Opens the control plane of a place.
pub fn open(place: &Place) -> Result<Arc<dyn ControlPlane>> {
    let settings = place.config.environment(&place.environment)?;
    dh_core::connect::connect(&place.paths, &place.environment, settings)
}
