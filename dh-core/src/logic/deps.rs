//! Everything logic may use of the world.

use std::sync::Arc;

use crate::domain::{EnvironmentName, IdlePolicy, UserName};
use crate::ports::{Clock, EngineBackend, Entropy, Runners, StateStore};

/// What a control plane is told once.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The environment.
    pub environment: EnvironmentName,
    /// Who is calling.
    pub user: UserName,
    /// The idle policy of engines that are launched without one of their own.
    pub policy: IdlePolicy,
}

/// The ports and settings that operations run with.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Machines and volumes.
    pub backend: Arc<dyn EngineBackend>,
    /// State.
    pub store: Arc<dyn StateStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Who runs operations.
    pub runners: Arc<dyn Runners>,
    /// What does not change.
    pub settings: Settings,
}

impl Deps {
    pub(crate) fn environment(&self) -> &EnvironmentName {
        &self.settings.environment
    }
}
