//! The loop under a virtual clock, with agents that come and go over one engine's files.

use std::sync::atomic::Ordering;

use dh_core::domain::{Activity, Axis, Engine, EngineState, EnvironmentName, Error};
use dh_core::ports::{StateStore, StateStoreExt};
use dh_core::store::MemoryStore;
use dh_core::testkit::TestClock;
use jiff::SignedDuration;
use tokio::sync::oneshot;

use super::*;
use crate::testing::{self, FakeHost, FakePower, FakeSensor, Told};

struct World {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    sensor: Arc<FakeSensor>,
    told: Arc<Told>,
    power: Arc<FakePower>,
    store: Arc<MemoryStore>,
    store_fails: bool,
    /// Where the studios take their time to be mounted: the agent's end of it.
    slow_start: Option<Option<oneshot::Sender<Vec<String>>>>,
    policy: IdlePolicy,
    bootstrap: watch::Sender<Bootstrap>,
    agent: Option<IdleLoop>,
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    /// A machine that boots; a timeout of one minute, with a warning half a minute ahead.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::new());
        let store = Arc::new(MemoryStore::new());
        (&*store as &dyn StateStore).insert(&testing::engine()).await.unwrap();
        let power = Arc::new(FakePower::default());
        *power.clock.lock().unwrap() = Some(clock.clone());
        let world = Self {
            clock,
            sensor: FakeSensor::new(),
            told: Arc::default(),
            power,
            store,
            store_fails: false,
            slow_start: None,
            policy: testing::policy(60, 30),
            bootstrap: watch::channel(testing::ready()).0,
            agent: None,
            dir,
        };
        std::fs::create_dir(world.root()).unwrap();
        world.boot("first");
        world
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("disk")
    }

    fn layout(&self) -> Layout {
        testing::layout(&self.root())
    }

    fn boot(&self, id: &str) {
        std::fs::write(self.dir.path().join("boot-id"), id).unwrap();
    }

    fn start(&mut self) -> &mut IdleLoop {
        let (store, fails) = (self.store.clone(), self.store_fails);
        let open = move || match fails {
            true => Err(Error::new(ErrorKind::Unavailable, "no store today")),
            false => Ok(store.clone() as Arc<dyn StateStore>),
        };
        let config = testing::config(&self.root());
        let clock: Arc<dyn Clock> = self.clock.clone();
        let (started, start) = oneshot::channel();
        match &self.slow_start {
            Some(_) => self.slow_start = Some(Some(started)),
            None => started.send(Vec::new()).unwrap(),
        }
        let (reporter, writer) = Reporter::new(
            config.environment,
            config.engine.clone(),
            self.bootstrap.subscribe(),
            clock.clone(),
            start,
            open,
        );
        tokio::spawn(writer.run());
        let parts = Parts {
            engine: config.engine,
            layout: self.layout(),
            policy: self.policy.clone(),
            clock,
            senses: Arc::new(Senses::new(vec![self.sensor.clone()], Arc::new(FakeHost::default()))),
            notifier: self.told.clone(),
            power: Box::new(self.power.clone()),
            reporter,
            bootstrap: self.bootstrap.subscribe(),
        };
        self.agent.insert(IdleLoop::new(parts))
    }

    /// Turns the loop for so long, as the daemon does. The machine goes off when a stop is accepted.
    async fn turn(&mut self, time: Duration) {
        let end = self.clock.since_boot() + time;
        if self.agent.is_none() {
            self.start();
        }
        while self.clock.since_boot() < end {
            let accepted = self.power.asked() > 0 && self.power.fails.lock().unwrap().is_none();
            if accepted {
                return;
            }
            let pause = self.agent.as_mut().unwrap().tick().await;
            self.clock.sleep(pause.min(end.saturating_sub(self.clock.since_boot()))).await;
        }
    }

    fn kill(&mut self) {
        self.agent = None;
    }

    async fn engine(&self) -> Engine {
        let store: &dyn StateStore = &*self.store;
        store.load::<Engine>(&EnvironmentName::new("dev").unwrap(), "lab").await.unwrap().unwrap().value
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        let text = std::fs::read_to_string(self.layout().ledger()).unwrap();
        text.lines().map(|line| LedgerEntry::parse(line).expect("every line is whole")).collect()
    }

    fn actions(&self) -> Vec<LedgerAction> {
        self.ledger()
            .into_iter()
            .flat_map(|entry| entry.actions)
            .filter(|action| *action != LedgerAction::Anew)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn idle_warned_cancelled_by_coffee_idle_warned_stopped() {
    let mut world = World::new().await;
    world.turn(secs(29)).await;
    assert!(world.told.take().is_empty());
    world.turn(secs(5)).await;
    let told = world.told.take();
    assert!(told.len() == 1 && told[0].contains("idle for 30 seconds and will be stopped in 30 seconds"), "{told:?}");

    world.sensor.see(Activity::Active, Axis::Hold);
    world.turn(secs(120)).await;
    assert_eq!(world.told.take(), ["*** Engine 'lab' will not be stopped: kept awake by fake: Active"]);
    assert_eq!(world.power.asked(), 0);

    world.sensor.see(Activity::Idle, Axis::Presence);
    let let_go = world.clock.since_boot();
    world.turn(secs(300)).await;
    let asked = world.power.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].1, asked[0].2.as_str()), (StopMode::Stop, "idle for 1 minute (timeout 1 minute)"));
    let after = asked[0].0 - let_go;
    assert!((secs(60)..=secs(60) + 2 * world.policy.tick()).contains(&after), "{after:?}");
    assert_eq!(world.told.take().len(), 1, "warned once more");

    let status: IdleStatus = serde_json::from_slice(&std::fs::read(world.layout().status()).unwrap()).unwrap();
    assert!(status.is_idle && status.stop_at.is_some());
    assert!(matches!(
        world.actions()[..],
        [
            LedgerAction::Warned { reached: 1, .. },
            LedgerAction::Cancelled { .. },
            LedgerAction::Warned { .. },
            LedgerAction::Stopping { epoch: 1, .. },
            LedgerAction::StopAccepted { epoch: 1 },
        ]
    ));
}

