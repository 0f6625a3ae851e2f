//! The agent of a fake machine: it goes through the bootstrap's stages and reports each.

use std::sync::Weak;
use std::time::Duration;

use super::Shared;
use super::world::FakeMachine;
use crate::domain::{Engine, EnvironmentName, IdleStatus, MachineId, MachineState, Stage, StageName, StageStatus};
use crate::ports::{LogSource, StateStoreExt};

/// How soon a report that the store refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often the agent looks whether its machine runs already.
const LOOK: Duration = Duration::from_millis(250);

/// One agent's life. It ends with its machine's power, and with the backend.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) shared: Weak<Shared>,
    pub(super) machine: MachineId,
    pub(super) generation: u64,
}

impl Agent {
    /// Goes through the stages that are not over yet, as after a restart in the middle of them.
    pub(super) async fn run(self) {
        while !matches!(self.look(|machine| machine.machine.state), Some(MachineState::Running)) {
            if self.look(|_| ()).is_none() || !self.sleep(LOOK).await {
                return;
            }
        }
        for name in StageName::ALL {
            let over = self.look(|machine| {
                machine.bootstrap.stages.iter().any(|stage| {
                    stage.name == name && matches!(stage.status, StageStatus::Completed | StageStatus::Skipped)
                })
            });
            match over {
                Some(true) => continue,
                Some(false) => {}
                None => return,
            }
            if self.stage(name).await.is_none() {
                return;
            }
        }
        self.first_look().await;
    }

    /// Tells, once after every start, that nothing uses the machine.
    async fn first_look(&self) -> Option<()> {
        let (environment, engine) =
            self.look(|machine| (machine.machine.environment.clone(), machine.machine.engine.clone()))?;
        let shared = self.shared.upgrade()?;
        let (now, problems) = (shared.clock.now(), shared.with(|world, _| world.start_problems.clone()));
        drop(shared);
        let tell = |record: &mut Engine| {
            record.problems.clone_from(&problems);
            record.idle = Some(IdleStatus {
                is_idle: true,
                idle_since: Some(now),
                timeout: record.policy.idle_timeout,
                reason: "All sensors report idle".into(),
                readings: Vec::new(),
                coffee_until: None,
                stop_at: None,
                at: now,
            });
        };
        while !self.report(&environment, engine.as_str(), &tell).await? {
            if !self.sleep(AGAIN).await {
                return None;
            }
            self.look(|_| ())?;
        }
        Some(())
    }

    /// Does one stage; `None` when it failed or the machine is gone.
    async fn stage(&self, name: StageName) -> Option<()> {
        let shared = self.shared.upgrade()?;
        let (latency, fault) =
            shared.with(|world, _| (world.latencies.of_stage(name), world.stage_faults.get(&name).cloned()));
        let started_at = shared.clock.now();
        drop(shared);
        let skipped = name == StageName::GpuDrivers && self.look(|machine| machine.gpus)? == 0;
        let mut stage = Stage {
            name,
            status: StageStatus::InProgress,
            started_at,
            duration: None,
            note: None,
            error: None,
            log_tail: Vec::new(),
        };
        if !skipped {
            self.record(stage.clone()).await?;
            if !self.sleep(latency).await {
                return None;
            }
        }
        let elapsed = self.shared.upgrade()?.clock.now().duration_since(started_at);
        stage.duration = Some(Duration::try_from(elapsed).unwrap_or_default());
        match fault {
            _ if skipped => {
                stage.status = StageStatus::Skipped;
                stage.note = Some("no GPU".into());
            }
            Some(fault) => {
                stage.status = StageStatus::Failed;
                stage.error = Some(fault.error);
                stage.log_tail = fault.log_tail;
            }
            None => stage.status = StageStatus::Completed,
        }
        let failed = stage.status == StageStatus::Failed;
        self.record(stage).await?;
        (!failed).then_some(())
    }

    /// Notes a stage on the machine and reports the whole bootstrap, until the store takes it.
    async fn record(&self, stage: Stage) -> Option<()> {
        let (environment, engine, bootstrap) = self.look(|machine| {
            machine.line(LogSource::Bootstrap, format!("{}: {:?}", stage.name.as_str(), stage.status));
            for line in &stage.log_tail {
                machine.line(LogSource::Bootstrap, line);
            }
            machine.bootstrap.stages.retain(|earlier| earlier.name < stage.name);
            machine.bootstrap.stages.push(stage);
            (machine.machine.environment.clone(), machine.machine.engine.clone(), machine.bootstrap.clone())
        })?;
        let tell = |record: &mut Engine| record.bootstrap = bootstrap.clone();
        while !self.report(&environment, engine.as_str(), &tell).await? {
            if !self.sleep(AGAIN).await {
                return None;
            }
            self.look(|_| ())?;
        }
        Some(())
    }

    /// Returns whether the report is in the store, or has no place there.
    async fn report(
        &self,
        environment: &EnvironmentName,
        engine: &str,
        tell: &(dyn Fn(&mut Engine) + Send + Sync),
    ) -> Option<bool> {
        let Some(store) = self.shared.upgrade()?.store.clone() else { return Some(true) };
        let stored = store
            .modify(environment, engine, &|record: &mut Engine| {
                // A later engine of the same name is somebody else.
                if record.machine.as_ref().is_some_and(|machine| *machine != self.machine) {
                    return Ok(false);
                }
                tell(record);
                Ok(true)
            })
            .await;
        Some(stored.is_ok())
    }

    /// Looks at the machine; `None` once this agent's life is over.
    fn look<T>(&self, look: impl FnOnce(&mut FakeMachine) -> T) -> Option<T> {
        self.shared.upgrade()?.with(|world, _| {
            let machine = world.machine(&self.machine).ok()?;
            let alive = machine.generation == self.generation
                && matches!(machine.machine.state, MachineState::Pending | MachineState::Running);
            alive.then(|| look(machine))
        })
    }

    /// Sleeps without keeping the backend alive; returns whether there still is one.
    async fn sleep(&self, duration: Duration) -> bool {
        let Some(clock) = self.shared.upgrade().map(|shared| shared.clock.clone()) else { return false };
        if !duration.is_zero() {
            clock.sleep(duration).await;
        }
        self.shared.strong_count() > 0
    }
}
