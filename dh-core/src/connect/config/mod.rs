//! `config.toml`: environments, each a backend, an account and defaults under one name.

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Paths, variables};
use crate::domain::{
    EnvironmentName, Error, ErrorKind, Filesystem, IdlePolicy, Result, SizeGb, StopMode, format_duration,
    parse_duration,
};

/// The environment when none is named, and the only one when none is configured.
pub const DEFAULT_ENVIRONMENT: &str = "dev";

/// Where an environment's machines and volumes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BackendKind {
    /// Processes of this machine.
    #[default]
    Local,
}

impl BackendKind {
    /// Returns the name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
        }
    }
}

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What holds for commands that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Defaults {
    /// The engine type of a launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_type: Option<String>,
    /// The size of a boot disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_disk_gb: Option<SizeGb>,
    /// The size of a new studio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub studio_gb: Option<SizeGb>,
    /// How long everything must be quiet before an engine is stopped, such as `"30m"`.
    #[serde(with = "duration", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// How long before the stop people on the engine are warned, such as `"5m"`.
    #[serde(with = "duration", skip_serializing_if = "Option::is_none")]
    pub idle_warning: Option<Duration>,
    /// What is done with an idle engine: `"stop"` or `"hibernate"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_action: Option<StopMode>,
}

impl Defaults {
    /// Returns the idle policy of engines launched without one of their own.
    pub fn idle_policy(&self) -> IdlePolicy {
        let usual = IdlePolicy::default();
        IdlePolicy {
            idle_timeout: self.idle_timeout.unwrap_or(usual.idle_timeout),
            warning: self.idle_warning.unwrap_or(usual.warning),
            action: self.idle_action.unwrap_or(usual.action),
            ..usual
        }
    }
}

/// One environment, `[environments.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Environment {
    /// Where its machines and volumes are.
    pub backend: BackendKind,
    /// The provider's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The profile with the account's credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A script that every engine runs once, while it is set up. Relative paths start at the configuration's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<PathBuf>,
    /// A folder that all engines share, shown as the Primordial drive. Relative as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primordial: Option<PathBuf>,
    /// The filesystem of new studios.
    pub filesystem: Filesystem,
    /// What holds for commands that do not say otherwise.
    pub defaults: Defaults,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    #[serde(skip)]
    file: PathBuf,
    environments: BTreeMap<EnvironmentName, Environment>,
}

impl Config {
    /// Reads the configuration file. Without one, and in one that names no environment, there is
    /// [`DEFAULT_ENVIRONMENT`] on the local backend.
    ///
    /// # Errors
    /// `Config` with the file, the line, and what to write there.
    pub fn load(paths: &Paths) -> Result<Self> {
        let file = paths.config_file();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(Error::new(ErrorKind::Config, format!("cannot read the configuration {}", file.display()))
                    .with_hint(format!("make {} a text file that you can read", file.display()))
                    .with_source(error));
            }
        };
        Self::parse(&text, &file)
    }

    /// Reads a configuration from its text; the file is what errors name and relative paths start beside.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self> {
        let mut environments = file::parse(text, file)?;
        if environments.is_empty() {
            environments.insert(EnvironmentName::new(DEFAULT_ENVIRONMENT)?, Environment::default());
        }
        let home = variables::HOME.get().map(PathBuf::from);
        let folder = file.parent().unwrap_or(Path::new("/"));
        for environment in environments.values_mut() {
            for path in [&mut environment.setup_script, &mut environment.primordial].into_iter().flatten() {
                *path = match (path.strip_prefix("~"), &home) {
                    (Ok(below), Some(home)) => home.join(below),
                    _ => folder.join(&*path),
                };
            }
        }
        Ok(Self { file: file.to_owned(), environments })
    }

    /// Returns the file, whether it exists or not.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns all environments, by name.
    pub fn environments(&self) -> &BTreeMap<EnvironmentName, Environment> {
        &self.environments
    }

    /// Returns the environment of a name.
    ///
    /// # Errors
    /// `NotFound` with the names there are.
    pub fn environment(&self, name: &EnvironmentName) -> Result<&Environment> {
        self.environments.get(name).ok_or_else(|| {
            let known: Vec<_> = self.environments.keys().map(EnvironmentName::as_str).collect();
            Error::new(ErrorKind::NotFound, format!("there is no environment {name}")).with_hint(format!(
                "use one of: {}; or add [environments.{name}] to {}",
                known.join(", "),
                self.file.display()
            ))
        })
    }

    /// Returns the environment to work in: the one asked for, else the one in `DH_ENV`, else [`DEFAULT_ENVIRONMENT`].
    ///
    /// # Errors
    /// As for [`Config::environment`]; `InvalidArgument` for a name in `DH_ENV` that cannot be one.
    pub fn choose(&self, asked: Option<&EnvironmentName>) -> Result<(EnvironmentName, &Environment)> {
        let name = match (asked, variables::DH_ENV.get()) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => EnvironmentName::new(name.to_string_lossy())?,
            (None, None) => EnvironmentName::new(DEFAULT_ENVIRONMENT)?,
        };
        let environment = self.environment(&name)?;
        Ok((name, environment))
    }
}

/// Durations as people write them.
mod duration {
    use serde::{Deserializer, Serializer};

    use super::*;

    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_str(&format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Some).map_err(|error| {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            serde::de::Error::custom(format!("{error}{hint}"))
        })
    }
}

#[cfg(test)]
mod tests;
