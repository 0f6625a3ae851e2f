//! The three scaffolds every saga goes through, on every backend: repeat every step, fail at every step and unwind, repeat
//! every undo. Afterwards nothing has leaked, nothing is held, and the studio's data is intact.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{
    Engine, EngineName, EngineState, MachineId, MachineState, OperationSpec, OperationStatus, Result, SizeGb, StopMode,
    Studio, StudioStatus, UserName, VolumeId,
};
use crate::logic::saga::{Drill, FailAt, Runner, step_names};
use crate::logic::{Deps, InProcess};
use crate::ports::{ControlPlane, NoProgress, StateStoreExt, SubmitOptions};

/// What a scaffold writes into a studio, and expects there afterwards.
pub const PRECIOUS: &str = "precious data";

/// A studio's files, as a user sees them on the engine.
#[async_trait]
pub trait StudioFiles: Debug + Send + Sync {
    /// Writes [`PRECIOUS`] into a file of a mounted studio.
    async fn write(&self, machine: &MachineId, user: &UserName, volume: &VolumeId) -> Result<()>;

    /// Returns the file's text, of a mounted studio.
    async fn read(&self, machine: &MachineId, user: &UserName, volume: &VolumeId) -> Result<Option<String>>;
}

/// A world to run sagas in: empty at first, thrown away afterwards.
#[derive(Debug, Clone)]
pub struct World {
    /// The ports.
    pub deps: Deps,
    /// The way to the studio's files.
    pub files: Arc<dyn StudioFiles>,
}

/// One saga, with what must be there before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saga {
    /// Launch.
    Launch,
    /// Start.
    Start,
    /// Stop.
    Stop,
    /// Stop with memory kept.
    Hibernate,
    /// Terminate.
    Terminate,
    /// Grow a boot disk by a stop and a start.
    ResizeEngine,
    /// Grow a boot disk while the engine runs.
    ResizeEngineOnline,
    /// Create a studio.
    CreateStudio,
    /// Attach.
    Attach,
    /// Detach.
    Detach,
    /// Grow a studio.
    ResizeStudio,
    /// Delete a studio.
    DeleteStudio,
    /// Reset a stuck studio.
    ResetStudio,
}

impl Saga {
    /// Every saga.
    pub const ALL: &'static [Saga] = &[
        Self::Launch,
        Self::Start,
        Self::Stop,
        Self::Hibernate,
        Self::Terminate,
        Self::ResizeEngine,
        Self::ResizeEngineOnline,
        Self::CreateStudio,
        Self::Attach,
        Self::Detach,
        Self::ResizeStudio,
        Self::DeleteStudio,
        Self::ResetStudio,
    ];

    /// Returns the operation it is.
    pub fn spec(self, world: &World) -> OperationSpec {
        let (engine, user) = (engine(), user());
        match self {
            Self::Launch => OperationSpec::Launch {
                engine,
                user,
                engine_type: "cpu".into(),
                boot_disk_gb: None,
                policy: world.deps.settings.policy.clone(),
            },
            Self::Start => OperationSpec::Start { engine },
            Self::Stop => OperationSpec::Stop { engine, mode: StopMode::Stop },
            Self::Hibernate => OperationSpec::Stop { engine, mode: StopMode::Hibernate },
            Self::Terminate => OperationSpec::Terminate { engine },
            Self::ResizeEngine => OperationSpec::ResizeEngine { engine, size_gb: gb(500), online: false },
            Self::ResizeEngineOnline => OperationSpec::ResizeEngine { engine, size_gb: gb(500), online: true },
            Self::CreateStudio => OperationSpec::CreateStudio { user, size_gb: gb(1) },
            Self::Attach => OperationSpec::Attach { user, engine },
            Self::Detach => OperationSpec::Detach { user },
            Self::ResizeStudio => OperationSpec::ResizeStudio { user, size_gb: gb(2) },
            Self::DeleteStudio => OperationSpec::DeleteStudio { user },
            Self::ResetStudio => OperationSpec::ResetStudio { user },
        }
    }

    /// Returns whether there is data in the studio before the saga that must be there after it.
    pub fn keeps_data(self) -> bool {
        matches!(self, Self::Attach | Self::Detach | Self::ResizeStudio | Self::ResetStudio)
    }

    /// Brings a world to where the saga can begin.
    pub async fn prepare(self, world: &World) -> Result<()> {
        match self {
            Self::Launch | Self::CreateStudio => Ok(()),
            Self::Stop | Self::Hibernate | Self::Terminate | Self::ResizeEngine | Self::ResizeEngineOnline => {
                world.run(Self::Launch).await
            }
            Self::Start => {
                world.run(Self::Launch).await?;
                world.run(Self::Stop).await
            }
            Self::Attach | Self::ResizeStudio | Self::DeleteStudio => {
                world.attached_with_data().await?;
                world.run(Self::Detach).await
            }
            Self::Detach => world.attached_with_data().await,
            Self::ResetStudio => {
                world.attached_with_data().await?;
                // As a lost update would leave it.
                let stick = |studio: &mut Studio| {
                    studio.status = StudioStatus::Attaching;
                    Ok(true)
                };
                let deps = &world.deps;
                deps.store.modify(&deps.settings.environment, user().as_str(), &stick).await.map(drop)
            }
        }
    }
}

