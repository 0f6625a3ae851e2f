//! The world that a command meets in a test.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clap::FromArgMatches;
use dh_core::connect::{Config, Paths};
use dh_core::domain::*;
use dh_core::ports::*;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::{self, Cli};
use crate::connect::Place;
use crate::context::Context;
use crate::host::Host;
use crate::screen::Screen;
use crate::terminal::Terminal;

pub const ENGINE_ID: &str = "i-1234567890abcdef0";
pub const VOLUME_ID: &str = "vol-0123456789abcdef0";

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    at("2025-11-10T16:30:00Z")
}

pub fn hours_ago(hours: u64) -> Timestamp {
    now() - Duration::from_secs(hours * 3_600)
}

pub fn name(text: &str) -> EngineName {
    EngineName::new(text).unwrap()
}

pub fn user(text: &str) -> UserName {
    UserName::new(text).unwrap()
}

pub fn machine(name: &str, id: &str) -> Machine {
    Machine {
        id: MachineId::new(id).unwrap(),
        engine: EngineName::new(name).unwrap(),
        environment: EnvironmentName::new("dev").unwrap(),
        user: user("alice"),
        state: MachineState::Running,
        state_reason: None,
        launched_at: hours_ago(2),
        public_ip: Some("54.123.45.67".into()),
        instance_type: "r6i.2xlarge".into(),
        boot_disk_gb: SizeGb::new(50).unwrap(),
        zone: "local".into(),
        attachments: BTreeMap::new(),
    }
}

/// A running engine of alice's.
pub fn engine() -> EngineView {
    EngineView {
        engine: Engine {
            name: name("my-engine"),
            environment: EnvironmentName::new("dev").unwrap(),
            user: user("alice"),
            engine_type: "cpu".into(),
            machine: Some(MachineId::new(ENGINE_ID).unwrap()),
            boot_disk_gb: SizeGb::new(50).unwrap(),
            state: EngineState::Running,
            created_at: hours_ago(2),
            bootstrap: Bootstrap {
                stages: vec![
                    stage(StageName::InstanceRunning, StageStatus::Completed, Some(30)),
                    stage(StageName::Ready, StageStatus::Completed, Some(0)),
                ],
            },
            idle: Some(idle()),
            problems: Vec::new(),
            policy: IdlePolicy::default(),
            operation: None,
        },
        state: EngineState::Running,
        state_reason: None,
        machine: Some(machine("my-engine", ENGINE_ID)),
        studios: Vec::new(),
    }
}

pub fn stage(name: StageName, status: StageStatus, seconds: Option<u64>) -> Stage {
    Stage {
        name,
        status,
        started_at: hours_ago(2),
        duration: seconds.map(Duration::from_secs),
        note: None,
        error: None,
        log_tail: Vec::new(),
    }
}

pub fn idle() -> IdleStatus {
    use Activity::{Active, Idle};
    use Confidence::{High, Medium};
    IdleStatus {
        is_idle: false,
        idle_since: None,
        timeout: Duration::from_secs(1_800),
        reason: "ssh: 1 active SSH session(s)".into(),
        readings: vec![
            Reading::new("ssh", Active, High, Axis::Presence, "1 active SSH session(s)")
                .with_detail("sessions", vec!["alice pts/0 2025-11-10 14:30 old 12345".to_owned()]),
            Reading::new("ide", Idle, Medium, Axis::Presence, "No IDE connections found"),
            Reading::new("docker", Idle, Medium, Axis::Work, "No workload containers")
                .with_detail("ignored", vec!["devcontainer-1 (dev-container)".to_owned()]),
            Reading::new("coffee", Idle, High, Axis::Hold, "No coffee lock"),
        ],
        coffee_until: None,
        stop_at: None,
        at: now(),
    }
}

pub fn studio() -> Studio {
    Studio {
        user: user("alice"),
        environment: EnvironmentName::new("dev").unwrap(),
        volume: Some(VolumeId::new(VOLUME_ID).unwrap()),
        size_gb: SizeGb::new(100).unwrap(),
        status: StudioStatus::Available,
        created_at: hours_ago(5 * 24 + 3),
        attachment: None,
        epoch: 0,
        operation: None,
        caveat: None,
    }
}

