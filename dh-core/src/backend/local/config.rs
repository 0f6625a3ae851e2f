//! What the local backend is told by its caller.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::volume::Filesystem;
use crate::domain::{Error, ErrorKind, Result};

/// What a person may set for an environment of the local backend, as in `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LocalSettings {
    /// A script that every engine runs once, in the stage `installing_packages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_script: Option<PathBuf>,
    /// A directory that all engines share, shown as the Primordial drive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primordial: Option<PathBuf>,
    /// The filesystem of new studios, where they are images.
    pub filesystem: Filesystem,
}

/// Where the local backend works, and what a person has set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalConfig {
    /// Where machines and volumes are kept.
    pub data: PathBuf,
    /// The SQLite file that agents report to.
    pub database: PathBuf,
    /// The `dh-agent` program.
    pub agent: PathBuf,
    /// What a person has set.
    pub settings: LocalSettings,
}

impl LocalConfig {
    /// Makes a configuration with nothing set. Paths must be absolute: engines outlive the caller's directory.
    pub fn new(data: impl Into<PathBuf>, database: impl Into<PathBuf>, agent: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), database: database.into(), agent: agent.into(), settings: LocalSettings::default() }
    }

    /// Takes what a person has set.
    pub fn with_settings(mut self, settings: LocalSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Checks that every path is absolute.
    ///
    /// # Errors
    /// `Config` with the path that is not.
    pub(super) fn check(&self) -> Result<()> {
        let settings = [&self.settings.setup_script, &self.settings.primordial].into_iter().flatten();
        match [&self.data, &self.database, &self.agent].into_iter().chain(settings).find(|path| !path.is_absolute()) {
            None => Ok(()),
            Some(path) => Err(Error::new(ErrorKind::Config, format!("{} is not an absolute path", path.display()))
                .with_hint("give the whole path, from '/'; 'dh config path' names the configuration file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_setting_is_refused() {
        let error = toml::from_str::<LocalSettings>("setup_scripts = '/x'").unwrap_err();
        assert!(error.to_string().contains("setup_scripts"), "{error}");
        let settings: LocalSettings = toml::from_str("setup_script = '/x'\nfilesystem = 'xfs'").unwrap();
        assert_eq!((settings.setup_script, settings.filesystem), (Some("/x".into()), Filesystem::Xfs));
    }

    #[test]
    fn relative_paths_are_refused() {
        let config = LocalConfig::new("/d", "/s", "/a");
        assert!(config.check().is_ok());
        let settings = LocalSettings { primordial: Some("shared".into()), ..LocalSettings::default() };
        assert_eq!(config.with_settings(settings).check().unwrap_err().kind(), ErrorKind::Config);
    }
}
