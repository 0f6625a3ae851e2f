//! Puts the rooms together: from a configured environment to its control plane.

use std::sync::Arc;

use super::{
    BackendKind, Environment, Paths, SystemClock, SystemEntropy, SystemRunners, create_private_dir, current_user,
    find_agent,
};
use crate::domain::{EnvironmentName, Result};
use crate::logic::{Deps, InProcess, Settings};
use crate::ports::{ControlPlane, EngineBackend};

/// Opens the control plane of an environment: its backend, and the state in this machine's SQLite file.
///
/// # Errors
/// `NotFound` without an agent to run on engines; `Storage` and `Incompatible` for state that cannot be used.
pub fn connect(paths: &Paths, name: &EnvironmentName, environment: &Environment) -> Result<Arc<dyn ControlPlane>> {
    let backend: Arc<dyn EngineBackend> = match environment.backend {
        BackendKind::Local => Arc::new(local_backend(paths, environment)?),
    };
    let deps = Deps {
        backend,
        store: Arc::new(crate::store::SqliteStore::open(&paths.database())?),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        runners: Arc::new(SystemRunners::new()?),
        settings: Settings {
            environment: name.clone(),
            user: current_user()?,
            policy: environment.defaults.idle_policy(),
        },
    };
    Ok(Arc::new(InProcess::new(deps)))
}

fn local_backend(paths: &Paths, environment: &Environment) -> Result<crate::backend::local::LocalBackend> {
    use crate::backend::local::{LocalBackend, LocalConfig, LocalSettings};

    create_private_dir(paths.data_dir())?;
    let settings = LocalSettings {
        setup_script: environment.setup_script.clone(),
        primordial: environment.primordial.clone(),
        filesystem: environment.filesystem,
    };
    let config = LocalConfig::new(paths.data_dir(), paths.database(), find_agent()?).with_settings(settings);
    LocalBackend::new(config)
}
