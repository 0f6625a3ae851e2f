//! What this machine can do, and what is installed on it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dh_core::backend::local::loopdev;
use dh_core::connect::{Paths, find_agent, variables};
use dh_core::wire::view::Check;
use rustix::fs::{Access, access, statvfs};

use super::{absent, broken, failed, ok};
use crate::host::Host;
use crate::ssh_config;

/// With less than this free, launches and studios fail soon.
const LITTLE_SPACE: u64 = 1 << 30;

const SSH_CONFIG: &str = "SSH config";

pub fn checks(paths: &Paths) -> Vec<Check> {
    vec![
        agent(),
        space(paths.data_dir()),
        volumes(rustix::process::geteuid().is_root(), loopdev::usable()),
        freezer(Path::new("/sys/fs/cgroup")),
        program("OpenSSH client", "ssh", "install openssh-client to use ssh; 'dh engine shell' works without"),
        program("OpenSSH server", "sshd", "install openssh-server to use ssh; 'dh engine shell' works without"),
    ]
}

fn agent() -> Check {
    const NAME: &str = "dh-agent";
    const OWN: &str = env!("CARGO_PKG_VERSION");
    let program = match find_agent() {
        Ok(program) => program,
        Err(error) => return broken(NAME, &error),
    };
    let shown = program.display();
    let output = Command::new(&program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let version = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Ok(output) => {
            return failed(NAME, format!("{shown} does not run ({})", output.status), "build or install it anew");
        }
        Err(error) => return failed(NAME, format!("{shown} does not run: {error}"), "build or install it anew"),
    };
    match version.split_whitespace().last() {
        Some(OWN) => ok(NAME, format!("{shown}, version {OWN}")),
        _ => failed(
            NAME,
            format!("{shown} is '{version}', and this dh is {OWN}"),
            "install dh and dh-agent of one version",
        ),
    }
}

/// The folder itself, or the nearest one above it that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn space(data: &Path) -> Check {
    let folder = existing(data);
    let shown = data.display();
    if let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return failed(
            "data",
            format!("{} is not writable: {error}", folder.display()),
            "make it writable, or set DH_HOME to a folder that is",
        );
    }
    match statvfs(folder) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let told = format!("{shown}, {:.1} GB free", free as f64 / (1u64 << 30) as f64);
            if free < LITTLE_SPACE {
                failed("data", told, "free some space, or set DH_HOME to a folder on a larger disk")
            } else {
                ok("data", told)
            }
        }
        Err(error) => failed("data", format!("{shown}: {error}"), "set DH_HOME to a folder on another disk"),
    }
}

fn volumes(root: bool, loop_devices: bool) -> Check {
    const NAME: &str = "studios";
    match (root, loop_devices) {
        (true, true) => ok(NAME, "real volumes (root, with loop devices)"),
        (true, false) => {
            let advice = "load the kernel's loop module to have real volumes";
            absent(NAME, "directories: no loop device can be made", advice)
        }
        (false, _) => absent(NAME, "directories: only root can mount volumes", "run dh as root to have real volumes"),
    }
}

fn freezer(cgroups: &Path) -> Check {
    let unified = cgroups.join("cgroup.controllers");
    let freezer_v1 = cgroups.join("freezer");
    let writable = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    if unified.exists() && writable(cgroups) || freezer_v1.exists() && writable(&freezer_v1) {
        return ok("hibernation", "the cgroup freezer");
    }
    absent(
        "hibernation",
        "SIGSTOP: no cgroup can be made here",
        "run dh as root on a machine with cgroups to freeze whole groups",
    )
}

/// Looks for a program in `PATH` and where servers are installed.
fn find_program(name: &str, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let in_path = path.into_iter().flat_map(std::env::split_paths);
    let places = in_path.chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    places.map(|folder| folder.join(name)).find(|program| {
        std::fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

fn program(what: &str, name: &str, advice: &str) -> Check {
    match find_program(name, variables::PATH.get().as_deref()) {
        Some(program) => ok(what, program.display().to_string()),
        None => absent(what, "not found", advice),
    }
}

pub fn ssh_config(host: &dyn Host) -> Check {
    let found = host.ssh_config().and_then(|path| Ok((ssh_config::state(&path)?, path)));
    match found {
        Ok((text, path)) => managed_entries(&path, &text, ssh_config::elsewhere(host)),
        Err(error) => broken(SSH_CONFIG, &error),
    }
}

fn managed_entries(path: &Path, text: &[u8], elsewhere: Option<PathBuf>) -> Check {
    const NAME: &str = SSH_CONFIG;
    match ssh_config::entries(text) {
        Ok(0) => absent(NAME, format!("{} has no managed entries", path.display()), "dh engine config-ssh adds them"),
        Ok(entries) => {
            let names = ssh_config::names(text);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let warnings = ssh_config::warnings(path, text, &names);
            let found = format!("{} has {entries} managed entries", path.display());
            match (warnings.as_slice(), elsewhere) {
                ([], None) => ok(NAME, found),
                ([], Some(reads)) => absent(
                    NAME,
                    format!("{found}, and ssh reads {}", reads.display()),
                    &format!("ssh -F {} NAME connects", ssh_config::shell_quoted(&path.display().to_string())),
                ),
                (warnings, _) => absent(NAME, found, &warnings.join("; ")),
            }
        }
        Err(error) => broken(NAME, &error),
    }
}

#[cfg(test)]
mod tests {
    use dh_core::wire::view::Verdict;

    use super::*;

    #[test]
    fn volumes_are_real_only_for_root_with_loop_devices() {
        assert_eq!(volumes(true, true).verdict, Verdict::Ok);
        assert_eq!(volumes(true, false).verdict, Verdict::Absent);
        assert_eq!(volumes(false, true).verdict, Verdict::Absent);
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_measured_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let check = space(&folder.path().join("a/b/c"));
        assert!(check.found.contains("GB free"), "{}", check.found);
    }

    #[test]
    fn programs_are_found_in_path_only_when_they_can_run() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("a-program-of-mine");
        std::fs::write(&program, "").unwrap();
        let search = || find_program("a-program-of-mine", Some(folder.path().as_os_str()));
        assert_eq!(search(), None);
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(search(), Some(program));
    }

    #[test]
    fn an_ssh_config_that_hides_the_entries_or_is_not_the_one_ssh_reads_is_told() {
        const BLOCK: &str = "# BEGIN DAYHOFF ENGINES\nHost a\n    User me\n# END DAYHOFF ENGINES\n";
        let check = |text: &str, elsewhere: Option<&str>| {
            managed_entries(Path::new("/h/.ssh/config"), text.as_bytes(), elsewhere.map(PathBuf::from))
        };
        assert_eq!(check(BLOCK, None).verdict, Verdict::Ok);
        let hidden = check(&format!("Host *\n  ProxyJump gate\n{BLOCK}"), None);
        assert_eq!(hidden.verdict, Verdict::Absent);
        assert!(hidden.advice.unwrap().contains("line 2 sets ProxyJump (of 'Host *') for 'a'"));
        let unread = check(BLOCK, Some("/root/.ssh/config"));
        assert_eq!(unread.found, "/h/.ssh/config has 1 managed entries, and ssh reads /root/.ssh/config");
        assert_eq!(unread.advice.as_deref(), Some("ssh -F /h/.ssh/config NAME connects"));
    }

    #[test]
    fn without_a_writable_cgroup_there_is_sigstop() {
        assert_eq!(freezer(Path::new("/nowhere")).verdict, Verdict::Absent);
    }
}