/// The engine every scaffold uses.
pub fn engine() -> EngineName {
    EngineName::new("bench").expect("a valid name")
}

/// The user every scaffold uses.
pub fn user() -> UserName {
    UserName::new("alice").expect("a valid name")
}

fn gb(size: i64) -> SizeGb {
    SizeGb::new(size).expect("a valid size")
}

impl World {
    /// Runs a saga to its end through the control plane.
    pub async fn run(&self, saga: Saga) -> Result<()> {
        let control = InProcess::new(self.deps.clone());
        let operation = control.submit(saga.spec(self), SubmitOptions::default(), Arc::new(NoProgress)).await?;
        control.run(&operation.id, Arc::new(NoProgress)).await.map(drop)
    }

    async fn attached_with_data(&self) -> Result<()> {
        self.run(Saga::Launch).await?;
        self.run(Saga::CreateStudio).await?;
        self.run(Saga::Attach).await?;
        let studio = self.studio().await?.expect("just created");
        let at = studio.attachment.expect("just attached");
        self.files.write(&at.machine, &user(), &studio.volume.expect("just created")).await
    }

    /// Returns the studio's record.
    pub async fn studio(&self) -> Result<Option<Studio>> {
        let deps = &self.deps;
        Ok(deps.store.load::<Studio>(&deps.settings.environment, user().as_str()).await?.map(|found| found.value))
    }

    /// Returns the engine's record.
    pub async fn engine(&self) -> Result<Option<Engine>> {
        let deps = &self.deps;
        Ok(deps.store.load::<Engine>(&deps.settings.environment, engine().as_str()).await?.map(|found| found.value))
    }

