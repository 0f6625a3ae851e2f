//! Waiting for what a backend or an agent does in its own time.

use std::time::Duration;

use super::StepContext;
use crate::domain::{
    Engine, EngineName, Error, ErrorKind, Machine, MachineId, MachineState, Result, StageName, StageStatus, StopCause,
};
use crate::logic::Deps;
use crate::logic::pace::Pace;
use crate::ports::{StateStoreExt, Versioned};

/// How long a machine may take to reach a state.
pub(crate) const MACHINE_DEADLINE: Duration = Duration::from_secs(300);

/// How long a bootstrap may go without any news of a stage: the longest usual stage, three times over.
const STAGE_DEADLINE: Duration = Duration::from_secs(600);

/// The same while the user's own set-up script runs, to which the agent gives an hour.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(3_900);

/// Waits until a machine is in a wanted state, and returns it; `None` when it is gone and that is wanted.
pub(crate) async fn for_machine(
    deps: &Deps,
    id: &MachineId,
    wanted: &str,
    is_wanted: impl Fn(Option<&Machine>) -> bool,
    is_hopeless: impl Fn(Option<&Machine>) -> bool,
) -> Result<Option<Machine>> {
    let mut pace = Pace::new();
    loop {
        let machine = deps.backend.describe_machine(id).await?;
        if is_wanted(machine.as_ref()) {
            return Ok(machine);
        }
        if is_hopeless(machine.as_ref()) {
            let why =
                machine.as_ref().and_then(|machine| machine.state_reason.as_ref()).map(|reason| reason.message.clone());
            let logs = machine.as_ref().map_or("dh ops list".to_owned(), |machine| {
                format!("dh engine logs {} --source console", machine.engine)
            });
            let now = machine.map_or("gone".to_owned(), |machine| state_name(machine.state));
            let error = Error::new(ErrorKind::Failed, format!("machine {id} is {now} and will not be {wanted}"));
            return Err(match why {
                Some(why) => error.with_source(why),
                None => error,
            }
            .with_hint(format!("look with: {logs}")));
        }
        if pace.over(deps, MACHINE_DEADLINE).await {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("machine {id} was not {wanted} after {} s", MACHINE_DEADLINE.as_secs()),
            )
            .with_retry(crate::domain::Retry::Exhausted)
            .with_hint("see how far it is: dh engine list"));
        }
    }
}

fn state_name(state: MachineState) -> String {
    format!("{state:?}").to_lowercase()
}

/// Waits until a machine runs.
pub(crate) async fn for_running(deps: &Deps, id: &MachineId) -> Result<Machine> {
    let is = |machine: Option<&Machine>, state| machine.is_some_and(|machine| machine.state == state);
    for_machine(
        deps,
        id,
        "running",
        |machine| is(machine, MachineState::Running),
        |machine| {
            let died = |machine: &Machine| {
                machine.state == MachineState::Stopped
                    && machine.state_reason.as_ref().is_some_and(|reason| reason.cause == StopCause::Died)
            };
            machine.is_none_or(|machine| {
                matches!(machine.state, MachineState::Terminating | MachineState::Terminated) || died(machine)
            })
        },
    )
    .await?
    .ok_or_else(|| Error::new(ErrorKind::Internal, "a running machine is none"))
}

/// Waits until a machine is stopped or hibernated, and returns it.
pub(crate) async fn for_stopped(deps: &Deps, id: &MachineId) -> Result<Option<Machine>> {
    let stopped = |machine: &Machine| matches!(machine.state, MachineState::Stopped | MachineState::Hibernated);
    for_machine(deps, id, "stopped", |machine| machine.is_none_or(stopped), |_| false).await
}

/// Waits until a machine is gone.
pub(crate) async fn for_gone(deps: &Deps, id: &MachineId) -> Result<()> {
    let gone = |machine: Option<&Machine>| machine.is_none_or(|machine| machine.state == MachineState::Terminated);
    for_machine(deps, id, "gone", gone, |_| false).await.map(drop)
}

