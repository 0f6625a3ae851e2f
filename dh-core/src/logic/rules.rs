//! What may be done when, and what is said when it may not.

use crate::domain::{
    Engine, EngineName, EngineState, EngineView, Error, ErrorKind, Machine, MachineState, Operation, OperationId,
    OperationSpec, OperationStatus, Result, STUDIOS_PER_ENGINE, StopMode, StoredError, Studio, StudioStatus, UserName,
};
use crate::logic::Deps;
use crate::logic::lease::{Held, busy};
use crate::ports::{Capabilities, StateStoreExt, find_operation};

/// Returns the operation that has hold of an engine or studio, if it still has.
pub(crate) async fn holder(deps: &Deps, id: Option<&OperationId>) -> Result<Option<Operation>> {
    let Some(id) = id else { return Ok(None) };
    let found = find_operation(&*deps.store, deps.environment(), id).await?;
    // A process that died between its last step and the end of its operation leaves a hold without an open operation.
    Ok(found.map(|found| found.value).filter(|operation| operation.status.is_open()))
}

/// Ends an operation that nobody runs, as it stands.
pub(crate) async fn abandon(deps: &Deps, other: &Operation, by: &OperationId) -> Result<()> {
    let Some(found) = find_operation(&*deps.store, deps.environment(), &other.id).await? else { return Ok(()) };
    let mut held = Held::take(deps, found).await?;
    held.operation.status = OperationStatus::Failed;
    held.operation.lease.owner = None;
    let why = Error::new(ErrorKind::Conflict, format!("given up in favour of {by}"));
    held.operation.error.get_or_insert(StoredError::from(&why));
    held.save(deps).await
}

/// Returns whether an error of a backend says that something exists, but that its own account of it cannot be read.
pub(crate) fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Storage | ErrorKind::Incompatible)
}

pub(crate) fn engine_busy(name: &EngineName, other: &Operation) -> Error {
    Error::new(ErrorKind::Conflict, format!("engine '{name}' is busy: {}", busy(other)))
        .with_hint(format!("wait for it, or watch it with: dh ops show {}", other.id))
}

pub(crate) fn studio_busy(studio: &Studio, other: &Operation) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("studio is not available (status: {}{}): {}", studio.status, whereabouts(studio), busy(other)),
    )
    .with_hint(format!("wait for it, or watch it with: dh ops show {}", other.id))
}

fn whereabouts(studio: &Studio) -> String {
    match (&studio.attachment, studio.status) {
        (Some(attachment), StudioStatus::Detaching) => format!(" from {}", attachment.engine),
        (Some(attachment), _) => format!(" to {}", attachment.engine),
        (None, _) => String::new(),
    }
}

pub(crate) fn engine_exists(engine: &Engine) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("engine '{}' exists already (type {}, of {})", engine.name, engine.engine_type, engine.user),
    )
    .with_hint(format!("choose another name, or remove it first: dh engine terminate {}", engine.name))
}

pub(crate) fn no_studio(user: &UserName) -> Error {
    Error::new(ErrorKind::NotFound, format!("user '{user}' has no studio"))
        .with_hint(format!("create one with: dh studio create --user {user}"))
}

pub(crate) fn studio_exists(studio: &Studio) -> Error {
    let id = studio.volume.as_ref().map_or("being created", |id| id.as_str());
    Error::new(ErrorKind::AlreadyExists, format!("user '{}' already has a studio: {id}", studio.user))
        .with_hint(format!("use 'dh studio delete --user {}' to remove it first", studio.user))
}

/// Returns whether studios must be detached before an operation on their engine.
pub(crate) fn needs_studios_detached(spec: &OperationSpec) -> bool {
    matches!(
        spec,
        OperationSpec::Stop { .. }
            | OperationSpec::Terminate { .. }
            | OperationSpec::ResizeEngine { online: false, .. }
    )
}

/// Returns the studios that are attached to an engine, or on their way to or from it.
pub(crate) async fn studios_of(deps: &Deps, engine: &EngineName) -> Result<Vec<Studio>> {
    let studios = deps.store.load_all::<Studio>(deps.environment()).await?;
    let here = |studio: &Studio| studio.attachment.as_ref().is_some_and(|attachment| attachment.engine == *engine);
    Ok(studios.into_iter().map(|found| found.value).filter(here).collect())
}

/// Refuses while studios are attached to an engine.
pub(crate) async fn no_studios_attached(deps: &Deps, engine: &EngineName) -> Result<()> {
    let users: Vec<String> = studios_of(deps, engine).await?.iter().map(|studio| studio.user.to_string()).collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, format!("engine '{engine}' has the studio of {} attached", users.join(", ")))
        .with_context("attached_studios", users.join(","))
        .with_hint("detach first: dh studio detach"))
}

