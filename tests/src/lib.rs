//! Runs the real `dh` and `dh-agent` in a home of their own.

mod disk;
mod terminal;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub use disk::SmallDisk;
pub use terminal::Terminal;

/// How long anything may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A home with nothing in it, and everything that was started in it ended when it is dropped.
pub struct Home {
    dir: tempfile::TempDir,
    dh_home: PathBuf,
    programs: PathBuf,
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

    /// Checks that the command was refused with an exit code, in one clear error that holds a text and is followed by what
    /// to do next.
    ///
    /// # Panics
    /// When it was not.
    pub fn refused(self, code: i32, says: &str) -> Self {
        let ran = self.fails(code, says);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let errors: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with('✗')).collect();
        let [error] = errors[..] else { panic!("not one error but {}:\n{}", errors.len(), ran.stderr) };
        let next = lines[error + 1..].iter().rfind(|line| !line.trim().is_empty());
        assert!(next.is_some_and(|next| next.trim().len() > 10), "no next step:\n{}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
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
        let dir = tempfile::Builder::new().prefix("dh-e2e").tempdir().expect("a temporary folder");
        Self { dh_home: dir.path().join("dh"), programs: programs(), dir }
    }

    /// Makes a home that keeps everything of dh in another place, such as a disk of its own.
    pub fn keeping_in(dh_home: &Path) -> Self {
        let mut home = Self::new();
        home.dh_home = dh_home.to_owned();
        home
    }

    /// Runs other copies of the programs.
    pub fn with_programs(mut self, programs: &Path) -> Self {
        self.programs = programs.to_owned();
        self
    }

    /// Returns `DH_HOME`.
    pub fn dh_home(&self) -> PathBuf {
        self.dh_home.clone()
    }

    /// Returns `HOME`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, toml: &str) {
        let folder = self.dh_home.join("config");
        std::fs::create_dir_all(&folder).expect("the configuration's folder");
        std::fs::write(folder.join("config.toml"), toml).expect("the configuration");
    }

    /// Writes a set-up script and a configuration that has every engine run it.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn set_up_with(&self, script: &str) {
        self.configure("[environments.dev]\nsetup_script = \"setup.sh\"\n");
        std::fs::write(self.dh_home.join("config/setup.sh"), script).expect("the set-up script");
    }

    /// Prepares a program of ours with this home and nothing else of the caller's environment that dh reads.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("DH_") || name.starts_with("XDG_") || ["NO_COLOR", "TMUX", "STY"].contains(&&*name) {
                command.env_remove(name);
            }
        }
        // Temporary files would show there.
        command
            .env("TMPDIR", self.path())
            .env("HOME", self.path())
            .env("DH_HOME", self.dh_home())
            .env("USER", "alice")
            .stdin(Stdio::null());
        command
    }

    /// Runs `dh ARGS` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn dh<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ran {
        self.command("dh").args(args).output().expect("dh starts").into()
    }

    /// Runs `dh ARGS` with something to read.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn dh_reading<'a>(&self, input: &str, args: impl IntoIterator<Item = &'a str>) -> Ran {
        let mut child = self.spawn_with(args, Stdio::piped());
        let mut stdin = child.stdin.take().expect("piped");
        // Whoever does not read to the end has its reasons, and tells them.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("dh ends").into()
    }

    /// Starts `dh ARGS`, its output kept for whoever waits for it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Child {
        self.spawn_with(args, Stdio::null())
    }

    fn spawn_with<'a>(&self, args: impl IntoIterator<Item = &'a str>, stdin: Stdio) -> Child {
        let mut command = self.command("dh");
        command.args(args).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("dh starts")
    }

    /// Runs a shell script on an engine and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn on(&self, engine: &str, script: &str) -> String {
        self.dh(["engine", "exec", engine, "--", "sh", "-c", script]).ok().stdout.trim_end().to_owned()
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

    /// Returns one studio of alice's as JSON.
    pub fn studio(&self) -> Value {
        self.run("studio status --output json").ok().json()["studio"].take()
    }

    /// Waits until an engine is in a state, and returns it.
    pub fn until_state(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} is {state}"), || Some(self.engine(name)).filter(|engine| engine["state"] == state))
    }

    /// Returns the directory of an engine's machine.
    ///
    /// # Panics
    /// When it has none.
    pub fn machine_dir(&self, name: &str) -> PathBuf {
        let id = self.engine(name)["id"].as_str().expect("a machine").to_owned();
        self.dh_home.join("data/engines").join(id)
    }

    /// Returns the id of the agent of this home's one engine.
    pub fn agent(&self) -> Option<u32> {
        self.process("dh-agent", "run")
    }

    /// Returns the ids of all living processes that carry this home in their environment or arguments.
    pub fn processes(&self) -> Vec<u32> {
        let markers = [self.path().display().to_string(), self.dh_home.display().to_string()];
        let has = |text: Vec<u8>| {
            let text = String::from_utf8_lossy(&text).into_owned();
            markers.iter().any(|marker| text.contains(marker))
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            if pid != std::process::id() && (has(read("environ")) || has(read("cmdline"))) {
                found.push(pid);
            }
        }
        found
    }

    /// Returns the process of this home that runs a program with a first argument, such as `dh-agent supervise`.
    pub fn process(&self, program: &str, argument: &str) -> Option<u32> {
        self.processes().into_iter().find(|pid| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cmdline = String::from_utf8_lossy(&cmdline).into_owned();
            let mut words = cmdline.split('\0');
            words.next().is_some_and(|word| word.ends_with(program)) && words.next() == Some(argument)
        })
    }

    /// Returns every file below this home and below `DH_HOME`, by path.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.path().to_owned(), self.dh_home.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                }
                found.insert(entry.path());
            }
        }
        found
    }
}

/// Sends a signal; the process may have ended by itself in the meantime.
///
/// # Panics
/// For an id that is none.
pub fn send(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid as i32).expect("a process id"), signal);
}

/// Whether a process is there and no zombie.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

impl Drop for Home {
    fn drop(&mut self) {
        // A restarting supervisor may bring one back in between.
        for _ in 0..3 {
            self.processes().into_iter().for_each(|pid| send(pid, Signal::KILL));
        }
        // A failed test may leave studios mounted below.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = [format!("{}/", self.path().display()), format!("{}/", self.dh_home.display())];
        let is_below = |path: &str| below.iter().any(|folder| path.starts_with(folder));
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| is_below(at)) {
            let _ = Command::new("umount").args(["-l", target]).status();
        }
        let loops = Command::new("losetup").args(["-ln", "-O", "NAME,BACK-FILE"]).output();
        for line in loops.iter().flat_map(|output| std::str::from_utf8(&output.stdout)).flat_map(str::lines) {
            if let Some((name, file)) = line.trim().split_once(char::is_whitespace)
                && is_below(file.trim())
            {
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
    can(&format!("{program} is not installed (Debian package {package})"), found)
}

/// Whether a real part can run here, given what it lacks otherwise. Where it cannot, says so; with `CI=true` that is a
/// failure.
///
/// # Panics
/// When it cannot and `CI=true`.
pub fn can(lack: &str, here: bool) -> bool {
    if !here {
        eprintln!("skipped: {lack}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "a skip is a failure in CI: {lack}");
    }
    here
}

/// Whether this is root, and can mount.
///
/// # Panics
/// When it is not and `CI=true`.
pub fn can_mount() -> bool {
    can("only root can mount a disk of its own", rustix::process::geteuid().is_root() && SmallDisk::works())
}
