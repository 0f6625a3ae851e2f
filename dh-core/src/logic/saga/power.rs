//! Starting, stopping, terminating and resizing engines.

use async_trait::async_trait;
use serde_json::json;

use super::{Output, Step, StepContext, launch, reserve, wait};
use crate::domain::{
    Engine, EngineName, EngineState, ErrorKind, MachineId, MachineState, OperationSpec, Result, StopMode,
};
use crate::logic::rules;
use crate::ports::StateStoreExt;

pub(super) const START: &[&dyn Step] = &[&Reserve, &Start, &WaitAgent, &Finish];
pub(super) const STOP: &[&dyn Step] = &[&Reserve, &Stop, &WaitStopped, &Finish];
pub(super) const TERMINATE: &[&dyn Step] = &[&Reserve, &Terminate, &WaitGone, &Forget];
pub(super) const RESIZE: &[&dyn Step] = &[&Reserve, &StopForResize, &ResizeDisk, &StartAgain, &Finish];

fn name<'a>(cx: &'a StepContext<'_>) -> &'a EngineName {
    cx.operation.spec.engine().expect("operations on engines name one")
}

/// The engine's machine, as found when the engine was reserved.
fn machine(cx: &StepContext<'_>) -> Option<MachineId> {
    cx.output(Reserve.name(), "machine")
}

struct Reserve;

#[async_trait]
impl Step for Reserve {
    fn name(&self) -> &'static str {
        "reserve_engine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let spec = &cx.operation.spec;
        let transition = match spec {
            OperationSpec::Start { .. } => EngineState::Starting,
            OperationSpec::Terminate { .. } => EngineState::Terminating,
            OperationSpec::ResizeEngine { online: true, .. } => EngineState::Running,
            _ => EngineState::Stopping,
        };
        let before = wait::load(cx.deps, name(cx)).await?.value;
        let described = match &before.machine {
            Some(id) => cx.deps.backend.describe_machine(id).await?,
            None => None,
        };
        let machine = described.as_ref();
        let engine = reserve::engine(cx, name(cx), transition, |engine| {
            rules::may_operate(spec, engine, machine, cx.deps.backend.capabilities())
        })
        .await?;
        // From here on no studio can begin to attach: attach looks at the engine after it has marked the studio.
        if rules::needs_studios_detached(spec) {
            rules::no_studios_attached(cx.deps, name(cx)).await?;
        }
        let was_running = machine.is_some_and(|machine| machine.state == MachineState::Running);
        Ok(json!({ "machine": engine.machine, "was_running": was_running }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        let Some(id) = machine(cx).filter(|_| matches!(cx.operation.spec, OperationSpec::Terminate { .. })) else {
            return reserve::release_engine_as_it_is(cx, name(cx)).await;
        };
        match cx.deps.backend.describe_machine(&id).await?.map(|machine| machine.state) {
            // From termination there is no way back.
            None | Some(MachineState::Terminating | MachineState::Terminated) => {
                wait::for_gone(cx.deps, &id).await?;
                launch::forget(cx, name(cx)).await
            }
            Some(_) => reserve::release_engine_as_it_is(cx, name(cx)).await,
        }
    }
}

/// Starts the machine, unless it runs, and waits until it does.
async fn start(cx: &StepContext<'_>, id: &MachineId) -> Result<()> {
    match cx.deps.backend.describe_machine(id).await?.map(|machine| machine.state) {
        Some(MachineState::Running) => return Ok(()),
        // A machine on its way down must arrive there before it can come up again.
        Some(MachineState::Stopping) => drop(wait::for_stopped(cx.deps, id).await?),
        _ => {}
    }
    // What the agent found before is forgotten, so that its first look after the start can be told.
    let forget = |engine: &mut Engine| {
        let problems = std::mem::take(&mut engine.problems);
        Ok(engine.idle.take().is_some() || !problems.is_empty())
    };
    cx.deps.store.modify(cx.deps.environment(), name(cx).as_str(), &forget).await?;
    cx.deps.backend.start_machine(id).await?;
    wait::for_running(cx.deps, id).await.map(drop)
}

/// Stops the machine and waits until it has stopped; one that can't hibernate is stopped instead.
async fn stop(cx: &StepContext<'_>, id: &MachineId, mode: StopMode) -> Result<()> {
    match cx.deps.backend.stop_machine(id, mode).await {
        Err(error) if mode == StopMode::Hibernate && error.kind() == ErrorKind::Unsupported => {
            cx.reporter.note(format!("{}; stopping instead", error.full_message()));
            cx.deps.backend.stop_machine(id, StopMode::Stop).await?;
        }
        other => other?,
    }
    wait::for_stopped(cx.deps, id).await.map(drop)
}

struct Start;

#[async_trait]
impl Step for Start {
    fn name(&self) -> &'static str {
        "start_machine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let Some(id) = machine(cx) else { return Ok(Output::Null) };
        if cx.output(Reserve.name(), "was_running") != Some(true) {
            start(cx, &id).await?;
        }
        Ok(Output::Null)
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        match machine(cx) {
            Some(id) if cx.output(Reserve.name(), "was_running") != Some(true) => stop(cx, &id, StopMode::Stop).await,
            _ => Ok(()),
        }
    }
}

