//! The bootstrap as a whole, with real scripts and files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dh_core::connect::SystemClock;
use dh_core::domain::Axis;

use super::*;
use crate::testing::{self, FakeHost, FakeSensor};

struct World {
    dir: tempfile::TempDir,
    config: AgentConfig,
    sensor: Arc<FakeSensor>,
    setup_deadline: Duration,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("disk");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("boot-id"), "first\n").unwrap();
        let config = testing::config(&root);
        Self { dir, config, sensor: FakeSensor::new(), setup_deadline: setup::DEADLINE }
    }

    fn layout(&self) -> Layout {
        testing::layout(&self.config.root)
    }

    fn script(&mut self, text: &str) {
        let path = self.dir.path().join("setup");
        fs::write(&path, text).unwrap();
        self.config.setup_script = Some(path);
    }

    fn bootstrapper(&self) -> Arc<Bootstrapper> {
        let senses = Arc::new(Senses::new(vec![self.sensor.clone()], Arc::new(FakeHost::default())));
        let publish = watch::channel(Bootstrap::default()).0;
        let nowhere = GpuPlaces { pci: "/nowhere".into(), dev: "/nowhere".into(), driver: "/nowhere".into() };
        Arc::new(Bootstrapper {
            gpu: nowhere,
            setup_deadline: self.setup_deadline,
            ..Bootstrapper::new(self.config.clone(), self.layout(), Arc::new(SystemClock), senses, publish)
        })
    }

    async fn run(&self) -> Bootstrap {
        let bootstrapper = self.bootstrapper();
        bootstrapper.clone().run().await;
        let published = bootstrapper.publish.borrow().clone();
        assert_eq!(stored(&self.layout(), &self.config).unwrap(), Some(published.clone()), "what is told is recorded");
        published
    }
}