pub fn attached(engine: &str, machine: &str) -> Studio {
    Studio {
        status: StudioStatus::Attached,
        attachment: Some(StudioAttachment {
            engine: name(engine),
            machine: MachineId::new(machine).unwrap(),
            device: None,
            mount_point: Some("/studios/alice".into()),
        }),
        ..studio()
    }
}

pub fn operation(spec: OperationSpec) -> Operation {
    Operation {
        id: OperationId::new("op-0123456789ab").unwrap(),
        environment: EnvironmentName::new("dev").unwrap(),
        requested_by: user("alice"),
        spec,
        status: OperationStatus::InProgress,
        steps: Vec::new(),
        lease: RunnerLease { owner: None, epoch: 1, expires_at: now() },
        paused: false,
        cancel_requested: false,
        error: None,
        created_at: hours_ago(0),
        updated_at: hours_ago(0),
    }
}

pub fn completed(spec: OperationSpec) -> Operation {
    Operation { status: OperationStatus::Completed, ..operation(spec) }
}

pub fn event(elapsed: u64, percent: u8, body: ProgressBody) -> ProgressEvent {
    ProgressEvent {
        operation: OperationId::new("op-0123456789ab").unwrap(),
        kind: "launch".into(),
        at: now(),
        elapsed: Duration::from_secs(elapsed),
        percent,
        remaining: None,
        body,
    }
}

pub fn step(name: &str, status: StageStatus) -> ProgressBody {
    ProgressBody::Step { name: name.into(), title: crate::progress::title_of(name), status }
}

/// A control plane that knows who calls, and on which nothing was interrupted.
pub fn plane() -> MockControlPlane {
    let mut plane = MockControlPlane::new();
    plane.expect_environment().return_const(EnvironmentName::new("dev").unwrap());
    quiet(&mut plane);
    plane
}

/// The same in another environment.
pub fn plane_of(environment: &str) -> MockControlPlane {
    let mut plane = MockControlPlane::new();
    plane.expect_environment().return_const(EnvironmentName::new(environment).unwrap());
    quiet(&mut plane);
    plane
}

fn quiet(plane: &mut MockControlPlane) {
    plane.expect_user().return_const(user("alice"));
    plane.expect_interrupted().returning(|| Ok(Vec::new()));
    let kind =
        EngineType { description: "8 vCPU".into(), instance_type: "local".into(), vcpus: 8, memory_gb: 64, gpus: 0 };
    let types = BTreeMap::from([("a10g".to_owned(), kind.clone()), ("cpu".to_owned(), kind)]);
    let mut capabilities = Capabilities::all(types, SizeGb::new(50).unwrap());
    capabilities.usual_launch = "2-3 minutes";
    plane.expect_capabilities().return_const(capabilities);
}

/// Lets an operation be submitted once, checked by a predicate, and run with some events to its end.
pub fn will_run(
    plane: &mut MockControlPlane,
    expected: impl Fn(&OperationSpec, SubmitOptions) -> bool + Send + Sync + 'static,
    events: Vec<ProgressEvent>,
) {
    let stored: Arc<Mutex<Option<OperationSpec>>> = Arc::default();
    let submitted = stored.clone();
    plane.expect_submit().times(1).returning(move |spec, options, _| {
        assert!(expected(&spec, options), "{spec:?} {options:?}");
        *submitted.lock().unwrap() = Some(spec.clone());
        Ok(operation(spec))
    });
    plane.expect_run().times(1).returning(move |_, sink| {
        events.iter().for_each(|event| sink.emit(event));
        Ok(completed(stored.lock().unwrap().clone().unwrap()))
    });
}

#[derive(Debug, Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Answers(Option<Mutex<Vec<&'static str>>>);

impl Terminal for Answers {
    fn is_interactive(&self) -> bool {
        self.0.is_some()
    }

    fn read_line(&self) -> io::Result<String> {
        let mut answers = self.0.as_ref().expect("nobody asks where nobody can answer").lock().unwrap();
        assert!(!answers.is_empty(), "a question too many");
        Ok(answers.remove(0).to_owned())
    }
}

#[derive(Debug, Default)]
struct TestHost {
    home: PathBuf,
    listed_home: Option<PathBuf>,
    workers: Mutex<Vec<String>>,
    became: Mutex<Vec<LocalCommand>>,
    ctrl_c: bool,
}

#[async_trait]
impl Host for TestHost {
    fn now(&self) -> Timestamp {
        now()
    }