/// Refuses an eleventh studio.
pub(crate) async fn room_for_studio(deps: &Deps, engine: &EngineName, user: &UserName) -> Result<()> {
    let others = studios_of(deps, engine).await?.iter().filter(|studio| studio.user != *user).count();
    if others < STUDIOS_PER_ENGINE {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::QuotaExceeded,
        format!("engine '{engine}' has {STUDIOS_PER_ENGINE} studios attached, the most it can"),
    )
    .with_hint("attach to another engine, or detach one of them"))
}

/// Refuses what the backend cannot do.
pub(crate) fn supported(spec: &OperationSpec, capabilities: &Capabilities) -> Result<()> {
    let (can, what, instead) = match spec {
        OperationSpec::Stop { mode: StopMode::Hibernate, .. } => (
            capabilities.hibernate || capabilities.stop,
            "hibernate or stop engines",
            "terminate it: dh engine terminate NAME",
        ),
        OperationSpec::Stop { .. } | OperationSpec::Start { .. } => {
            (capabilities.stop, "stop and start engines", "terminate it: dh engine terminate NAME")
        }
        OperationSpec::ResizeEngine { online: true, .. } => (
            capabilities.resize_boot_disk_online,
            "resize a boot disk while the engine runs",
            "leave out --online: the engine is then stopped and started",
        ),
        OperationSpec::ResizeEngine { .. } => {
            (capabilities.resize_boot_disk, "resize boot disks", "launch a new engine with --size")
        }
        OperationSpec::Launch { .. } | OperationSpec::Terminate { .. } => (true, "", ""),
        _ => (capabilities.volumes, "keep studios", "use an environment of another backend: --env NAME"),
    };
    if can {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, format!("this environment's backend cannot {what}")).with_hint(instead))
}

/// Refuses an engine type that is not known, naming those that are.
pub(crate) fn known_type(engine_type: &str, capabilities: &Capabilities) -> Result<()> {
    if capabilities.engine_types.contains_key(engine_type) {
        return Ok(());
    }
    let known: Vec<&str> = capabilities.engine_types.keys().map(String::as_str).collect();
    Err(Error::new(ErrorKind::InvalidArgument, format!("unknown engine type {engine_type:?}"))
        .with_hint(format!("choose one of: {}", known.join(", "))))
}

/// Decides whether an operation may begin on an engine in its present state.
///
/// # Errors
/// `Unsupported`, `InvalidArgument` or `Conflict`, saying what is in the way.
pub fn may_operate(
    spec: &OperationSpec,
    engine: &Engine,
    machine: Option<&Machine>,
    capabilities: &Capabilities,
) -> Result<()> {
    supported(spec, capabilities)?;
    let name = &engine.name;
    if let OperationSpec::Terminate { .. } = spec {
        return Ok(());
    }
    let Some(machine) = machine else {
        return Err(Error::new(ErrorKind::Conflict, format!("the machine of engine '{name}' is gone"))
            .with_hint(format!("remove what is left of it: dh engine terminate {name}")));
    };
    match spec {
        OperationSpec::ResizeEngine { size_gb, .. } if *size_gb <= engine.boot_disk_gb => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("the boot disk of '{name}' has {} already; it can only grow", engine.boot_disk_gb),
        )
        .with_hint(format!("give a size above {}", engine.boot_disk_gb.get()))),
        OperationSpec::ResizeEngine { online: false, .. } if machine.state == MachineState::Hibernated => {
            Err(Error::new(ErrorKind::Conflict, format!("engine '{name}' is hibernated, with work in its memory"))
                .with_hint(format!("start it first: dh engine start {name}")))
        }
        OperationSpec::ResizeEngine { online: true, .. } if machine.state != MachineState::Running => {
            Err(not_running(name, engine.state(Some(machine))))
        }
        _ => Ok(()),
    }
}

