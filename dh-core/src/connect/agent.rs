//! Where the agent's program is.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::variables;
use crate::domain::{Error, ErrorKind, Result};

const PROGRAM: &str = "dh-agent";

/// Returns the agent's program: the one in `DH_AGENT`, else the one beside this program, else the first in `PATH`.
///
/// # Errors
/// `Config` when `DH_AGENT` names no program; `NotFound`, with how to build it, when there is none anywhere.
pub fn find_agent() -> Result<PathBuf> {
    find(
        variables::DH_AGENT.get().as_deref(),
        std::env::current_exe().ok().as_deref(),
        variables::PATH.get().as_deref(),
    )
}

fn find(variable: Option<&OsStr>, this: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf> {
    if let Some(named) = variable {
        let named = Path::new(named);
        return if is_program(named) {
            // Supervisors outlive the command and its working directory.
            Ok(std::path::absolute(named).unwrap_or_else(|_| named.to_owned()))
        } else {
            Err(Error::new(ErrorKind::Config, format!("DH_AGENT names {}, which is no program", named.display()))
                .with_hint("set DH_AGENT to the whole path of dh-agent, or unset it"))
        };
    }
    // Tests are one folder deeper than the programs they belong to: `target/debug/deps`.
    let beside = this.and_then(Path::parent);
    let above = beside.filter(|folder| folder.ends_with("deps")).and_then(Path::parent);
    let in_path = path.into_iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute());
    let places = beside.into_iter().chain(above).map(Path::to_owned).chain(in_path);
    places.map(|folder| folder.join(PROGRAM)).find(|program| is_program(program)).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the program dh-agent is neither beside dh nor in PATH")
            .with_hint("run 'cargo build' in the repository, or 'cargo install --path dh-agent', or set DH_AGENT to it")
    })
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join(PROGRAM);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_variable_goes_before_the_neighbour_and_the_neighbour_before_path() {
        let folder = tempfile::tempdir().unwrap();
        let [named, beside, in_path] = ["named", "beside", "path"].map(|name| program(&folder.path().join(name)));
        let this = folder.path().join("beside/dh");
        let path = std::env::join_paths([folder.path().join("empty"), folder.path().join("path")]).unwrap();
        let search = |this: &str| find(None, Some(&folder.path().join(this)), Some(&path)).unwrap();
        assert_eq!(find(Some(named.as_os_str()), Some(&this), Some(&path)).unwrap(), named);
        assert_eq!(search("beside/dh"), beside);
        assert_eq!(search("elsewhere/dh"), in_path);
        assert_eq!(search("beside/deps/test-1"), beside);
    }

    #[test]
    fn a_file_that_cannot_be_run_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(PROGRAM), "").unwrap();
        let error = find(None, Some(&folder.path().join("dh")), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("cargo build"));
    }

    #[test]
    fn a_wrong_variable_is_named_rather_than_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path());
        let error = find(Some(OsStr::new("/nowhere")), Some(&folder.path().join("dh")), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("DH_AGENT") && error.message().contains("/nowhere"));
    }
}
