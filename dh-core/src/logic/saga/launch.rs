//! Launching an engine.

use async_trait::async_trait;
use serde_json::json;

use super::report::WAIT_READY;
use super::{Output, Step, StepContext, reserve, wait};
use crate::domain::{
    Bootstrap, Engine, EngineName, EngineState, ErrorKind, IdempotencyKey, IdlePolicy, MachineId, OperationSpec,
    Result, SizeGb, StageStatus, UserName,
};
use crate::logic::rules;
use crate::ports::{LaunchMachine, StateStoreExt};

pub(super) const STEPS: &[&dyn Step] = &[&ReserveName, &Launch, &WaitRunning, &WaitReady, &Finish];

struct Wanted<'a> {
    engine: &'a EngineName,
    user: &'a UserName,
    engine_type: &'a str,
    boot_disk_gb: Option<SizeGb>,
    policy: &'a IdlePolicy,
}

fn wanted<'a>(cx: &'a StepContext<'_>) -> Wanted<'a> {
    match &cx.operation.spec {
        OperationSpec::Launch { engine, user, engine_type, boot_disk_gb, policy } => {
            Wanted { engine, user, engine_type, boot_disk_gb: *boot_disk_gb, policy }
        }
        other => unreachable!("{} is not a launch", other.kind()),
    }
}

fn boot_disk(cx: &StepContext<'_>) -> SizeGb {
    wanted(cx).boot_disk_gb.unwrap_or(cx.deps.backend.capabilities().default_boot_disk_gb)
}

struct ReserveName;

#[async_trait]
impl Step for ReserveName {
    fn name(&self) -> &'static str {
        "reserve_name"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let wanted = wanted(cx);
        let engine = Engine {
            name: wanted.engine.clone(),
            environment: cx.deps.environment().clone(),
            user: wanted.user.clone(),
            engine_type: wanted.engine_type.to_owned(),
            machine: None,
            boot_disk_gb: boot_disk(cx),
            state: EngineState::Launching,
            created_at: cx.operation.created_at,
            bootstrap: Bootstrap::default(),
            idle: None,
            problems: Vec::new(),
            policy: wanted.policy.clone(),
            operation: Some(cx.operation.id.clone()),
        };
        match cx.deps.store.insert(&engine).await {
            Ok(_) => Ok(Output::Null),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let holder = cx.deps.store.load::<Engine>(cx.deps.environment(), wanted.engine.as_str()).await?;
                match holder {
                    Some(found) if found.value.operation.as_ref() == Some(&cx.operation.id) => Ok(Output::Null),
                    Some(found) => Err(rules::engine_exists(&found.value)),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        forget(cx, wanted(cx).engine).await
    }
}

/// Removes the record of an engine that this operation has.
pub(super) async fn forget(cx: &StepContext<'_>, name: &EngineName) -> Result<()> {
    loop {
        let Some(found) = cx.deps.store.load::<Engine>(cx.deps.environment(), name.as_str()).await? else {
            return Ok(());
        };
        if found.value.operation.as_ref() != Some(&cx.operation.id) {
            return Ok(());
        }
        match cx.deps.store.remove(&found.value, found.version).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return other,
        }
    }
}

struct Launch;

#[async_trait]
impl Step for Launch {
    fn name(&self) -> &'static str {
        "launch_machine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let wanted = wanted(cx);
        let machine = cx
            .deps
            .backend
            .launch_machine(LaunchMachine {
                key: IdempotencyKey::for_step(&cx.operation.id, self.name()),
                engine: wanted.engine.clone(),
                environment: cx.deps.environment().clone(),
                user: wanted.user.clone(),
                engine_type: wanted.engine_type.to_owned(),
                boot_disk_gb: boot_disk(cx),
                policy: wanted.policy.clone(),
            })
            .await?;
        let id = machine.id;
        cx.deps
            .store
            .modify(cx.deps.environment(), wanted.engine.as_str(), &|engine: &mut Engine| {
                let news = engine.machine.as_ref() != Some(&id);
                engine.machine = Some(id.clone());
                Ok(news)
            })
            .await?;
        cx.reporter.note(format!("machine launched: {id}"));
        Ok(json!({ "machine": id }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        // An answer may have been lost after the machine was made. The name is ours alone, so whatever carries it is ours.
        let name = wanted(cx).engine;
        for machine in cx.deps.backend.list_machines(cx.deps.environment()).await? {
            if machine.engine == *name {
                cx.deps.backend.terminate_machine(&machine.id).await?;
                wait::for_gone(cx.deps, &machine.id).await?;
            }
        }
        Ok(())
    }
}

fn machine(cx: &StepContext<'_>) -> Result<MachineId> {
    cx.required("launch_machine", "machine")
}

struct WaitRunning;

#[async_trait]
impl Step for WaitRunning {
    fn name(&self) -> &'static str {
        "wait_running"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        wait::for_running(cx.deps, &machine(cx)?).await?;
        Ok(Output::Null)
    }
}

struct WaitReady;

#[async_trait]
impl Step for WaitReady {
    fn name(&self) -> &'static str {
        WAIT_READY
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let stages = wait::for_bootstrap(cx, wanted(cx).engine, &machine(cx)?).await?;
        Ok(json!({ "stages": stages }))
    }

    /// Leaves the engine as failed, with its logs, for `dh engine debug`.
    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        let failed = cx.operation.step(self.name()).is_some_and(|step| step.status == StageStatus::Failed);
        if !failed || cx.operation.cancel_requested {
            return Ok(());
        }
        reserve::release_engine(cx, wanted(cx).engine, EngineState::Failed).await
    }

    fn keeps_on_failure(&self) -> bool {
        true
    }
}

struct Finish;

#[async_trait]
impl Step for Finish {
    fn name(&self) -> &'static str {
        "update_state"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        reserve::release_engine(cx, wanted(cx).engine, EngineState::Running).await?;
        Ok(Output::Null)
    }
}