    /// Checks that state and backend tell the same story: nothing leaked, nothing held, no operation open.
    ///
    /// # Panics
    /// When they do not.
    pub async fn assert_sound(&self, after: &str) {
        let deps = &self.deps;
        let environment = &deps.settings.environment;
        let open = deps.store.load_operations(environment, true, None).await.expect("operations");
        assert!(open.is_empty(), "{after}: left open: {open:?}");

        let engines = deps.store.load_all::<Engine>(environment).await.expect("engines");
        let machines = deps.backend.list_machines(environment).await.expect("machines");
        let known: BTreeSet<_> = engines.iter().filter_map(|engine| engine.value.machine.clone()).collect();
        for machine in &machines {
            assert!(known.contains(&machine.id), "{after}: machine {} leaked ({:?})", machine.id, machine.state);
        }
        for engine in engines.iter().map(|found| &found.value) {
            assert_eq!(engine.operation, None, "{after}: engine still held");
            let machine = machines.iter().find(|machine| Some(&machine.id) == engine.machine.as_ref());
            let told = match machine.unwrap_or_else(|| panic!("{after}: engine without machine")).state {
                MachineState::Running => vec![EngineState::Running, EngineState::Failed],
                MachineState::Stopped => vec![EngineState::Stopped],
                MachineState::Hibernated => vec![EngineState::Hibernated],
                other => panic!("{after}: the machine was left {other:?}"),
            };
            assert!(told.contains(&engine.state), "{after}: the record says {}", engine.state);
        }

        let studios = deps.store.load_all::<Studio>(environment).await.expect("studios");
        let volumes = deps.backend.list_volumes(environment).await.expect("volumes");
        let known: BTreeSet<_> = studios.iter().filter_map(|studio| studio.value.volume.clone()).collect();
        for volume in &volumes {
            assert!(known.contains(&volume.id), "{after}: volume {} leaked", volume.id);
        }
        for studio in studios.iter().map(|found| &found.value) {
            assert_eq!(studio.operation, None, "{after}: studio still held");
            let volume = volumes.iter().find(|volume| Some(&volume.id) == studio.volume.as_ref());
            let volume = volume.unwrap_or_else(|| panic!("{after}: studio without volume"));
            assert_eq!(volume.size_gb, studio.size_gb, "{after}: sizes differ");
            match studio.status {
                StudioStatus::Available => assert_eq!(volume.attachment, None, "{after}: available, but attached"),
                StudioStatus::Attached => {
                    let at = volume.attachment.as_ref().unwrap_or_else(|| panic!("{after}: attached, but not"));
                    let told = studio.attachment.as_ref().expect("an attached studio says where");
                    assert_eq!(
                        (&at.machine, Some(at.device)),
                        (&told.machine, told.device),
                        "{after}: attached elsewhere"
                    );
                }
                StudioStatus::Error => {}
                other => panic!("{after}: the studio was left {other}"),
            }
        }
    }

    /// [`Self::assert_data_intact`] for a studio that a saga's preparation wrote into.
    ///
    /// # Panics
    /// When the data is gone.
    pub async fn assert_data_intact_after(&self, saga: Saga, after: &str) {
        if saga.keeps_data() {
            assert!(self.studio().await.expect("studio").is_some(), "{after}: the studio is gone");
            self.assert_data_intact(after).await;
        }
    }

    /// Checks that a studio that had data still has it, attaching it to a running engine if it must.
    ///
    /// # Panics
    /// When the data is gone.
    pub async fn assert_data_intact(&self, after: &str) {
        let Some(studio) = self.studio().await.expect("studio") else { return };
        if studio.status == StudioStatus::Error {
            self.run(Saga::ResetStudio).await.unwrap_or_else(|error| panic!("{after}: reset: {error:?}"));
        }
        if self.engine().await.expect("engine").is_none() {
            self.run(Saga::Launch).await.unwrap_or_else(|error| panic!("{after}: launch: {error:?}"));
        }
        if studio.status != StudioStatus::Attached {
            self.run(Saga::Attach).await.unwrap_or_else(|error| panic!("{after}: attach: {error:?}"));
        }
        let studio = self.studio().await.expect("studio").expect("attached");
        let (at, volume) = (studio.attachment.expect("attached"), studio.volume.expect("a volume"));
        let text = self.files.read(&at.machine, &user(), &volume).await;
        let text = text.unwrap_or_else(|error| panic!("{after}: read: {error:?}"));
        assert_eq!(text.as_deref(), Some(PRECIOUS), "{after}: the data is gone");
    }

