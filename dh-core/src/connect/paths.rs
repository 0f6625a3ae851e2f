//! Where dh keeps things.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::variables::{self, Variable};
use crate::domain::{Error, ErrorKind, Result};

/// The folders dh keeps things in. None is made before something is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    config: PathBuf,
    data: PathBuf,
    state: PathBuf,
    logs: PathBuf,
}

impl Paths {
    /// Finds the folders: those below `DH_HOME` where it is set, else the XDG ones.
    ///
    /// # Errors
    /// `Config` when neither `DH_HOME` nor `HOME` says where.
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(&|variable| variable.get())
    }

    fn from_variables(get: &dyn Fn(&Variable) -> Option<OsString>) -> Result<Self> {
        if let Some(home) = get(&variables::DH_HOME) {
            // Taken from wherever a command happens to stand, a relative one would be another home each time.
            let home = PathBuf::from(home);
            if !home.is_absolute() {
                return Err(Error::new(ErrorKind::Config, format!("DH_HOME is not a whole path: {}", home.display()))
                    .with_hint("set DH_HOME to the path of a folder, from '/'"));
            }
            return Ok(Self::under(&home));
        }
        let place = |variable: &Variable, below_home: &str| -> Result<PathBuf> {
            // The XDG specification has relative paths ignored.
            let xdg = get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            let base = match xdg {
                Some(path) => path,
                None => get(&variables::HOME)
                    .map(PathBuf::from)
                    .filter(|home| home.is_absolute())
                    .ok_or_else(|| {
                        Error::new(ErrorKind::Config, "there is no home folder to keep things in: HOME is not set")
                            .with_hint("set HOME, or set DH_HOME to a folder for everything dh keeps")
                    })?
                    .join(below_home),
            };
            Ok(base.join("dh"))
        };
        let state = place(&variables::XDG_STATE_HOME, ".local/state")?;
        Ok(Self {
            config: place(&variables::XDG_CONFIG_HOME, ".config")?,
            data: place(&variables::XDG_DATA_HOME, ".local/share")?,
            logs: state.join("logs"),
            state,
        })
    }

    /// Returns the folders below one home, as `DH_HOME` has them.
    pub fn under(home: &Path) -> Self {
        Self {
            config: home.join("config"),
            data: home.join("data"),
            state: home.join("state"),
            logs: home.join("logs"),
        }
    }

    /// Returns the folder of the configuration.
    pub fn config_dir(&self) -> &Path {
        &self.config
    }

    /// Returns the folder of engines and volumes.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Returns the folder of the state.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Returns the folder of dh's own logs; an engine's logs are on its boot disk.
    pub fn log_dir(&self) -> &Path {
        &self.logs
    }

    /// Returns the configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Returns the SQLite file with the state.
    pub fn database(&self) -> PathBuf {
        self.state.join("dh.sqlite3")
    }
}

/// Makes a folder, and those above it that are missing, for the user alone. An existing one is left as it is.
///
/// # Errors
/// `Storage`, naming the folder.
pub fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Error::new(ErrorKind::Storage, format!("cannot make the folder {}", path.display()))
            .with_hint(format!("make {} writable for you, or set DH_HOME to another folder", parent(path).display()))
            .with_source(error)
    })
}

/// The nearest folder above that exists: the one whose permissions matter.
fn parent(path: &Path) -> &Path {
    path.ancestors().skip(1).find(|above| above.exists()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(set: &[(&str, &str)]) -> Result<Paths> {
        let set: Vec<(String, OsString)> = set.iter().map(|(name, value)| ((*name).into(), value.into())).collect();
        Paths::from_variables(&move |variable| {
            set.iter().find(|(name, _)| name == variable.name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn dh_home_moves_everything() {
        let found = paths(&[("DH_HOME", "/x"), ("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")]).unwrap();
        assert_eq!(found, Paths::under(Path::new("/x")));
        assert_eq!(found.config_file(), Path::new("/x/config/config.toml"));
        assert_eq!(found.database(), Path::new("/x/state/dh.sqlite3"));
        assert_eq!((found.data_dir(), found.log_dir()), (Path::new("/x/data"), Path::new("/x/logs")));
    }

    #[test]
    fn a_relative_dh_home_is_refused() {
        let relative = paths(&[("DH_HOME", "here")]).unwrap_err();
        assert_eq!(relative.kind(), ErrorKind::Config);
    }

    #[test]
    fn without_dh_home_the_xdg_folders_are_used() {
        let found = paths(&[("HOME", "/home/a")]).unwrap();
        assert_eq!(found.config_dir(), Path::new("/home/a/.config/dh"));
        assert_eq!(found.data_dir(), Path::new("/home/a/.local/share/dh"));
        assert_eq!(found.state_dir(), Path::new("/home/a/.local/state/dh"));
        assert_eq!(found.log_dir(), Path::new("/home/a/.local/state/dh/logs"));
        let found = paths(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/c"), ("XDG_DATA_HOME", "rel")]).unwrap();
        assert_eq!(found.config_dir(), Path::new("/c/dh"));
        assert_eq!(found.data_dir(), Path::new("/home/a/.local/share/dh"), "relative ones are ignored");
    }

    #[test]
    fn without_any_home_the_error_says_what_to_set() {
        let error = paths(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint().unwrap().contains("DH_HOME"));
        assert!(paths(&[("XDG_CONFIG_HOME", "/a"), ("XDG_DATA_HOME", "/b"), ("XDG_STATE_HOME", "/c")]).is_ok());
    }

    #[test]
    fn folders_are_made_for_the_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        create_private_dir(&deep).unwrap();
        create_private_dir(&deep).unwrap();
        for made in [deep.clone(), folder.path().join("a")] {
            assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
        std::fs::write(deep.join("file"), "").unwrap();
        let error = create_private_dir(&deep.join("file/below")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.hint().unwrap().contains("DH_HOME"));
    }
}
