use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::*;
use crate::domain::{
    AttachmentState, DeviceName, Engine, EngineName, EngineState, IdempotencyKey, IdlePolicy, MachineState,
    OperationId, StageName, StageStatus, StoredError, UserName,
};
use crate::ports::StateStoreExt;
use crate::store::MemoryStore;
use crate::testkit::conformance::backend::{BackendHarness, CASES, Need, Setting, run, run_matching};
use crate::testkit::{TestClock, until};
use crate::wire::MountReply;

/// The fake under the suite, with what a test wants it to be.
struct Harness<F: Fn(FakeBackend) -> FakeBackend>(F);

#[async_trait]
impl<F: Fn(FakeBackend) -> FakeBackend + Send + Sync> BackendHarness for Harness<F> {
    async fn set_up(&self) -> Setting {
        let clock = Arc::new(TestClock::new());
        Setting {
            backend: Arc::new((self.0)(FakeBackend::new(clock.clone()))),
            environment: env(),
            clock,
            guard: Box::new(()),
        }
    }

    fn runs_commands(&self) -> bool {
        false
    }

    fn has_agent(&self) -> bool {
        true
    }
}

fn env() -> EnvironmentName {
    EnvironmentName::new("dev").unwrap()
}

fn user() -> UserName {
    UserName::new("alice").unwrap()
}

fn key(step: &str) -> IdempotencyKey {
    IdempotencyKey::for_step(&OperationId::new("op-1").unwrap(), step)
}

fn device() -> DeviceName {
    DeviceName::all().next().unwrap()
}

fn machine_request(name: &str, engine_type: &str) -> LaunchMachine {
    LaunchMachine {
        key: key(name),
        engine: EngineName::new(name).unwrap(),
        environment: env(),
        user: user(),
        engine_type: engine_type.into(),
        boot_disk_gb: SizeGb::new(50).unwrap(),
        policy: IdlePolicy::default(),
    }
}

/// A fake whose virtual clock runs under it.
struct Fixture {
    clock: Arc<TestClock>,
    backend: FakeBackend,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(TestClock::new());
        Self { backend: FakeBackend::new(clock.clone()), clock }
    }

    async fn until(&self, what: &str, mut look: impl AsyncFnMut() -> bool) {
        let second = Duration::from_secs(1);
        let seen = until(&*self.clock, 600 * second, second, what, async || Ok(look().await.then_some(())));
        seen.await.unwrap();
    }

    async fn running(&self, name: &str) -> MachineId {
        let id = self.backend.launch_machine(machine_request(name, "cpu")).await.unwrap().id;
        self.until_state(&id, MachineState::Running).await;
        id
    }

    async fn until_state(&self, id: &MachineId, state: MachineState) {
        self.until("the state is reached", async || {
            self.backend.describe_machine(id).await.unwrap().map(|machine| machine.state) == Some(state)
        })
        .await;
    }

    async fn volume(&self) -> VolumeId {
        let request =
            CreateVolume { key: key("volume"), user: user(), environment: env(), size_gb: SizeGb::new(10).unwrap() };
        self.backend.create_volume(request).await.unwrap().id
    }

    fn attach_request(&self, volume: &VolumeId, machine: &MachineId, epoch: u64) -> AttachVolume {
        AttachVolume { volume: volume.clone(), machine: machine.clone(), device: device(), epoch }
    }

    async fn attach(&self, volume: &VolumeId, machine: &MachineId, epoch: u64) {
        self.backend.attach_volume(self.attach_request(volume, machine, epoch)).await.unwrap();
        self.until("the volume is attached", async || self.attachment(volume).await == Some(AttachmentState::Attached))
            .await;
    }

    async fn attachment(&self, volume: &VolumeId) -> Option<AttachmentState> {
        Some(self.backend.describe_volume(volume).await.unwrap()?.attachment?.state)
    }

    async fn agent(&self, machine: &MachineId, words: &str) -> Result<CommandOutput> {
        let request = RunCommand {
            machine: machine.clone(),
            argv: format!("dh-agent {words}").split(' ').map(str::to_owned).collect(),
            stdin: Vec::new(),
            timeout: Duration::from_secs(30),
        };
        self.backend.run_command(request).await
    }

    async fn mount(&self, volume: &VolumeId, machine: &MachineId, epoch: u64) -> CommandOutput {
        let words = format!("mount --volume {volume} --epoch {epoch} --user alice --size-gb 10 --device {}", device());
        self.agent(machine, &words).await.unwrap()
    }

    async fn unmount(&self, volume: &VolumeId, machine: &MachineId) -> CommandOutput {
        self.agent(machine, &format!("unmount --volume {volume} --user alice")).await.unwrap()
    }
}