fn stage(bootstrap: &Bootstrap, name: StageName) -> &Stage {
    bootstrap.stages.iter().find(|stage| stage.name == name).unwrap()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

// The test program itself is laid on the disk as the agent, and says something else than the agent's version.
const SCRIPTS: StageName = StageName::DownloadingScripts;

/// Records a stage as done, as an agent before would have.
fn done(name: StageName) -> Stage {
    Stage { name, ..testing::ready().stages.remove(0) }
}

fn record(world: &World, stages: Vec<Stage>) {
    let stored =
        Stored { schema: BOOTSTRAP_SCHEMA, machine: world.config.machine.clone(), bootstrap: Bootstrap { stages } };
    write_json(&world.layout().bootstrap(), &stored).unwrap();
}

/// A world whose first two stages are done.
fn past_the_scripts() -> World {
    let world = World::new();
    record(&world, vec![done(StageName::InstanceRunning), done(SCRIPTS)]);
    world
}

#[tokio::test]
async fn all_stages_are_done_in_order_and_timed() {
    let mut world = past_the_scripts();
    world.script("#!/bin/sh\necho installing; pwd > where; echo \"$HOME|$DH_ENGINE\" >> where\n");
    let bootstrap = world.run().await;
    assert!(bootstrap.is_ready(), "{bootstrap:?}");
    assert_eq!(bootstrap.stages.iter().map(|stage| stage.name).collect::<Vec<_>>(), StageName::ALL);
    assert!(bootstrap.stages[2..].iter().all(|stage| stage.duration.is_some()));
    let home = world.layout().home();
    assert_eq!(text(&home.join("where")), format!("{0}\n{0}|lab\n", home.display()));
    for name in [StageName::GpuDrivers, StageName::MountingPrimordial] {
        let skipped = stage(&bootstrap, name);
        assert!(skipped.status == StageStatus::Skipped && skipped.note.is_some());
    }
    let log = text(&world.layout().bootstrap_log());
    assert!(log.contains("=== 3/9 installing_packages ") && log.contains("\ninstalling\n"), "{log}");
    assert_eq!(crate::policy::in_force(&world.layout(), &world.config.policy), world.config.policy);
    assert!(world.layout().policy().exists());
}

#[tokio::test]
async fn the_time_of_the_machines_start_counts_from_its_power() {
    let world = World::new();
    let boot_id = fs::File::open(world.dir.path().join("boot-id")).unwrap();
    boot_id.set_modified(std::time::SystemTime::now() - Duration::from_secs(30)).unwrap();
    let bootstrap = world.run().await;
    let took = stage(&bootstrap, StageName::InstanceRunning).duration.unwrap();
    assert!((30..60).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn an_agent_on_the_disk_that_is_not_this_one_fails_the_stage() {
    let bootstrap = World::new().run().await;
    let failed = bootstrap.failed().unwrap();
    assert_eq!(failed.name, SCRIPTS);
    assert!(failed.error.as_ref().unwrap().contains("dh-agent"), "{failed:?}");
}

#[tokio::test]
async fn a_failing_script_fails_its_stage_with_the_last_lines_of_its_log() {
    let mut world = past_the_scripts();
    world.script("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo \"line $i\"; done; echo oh no >&2; exit 3\n");
    let bootstrap = world.run().await;
    let failed = bootstrap.failed().unwrap();
    assert_eq!((failed.name, bootstrap.stages.len()), (StageName::InstallingPackages, 3));
    assert_eq!(failed.error.as_deref(), Some("the set-up script ended with exit code 3"));
    assert_eq!(failed.log_tail.len(), 10);
    assert!(failed.log_tail.contains(&"oh no".to_owned()) && !failed.log_tail.contains(&"line 1".to_owned()));
    // The agent goes on, and so does the next one, without doing it again.
    assert_eq!(world.run().await, bootstrap);
}

#[tokio::test]
async fn scripts_run_with_and_without_a_first_line_or_permission() {
    for (text, mode) in [
        ("#!/bin/sh\necho ran > ran\n", 0o755),
        ("#!/bin/sh\necho ran > ran\n", 0o644),
        ("echo ran > ran\n", 0o755),
        ("echo ran > ran\n", 0o644),
    ] {
        let mut world = past_the_scripts();
        world.script(text);
        let path = world.config.setup_script.clone().unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let bootstrap = world.run().await;
        assert!(bootstrap.is_ready(), "{text:?} {mode:o}: {bootstrap:?}");
        assert!(world.layout().home().join("ran").exists());
    }
}

#[tokio::test]
async fn a_script_that_is_not_there_or_never_ends_fails_the_stage() {
    let mut world = past_the_scripts();
    world.config.setup_script = Some("/nowhere/setup".into());
    assert!(world.run().await.failed().unwrap().error.as_ref().unwrap().contains("is not there"));

    let mut world = past_the_scripts();
    world.setup_deadline = Duration::from_millis(200);
    world.script("echo $$ > pid; exec sleep 1000\n");
    let bootstrap = world.run().await;
    assert!(bootstrap.failed().unwrap().error.as_ref().unwrap().contains("took longer"));
    let pid: i32 = text(&world.layout().home().join("pid")).trim().parse().unwrap();
    gone(pid).await;
}

/// Waits until a process has ended.
async fn gone(pid: i32) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "process {pid} still runs");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn killed_in_any_stage_it_goes_on_there_and_does_nothing_twice() {
    for at in 2..StageName::ALL.len() {
        let mut world = World::new();
        world.script("echo once >> runs\n");
        fs::create_dir_all(world.layout().home()).unwrap();
        let mut stages: Vec<Stage> = StageName::ALL[..at].iter().map(|name| done(*name)).collect();
        stages.push(Stage { status: StageStatus::InProgress, ..done(StageName::ALL[at]) });
        let before = stages[..at].to_vec();
        record(&world, stages);
        let bootstrap = world.run().await;
        assert!(bootstrap.is_ready(), "{at}: {bootstrap:?}");
        assert_eq!(bootstrap.stages[..at], before);
        let runs = fs::read_to_string(world.layout().home().join("runs")).unwrap_or_default();
        assert_eq!(runs.lines().count(), usize::from(StageName::ALL[at] == StageName::InstallingPackages));
    }
}

#[tokio::test]
async fn what_an_interrupted_set_up_left_running_is_ended_before_it_begins_again() {
    let mut world = past_the_scripts();
    world.script("echo second >> runs\n");
    let mut left = std::process::Command::new("sleep")
        .arg("1000")
        .env("DH_SETUP_OF", world.config.machine.as_str())
        .spawn()
        .unwrap();
    let mut stranger =
        std::process::Command::new("sleep").arg("1000").env("DH_SETUP_OF", "i-ffffffffffffffff0").spawn().unwrap();
    record(
        &world,
        vec![
            done(StageName::InstanceRunning),
            done(SCRIPTS),
            Stage { status: StageStatus::InProgress, ..done(StageName::InstallingPackages) },
        ],
    );
    assert!(world.run().await.is_ready());
    assert!(!left.wait().unwrap().success());
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(text(&world.layout().bootstrap_log()).contains("ended 1 process(es) of the first try"));
}

#[tokio::test]
async fn a_started_engine_does_nothing_again() {
    let mut world = past_the_scripts();
    world.script("echo once >> runs\n");
    let first = world.run().await;
    fs::write(world.dir.path().join("boot-id"), "second\n").unwrap();
    assert_eq!(world.run().await, first);
    assert_eq!(text(&world.layout().home().join("runs")), "once\n");
}

#[tokio::test]
async fn the_disk_of_another_machine_begins_anew() {
    let mut world = past_the_scripts();
    world.config.machine = MachineId::new("i-aaaaaaaaaaaaaaaaa").unwrap();
    assert_eq!(world.run().await.failed().unwrap().name, SCRIPTS, "the stage that was done before is done again");
}

#[tokio::test]
async fn a_record_of_a_newer_agent_is_neither_used_nor_overwritten() {
    let world = past_the_scripts();
    let newer = format!(r#"{{"schema": 2, "machine": "{}", "stages": []}}"#, world.config.machine);
    fs::write(world.layout().bootstrap(), &newer).unwrap();
    let bootstrapper = world.bootstrapper();
    bootstrapper.clone().run().await;
    assert!(bootstrapper.publish.borrow().failed().is_some());
    assert_eq!(text(&world.layout().bootstrap()), newer);
}

#[tokio::test]
async fn sensors_that_are_all_blind_fail_the_stage_that_looks() {
    let world = past_the_scripts();
    world.sensor.see(Activity::Unknown, Axis::Work);
    let bootstrap = world.run().await;
    assert_eq!(bootstrap.failed().unwrap().name, StageName::ConfiguringIdleDetector);
}

#[tokio::test]
async fn a_missing_shared_drive_fails_its_stage() {
    let mut world = past_the_scripts();
    world.config.primordial = Some("/nowhere/shared".into());
    let bootstrap = world.run().await;
    assert_eq!(bootstrap.failed().unwrap().name, StageName::MountingPrimordial);
}