#[tokio::test(start_paused = true)]
async fn killed_between_any_two_looks_it_keeps_going() {
    let mut world = World::new().await;
    for _ in 0..200 {
        world.turn(secs(1)).await;
        world.kill();
    }
    let asked = world.power.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!(world.told.take().len(), 1, "people are warned once");
    let began = world.ledger()[0].boot;
    assert!(asked[0].0 - began <= secs(60) + 2 * world.policy.tick());
}

#[tokio::test(start_paused = true)]
async fn killed_after_the_decision_and_before_the_act_the_next_agent_acts() {
    let mut world = World::new().await;
    *world.power.fails.lock().unwrap() = Some(ErrorKind::Unavailable);
    world.turn(secs(60)).await;
    assert!(world.power.asked() <= 1);
    // As if it had been killed before it could ask.
    let mut state: IdleState = serde_json::from_slice(&std::fs::read(world.layout().idle()).unwrap()).unwrap();
    state.phase = IdlePhase::Committed { epoch: 1, tries: 0, accepted: false, next: state.last_look };
    state.epoch = 1;
    files::replace_json(&world.layout().idle(), &state).unwrap();
    world.kill();
    world.power.asked.lock().unwrap().clear();
    *world.power.fails.lock().unwrap() = None;
    world.turn(secs(1)).await;
    assert_eq!(world.power.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn activity_in_the_second_look_cancels() {
    let mut world = World::new().await;
    world.turn(secs(58)).await;
    // The look at the minute finds nothing; the one that makes sure does.
    let looks = world.sensor.looks.load(Ordering::SeqCst);
    world.sensor.wakes_at.store(looks + 1, Ordering::SeqCst);
    world.turn(secs(20)).await;
    assert_eq!(world.power.asked(), 0);
    assert!(world.told.take().last().unwrap().contains("kept awake by fake"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_reached_does_not_keep_an_idle_engine() {
    let mut world = World::new().await;
    world.store_fails = true;
    let began = world.clock.since_boot();
    world.turn(secs(300)).await;
    let asked = world.power.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].0 - began <= secs(60) + STORE_PATIENCE + 2 * world.policy.tick());
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_written_do_not_keep_an_idle_engine() {
    let mut world = World::new().await;
    for path in [world.layout().idle(), world.layout().status(), world.layout().ledger(), world.layout().commit_lock()]
    {
        std::fs::create_dir(path).unwrap();
    }
    world.turn(secs(300)).await;
    assert_eq!(world.power.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_is_reported_and_tried_again_until_it_works() {
    let mut world = World::new().await;
    *world.power.fails.lock().unwrap() = Some(ErrorKind::Unavailable);
    world.turn(secs(600)).await;
    let failed = world.power.asked();
    assert!((5..20).contains(&failed), "{failed}");
    assert!(
        world
            .actions()
            .iter()
            .any(|action| matches!(action, LedgerAction::StopFailed { error, .. } if error == "no stop today"))
    );
    let engine = world.engine().await;
    assert!(engine.idle.unwrap().reason.ends_with("it could not be stopped: no stop today"));
    assert_eq!(world.told.take().len(), 1, "people are not told at every try");
    *world.power.fails.lock().unwrap() = None;
    world.power.asked.lock().unwrap().clear();
    world.turn(secs(600)).await;
    assert_eq!(world.power.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_comes_while_the_stop_fails_is_left_alone() {
    let mut world = World::new().await;
    *world.power.fails.lock().unwrap() = Some(ErrorKind::Unavailable);
    world.turn(secs(100)).await;
    world.sensor.see(Activity::Active, Axis::Presence);
    let before = world.power.asked();
    world.turn(secs(600)).await;
    assert_eq!(world.power.asked(), before);
    assert_eq!(world.engine().await.state, EngineState::Running);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_hibernate_is_stopped() {
    let mut world = World::new().await;
    world.policy.action = StopMode::Hibernate;
    *world.power.fails.lock().unwrap() = Some(ErrorKind::Unsupported);
    world.turn(secs(63)).await;
    let modes: Vec<_> = world.power.asked.lock().unwrap().iter().map(|(_, mode, _)| *mode).collect();
    assert_eq!(modes, [StopMode::Hibernate, StopMode::Stop]);
    assert!(world.actions().contains(&LedgerAction::StopAccepted { epoch: 1 }));
}

#[tokio::test(start_paused = true)]
async fn another_boot_counts_anew_and_reports_although_nothing_has_changed() {
    let mut world = World::new().await;
    world.turn(secs(20)).await;
    // A start forgets what the agent found, and waits for its next word.
    let store: &dyn StateStore = &*world.store;
    let forget = |engine: &mut Engine| Ok(engine.idle.take().is_some());
    store.modify(&EnvironmentName::new("dev").unwrap(), "lab", &forget).await.unwrap();
    world.boot("second");
    world.turn(secs(8)).await;
    let idle = world.engine().await.idle.expect("reported again");
    assert!(idle.idle_for(idle.at) < secs(10));
    world.turn(secs(50)).await;
    assert_eq!(world.power.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_steps_by_hours_changes_nothing() {
    let mut world = World::new().await;
    world.turn(secs(20)).await;
    world.clock.step_wall(SignedDuration::from_hours(5));
    world.turn(secs(20)).await;
    world.clock.step_wall(SignedDuration::from_hours(-10));
    world.turn(secs(19)).await;
    assert_eq!(world.power.asked(), 0);
    world.turn(secs(10)).await;
    assert_eq!(world.power.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_counts_anew() {
    let mut world = World::new().await;
    world.turn(secs(55)).await;
    world.clock.suspend(secs(7_200));
    world.turn(secs(50)).await;
    assert_eq!(world.power.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_set_up_that_runs_holds_the_engine_and_a_failed_one_does_not() {
    let mut world = World::new().await;
    let mut bootstrap = Bootstrap::default();
    world.bootstrap.send_replace(bootstrap.clone());
    world.turn(secs(3_000)).await;
    assert_eq!(world.power.asked(), 0);
    assert!(world.engine().await.idle.unwrap().reason.starts_with("bootstrap: Set-up still running"));
    let mut failed = testing::ready().stages.remove(0);
    failed.name = dh_core::domain::StageName::InstallingPackages;
    failed.status = dh_core::domain::StageStatus::Failed;
    bootstrap.stages.push(failed);
    world.bootstrap.send_replace(bootstrap);
    world.turn(secs(90)).await;
    assert_eq!(world.power.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_set_holds_from_the_next_look() {
    let mut world = World::new().await;
    world.turn(secs(50)).await;
    assert_eq!(world.told.take().len(), 1);
    files::replace_json(&world.layout().policy(), &testing::policy(3_600, 300)).unwrap();
    world.turn(secs(1_000)).await;
    assert_eq!(world.power.asked(), 0);
    assert_eq!(world.told.take(), ["*** Engine 'lab' will not be stopped: the idle timeout is now 1 hour"]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_in_use_costs_the_store_one_write() {
    let mut world = World::new().await;
    world.sensor.see(Activity::Active, Axis::Presence);
    world.turn(secs(10)).await;
    let store: Arc<dyn StateStore> = world.store.clone();
    let name = EnvironmentName::new("dev").unwrap();
    let before = store.load::<Engine>(&name, "lab").await.unwrap().unwrap().version;
    world.turn(secs(3_600)).await;
    assert_eq!(store.load::<Engine>(&name, "lab").await.unwrap().unwrap().version, before);
}

#[tokio::test(start_paused = true)]
async fn the_store_hears_of_the_stop_unless_an_operation_has_hold_of_the_engine() {
    let mut world = World::new().await;
    world.turn(secs(300)).await;
    assert_eq!(world.engine().await.state, EngineState::Stopping);

    let mut world = World::new().await;
    let store: &dyn StateStore = &*world.store;
    let take = |engine: &mut Engine| {
        engine.operation = Some(dh_core::domain::OperationId::new("op-0123456789ab")?);
        Ok(true)
    };
    store.modify(&EnvironmentName::new("dev").unwrap(), "lab", &take).await.unwrap();
    world.turn(secs(300)).await;
    assert_eq!((world.power.asked(), world.engine().await.state), (1, EngineState::Running));
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_the_commit_lock_for_ever_does_not_keep_an_idle_engine() {
    let mut world = World::new().await;
    let lock = std::fs::File::create(world.layout().commit_lock()).unwrap();
    lock.lock().unwrap();
    world.turn(secs(300)).await;
    assert_eq!(world.power.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_look_is_taken_more_often_than_the_tick_but_for_the_two_that_are_due() {
    let mut world = World::new().await;
    world.turn(secs(59)).await;
    let ticks = 59 / world.policy.tick().as_secs() as usize;
    let looks = world.sensor.looks.load(Ordering::SeqCst);
    assert!(looks <= ticks + 3, "{looks} looks in {ticks} ticks");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_reported_before_the_studios_are_mounted_and_what_is_not_is_told_with_the_first() {
    let mut world = World::new().await;
    world.slow_start = Some(None);
    world.turn(Duration::from_secs(20)).await;
    assert!(!world.ledger().is_empty(), "it looks meanwhile");
    let before = world.engine().await;
    assert!(before.idle.is_none() && before.bootstrap.stages.is_empty(), "{before:?}");
    let started = world.slow_start.take().unwrap().unwrap();
    started.send(vec!["the studio of alice is not mounted".into()]).unwrap();
    world.turn(Duration::from_secs(1)).await;
    let after = world.engine().await;
    assert_eq!(after.problems, ["the studio of alice is not mounted"]);
    assert!(after.idle.is_some() && after.bootstrap.is_ready());

    // The next start, with all of them mounted.
    world.kill();
    world.boot("second");
    world.turn(Duration::from_secs(1)).await;
    assert!(world.engine().await.problems.is_empty());
}
