//! A data directory of its own, a backend over it, and ways to wait for what must come.

use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dh_core::backend::local::control::{Client, Request};
use dh_core::backend::local::process::{Member, leftovers};
use dh_core::backend::local::{EngineDir, LocalBackend, LocalConfig, MachineRecord, PowerLock};
use dh_core::domain::{
    EngineName, EnvironmentName, IdempotencyKey, IdlePolicy, Machine, MachineId, MachineState, OperationId, SizeGb,
    UserName,
};
use dh_core::ports::{EngineBackend, LaunchMachine, SessionRequest};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Far more than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct House {
    pub backend: LocalBackend,
    pub agent: PathBuf,
    dir: TempDir,
    /// Ids follow from keys, and processes are found by ids: every house has keys of its own.
    key: String,
}

/// Where the `dh-agent` under test is; a copy of it when this runs as another user.
pub fn dh_agent() -> PathBuf {
    std::env::var_os("DH_TEST_AGENT").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_dh-agent")), PathBuf::from)
}

impl House {
    /// A house whose engines run a stand-in for the agent's loop.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dh house ").tempdir().unwrap();
        let agent = dir.path().join("stand-in");
        // It notes every run, so that a test can see the agent being started again.
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in\nrun) echo $$ >> \"$HOME/agent-runs\"; exec sleep 100000;;\n*) exec '{}' \"$@\";;\nesac\n",
            dh_agent().display()
        );
        write_program(&agent, &script);
        Self::build(dir, agent)
    }

    /// A house whose engines run the agent itself.
    pub fn with_real_agent() -> Self {
        Self::build(tempfile::Builder::new().prefix("dh house ").tempdir().unwrap(), dh_agent())
    }

    fn build(dir: TempDir, agent: PathBuf) -> Self {
        let key: String = dir.path().to_string_lossy().chars().rev().take(6).collect();
        Self { backend: backend(dir.path(), &agent), agent, dir, key }
    }

    /// Returns an environment of this house's own, for those who make keys of its name.
    pub fn environment(&self) -> EnvironmentName {
        EnvironmentName::new(format!("dev{}{}", std::process::id(), self.key)).unwrap()
    }

    pub fn request(&self, name: &str) -> LaunchMachine {
        let operation = OperationId::new(format!("op-{}-{}-{name}", std::process::id(), self.key)).unwrap();
        LaunchMachine {
            key: IdempotencyKey::for_step(&operation, "launch_machine"),
            engine: EngineName::new(name).unwrap(),
            environment: environment(),
            user: UserName::new("alice").unwrap(),
            engine_type: "cpu".into(),
            boot_disk_gb: SizeGb::new(50).unwrap(),
            policy: IdlePolicy::default(),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn dir(&self, id: &MachineId) -> EngineDir {
        EngineDir::of(&self.path().join("data"), id)
    }

    pub fn record(&self, id: &MachineId) -> MachineRecord {
        MachineRecord::load(&self.dir(id)).unwrap().expect("the machine exists")
    }

    /// Launches a machine and waits until it runs.
    pub async fn launch(&self, name: &str) -> Machine {
        let machine = self.backend.launch_machine(self.request(name)).await.unwrap();
        self.await_state(&machine.id, MachineState::Running).await
    }

    pub async fn await_state(&self, id: &MachineId, state: MachineState) -> Machine {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let machine = self.backend.describe_machine(id).await.unwrap().expect("the machine exists");
            if machine.state == state {
                return machine;
            }
            assert!(Instant::now() < deadline, "still {machine:?}; console:\n{}", self.console(id));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn await_gone(&self, id: &MachineId) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(machine) = self.backend.describe_machine(id).await.unwrap() {
            assert!(Instant::now() < deadline, "still {machine:?}; console:\n{}", self.console(id));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn console(&self, id: &MachineId) -> String {
        fs::read_to_string(self.dir(id).disk().join("log/console.log")).unwrap_or_default()
    }

    /// Returns a session's command, ready to be run.
    pub fn session(&self, id: &MachineId, request: SessionRequest) -> Command {
        let local = self.backend.session(id, request).unwrap();
        let mut command = Command::new(&local.argv[0]);
        command.args(&local.argv[1..]).envs(&local.env);
        command
    }

    /// Returns a shell command on a machine, ready to be run.
    pub fn exec(&self, id: &MachineId, script: &str) -> Command {
        self.session(id, SessionRequest::Exec(vec!["sh".into(), "-c".into(), script.into()]))
    }

    /// Begins something on the machine that leaves its session and its parents, and returns its process.
    pub fn daemon(&self, id: &MachineId, name: &str, script: &str) -> i32 {
        let pid_file = self.dir(id).home().join(name);
        let inner = self.dir(id).home().join(format!("{name}.sh"));
        fs::write(
            &inner,
            format!("echo $$ > \"$HOME/{name}.new\"; mv \"$HOME/{name}.new\" \"$HOME/{name}\"\n{script}\n"),
        )
        .unwrap();
        let begin = format!("(nohup setsid sh \"$HOME/{name}.sh\" > /dev/null 2>&1 < /dev/null &)");
        assert!(self.exec(id, &begin).stdin(Stdio::null()).status().unwrap().success());
        await_some("the daemon's process", || fs::read_to_string(&pid_file).ok()?.trim().parse().ok())
    }

    pub fn left(&self, id: &MachineId) -> Vec<Member> {
        leftovers(id, &[])
    }
}

impl Drop for House {
    /// Leaves nothing running when a test fails.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path().join("data/engines")).into_iter().flatten().flatten() {
            let dir = EngineDir::new(entry.path());
            let deadline = Instant::now() + Duration::from_secs(10);
            while PowerLock::is_held(&dir).unwrap_or(false) && Instant::now() < deadline {
                if let Ok(mut client) = Client::connect(&dir.socket()) {
                    let _ = client.call(&Request::Terminate);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if let Ok(Some(record)) = MachineRecord::load(&dir) {
                let groups = record.boot.map(|boot| boot.cgroups).unwrap_or_default();
                dh_core::backend::local::process::sweep(&record.id, &groups);
            }
        }
    }
}

pub fn backend(root: &Path, agent: &Path) -> LocalBackend {
    LocalBackend::new(LocalConfig::new(root.join("data"), root.join("dh.sqlite3"), agent)).unwrap()
}

pub fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub fn environment() -> EnvironmentName {
    EnvironmentName::new("dev").unwrap()
}

/// Waits until there is something.
pub fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something holds.
pub fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    await_some(what, || holds().then_some(()));
}

/// Waits until something is as expected, and says what it was instead.
pub fn await_eq<T: PartialEq + Debug>(expected: T, mut look: impl FnMut() -> T) {
    let mut last = None;
    let deadline = Instant::now() + PATIENCE;
    while last.as_ref() != Some(&expected) {
        assert!(Instant::now() < deadline, "expected {expected:?}, it is {last:?}");
        std::thread::sleep(Duration::from_millis(5));
        last = Some(look());
    }
}

pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

pub fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
