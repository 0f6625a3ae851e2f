//! The stages that lay things on the boot disk: agent and scripts, shared drive, environment.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dh_core::backend::local::map::io_error;
use dh_core::domain::{Error, ErrorKind, Result};
use dh_core::wire::AgentConfig;
use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD};
use tokio::process::Command;

use super::Done;
use crate::files;
use crate::layout::Layout;

const PROFILE: &str = include_str!("profile.sh");

/// Frames what dh adds to a user's own start-up files.
const BEGIN: &str = "# >>> dh engine >>>";
const END: &str = "# <<< dh engine <<<";

/// How long the agent laid on the disk may take to tell its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(20);

pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| io_error("cannot make", path, source))
}

/// `instance_running`: the machine has a boot id, and its disk can be written.
pub fn machine(layout: &Layout) -> Result<Done> {
    let boot_id = layout.boot_id();
    fs::read_to_string(&boot_id).map_err(|source| io_error("cannot read", &boot_id, source))?;
    let probe = layout.var().join("probe");
    files::replace(&probe, b"written\n")?;
    fs::remove_file(&probe).map_err(|source| io_error("cannot remove", &probe, source))?;
    Ok(Done::Completed(None))
}

/// Returns how long ago the power came on: the boot id was written then.
pub fn age_of_boot(layout: &Layout, now: Timestamp) -> Option<Duration> {
    let written = Timestamp::try_from(fs::metadata(layout.boot_id()).ok()?.modified().ok()?).ok()?;
    let age = Duration::try_from(now.duration_since(written)).ok()?;
    // The kernel's own boot id has no date of its own, and a clock may have stepped.
    (age < Duration::from_secs(600)).then_some(age)
}

/// `downloading_scripts`: this agent and the shell's environment, laid on the boot disk and checked there.
pub async fn scripts(layout: &Layout) -> Result<Done> {
    let bin = layout.opt().join("bin");
    make_dir(&bin)?;
    let profile = layout.opt().join("profile.sh");
    files::replace(&profile, PROFILE.as_bytes())?;
    if files::read(&profile)?.as_deref() != Some(PROFILE) {
        return Err(Error::new(ErrorKind::Storage, format!("{} does not hold what was written", profile.display()))
            .with_hint("check the disk, then launch the engine anew"));
    }
    let agent = bin.join("dh-agent");
    lay_agent(&agent).map_err(|source| io_error("cannot write", &agent, source))?;
    let output = Command::new(&agent).arg("--version").kill_on_drop(true).output();
    let answer = tokio::time::timeout(VERSION_DEADLINE, output).await;
    let expected = format!("dh-agent {}", env!("CARGO_PKG_VERSION"));
    match answer {
        Ok(Ok(output)) if String::from_utf8_lossy(&output.stdout).trim() == expected => Ok(Done::Completed(None)),
        Ok(Ok(output)) => Err(Error::new(
            ErrorKind::Failed,
            format!(
                "the agent on the disk says {:?}, not {expected:?}",
                String::from_utf8_lossy(&output.stdout).trim()
            ),
        )),
        // A disk mounted noexec still serves: the agent that runs came from elsewhere.
        Ok(Err(error)) => Ok(Done::Completed(Some(format!("programs on this disk cannot be run: {error}")))),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the agent on the disk does not answer")),
    }
}

/// Puts this very program there: as a second name for its file where the disk is the same, else as a copy.
fn lay_agent(target: &Path) -> io::Result<()> {
    const SELF: &str = "/proc/self/exe";
    let new = target.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The running file's own name may be gone, or another program's by now.
    if rustix::fs::linkat(CWD, SELF, CWD, &new, AtFlags::SYMLINK_FOLLOW).is_err() {
        let mut from = fs::File::open(SELF)?;
        let mut to = fs::File::create(&new)?;
        let expected = from.metadata()?.len();
        if io::copy(&mut from, &mut to)? != expected {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    // Two names of one file: rename does nothing, and leaves the new name.
    fs::rename(&new, target)?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `mounting_primordial`: shows the shared directory under the engine's root.
pub fn primordial(config: &AgentConfig, layout: &Layout) -> Result<Done> {
    let Some(shared) = &config.primordial else {
        return Ok(Done::Skipped("no Primordial drive is configured".into()));
    };
    if !shared.is_dir() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("the Primordial drive {} is not a directory", shared.display()),
        )
        .with_hint("make that directory, or set 'primordial' of the environment to another"));
    }
    let link = layout.primordial();
    match fs::read_link(&link) {
        Ok(target) if target == *shared => return Ok(Done::Completed(None)),
        Ok(_) => fs::remove_file(&link).map_err(|source| io_error("cannot remove", &link, source))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // An empty directory stands in the way of nothing.
        Err(_) => fs::remove_dir(&link).map_err(|source| io_error("cannot replace", &link, source))?,
    }
    symlink(shared, &link).map_err(|source| io_error("cannot make", &link, source))?;
    Ok(Done::Completed(None))
}

/// Returns the engine's variables for whatever runs on it.
pub fn variables(config: &AgentConfig, layout: &Layout) -> Vec<(&'static str, OsString)> {
    vec![
        ("DH_ENGINE", config.engine.as_str().into()),
        ("DH_ENVIRONMENT", config.environment.as_str().into()),
        ("DH_USER", config.user.as_str().into()),
        ("DH_ROOT", layout.root().into()),
        ("DH_STUDIOS", layout.studios().into()),
        ("DH_PRIMORDIAL", layout.primordial().into()),
    ]
}