    /// Removes everything the scaffold made, and checks that nothing is left.
    ///
    /// # Panics
    /// When something is.
    pub async fn clean(&self, after: &str) {
        let say = |what: &str| format!("{after}: cleaning up: {what}");
        if let Some(studio) = self.studio().await.expect("studio") {
            match studio.status {
                StudioStatus::Attached => {
                    self.run(Saga::Detach).await.unwrap_or_else(|e| panic!("{}: {e:?}", say("detach")))
                }
                StudioStatus::Error => {
                    self.run(Saga::ResetStudio).await.unwrap_or_else(|e| panic!("{}: {e:?}", say("reset")))
                }
                _ => {}
            }
            self.run(Saga::DeleteStudio).await.unwrap_or_else(|e| panic!("{}: {e:?}", say("delete")));
        }
        if self.engine().await.expect("engine").is_some() {
            self.run(Saga::Terminate).await.unwrap_or_else(|e| panic!("{}: {e:?}", say("terminate")));
        }
        let environment = &self.deps.settings.environment;
        assert!(
            self.deps.backend.list_machines(environment).await.expect("machines").is_empty(),
            "{}",
            say("machines")
        );
        assert!(self.deps.backend.list_volumes(environment).await.expect("volumes").is_empty(), "{}", say("volumes"));
    }
}

async fn drill(world: &World, saga: Saga, drill: Drill) -> Result<OperationStatus> {
    let runner = Runner::new(world.deps.clone()).with_drill(drill);
    let operation = runner.create(saga.spec(world), user()).await?;
    let outcome = runner.drive(&operation.id, Arc::new(NoProgress)).await;
    outcome.map(|operation| operation.status)
}

/// Does every step of a saga twice, as a process does that died before it could record the first time.
///
/// # Panics
/// When anything is unsound afterwards.
pub async fn repeat_every_step(world: &World, saga: Saga) {
    let after = format!("{saga:?}, every step twice");
    saga.prepare(world).await.unwrap_or_else(|error| panic!("{after}: prepare: {error:?}"));
    let status = drill(world, saga, Drill { repeat: true, fail: None }).await;
    assert_eq!(status.unwrap_or_else(|error| panic!("{after}: {error:?}")), OperationStatus::Completed, "{after}");
    world.assert_sound(&after).await;
    world.assert_data_intact_after(saga, &after).await;
    world.clean(&after).await;
}

/// Lets a saga fail at every step in turn, before and after the step's effect, each in a world of its own; with `repeat`,
/// every step and every undo is done twice.
///
/// # Panics
/// When anything is unsound afterwards.
pub async fn fail_at_every_step<F, Fut>(mut fresh: F, saga: Saga, repeat: bool)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = World>,
{
    for failure in failures(&fresh().await, saga) {
        fail_at(&fresh().await, saga, failure, repeat).await;
    }
}

/// A step's name, and whether its effect happens before it fails.
pub type Failure = (&'static str, FailAt);

/// Returns every way in which a saga can fail, for those who let [`fail_at`] run in several worlds at the same time.
pub fn failures(world: &World, saga: Saga) -> Vec<Failure> {
    let names = step_names(&saga.spec(world));
    names.into_iter().flat_map(|name| [(name, FailAt::Before), (name, FailAt::After)]).collect()
}

/// One turn of [`fail_at_every_step`], in an empty world.
///
/// # Panics
/// When anything is unsound afterwards.
pub async fn fail_at(world: &World, saga: Saga, (name, at): Failure, repeat: bool) {
    let after = format!("{saga:?}, failed {at:?} {name}{}", if repeat { ", every step and undo twice" } else { "" });
    saga.prepare(world).await.unwrap_or_else(|error| panic!("{after}: prepare: {error:?}"));
    let outcome = drill(world, saga, Drill { repeat, fail: Some((name.to_owned(), at)) }).await;
    let last = step_names(&saga.spec(world)).last() == Some(&name);
    assert!(outcome.is_err() || (last && at == FailAt::After), "{after}: it did not fail: {outcome:?}");
    if saga == Saga::ResetStudio && outcome.is_err() {
        // What was stuck stays stuck, to be reset once more.
        world.run(saga).await.unwrap_or_else(|error| panic!("{after}: once more: {error:?}"));
    }
    world.assert_sound(&after).await;
    world.assert_data_intact_after(saga, &after).await;
    world.clean(&after).await;
}