    fn zone(&self) -> TimeZone {
        TimeZone::UTC
    }

    fn ssh_config(&self) -> Result<PathBuf> {
        Ok(self.home.join(".ssh/config"))
    }

    fn ssh_reads(&self) -> Option<PathBuf> {
        Some(self.listed_home.as_ref().unwrap_or(&self.home).join(".ssh/config"))
    }

    fn spawn_worker(&self, environment: &EnvironmentName, id: &OperationId) -> Result<()> {
        self.workers.lock().unwrap().push(format!("{environment} {id}"));
        Ok(())
    }

    fn become_program(&self, program: &LocalCommand) -> Error {
        self.became.lock().unwrap().push(program.clone());
        Error::new(ErrorKind::Failed, "cannot run ssh")
    }

    async fn interrupted(&self) {
        if !self.ctrl_c {
            std::future::pending::<()>().await;
        }
    }
}

/// What surrounds a command: answers, a home directory, a terminal's width.
pub struct World {
    answers: Option<Vec<&'static str>>,
    colour: bool,
    columns: Option<usize>,
    config: String,
    pub home: tempfile::TempDir,
    listed_home: Option<PathBuf>,
    ctrl_c: bool,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: u8,
    pub workers: Vec<String>,
    pub became: Vec<LocalCommand>,
}

impl World {
    pub fn new() -> Self {
        Self {
            answers: None,
            colour: false,
            columns: None,
            config: String::new(),
            home: tempfile::tempdir().unwrap(),
            listed_home: None,
            ctrl_c: false,
        }
    }

    /// Puts somebody before a terminal who will answer so.
    pub fn answering(self, answers: &[&'static str]) -> Self {
        Self { answers: Some(answers.to_vec()), ..self }
    }

    pub fn in_colour(self) -> Self {
        Self { colour: true, ..self }
    }

    pub fn on_columns(self, columns: usize) -> Self {
        Self { columns: Some(columns), ..self }
    }

    pub fn with_config(self, config: &str) -> Self {
        Self { config: config.into(), ..self }
    }

    /// Has the machine's list of users name another home than `HOME` does.
    pub fn with_listed_home(self, home: &str) -> Self {
        Self { listed_home: Some(home.into()), ..self }
    }

    pub fn pressing_ctrl_c(self) -> Self {
        Self { ctrl_c: true, ..self }
    }

    pub fn ssh_config(&self) -> String {
        std::fs::read_to_string(self.home.path().join(".ssh/config")).unwrap_or_default()
    }

    /// Runs a command line over a control plane.
    pub fn run(&self, plane: MockControlPlane, line: &str) -> Ran {
        let args = ["dh"].into_iter().chain(line.split(' '));
        let matches = cli::command().try_get_matches_from(args).unwrap_or_else(|error| panic!("{error}"));
        let cli = Cli::from_arg_matches(&matches).unwrap();
        let (out, err) = (Captured::default(), Captured::default());
        let format = cli.global.output.unwrap_or(cli::Format::Table);
        let screen =
            Arc::new(Screen::on(format, Box::new(out.clone()), Box::new(err.clone()), self.colour, self.columns));
        let paths = Paths::under(self.home.path());
        let environment = plane.environment().clone();
        let config = Config::parse(&self.config, &paths.config_file()).unwrap();
        let place = if self.config.is_empty() {
            Place { environment, ..Place::choose(paths, config, None).unwrap() }
        } else {
            Place::choose(paths, config, Some(&environment)).unwrap()
        };
        let host = Arc::new(TestHost {
            home: self.home.path().to_owned(),
            listed_home: self.listed_home.clone(),
            ctrl_c: self.ctrl_c,
            ..TestHost::default()
        });
        let context = Context {
            control: Arc::new(plane),
            place,
            screen: screen.clone(),
            terminal: Box::new(Answers(self.answers.clone().map(Mutex::new))),
            host: host.clone(),
        };
        let outcome = crate::block_on(crate::dispatch(&context, &cli.command));
        let code = outcome.map_or_else(
            |failure| {
                failure.report(&screen);
                failure.exit_code()
            },
            |()| 0,
        );
        let text = |captured: &Captured| String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        Ran {
            out: text(&out),
            err: text(&err),
            code,
            workers: host.workers.lock().unwrap().clone(),
            became: host.became.lock().unwrap().clone(),
        }
    }
}