/// Waits until an engine's bootstrap is over, telling its stages, and returns how long each took in seconds.
pub(crate) async fn for_bootstrap(
    cx: &StepContext<'_>,
    name: &EngineName,
    machine: &MachineId,
) -> Result<serde_json::Map<String, serde_json::Value>> {
    let deps = cx.deps;
    let mut pace = Pace::new();
    let mut seen = Vec::new();
    loop {
        let engine = load(deps, name).await?.value;
        cx.reporter.stages(&engine.bootstrap.stages);
        if let Some(stage) = engine.bootstrap.failed() {
            let why = stage.error.clone().unwrap_or_else(|| "no reason was given".into());
            let mut error = Error::new(ErrorKind::Failed, format!("bootstrap stage {} failed: {why}", stage.name.as_str()))
                .with_context("stage", stage.name.as_str())
                .with_hint(format!(
                    "the engine is kept: look with 'dh engine debug {name}', then remove it with 'dh engine terminate {name}'"
                ));
            if !stage.log_tail.is_empty() {
                error = error.with_context("log", stage.log_tail.join("\n"));
            }
            return Err(error);
        }
        if engine.bootstrap.is_ready() {
            return Ok(engine
                .bootstrap
                .stages
                .iter()
                .map(|stage| {
                    (stage.name.as_str().to_owned(), stage.duration.map_or(0.0, |time| time.as_secs_f64()).into())
                })
                .collect());
        }
        let running = deps.backend.describe_machine(machine).await?;
        if !running.as_ref().is_some_and(|machine| machine.state == MachineState::Running) {
            let why = running
                .and_then(|machine| machine.state_reason)
                .map_or_else(String::new, |why| format!(": {}", why.message));
            return Err(Error::new(ErrorKind::Failed, format!("engine {name} stopped during its bootstrap{why}"))
                .with_hint(format!("look at its log with: dh engine logs {name} --source console")));
        }
        let news: Vec<_> = engine.bootstrap.stages.iter().map(|stage| (stage.name, stage.status)).collect();
        if news != seen {
            seen = news;
            pace.restart();
        }
        let current = engine.bootstrap.current().map(|stage| stage.name);
        let deadline = if current == Some(StageName::InstallingPackages) { SCRIPT_DEADLINE } else { STAGE_DEADLINE };
        if pace.over(deps, deadline).await {
            return Err(stuck(name, &engine, deadline));
        }
    }
}

fn stuck(name: &EngineName, engine: &Engine, deadline: Duration) -> Error {
    let stage = engine
        .bootstrap
        .stages
        .iter()
        .find(|stage| stage.status == StageStatus::InProgress)
        .map_or("its agent never reported", |stage| stage.name.as_str());
    Error::new(
        ErrorKind::Timeout,
        format!("bootstrap is stuck: no news for {} minutes ({stage})", deadline.as_secs() / 60),
    )
    .with_retry(crate::domain::Retry::Exhausted)
    .with_hint(format!("look with: dh engine debug {name}"))
}

/// Waits until a started engine's agent has mounted its studios and looked around once. Tells what it could not do.
pub(crate) async fn for_agent(cx: &StepContext<'_>, name: &EngineName, machine: &MachineId) -> Result<()> {
    let deps = cx.deps;
    let mut pace = Pace::new();
    loop {
        let engine = load(deps, name).await?.value;
        if engine.idle.is_some() {
            engine.problems.iter().for_each(|problem| cx.reporter.note(format!("⚠ {problem}")));
            return Ok(());
        }
        for_running(deps, machine).await?;
        if pace.over(deps, MACHINE_DEADLINE).await {
            return Err(Error::new(ErrorKind::Timeout, format!("the agent of engine {name} does not answer"))
                .with_retry(crate::domain::Retry::Exhausted)
                .with_hint(format!("look at its log with: dh engine logs {name}")));
        }
    }
}

/// Loads an engine that an operation is at.
pub(crate) async fn load(deps: &Deps, name: &EngineName) -> Result<Versioned<Engine>> {
    deps.store.load(deps.environment(), name.as_str()).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("engine {name} is gone")).with_hint("list engines with: dh engine list")
    })
}