struct WaitAgent;

#[async_trait]
impl Step for WaitAgent {
    fn name(&self) -> &'static str {
        "wait_ready"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        if let Some(id) = machine(cx) {
            wait::for_agent(cx, name(cx), &id).await?;
        }
        Ok(Output::Null)
    }
}

struct Stop;

#[async_trait]
impl Step for Stop {
    fn name(&self) -> &'static str {
        "stop_machine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let OperationSpec::Stop { mode, .. } = &cx.operation.spec else { return Ok(Output::Null) };
        if let Some(id) = machine(cx) {
            stop(cx, &id, *mode).await?;
        }
        Ok(Output::Null)
    }
}

struct WaitStopped;

#[async_trait]
impl Step for WaitStopped {
    fn name(&self) -> &'static str {
        "wait_stopped"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        if let Some(id) = machine(cx) {
            wait::for_stopped(cx.deps, &id).await?;
        }
        Ok(Output::Null)
    }
}

/// Lets go of the engine in the state its machine has reached.
struct Finish;

#[async_trait]
impl Step for Finish {
    fn name(&self) -> &'static str {
        "update_state"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        reserve::release_engine_as_it_is(cx, name(cx)).await?;
        Ok(Output::Null)
    }
}

struct Terminate;

#[async_trait]
impl Step for Terminate {
    fn name(&self) -> &'static str {
        "terminate_machine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        if let Some(id) = machine(cx) {
            cx.deps.backend.terminate_machine(&id).await?;
        }
        Ok(Output::Null)
    }
}

struct WaitGone;

#[async_trait]
impl Step for WaitGone {
    fn name(&self) -> &'static str {
        "wait_terminated"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        if let Some(id) = machine(cx) {
            wait::for_gone(cx.deps, &id).await?;
        }
        Ok(Output::Null)
    }
}

struct Forget;

#[async_trait]
impl Step for Forget {
    fn name(&self) -> &'static str {
        "forget_engine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        launch::forget(cx, name(cx)).await?;
        Ok(Output::Null)
    }
}

fn resize_online(cx: &StepContext<'_>) -> bool {
    matches!(cx.operation.spec, OperationSpec::ResizeEngine { online: true, .. })
}

struct StopForResize;

#[async_trait]
impl Step for StopForResize {
    fn name(&self) -> &'static str {
        "stop_machine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        if let (Some(id), false) = (machine(cx), resize_online(cx)) {
            stop(cx, &id, StopMode::Stop).await?;
        }
        Ok(Output::Null)
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        match machine(cx) {
            Some(id) if cx.output(Reserve.name(), "was_running") == Some(true) => start(cx, &id).await,
            _ => Ok(()),
        }
    }
}

struct ResizeDisk;

#[async_trait]
impl Step for ResizeDisk {
    fn name(&self) -> &'static str {
        "resize_boot_disk"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let OperationSpec::ResizeEngine { size_gb, .. } = cx.operation.spec else { return Ok(Output::Null) };
        if let Some(id) = machine(cx) {
            cx.deps.backend.resize_boot_disk(&id, size_gb).await?;
            let grow = |engine: &mut Engine| {
                let news = engine.boot_disk_gb != size_gb;
                engine.boot_disk_gb = size_gb;
                Ok(news)
            };
            cx.deps.store.modify(cx.deps.environment(), name(cx).as_str(), &grow).await?;
        }
        Ok(Output::Null)
    }
}

struct StartAgain;

#[async_trait]
impl Step for StartAgain {
    fn name(&self) -> &'static str {
        "start_machine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let was_running = cx.output(Reserve.name(), "was_running") == Some(true);
        if let (Some(id), true, false) = (machine(cx), was_running, resize_online(cx)) {
            start(cx, &id).await?;
            wait::for_agent(cx, name(cx), &id).await?;
        }
        Ok(Output::Null)
    }
}
