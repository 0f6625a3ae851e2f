//! Who keeps a studio from being unmounted.

use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::getpid;

/// How many holders a message names.
const NAMED: usize = 8;

/// A process with something of a directory open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Returns the processes, other than this one, whose working directory, root, program, open files or mappings lie at or
/// below a directory, by pid. Of other users' processes only root sees them. The path must have no symlink in it.
///
/// Only links are read, and no file of the directory is touched: a dead disk can't make this hang.
pub fn holders(directory: &Path) -> Vec<Holder> {
    let own = getpid().as_raw_nonzero().get();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Holder> = processes
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(pid, process)| *pid != own && holds(process, directory))
        .map(|(pid, process)| Holder { pid, name: name(&process) })
        .collect();
    found.sort_by_key(|holder| holder.pid);
    found
}

/// Names holders in one line: `python (pid 123), bash (pid 9)`.
pub fn describe(holders: &[Holder]) -> String {
    let named: Vec<String> = holders.iter().take(NAMED).map(Holder::to_string).collect();
    match holders.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn holds(process: &Path, directory: &Path) -> bool {
    let leads_in = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(directory));
    ["cwd", "root", "exe"].iter().any(|link| leads_in(&process.join(link)))
        || fs::read_dir(process.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| leads_in(&fd.path())))
        || fs::read(process.join("maps")).is_ok_and(|maps| maps_lead_in(&maps, directory))
}

/// The path of a mapping is all of its line from the first slash on.
fn maps_lead_in(maps: &[u8], directory: &Path) -> bool {
    maps.split(|&byte| byte == b'\n').any(|line| {
        let path = line.iter().position(|&byte| byte == b'/').map(|slash| &line[slash..]);
        path.is_some_and(|path| Path::new(std::ffi::OsStr::from_bytes(path)).starts_with(directory))
    })
}

fn name(process: &Path) -> String {
    fs::read_to_string(process.join("comm")).map_or_else(|_| "?".into(), |name| name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A child that lives until it is dropped.
    struct Running(Child);

    impl Running {
        /// Starts a shell script that prints a line once it is set up.
        fn start(script: &str, directory: &Path) -> Self {
            let mut child = Command::new("sh")
                .args(["-c", script])
                .env("DIR", directory)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            Self(child)
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn working_directories_and_open_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        std::fs::create_dir(path.join("below")).unwrap();
        assert_eq!(holders(&path), []);
        let scripts =
            ["cd \"$DIR/below\"; echo; read x", "exec 7>\"$DIR/below/file\"; rm \"$DIR/below/file\"; echo; read x"];
        for script in scripts {
            let running = Running::start(script, &path);
            let pid = i32::try_from(running.0.id()).unwrap();
            assert_eq!(holders(&path), [Holder { pid, name: "sh".into() }], "{script}");
        }
        assert_eq!(holders(&path), []);
    }

    #[test]
    fn mappings_are_found_by_whole_names() {
        let maps =
            b"7f00-7f01 r--p 00000000 fe:00 123   /data/studio/lib x.so (deleted)\n7f02-7f03 rw-p 0 00:00 0 [heap]\n";
        assert!(maps_lead_in(maps, Path::new("/data/studio")));
        assert!(!maps_lead_in(maps, Path::new("/data/stud")));
    }

    #[test]
    fn a_crowd_is_cut_short() {
        let crowd: Vec<Holder> = (1..=10).map(|pid| Holder { pid, name: "sh".into() }).collect();
        assert_eq!(describe(&crowd[..2]), "sh (pid 1), sh (pid 2)");
        assert!(describe(&crowd).ends_with("sh (pid 8) and 2 more"));
    }
}
