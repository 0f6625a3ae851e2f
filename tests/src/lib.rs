//! Runs the real `dh` and `dh-agent` in a home of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A home with nothing in it, and everything that was started in it ended when it is dropped.
pub struct Home {
    dir: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Checks that the command succeeded.
    ///
    /// # Panics
    /// When it did not, with all it printed.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that the command failed with an exit code and that what it said holds a text.
    ///
    /// # Panics
    /// When it did not.
    pub fn fails(self, code: i32, says: &str) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(says), "{says:?} is not in:\n{}", self.stderr);
        self
    }

    /// Returns standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Returns the folder with the programs that this test was built with.
///
/// # Panics
/// When they have not been built.
pub fn programs() -> PathBuf {
    let exe = std::env::current_exe().expect("this test's own path");
    let dir = exe.ancestors().nth(2).expect("target/PROFILE/deps/TEST").to_owned();
    for name in ["dh", "dh-agent"] {
        assert!(dir.join(name).exists(), "{name} is not built: run 'cargo build' first, or 'make test'");
    }
    dir
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// Makes an empty home.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("dh-e2e").tempdir().expect("a temporary folder") }
    }

    /// Returns `DH_HOME`.
    pub fn dh_home(&self) -> PathBuf {
        self.dir.path().join("dh")
    }

    /// Returns `HOME`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Prepares a program of ours with this home and nothing else of the caller's environment that dh reads.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs().join(program));
        for name in ["DH_ENV", "NO_COLOR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "DH_AGENT"] {
            command.env_remove(name);
        }
        command.env("HOME", self.path()).env("DH_HOME", self.dh_home()).env("USER", "alice").stdin(Stdio::null());
        command
    }

    /// Runs `dh ARGS` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn dh<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ran {
        self.command("dh").args(args).output().expect("dh starts").into()
    }

    /// Runs a line of words.
    pub fn run(&self, line: &str) -> Ran {
        self.dh(line.split_whitespace())
    }

    /// Returns one engine as JSON.
    pub fn engine(&self, name: &str) -> Value {
        self.dh(["engine", "status", name, "--output", "json"]).ok().json()["engine"].take()
    }

    /// Waits until no process of this home is left: a supervisor answers before its last breath.
    ///
    /// # Panics
    /// When one stays, with what it is.
    pub fn until_empty(&self) {
        let name =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        until_or("nothing is left running", || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(left.iter().map(name).collect::<Vec<_>>().join("; ")),
        });
    }

    /// Returns the id of the agent of this home's one engine.
    pub fn agent(&self) -> Option<u32> {
        self.processes().into_iter().find(|pid| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = cmdline.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"dh-agent")) && words.next() == Some(b"run")
        })
    }

    /// Returns the ids of all living processes that carry this home in their environment.
    pub fn processes(&self) -> Vec<u32> {
        let marker = format!("{}", self.path().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let has = |text: &[u8]| String::from_utf8_lossy(text).contains(&marker);
            if pid != std::process::id() && (has(&environ) || has(&cmdline)) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        // A failed test may leave studios mounted below.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = self.path().display().to_string();
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&below)) {
            let _ = Command::new("umount").args(["-l", target]).status();
        }
        let loops = Command::new("losetup").args(["-ln", "-O", "NAME,BACK-FILE"]).output();
        for line in loops.iter().flat_map(|output| std::str::from_utf8(&output.stdout)).flat_map(str::lines) {
            if line.contains(&below) {
                let name = line.split_whitespace().next().unwrap_or_default();
                let _ = Command::new("losetup").args(["-d", name]).status();
            }
        }
    }
}

/// Waits until something holds, looking often.
///
/// # Panics
/// When it does not within [`DEADLINE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_or(what, || look().ok_or_else(String::new))
}

fn until_or<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) => assert!(began.elapsed() < DEADLINE, "{what}: not within {} s. {why}", DEADLINE.as_secs()),
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Whether a real part that needs an installed program can run here. Where it cannot, says so; with `CI=true` that is a
/// failure.
///
/// # Panics
/// When it is missing and `CI=true`.
pub fn have(program: &str, package: &str) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&dirs).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed (Debian package {package})");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "a skip is a failure in CI: install {package}");
    }
    found
}
