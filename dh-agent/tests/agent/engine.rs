//! An engine's directory, and the agent's program in it.

use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::backend::local::control::{Inbox, Reply, Request, encode, listen};
use dh_core::domain::*;
use dh_core::ports::{StateStore, StateStoreExt};
use dh_core::store::SqliteStore;
use dh_core::wire::{AgentConfig, AgentPower, AgentStore};
use jiff::Timestamp;

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct TestEngine {
    dir: tempfile::TempDir,
    pub config: AgentConfig,
    store: Arc<SqliteStore>,
    supervisor: UnixListener,
}

impl TestEngine {
    pub fn new(change: impl FnOnce(&Path, &mut AgentConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("disk");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(dir.path().join("boot-id"), "first\n").unwrap();
        let mut config = AgentConfig {
            schema: 1,
            environment: EnvironmentName::new("dev").unwrap(),
            engine: EngineName::new("lab").unwrap(),
            machine: MachineId::new("i-0123456789abcdef0").unwrap(),
            user: UserName::new("alice").unwrap(),
            root,
            store: AgentStore::Sqlite { path: dir.path().join("dh.sqlite3") },
            power: AgentPower::Supervisor { socket: dir.path().join("control.sock") },
            policy: IdlePolicy::default(),
            setup_script: None,
            primordial: None,
            authorized_keys: Vec::new(),
        };
        change(dir.path(), &mut config);
        std::fs::write(dir.path().join("agent.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("dh.sqlite3")).unwrap());
        let supervisor = listen(&dir.path().join("control.sock")).unwrap();
        supervisor.set_nonblocking(true).unwrap();
        let engine = Self { dir, config, store, supervisor };
        engine.block_on(async {
            let record = Engine {
                name: engine.config.engine.clone(),
                environment: engine.config.environment.clone(),
                user: engine.config.user.clone(),
                engine_type: "cpu".into(),
                machine: Some(engine.config.machine.clone()),
                boot_disk_gb: SizeGb::new(50).unwrap(),
                state: EngineState::Running,
                created_at: Timestamp::now(),
                bootstrap: Bootstrap::default(),
                idle: None,
                problems: Vec::new(),
                policy: IdlePolicy::default(),
                operation: None,
            };
            let store: &dyn StateStore = &*engine.store;
            store.insert(&record).await.unwrap();
        });
        engine
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn disk(&self, name: &str) -> PathBuf {
        self.config.root.join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dh-agent"));
        command.args(args).env("DH_AGENT_CONFIG", self.path().join("agent.json"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn call(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts the agent; it is killed with the handle.
    pub fn run(&self) -> Agent {
        Agent(self.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub fn record(&self) -> Engine {
        let store: &dyn StateStore = &*self.store;
        self.block_on(store.load::<Engine>(&self.config.environment, "lab")).unwrap().unwrap().value
    }

    /// Waits until the stored engine is as it should be.
    pub fn until(&self, what: &str, holds: impl Fn(&Engine) -> bool) -> Engine {
        wait(what, || Some(self.record()).filter(|engine| holds(engine)))
    }

    /// Waits for a request to the supervisor and grants it.
    pub fn next_request(&self) -> Request {
        wait("the supervisor is asked", || {
            let (stream, _) = self.supervisor.accept().ok()?;
            stream.set_nonblocking(false).unwrap();
            let mut inbox = Inbox::default();
            let request = loop {
                if let Some((request, _)) = inbox.take::<Request>().unwrap() {
                    break request;
                }
                assert!(inbox.receive(stream.as_fd()).unwrap() > 0);
            };
            use std::io::Write;
            (&stream).write_all(&encode(&Reply::Done).unwrap()).unwrap();
            Some(request)
        })
    }

    pub fn is_asked(&self) -> bool {
        self.supervisor.accept().is_ok()
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }
}

pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub struct Agent(pub Child);

impl Agent {
    pub fn terminate(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = wait("the agent ends", || self.0.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A timeout of so many seconds, with a warning ahead.
pub fn policy(timeout: u64, warning: u64) -> IdlePolicy {
    let mut policy = IdlePolicy::default();
    policy.idle_timeout = Duration::from_secs(timeout);
    policy.warning = Duration::from_secs(warning);
    policy
}

/// Reads what a command printed.
pub fn reply<T: serde::de::DeserializeOwned>(output: &Output) -> T {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Reads how a command failed; its exit code must fit.
pub fn failure(output: &Output) -> StoredError {
    let text = String::from_utf8_lossy(&output.stderr);
    let error: StoredError = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(output.status.code(), Some(error.kind.exit_code().into()), "{text}");
    error
}