/// Returns a search path that begins with the engine's own tools.
pub fn search_path(layout: &Layout, before: Option<OsString>) -> OsString {
    let own = [layout.opt().join("bin"), layout.home().join(".local/bin")];
    let before = before.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let all: Vec<PathBuf> = own.into_iter().chain(std::env::split_paths(&before)).collect();
    // A root with a colon in it cannot stand in a search path.
    std::env::join_paths(all).unwrap_or(before)
}

/// `creating_environment`: directories, variables, and a shell that knows them.
pub fn environment(config: &AgentConfig, layout: &Layout) -> Result<Done> {
    let env = layout.env();
    for directory in [layout.home(), layout.studios(), env.parent().unwrap_or(layout.root()).to_owned()] {
        make_dir(&directory)?;
    }
    let lines: String = variables(config, layout)
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(&value.to_string_lossy())))
        .collect();
    files::replace(&env, lines.as_bytes())?;
    for name in [".profile", ".bashrc"] {
        add_block(&layout.home().join(name), layout)?;
    }
    // A login shell reads this one instead of .profile, where a set-up script has made it.
    let bash = layout.home().join(".bash_profile");
    if bash.exists() {
        add_block(&bash, layout)?;
    }
    Ok(Done::Completed(None))
}

/// Adds dh's lines to a start-up file, once, and leaves what is there.
fn add_block(path: &Path, layout: &Layout) -> Result<()> {
    let text = files::read(path)?.unwrap_or_default();
    if text.lines().any(|line| line == BEGIN) {
        return Ok(());
    }
    let source = |file: &Path| format!(". {}\n", quoted(&file.to_string_lossy()));
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let block = format!("{BEGIN}\n{}{}{END}\n", source(&layout.env()), source(&layout.opt().join("profile.sh")));
    files::replace(path, format!("{text}{gap}{block}").as_bytes())
}

/// Quotes a word for any POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn shell(layout: &Layout, script: &str) -> String {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).env_clear().env("HOME", layout.home()).env("PATH", "/usr/bin:/bin");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_shell_finds_the_variables_also_below_an_awkward_path() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("it's $HOME \"here\"");
        fs::create_dir(&root).unwrap();
        let layout = testing::layout(&root);
        let config = testing::config(&root);
        make_dir(&layout.opt()).unwrap();
        files::replace(&layout.opt().join("profile.sh"), PROFILE.as_bytes()).unwrap();
        environment(&config, &layout).unwrap();
        let said = shell(&layout, r#". "$HOME/.profile"; echo "$DH_ENGINE|$DH_STUDIOS"; echo "$PATH""#);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], format!("lab|{}", layout.studios().display()));
        assert!(lines[1].starts_with(&format!("{}:", layout.opt().join("bin").display())), "{said}");
    }

    #[test]
    fn start_up_files_that_a_user_made_are_kept_and_added_to_once() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, config) = (testing::layout(dir.path()), testing::config(dir.path()));
        make_dir(&layout.home()).unwrap();
        fs::write(layout.home().join(".bashrc"), "alias ll='ls -l'").unwrap();
        for _ in 0..2 {
            environment(&config, &layout).unwrap();
        }
        let text = fs::read_to_string(layout.home().join(".bashrc")).unwrap();
        assert!(text.starts_with("alias ll='ls -l'\n# >>> dh"), "{text}");
        assert_eq!(text.matches(BEGIN).count(), 1);
    }

    #[test]
    fn the_shared_drive_is_shown_and_a_missing_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let layout = testing::layout(dir.path());
        let mut config = testing::config(dir.path());
        assert!(matches!(primordial(&config, &layout).unwrap(), Done::Skipped(_)));
        let shared = dir.path().join("shared");
        config.primordial = Some(shared.clone());
        let error = primordial(&config, &layout).unwrap_err();
        assert!(error.kind() == ErrorKind::NotFound && error.hint().is_some());
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("data"), "42").unwrap();
        fs::create_dir(layout.primordial()).unwrap();
        for _ in 0..2 {
            assert_eq!(primordial(&config, &layout).unwrap(), Done::Completed(None));
        }
        assert_eq!(fs::read_to_string(layout.primordial().join("data")).unwrap(), "42");
    }

    #[test]
    fn something_that_stands_where_the_drive_goes_is_not_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = testing::layout(dir.path());
        let config = AgentConfig { primordial: Some(dir.path().into()), ..testing::config(dir.path()) };
        fs::create_dir(layout.primordial()).unwrap();
        fs::write(layout.primordial().join("precious"), "").unwrap();
        assert_eq!(primordial(&config, &layout).unwrap_err().kind(), ErrorKind::Storage);
        assert!(layout.primordial().join("precious").exists());
    }

    #[test]
    fn the_program_is_laid_again_over_itself() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("dh-agent");
        for _ in 0..2 {
            lay_agent(&target).unwrap();
            assert_eq!(fs::metadata(&target).unwrap().len(), fs::metadata("/proc/self/exe").unwrap().len());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
