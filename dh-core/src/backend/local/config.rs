//! What the local backend is told by its caller.

use std::path::{Path, PathBuf};

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

/// Returns the first `dh-agent` there is: the one named, the one beside a program, the one on a search path.
///
/// # Errors
/// `NotFound` with the places looked at.
pub fn find_agent(named: Option<&Path>, beside: Option<&Path>, search: Option<&std::ffi::OsStr>) -> Result<PathBuf> {
    const NAME: &str = "dh-agent";
    if let Some(path) = named {
        return path.canonicalize().map_err(|source| super::map::io_error("cannot find the agent", path, source));
    }
    let directories = search.map(std::env::split_paths).into_iter().flatten();
    let mut places = beside.and_then(Path::parent).map(Path::to_owned).into_iter().chain(directories);
    places.find_map(|place| place.join(NAME).canonicalize().ok().filter(|path| path.is_file())).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no dh-agent beside this program nor on the search path")
            .with_hint("build it with 'cargo build -p dh-agent', or set DH_AGENT to where it is")
    })
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

    #[test]
    fn the_agent_is_found_where_it_is_named_then_beside_then_on_the_path() {
        let dir = tempfile::tempdir().unwrap();
        for place in ["beside", "path"] {
            std::fs::create_dir(dir.path().join(place)).unwrap();
            std::fs::write(dir.path().join(place).join("dh-agent"), "").unwrap();
        }
        let root = dir.path().canonicalize().unwrap();
        let (exe, path) = (root.join("beside/dh"), root.join("path").into_os_string());
        let named = root.join("path/dh-agent");
        assert_eq!(find_agent(Some(&named), Some(&exe), None).unwrap(), named);
        assert_eq!(find_agent(None, Some(&exe), Some(&path)).unwrap(), root.join("beside/dh-agent"));
        assert_eq!(find_agent(None, Some(&root.join("dh")), Some(&path)).unwrap(), named);
        let error = find_agent(None, None, None).unwrap_err();
        assert!(error.kind() == ErrorKind::NotFound && error.hint().is_some());
    }
}
