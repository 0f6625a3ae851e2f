//! Submitting, pausing, cancelling and listing operations.

use std::sync::Arc;
use std::time::Duration;

use super::InProcess;
use crate::domain::{
    Engine, EngineName, Error, ErrorKind, Operation, OperationId, OperationSpec, OperationStatus, Result, Studio,
};
use crate::logic::lease::is_free;
use crate::logic::pace::Pace;
use crate::logic::rules;
use crate::ports::{OperationQuery, ProgressSink, StateStoreExt, SubmitOptions, find_operation, find_studio};

/// How long a cancellation waits for the process that runs the operation.
const CANCEL_DEADLINE: Duration = Duration::from_secs(120);

/// How long a call waits for a process that carries on with what an earlier one left.
const CARRY_ON_DEADLINE: Duration = Duration::from_secs(60);

impl InProcess {
    pub(super) async fn submit_operation(
        &self,
        spec: OperationSpec,
        options: SubmitOptions,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Operation> {
        rules::supported(&spec, self.deps.backend.capabilities())?;
        if let Some(same) = self.clear_the_way(&spec, &progress).await? {
            return Ok(same);
        }
        self.precheck(&spec).await?;
        if let Some(engine) = spec.engine().filter(|_| rules::needs_studios_detached(&spec)) {
            if options.detach_studios {
                self.detach_all(engine, &progress).await?;
            } else {
                rules::no_studios_attached(&self.deps, engine).await?;
            }
        }
        self.runner.create(spec, self.deps.settings.user.clone()).await
    }

    /// Goes on with whatever an earlier process left on the engine or studio. Returns it when it is the same request.
    async fn clear_the_way(&self, spec: &OperationSpec, progress: &Arc<dyn ProgressSink>) -> Result<Option<Operation>> {
        // The same request, left by a process that died before its first step took hold of anything.
        let same = self.interrupted_operations().await?.into_iter().find(|other| other.spec == *spec);
        if let Some(same) = same.filter(|same| !same.cancel_requested && same.status == OperationStatus::InProgress) {
            return Ok(Some(same));
        }
        // Each round ends one operation; a new one may have taken hold meanwhile, but not for ever.
        for _ in 0..8 {
            let Some(other) = self.in_the_way(spec).await? else { return Ok(None) };
            if other.spec == *spec && !other.cancel_requested && other.status == OperationStatus::InProgress {
                return Ok(Some(other));
            }
            let ended = match spec {
                // What these remove or give up need not be finished first.
                OperationSpec::Terminate { .. } if matches!(other.spec, OperationSpec::Launch { .. }) => {
                    self.cancel_operation(&other.id, progress.clone()).await
                }
                OperationSpec::ResetStudio { .. } => self.cancel_operation(&other.id, progress.clone()).await,
                _ => self.runner.drive(&other.id, progress.clone()).await,
            };
            let after = self.find_operation(&other.id).await?;
            if let OperationSpec::Terminate { engine } = spec
                && !after.status.is_open()
                && self.deps.store.load::<Engine>(self.deps.environment(), engine.as_str()).await?.is_none()
            {
                // As of a launch that is undone: nothing is left to terminate.
                return Ok(Some(after));
            }
            if let Err(error) = ended
                && after.status.is_open()
            {
                return match spec {
                    // A reset takes over what cannot be undone.
                    OperationSpec::ResetStudio { .. } => Ok(None),
                    _ => Err(error),
                };
            }
        }
        Ok(None)
    }

    /// Returns an open operation that has hold of the engine or studio and that no living process runs. One that a process
    /// of ours is just carrying on with is waited for: it is what this call would have done itself.
    async fn in_the_way(&self, spec: &OperationSpec) -> Result<Option<Operation>> {
        let mut pace = Pace::new();
        loop {
            let error = match self.look_in_the_way(spec).await {
                Err(InTheWay { error, carried_on: true }) => error,
                found => return found.map_err(|refused| refused.error),
            };
            if pace.over(&self.deps, CARRY_ON_DEADLINE).await {
                return Err(error);
            }
        }
    }

    async fn look_in_the_way(&self, spec: &OperationSpec) -> Result<Option<Operation>, InTheWay> {
        if let Some(user) = spec.studio()
            && let Some(found) = find_studio(&*self.deps.store, self.deps.environment(), user).await?
            && let Some(other) = rules::holder(&self.deps, found.value.operation.as_ref()).await?
        {
            return if self.is_free(&other) {
                Ok(Some(other))
            } else {
                Err(InTheWay { error: rules::studio_busy(&found.value, &other), carried_on: other.lease.carried_on() })
            };
        }
        if let Some(name) = spec.engine()
            && let Some(found) = self.deps.store.load::<Engine>(self.deps.environment(), name.as_str()).await?
            && let Some(other) = rules::holder(&self.deps, found.value.operation.as_ref()).await?
        {
            if !self.is_free(&other) {
                let launching = matches!(spec, OperationSpec::Launch { .. });
                let error =
                    if launching { rules::engine_exists(&found.value) } else { rules::engine_busy(name, &other) };
                return Err(InTheWay { error, carried_on: other.lease.carried_on() });
            }
            return Ok(Some(other));
        }
        // One that was cut off before it took hold of anything: whoever goes on with it would be in our way.
        let interrupted = self.interrupted_operations().await?;
        Ok(interrupted.into_iter().find(|other| concern_the_same(spec, &other.spec)))
    }

    fn is_free(&self, operation: &Operation) -> bool {
        is_free(&operation.lease, self.deps.clock.now(), |runner| self.deps.runners.is_gone(runner))
    }

    /// Refuses what the first step would refuse, before anything is stored.
    async fn precheck(&self, spec: &OperationSpec) -> Result<()> {
        let deps = &self.deps;
        match spec {
            OperationSpec::Launch { engine, engine_type, .. } => {
                rules::known_type(engine_type, deps.backend.capabilities())?;
                match deps.store.load::<Engine>(deps.environment(), engine.as_str()).await? {
                    Some(found) => Err(rules::engine_exists(&found.value)),
                    None => Ok(()),
                }
            }
            OperationSpec::CreateStudio { user, .. } => {
                match find_studio(&*deps.store, deps.environment(), user).await? {
                    Some(found) => Err(rules::studio_exists(&found.value)),
                    None => Ok(()),
                }
            }
            _ => {
                if let Some(user) = spec.studio() {
                    rules::may_change_studio(spec, &self.find_studio(user).await?)?;
                }
                if let Some(name) = spec.engine() {
                    let (view, unreadable) = self.look_at_engine(name.as_str()).await?;
                    let leaves = matches!(spec, OperationSpec::Terminate { .. } | OperationSpec::Detach { .. });
                    if let Some(error) = unreadable.filter(|_| !leaves) {
                        return Err(error);
                    }
                    if spec.studio().is_some() {
                        rules::may_attach_to(&view.engine, view.machine)?;
                    } else {
                        rules::may_operate(spec, &view.engine, view.machine.as_ref(), deps.backend.capabilities())?;
                        rules::would_change(spec, &view)?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn detach_all(&self, engine: &EngineName, progress: &Arc<dyn ProgressSink>) -> Result<()> {
        for studio in rules::studios_of(&self.deps, engine).await? {
            let spec = OperationSpec::Detach { user: studio.user };
            let operation = Box::pin(self.submit_operation(spec, SubmitOptions::default(), progress.clone())).await?;
            self.runner.drive(&operation.id, progress.clone()).await?;
        }
        Ok(())
    }

    pub(super) async fn pause_operation(&self, id: &OperationId) -> Result<()> {
        let this = self.deps.runners.this();
        self.deps
            .store
            .modify(self.deps.environment(), id.as_str(), &|operation: &mut Operation| {
                let ours =
                    operation.status.is_open() && operation.lease.owner.as_ref().is_none_or(|owner| *owner == this);
                if ours {
                    operation.lease.owner = None;
                    operation.paused = true;
                }
                Ok(ours)
            })
            .await
            .map(drop)
    }

    pub(super) async fn cancel_operation(
        &self,
        id: &OperationId,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Operation> {
        let deps = &self.deps;
        let ask = |operation: &mut Operation| {
            let news = operation.status.is_open() && !operation.cancel_requested;
            operation.cancel_requested |= news;
            Ok(news)
        };
        let found = deps.store.modify(deps.environment(), id.as_str(), &ask).await?.ok_or_else(|| not_found(id))?;
        if !found.value.status.is_open() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("{} is over (status: {})", found.value.id, found.value.status.as_str()),
            )
            .with_hint(format!("see it with: dh ops show {id}")));
        }
        let mut pace = Pace::new();
        loop {
            let operation = self.find_operation(id).await?;
            if !operation.status.is_open() {
                return Ok(operation);
            }
            if self.is_free(&operation) {
                return self.runner.drive(id, progress).await;
            }
            if pace.over(deps, CANCEL_DEADLINE).await {
                return Err(Error::new(ErrorKind::Timeout, format!("{id} is still being undone by another process"))
                    .with_hint(format!("watch it with: dh ops show {id}")));
            }
        }
    }

    pub(super) async fn list_operations(&self, query: OperationQuery) -> Result<Vec<Operation>> {
        let found = self.deps.store.load_operations(self.deps.environment(), query.open_only, query.limit).await?;
        Ok(found.into_iter().map(|found| found.value).collect())
    }

    pub(super) async fn find_operation(&self, id: &OperationId) -> Result<Operation> {
        let found = find_operation(&*self.deps.store, self.deps.environment(), id).await?;
        found.map(|found| found.value).ok_or_else(|| not_found(id))
    }

    pub(super) async fn interrupted_operations(&self) -> Result<Vec<Operation>> {
        let mut open = self.list_operations(OperationQuery { open_only: true, limit: None }).await?;
        open.retain(|operation| !operation.paused && self.is_free(operation));
        Ok(open)
    }

    pub(super) async fn list_studios(&self) -> Result<Vec<Studio>> {
        let found = self.deps.store.load_all::<Studio>(self.deps.environment()).await?;
        Ok(found.into_iter().map(|found| found.value).collect())
    }

    pub(super) async fn find_studio(&self, user: &crate::domain::UserName) -> Result<Studio> {
        let found = find_studio(&*self.deps.store, self.deps.environment(), user).await?;
        found.map(|found| found.value).ok_or_else(|| rules::no_studio(user))
    }
}

/// Whether two operations would take hold of the same engine or studio.
fn concern_the_same(one: &OperationSpec, other: &OperationSpec) -> bool {
    match (one.studio(), other.studio()) {
        (Some(one), Some(other)) => one == other,
        (_, None) => one.engine().is_some() && one.engine() == other.engine(),
        (None, Some(_)) => false,
    }
}

/// Somebody runs an operation on the engine or studio.
struct InTheWay {
    error: Error,
    /// It was begun by a process that is gone, and another carries on with it.
    carried_on: bool,
}

impl From<Error> for InTheWay {
    fn from(error: Error) -> Self {
        Self { error, carried_on: false }
    }
}

fn not_found(id: &OperationId) -> Error {
    Error::new(ErrorKind::NotFound, format!("no operation {id}")).with_hint("list them with: dh ops list")
}