fn throttled() -> Error {
    Error::new(ErrorKind::Throttled, "slow down")
}

#[tokio::test(start_paused = true)]
async fn the_suite_passes_with_everything_that_can_be() {
    let report = run(&Harness(|fake| fake)).await;
    report.assert_passed();
    assert!(report.skipped.iter().all(|(_, needs)| {
        needs.iter().all(|need| matches!(need, Need::Commands | Need::NoStop | Need::NoHibernate))
            || *needs == [Need::NoResize]
            || *needs == [Need::NoVolumes]
            || *needs == [Need::OfflineResizeOnly]
    }));
}

#[tokio::test(start_paused = true)]
async fn the_suite_passes_with_as_little_as_can_be() {
    let bare = Harness(|fake: FakeBackend| {
        fake.with_capabilities(|can| {
            can.stop = false;
            can.hibernate = false;
            can.volumes = false;
            can.resize_boot_disk = false;
        })
    });
    let report = run(&bare).await;
    report.assert_passed();
    for refusal in ["a_stop_that_cannot_be_done_is_refused", "volumes_that_cannot_be_are_refused"] {
        assert!(report.passed.contains(&refusal), "{refusal} was not even run");
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_passes_where_disks_grow_only_at_rest() {
    let offline = Harness(|fake: FakeBackend| fake.with_capabilities(|can| can.resize_boot_disk_online = false));
    let report = run_matching(&offline, "boot_disk").await;
    report.assert_passed();
    assert!(report.passed.contains(&"a_boot_disk_grows_only_while_the_machine_is_stopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_races_have_one_winner_on_real_threads_too() {
    let quick = Harness(|fake: FakeBackend| fake.with_latencies(Latencies::none()));
    for part in ["race", "concurrent"] {
        run_matching(&quick, part).await.assert_passed();
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_finds_a_backend_that_breaks_its_promises() {
    let forgetful = Harness(|fake: FakeBackend| {
        fake.faults().fail_always(Call::TerminateMachine, FaultKind::Before(throttled()));
        fake
    });
    let report = run_matching(&forgetful, "terminat").await;
    let failed: Vec<&str> = report.failed.iter().map(|(name, _)| *name).collect();
    assert!(failed.contains(&"terminating_a_missing_machine_succeeds"), "{report}");
    assert!(failed.contains(&"a_terminated_machine_is_gone"), "{report}");
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len());
}

#[tokio::test(start_paused = true)]
async fn things_take_the_time_they_are_given() {
    let fixture = Fixture::new();
    let latencies = Latencies {
        pending: Duration::from_secs(100),
        call: Duration::ZERO,
        calls: BTreeMap::from([(Call::LaunchMachine, Duration::from_secs(7))]),
        ..Latencies::default()
    };
    fixture.backend.set_latencies(latencies);
    let began = fixture.clock.since_boot();
    let machine = fixture.backend.launch_machine(machine_request("a", "cpu")).await.unwrap();
    assert_eq!(fixture.clock.since_boot() - began, Duration::from_secs(7));
    assert_eq!(machine.state, MachineState::Pending);
    let state = async || fixture.backend.describe_machine(&machine.id).await.unwrap().unwrap().state;
    // Half of the call went by before the launch.
    fixture.clock.sleep(Duration::from_millis(96_400)).await;
    assert_eq!(state().await, MachineState::Pending);
    fixture.clock.sleep(Duration::from_millis(200)).await;
    assert_eq!(state().await, MachineState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_changes_no_transition() {
    let fixture = Fixture::new();
    let id = fixture.backend.launch_machine(machine_request("a", "cpu")).await.unwrap().id;
    fixture.clock.step_wall(SignedDuration::from_hours(24));
    let machine = fixture.backend.describe_machine(&id).await.unwrap().unwrap();
    assert_eq!(machine.state, MachineState::Pending);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_another_request_is_refused() {
    let fixture = Fixture::new();
    fixture.backend.launch_machine(machine_request("a", "cpu")).await.unwrap();
    let error = fixture.backend.launch_machine(machine_request("a", "a10g")).await.unwrap_err();
    assert_eq!(error.context()[0], ("reason", "idempotency_mismatch".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_another_zone_cannot_be_attached() {
    let fixture = Fixture::new();
    fixture.backend.set_zones("fake-1a", "fake-1b");
    let (machine, volume) = (fixture.running("a").await, fixture.volume().await);
    let request = fixture.attach_request(&volume, &machine, 1);
    let error = fixture.backend.attach_volume(request).await.unwrap_err();
    assert_eq!(error.context()[0], ("reason", "wrong_zone".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn faults_strike_before_or_after_the_effect_and_are_counted() {
    let fixture = Fixture::new();
    let backend = &fixture.backend;
    backend.fail_next(Call::LaunchMachine, FaultKind::Before(throttled()));
    assert!(backend.launch_machine(machine_request("a", "cpu")).await.is_err());
    assert!(backend.leaks().is_empty());
    backend.fail_next(Call::LaunchMachine, FaultKind::After(throttled()));
    assert!(backend.launch_machine(machine_request("a", "cpu")).await.is_err());
    assert_eq!(backend.leaks().machines.len(), 1);
    let again = backend.launch_machine(machine_request("a", "cpu")).await.unwrap();
    assert_eq!(backend.leaks().machines, [again.id]);
    assert_eq!(backend.count(Call::LaunchMachine), 3);
    assert!(backend.calls().iter().all(|record| record.target == "a"));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_ends_whoever_waits_for_it() {
    let fixture = Fixture::new();
    let backend = &fixture.backend;
    for (kind, machines) in [(FaultKind::Hang, 0), (FaultKind::HangAfter, 1)] {
        backend.fail_next(Call::LaunchMachine, kind);
        let launch = backend.launch_machine(machine_request("a", "cpu"));
        assert!(backend.faults().until_hung(launch).await.is_none());
        assert_eq!(backend.leaks().machines.len(), machines);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_fails_says_so_as_agents_do() {
    let fixture = Fixture::new();
    let machine = fixture.running("a").await;
    fixture.backend.fail_next(Call::AgentStatus, FaultKind::Exit(Error::new(ErrorKind::Failed, "it broke")));
    let output = fixture.agent(&machine, "status").await.unwrap();
    assert_eq!(output.exit_code, 17);
    let error: StoredError = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Failed, "it broke"));
    assert_eq!(fixture.agent(&machine, "status").await.unwrap().exit_code, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_command_is_killed_at_its_timeout() {
    let fixture = Fixture::new();
    let machine = fixture.running("a").await;
    let latencies = Latencies { call: Duration::from_secs(60), ..Latencies::none() };
    fixture.backend.set_latencies(latencies);
    let began = fixture.clock.since_boot();
    assert_eq!(fixture.agent(&machine, "status").await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(fixture.clock.since_boot() - began, Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_studios_files_survive_detach_and_attach_and_a_stop() {
    let fixture = Fixture::new();
    let backend = &fixture.backend;
    let (here, there, volume) = (fixture.running("a").await, fixture.running("b").await, fixture.volume().await);
    assert!(backend.write_file(&volume, "thesis", b"x").is_err(), "nothing is mounted");
    fixture.attach(&volume, &here, 1).await;
    let output = fixture.mount(&volume, &here, 1).await;
    let reply: MountReply = serde_json::from_str(&output.stdout).unwrap();
    assert!(reply.formatted);
    backend.write_file(&volume, "thesis", b"precious").unwrap();
    backend.stop_machine(&here, StopMode::Stop).await.unwrap();
    fixture.until_state(&here, MachineState::Stopped).await;
    assert_eq!(backend.mounted_on(&volume), None);
    backend.start_machine(&here).await.unwrap();
    fixture.until_state(&here, MachineState::Running).await;
    assert_eq!(backend.mounted_on(&volume), Some((here.clone(), 1)), "it is mounted again with the power");
    assert_eq!(fixture.unmount(&volume, &here).await.exit_code, 0);
    backend.detach_volume(&volume, &here).await.unwrap();
    fixture.until("detached", async || fixture.attachment(&volume).await.is_none()).await;
    fixture.attach(&volume, &there, 2).await;
    assert_eq!(fixture.mount(&volume, &there, 2).await.exit_code, 0);
    assert_eq!(backend.read_file(&volume, "thesis").as_deref(), Some(&b"precious"[..]));
    assert_eq!(backend.formats(&volume), 1);
    let leaks = backend.leaks();
    assert_eq!((leaks.machines.len(), &leaks.attachments, &leaks.mounts), (2, &leaks.mounts, &vec![(volume, there)]));
}

#[tokio::test(start_paused = true)]
async fn open_files_keep_a_studio_mounted_and_a_mount_keeps_it_attached() {
    let fixture = Fixture::new();
    let (machine, volume) = (fixture.running("a").await, fixture.volume().await);
    fixture.attach(&volume, &machine, 1).await;
    fixture.mount(&volume, &machine, 1).await;
    fixture.backend.hold_open(&volume, "python (pid 4711)").unwrap();
    let output = fixture.unmount(&volume, &machine).await;
    assert_eq!(output.exit_code, i32::from(ErrorKind::Conflict.exit_code()));
    assert!(output.stderr.contains("python (pid 4711)"));
    fixture.backend.detach_volume(&volume, &machine).await.unwrap();
    fixture.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.attachment(&volume).await, Some(AttachmentState::Busy));
    fixture.backend.release(&volume);
    assert_eq!(fixture.unmount(&volume, &machine).await.exit_code, 0);
    fixture.until("detached", async || fixture.attachment(&volume).await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_with_a_foreign_signature_is_never_formatted() {
    let fixture = Fixture::new();
    let (machine, volume) = (fixture.running("a").await, fixture.volume().await);
    fixture.attach(&volume, &machine, 1).await;
    let foreign = Filesystem { kind: "LVM2_member".into(), size_gb: 10 };
    fixture.backend.set_filesystem(&volume, Some(foreign.clone())).unwrap();
    assert_eq!(fixture.mount(&volume, &machine, 1).await.exit_code, i32::from(ErrorKind::Failed.exit_code()));
    assert_eq!((fixture.backend.filesystem(&volume), fixture.backend.formats(&volume)), (Some(foreign), 0));
}

/// A store with the record of an engine in it, as a launch leaves it.
async fn store_with(name: &str) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine {
        name: EngineName::new(name).unwrap(),
        environment: env(),
        user: user(),
        engine_type: "cpu".into(),
        machine: None,
        boot_disk_gb: SizeGb::new(50).unwrap(),
        state: EngineState::Launching,
        created_at: TestClock::new().now(),
        bootstrap: crate::domain::Bootstrap::default(),
        idle: None,
        problems: Vec::new(),
        policy: IdlePolicy::default(),
        operation: None,
    };
    store.insert(&engine).await.unwrap();
    store
}

async fn reported(store: &MemoryStore) -> crate::domain::Bootstrap {
    store.load::<Engine>(&env(), "a").await.unwrap().unwrap().value.bootstrap
}

#[tokio::test(start_paused = true)]
async fn an_agent_reports_nine_stages_to_the_store() {
    let store = store_with("a").await;
    let clock = Arc::new(TestClock::new());
    let backend = FakeBackend::new(clock.clone()).with_store(store.clone());
    let fixture = Fixture { clock, backend };
    let began = fixture.clock.since_boot();
    let id = fixture.backend.launch_machine(machine_request("a", "cpu")).await.unwrap().id;
    fixture.until("the engine is ready", async || reported(&store).await.is_ready()).await;
    let bootstrap = reported(&store).await;
    assert_eq!(bootstrap.stages.iter().map(|stage| stage.name).collect::<Vec<_>>(), StageName::ALL);
    let drivers = &bootstrap.stages[4];
    assert_eq!((drivers.status, drivers.note.as_deref()), (StageStatus::Skipped, Some("no GPU")));
    assert_eq!(bootstrap.stages[2].duration, Some(Duration::from_secs(60)));
    let took = fixture.clock.since_boot() - began;
    assert!((100..140).contains(&took.as_secs()), "it took {took:?}");
    let log = fixture.backend.read_log(&id, LogSource::Bootstrap, 1).await.unwrap();
    assert_eq!(log, ["ready: Completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_fails_ends_the_bootstrap_and_a_restart_goes_on_from_there() {
    let store = store_with("a").await;
    let clock = Arc::new(TestClock::new());
    let backend = FakeBackend::new(clock.clone()).with_store(store.clone());
    let fixture = Fixture { clock, backend };
    fixture.backend.fail_stage(StageName::InstallingPackages, "apt failed", &["E: no such package"]);
    let id = fixture.backend.launch_machine(machine_request("a", "a10g")).await.unwrap().id;
    fixture.until("a stage has failed", async || reported(&store).await.failed().is_some()).await;
    fixture.clock.sleep(Duration::from_secs(600)).await;
    let bootstrap = reported(&store).await;
    let failed = bootstrap.failed().unwrap();
    assert_eq!((failed.name, failed.error.as_deref()), (StageName::InstallingPackages, Some("apt failed")));
    assert_eq!((failed.log_tail.as_slice(), bootstrap.stages.len()), (&["E: no such package".to_owned()][..], 3));
    fixture.backend.heal_stage(StageName::InstallingPackages);
    fixture.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
    fixture.until_state(&id, MachineState::Stopped).await;
    fixture.backend.start_machine(&id).await.unwrap();
    fixture.until("the engine is ready", async || reported(&store).await.is_ready()).await;
    let bootstrap = reported(&store).await;
    assert_eq!((bootstrap.stages.len(), bootstrap.stages[4].status), (9, StageStatus::Completed));
}

#[tokio::test(start_paused = true)]
async fn an_agent_ends_with_its_machine_and_leaves_a_later_engine_of_its_name_alone() {
    let store = store_with("a").await;
    let clock = Arc::new(TestClock::new());
    let backend = FakeBackend::new(clock.clone()).with_store(store.clone());
    let fixture = Fixture { clock, backend };
    let first = fixture.running("a").await;
    let later = MachineId::new("i-00000000000000042").unwrap();
    let rename = |engine: &mut Engine| {
        engine.machine = Some(later.clone());
        engine.bootstrap = crate::domain::Bootstrap::default();
        Ok(true)
    };
    store.modify::<Engine>(&env(), "a", &rename).await.unwrap();
    fixture.until("the first bootstrap is over", async || fixture.backend.bootstrap(&first).is_ready()).await;
    assert!(reported(&store).await.stages.is_empty());
    fixture.backend.lose_machine(&first).unwrap();
    assert!(fixture.backend.leaks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crashed_machine_is_stopped_and_says_why() {
    let fixture = Fixture::new();
    let (machine, volume) = (fixture.running("a").await, fixture.volume().await);
    fixture.attach(&volume, &machine, 1).await;
    fixture.mount(&volume, &machine, 1).await;
    fixture.backend.crash_machine(&machine).unwrap();
    let described = fixture.backend.describe_machine(&machine).await.unwrap().unwrap();
    assert_eq!(described.state, MachineState::Stopped);
    assert_eq!(described.state_reason.unwrap().cause, StopCause::Died);
    assert_eq!(fixture.backend.mounted_on(&volume), None);
}
