//! What the unit tests put in the place of the world.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dh_core::domain::*;
use dh_core::ports::*;
use dh_core::wire::{AgentConfig, AgentPower, AgentStore};
use jiff::Timestamp;

use crate::layout::Layout;
use crate::power::Actuator;

pub fn config(root: &Path) -> AgentConfig {
    AgentConfig {
        schema: 1,
        environment: EnvironmentName::new("dev").unwrap(),
        engine: EngineName::new("lab").unwrap(),
        machine: machine(root),
        user: UserName::new("alice").unwrap(),
        root: root.to_owned(),
        store: AgentStore::Sqlite { path: root.join("dh.sqlite3") },
        power: AgentPower::Supervisor { socket: root.join("control.sock") },
        policy: IdlePolicy::default(),
        setup_script: None,
        primordial: None,
        authorized_keys: Vec::new(),
    }
}

/// A machine of its own for every root: tests that run side by side look for the processes of theirs.
fn machine(root: &Path) -> MachineId {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    MachineId::new(format!("i-{:017x}", hasher.finish())).unwrap()
}

pub fn policy(timeout: u64, warning: u64) -> IdlePolicy {
    let mut policy = IdlePolicy::default();
    policy.idle_timeout = Duration::from_secs(timeout);
    policy.warning = Duration::from_secs(warning);
    policy
}

pub fn layout(root: &Path) -> Layout {
    let layout = Layout::of(&config(root));
    layout.make().unwrap();
    layout
}

pub fn engine() -> Engine {
    Engine {
        name: EngineName::new("lab").unwrap(),
        environment: EnvironmentName::new("dev").unwrap(),
        user: UserName::new("alice").unwrap(),
        engine_type: "cpu".into(),
        machine: None,
        boot_disk_gb: SizeGb::new(50).unwrap(),
        state: EngineState::Running,
        created_at: Timestamp::UNIX_EPOCH,
        bootstrap: Bootstrap::default(),
        idle: None,
        problems: Vec::new(),
        policy: IdlePolicy::default(),
        operation: None,
    }
}

pub fn ready() -> Bootstrap {
    let stage = Stage {
        name: StageName::Ready,
        status: StageStatus::Completed,
        started_at: Timestamp::UNIX_EPOCH,
        duration: None,
        note: None,
        error: None,
        log_tail: Vec::new(),
    };
    Bootstrap { stages: vec![stage] }
}

/// A host with processes and nothing else.
#[derive(Debug, Default)]
pub struct FakeHost {
    processes: Vec<Process>,
}

impl FakeHost {
    pub fn with_processes(processes: Vec<Process>) -> Arc<Self> {
        Arc::new(Self { processes })
    }
}

#[async_trait]
impl Host for FakeHost {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
    fn processes(&self) -> Result<Vec<Process>> {
        Ok(self.processes.clone())
    }
    fn connections(&self) -> Result<Vec<TcpConnection>> {
        Ok(Vec::new())
    }
    fn logins(&self) -> Result<Vec<Login>> {
        Ok(Vec::new())
    }
    fn last_input(&self, _tty: &str) -> Result<Option<Timestamp>> {
        Ok(None)
    }
    fn container_sockets(&self) -> Result<Vec<ContainerSocket>> {
        Ok(Vec::new())
    }
    fn coffee_lock(&self) -> Result<Option<String>> {
        Ok(None)
    }
    async fn http_get(&self, _target: &HttpTarget, _path: &str) -> Result<Option<HttpAnswer>> {
        Ok(None)
    }
}

/// A sensor that sees what a test says.
#[derive(Debug)]
pub struct FakeSensor {
    seen: Mutex<(Activity, Axis)>,
    pub looks: AtomicUsize,
    /// From this look on it sees something.
    pub wakes_at: AtomicUsize,
}

impl FakeSensor {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::new((Activity::Idle, Axis::Presence)),
            looks: AtomicUsize::new(0),
            wakes_at: AtomicUsize::new(usize::MAX),
        })
    }

    pub fn see(&self, activity: Activity, axis: Axis) {
        *self.seen.lock().unwrap() = (activity, axis);
    }
}

#[async_trait]
impl Sensor for FakeSensor {
    fn name(&self) -> &str {
        "fake"
    }
    fn axis(&self) -> Axis {
        self.seen.lock().unwrap().1
    }
    async fn sample(&self, _context: &SensorContext) -> Result<Reading> {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        let (mut activity, axis) = *self.seen.lock().unwrap();
        if look >= self.wakes_at.load(Ordering::SeqCst) {
            activity = Activity::Active;
        }
        Ok(Reading::new("fake", activity, Confidence::High, axis, format!("{activity:?}")))
    }
}

/// Keeps what people were told.
#[derive(Debug, Default)]
pub struct Told(pub Mutex<Vec<String>>);

impl Told {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[async_trait]
impl Notifier for Told {
    async fn notify(&self, message: &str) -> Result<usize> {
        self.0.lock().unwrap().push(message.to_owned());
        Ok(1)
    }
}

/// Keeps which stops were asked for, and answers as a test says.
#[derive(Debug, Default)]
pub struct FakePower {
    pub asked: Mutex<Vec<(Duration, StopMode, String)>>,
    pub fails: Mutex<Option<ErrorKind>>,
    pub clock: Mutex<Option<Arc<dyn Clock>>>,
}

impl FakePower {
    pub fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Actuator for Arc<FakePower> {
    async fn stop(&self, mode: StopMode, message: &str) -> Result<()> {
        let at = self.clock.lock().unwrap().as_ref().map_or(Duration::ZERO, |clock| clock.since_boot());
        self.asked.lock().unwrap().push((at, mode, message.to_owned()));
        match *self.fails.lock().unwrap() {
            Some(ErrorKind::Unsupported) if mode == StopMode::Stop => Ok(()),
            Some(kind) => Err(Error::new(kind, "no stop today")),
            None => Ok(()),
        }
    }
}