/// Refuses to start what runs and to stop what is stopped, before anything is stored. An operation that has begun does not
/// ask: the engine may get there by itself meanwhile.
pub(crate) fn would_change(spec: &OperationSpec, view: &EngineView) -> Result<()> {
    let name = &view.engine.name;
    let conflict = |message: String, hint: String| Err(Error::new(ErrorKind::Conflict, message).with_hint(hint));
    let has_power = view.machine.as_ref().is_some_and(|machine| machine.state == MachineState::Running);
    match (spec, view.state) {
        (OperationSpec::Start { .. }, EngineState::Running) => {
            conflict(format!("engine '{name}' is running already"), format!("connect with: dh engine shell {name}"))
        }
        (OperationSpec::Start { .. }, EngineState::Failed) if has_power => conflict(
            format!("engine '{name}' is running already, but its launch failed"),
            format!("see what failed: dh engine debug {name}; remove it with: dh engine terminate {name}"),
        ),
        (OperationSpec::Stop { .. }, EngineState::Stopped)
        | (OperationSpec::Stop { mode: StopMode::Hibernate, .. }, EngineState::Hibernated) => conflict(
            format!("engine '{name}' is {} already", view.state),
            format!("start it again with: dh engine start {name}"),
        ),
        _ => Ok(()),
    }
}

/// Makes the error of what needs a running engine.
pub(crate) fn not_running(name: &EngineName, state: EngineState) -> Error {
    let error = Error::new(ErrorKind::Conflict, format!("engine '{name}' is not running (state: {state})"));
    match state {
        EngineState::Stopped | EngineState::Hibernated => {
            error.with_hint(format!("start it first: dh engine start {name}"))
        }
        EngineState::Failed => error.with_hint(format!("see what failed: dh engine debug {name}")),
        _ => error.with_hint(format!("wait for it; watch it with: dh engine status {name}")),
    }
}

/// Decides whether studios may be attached to an engine, and returns its machine.
pub(crate) fn may_attach_to(engine: &Engine, machine: Option<Machine>) -> Result<Machine> {
    match (engine.state(machine.as_ref()), machine) {
        (EngineState::Running, Some(machine)) => Ok(machine),
        (state, _) => Err(not_running(&engine.name, state)),
    }
}

/// Decides whether an operation may begin on a studio in its present status.
///
/// # Errors
/// `InvalidArgument` or `Conflict`, saying what is in the way.
pub fn may_change_studio(spec: &OperationSpec, studio: &Studio) -> Result<()> {
    let conflict = |message: String| Error::new(ErrorKind::Conflict, message);
    let status = studio.status;
    match (spec, status) {
        (OperationSpec::ResetStudio { .. }, StudioStatus::Attached) => {
            Err(conflict("studio is attached and not stuck".into()).with_hint("detach it with: dh studio detach"))
        }
        (OperationSpec::ResetStudio { .. }, _) => Ok(()),
        (OperationSpec::ResizeStudio { size_gb, .. }, StudioStatus::Available) if *size_gb <= studio.size_gb => {
            Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the studio has {} already; it can only grow", studio.size_gb),
            )
            .with_hint(format!("give a size above {}", studio.size_gb.get())))
        }
        (OperationSpec::Attach { engine, .. }, StudioStatus::Attached)
            if studio.attachment.as_ref().is_some_and(|attachment| attachment.engine == *engine) =>
        {
            Err(conflict(format!("studio is not available (status: attached to {engine} already)")).with_hint(format!(
                "its files are on the engine: dh engine shell {engine}; should it not be mounted there, mount it anew: \
                     dh studio detach, then dh studio attach {engine}"
            )))
        }
        (OperationSpec::Attach { .. }, StudioStatus::Attached) => {
            Err(conflict(format!("studio is not available (status: attached{})", whereabouts(studio)))
                .with_hint("detach it first: dh studio detach"))
        }
        (OperationSpec::DeleteStudio { .. }, StudioStatus::Attached) => {
            Err(conflict("studio must be detached before deletion".into()).with_hint("run: dh studio detach"))
        }
        (OperationSpec::ResizeStudio { .. }, StudioStatus::Attached) => {
            Err(conflict("studio must be detached before it can be resized".into()).with_hint("run: dh studio detach"))
        }
        (OperationSpec::Detach { .. }, StudioStatus::Attached) => Ok(()),
        (OperationSpec::Detach { .. }, StudioStatus::Available) => {
            Err(conflict("studio is not attached".into()).with_hint("see it with: dh studio status"))
        }
        (OperationSpec::Detach { .. }, _) => Err(stuck(studio)),
        (OperationSpec::DeleteStudio { .. }, StudioStatus::Error) => Ok(()),
        (_, StudioStatus::Available) => Ok(()),
        _ => Err(stuck(studio)),
    }
}

fn stuck(studio: &Studio) -> Error {
    let place = whereabouts(studio);
    Error::new(ErrorKind::Conflict, format!("studio is not available (status: {}{place})", studio.status))
        .with_hint("wait for the operation on it, or bring it back with: dh studio reset")
}
