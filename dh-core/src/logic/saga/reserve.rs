//! Taking hold of an engine or studio for an operation, and letting go of it.

use super::{StepContext, wait};
use crate::domain::{Engine, EngineName, EngineState, ErrorKind, MachineState, Operation, Result, Studio, UserName};
use crate::logic::{Deps, rules};
use crate::ports::{StateStoreExt, Versioned, find_studio};

/// Takes hold of an engine in a transitional state, unless another operation has it. `check` decides on the engine as it
/// is then. Returns the engine.
pub(crate) async fn engine(
    cx: &StepContext<'_>,
    name: &EngineName,
    state: EngineState,
    check: impl Fn(&Engine) -> Result<()> + Send + Sync,
) -> Result<Engine> {
    let me = &cx.operation.id;
    let deps = cx.deps;
    loop {
        let mut found = wait::load(deps, name).await?;
        if found.value.operation.as_ref() == Some(me) {
            return Ok(found.value);
        }
        if let Some(other) = rules::holder(deps, found.value.operation.as_ref()).await? {
            return Err(rules::engine_busy(name, &other));
        }
        check(&found.value)?;
        found.value.operation = Some(me.clone());
        found.value.state = state;
        match deps.store.save(&found.value, found.version).await {
            Ok(_) => return Ok(found.value),
            // The agent reports into the same record: look again.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether an operation still has hold of the engine or studio it is about.
pub(crate) async fn is_held(deps: &Deps, operation: &Operation) -> Result<bool> {
    let (environment, me) = (deps.environment(), Some(&operation.id));
    if let Some(user) = operation.spec.studio() {
        let found = find_studio(&*deps.store, environment, user).await?;
        return Ok(found.is_some_and(|found| found.value.operation.as_ref() == me));
    }
    let Some(name) = operation.spec.engine() else { return Ok(false) };
    let found = deps.store.load::<Engine>(environment, name.as_str()).await?;
    Ok(found.is_some_and(|found| found.value.operation.as_ref() == me))
}

/// Lets go of an engine in a state; one that another operation has, or that is gone, is left alone.
pub(crate) async fn release_engine(cx: &StepContext<'_>, name: &EngineName, state: EngineState) -> Result<()> {
    let me = &cx.operation.id;
    cx.deps
        .store
        .modify(cx.deps.environment(), name.as_str(), &|engine: &mut Engine| {
            if engine.operation.as_ref() != Some(me) {
                return Ok(false);
            }
            engine.operation = None;
            engine.state = state;
            Ok(true)
        })
        .await
        .map(drop)
}

/// Lets go of an engine in whatever state its machine is.
pub(crate) async fn release_engine_as_it_is(cx: &StepContext<'_>, name: &EngineName) -> Result<()> {
    let Some(found) = cx.deps.store.load::<Engine>(cx.deps.environment(), name.as_str()).await? else { return Ok(()) };
    let machine = match &found.value.machine {
        Some(id) => match cx.deps.backend.describe_machine(id).await {
            Err(error) if rules::is_unreadable(&error) => None,
            described => described?,
        },
        None => None,
    };
    let state = match machine.map(|machine| machine.state) {
        Some(MachineState::Running | MachineState::Pending) if found.value.bootstrap.is_ready() => EngineState::Running,
        Some(MachineState::Hibernated) => EngineState::Hibernated,
        Some(MachineState::Stopped | MachineState::Stopping) => EngineState::Stopped,
        _ => EngineState::Failed,
    };
    release_engine(cx, name, state).await
}

/// Loads a user's studio.
pub(crate) async fn load_studio(cx: &StepContext<'_>, user: &UserName) -> Result<Versioned<Studio>> {
    find_studio(&*cx.deps.store, cx.deps.environment(), user).await?.ok_or_else(|| rules::no_studio(user))
}

/// Takes hold of a user's studio and changes it, unless another operation has it. `change` decides on the studio as it is
/// then. Returns the studio.
pub(crate) async fn studio(
    cx: &StepContext<'_>,
    user: &UserName,
    change: impl Fn(&mut Studio) -> Result<()> + Send + Sync,
) -> Result<Studio> {
    let me = &cx.operation.id;
    loop {
        let mut found = load_studio(cx, user).await?;
        if found.value.operation.as_ref() == Some(me) {
            return Ok(found.value);
        }
        if let Some(other) = rules::holder(cx.deps, found.value.operation.as_ref()).await? {
            return Err(rules::studio_busy(&found.value, &other));
        }
        change(&mut found.value)?;
        found.value.operation = Some(me.clone());
        match cx.deps.store.save(&found.value, found.version).await {
            Ok(_) => return Ok(found.value),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
}

/// Changes a studio that this operation has; one that another has, or that is gone, is left alone.
pub(crate) async fn change_studio(
    cx: &StepContext<'_>,
    user: &UserName,
    change: impl Fn(&mut Studio) + Send + Sync,
) -> Result<()> {
    let me = &cx.operation.id;
    cx.deps
        .store
        .modify(cx.deps.environment(), user.as_str(), &|studio: &mut Studio| {
            if studio.operation.as_ref() != Some(me) {
                return Ok(false);
            }
            change(studio);
            Ok(true)
        })
        .await
        .map(drop)
}
