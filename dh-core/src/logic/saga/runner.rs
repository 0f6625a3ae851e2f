//! Runs operations: one step after the other, or back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::report::{Reporter, parts};
use super::{Output, Step, StepContext, reserve, steps};
use crate::domain::{
    Error, ErrorKind, Operation, OperationId, OperationSpec, OperationStatus, Result, Retry, RunnerLease, StageStatus,
    StepRecord, StoredError, UserName,
};
use crate::logic::estimate::HISTORY;
use crate::logic::lease::{Held, RENEW_EVERY};
use crate::logic::{Deps, Estimate};
use crate::ports::{ProgressSink, StateStoreExt, find_operation};

/// How long to wait before each further try of a step that may succeed later.
const BACKOFF: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// How often a running step's progress is told anew.
const TICK: Duration = Duration::from_millis(500);

/// Where a [`Drill`] has a step fail.
#[cfg(any(test, feature = "testkit"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailAt {
    /// Instead of doing it.
    Before,
    /// Once it is done.
    After,
}

/// Has a runner go through what rarely happens by itself. For tests.
#[cfg(any(test, feature = "testkit"))]
#[derive(Debug, Clone, Default)]
pub struct Drill {
    /// Do every step, and every undo, twice.
    pub repeat: bool,
    /// Have this step fail.
    pub fail: Option<(String, FailAt)>,
}

/// Creates operations and runs them.
#[derive(Debug, Clone)]
pub struct Runner {
    deps: Deps,
    #[cfg(any(test, feature = "testkit"))]
    drill: Drill,
}

impl Runner {
    /// Makes a runner.
    pub fn new(deps: Deps) -> Self {
        Self {
            deps,
            #[cfg(any(test, feature = "testkit"))]
            drill: Drill::default(),
        }
    }

    /// Makes the runner go through a drill.
    #[cfg(any(test, feature = "testkit"))]
    pub fn with_drill(mut self, drill: Drill) -> Self {
        self.drill = drill;
        self
    }

    async fn do_step(&self, step: &dyn Step, cx: &StepContext<'_>) -> Result<Output> {
        #[cfg(any(test, feature = "testkit"))]
        {
            let failure = self.drill.fail.as_ref().filter(|(name, _)| name == step.name()).map(|(_, at)| *at);
            let drilled = || Error::new(ErrorKind::Failed, "a drill");
            if failure == Some(FailAt::Before) {
                return Err(drilled());
            }
            if failure == Some(FailAt::After) || self.drill.repeat {
                step.run(cx).await?;
            }
            if failure == Some(FailAt::After) {
                return Err(drilled());
            }
        }
        step.run(cx).await
    }

    async fn undo_step(&self, step: &dyn Step, cx: &StepContext<'_>) -> Result<()> {
        #[cfg(any(test, feature = "testkit"))]
        if self.drill.repeat {
            step.undo(cx).await?;
        }
        step.undo(cx).await
    }

    /// Stores a new operation. Nothing has been done when this returns.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn create(&self, spec: OperationSpec, requested_by: UserName) -> Result<Operation> {
        let now = self.deps.clock.now();
        let operation = Operation {
            id: OperationId::new(format!("op-{:012x}", self.deps.entropy.next_u64() >> 16))?,
            environment: self.deps.environment().clone(),
            requested_by,
            spec,
            status: OperationStatus::InProgress,
            steps: Vec::new(),
            // Held from the start: between this write and the first step nobody else picks it up.
            lease: RunnerLease {
                owner: Some(self.deps.runners.this()),
                epoch: 1,
                expires_at: now + crate::logic::lease::LEASE,
            },
            paused: false,
            cancel_requested: false,
            error: None,
            created_at: now,
            updated_at: now,
        };
        self.deps.store.insert(&operation).await?;
        Ok(operation)
    }

    /// Takes hold of an operation and runs it to its end. A finished one is returned as it is.
    ///
    /// # Errors
    /// The operation's failure once it is unwound; `Conflict` while another process runs it; those of the store, the
    /// operation then being resumable.
    pub async fn drive(&self, id: &OperationId, sink: Arc<dyn ProgressSink>) -> Result<Operation> {
        let found = find_operation(&*self.deps.store, self.deps.environment(), id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no operation {id}")).with_hint("list them with: dh ops list")
        })?;
        if !found.value.status.is_open() {
            return finished(found.value);
        }
        let mut found = found;
        if found.value.lease.owner.as_ref() == Some(&self.deps.runners.this()) {
            // Our own hold, from `create` or from a run whose future was dropped.
            found.value.lease.owner = None;
        }
        let resumed = !found.value.steps.is_empty();
        let mut held = Held::take(&self.deps, found).await?;
        let estimate = self.estimate(&held.operation.spec).await?;
        let reporter = Reporter::new(sink, self.deps.clock.clone(), &held.operation, estimate);
        reporter.started(resumed);
        let outcome = self.to_the_end(&mut held, &reporter).await;
        if outcome.is_err() && held.operation.status.is_open() {
            // Left open: let go of it, so that the next one need not wait for the lease to end. Best effort.
            held.operation.lease.owner = None;
            let _ = held.save(&self.deps).await;
        }
        let id = &held.operation.id;
        outcome.map_err(|error| {
            if held.operation.status.is_open() && error.kind() != ErrorKind::Conflict {
                let hint = format!("when the cause is gone: dh ops resume {id}; or undo it: dh ops cancel {id}");
                error.with_context("operation", id).with_hint(hint)
            } else {
                error
            }
        })?;
        reporter.finished(held.operation.status, held.operation.error.clone());
        finished(held.operation)
    }

    async fn estimate(&self, spec: &OperationSpec) -> Result<Estimate> {
        let earlier = self.deps.store.load_operations(self.deps.environment(), false, Some(HISTORY)).await?;
        Ok(Estimate::learn(spec, &parts(spec), earlier.iter().map(|found| &found.value)))
    }

    async fn to_the_end(&self, held: &mut Held, reporter: &Reporter) -> Result<()> {
        let steps = steps(&held.operation.spec);
        if held.operation.status == OperationStatus::InProgress {
            for step in steps {
                if held.operation.cancel_requested {
                    self.turn_back(held, StoredError::from(&cancelled())).await?;
                    break;
                }
                let over = held
                    .operation
                    .step(step.name())
                    .is_some_and(|record| matches!(record.status, StageStatus::Completed | StageStatus::Skipped));
                if !over && !self.forward(*step, held, reporter).await? {
                    break;
                }
            }
        }
        if held.operation.status == OperationStatus::Unwinding {
            let last_begun = steps.last().is_some_and(|last| held.operation.step(last.name()).is_some());
            if !last_begun || reserve::is_held(&self.deps, &held.operation).await? {
                return self.unwind(steps, held, reporter).await;
            }
            // The last step let go of the engine or studio before it failed or was cancelled: it is done, and what it let go
            // of may be somebody else's by now.
            held.operation.error = None;
        }
        held.operation.status = OperationStatus::Completed;
        held.operation.lease.owner = None;
        held.save(&self.deps).await
    }

    /// Does one step and returns whether to go on with the next.
    async fn forward(&self, step: &dyn Step, held: &mut Held, reporter: &Reporter) -> Result<bool> {
        let started_at = self.deps.clock.now();
        let index = match held.operation.steps.iter().position(|record| record.name == step.name()) {
            Some(index) => index,
            None => {
                held.operation.steps.push(StepRecord {
                    name: step.name().to_owned(),
                    status: StageStatus::InProgress,
                    started_at,
                    duration: None,
                    output: Output::Null,
                    error: None,
                    undone: false,
                });
                held.operation.steps.len() - 1
            }
        };
        held.save(&self.deps).await?;
        reporter.step(step.name(), StageStatus::InProgress);
        let result = self.patiently(held, reporter, Heed::Cancellation, |operation| {
            let deps = &self.deps;
            async move { self.do_step(step, &StepContext { deps, operation: &operation, reporter }).await }
        });
        let result = result.await?;
        let record = &mut held.operation.steps[index];
        record.duration = Duration::try_from(self.deps.clock.now().duration_since(record.started_at)).ok();
        match result {
            Ok(output) => {
                record.status = StageStatus::Completed;
                record.output = output;
                held.save(&self.deps).await?;
                reporter.step(step.name(), StageStatus::Completed);
                Ok(true)
            }
            Err(error) => {
                let stored = StoredError::from(&error);
                record.status = StageStatus::Failed;
                record.error = Some(stored.clone());
                reporter.step(step.name(), StageStatus::Failed);
                self.turn_back(held, stored).await?;
                Ok(false)
            }
        }
    }

    async fn turn_back(&self, held: &mut Held, error: StoredError) -> Result<()> {
        held.operation.status = OperationStatus::Unwinding;
        held.operation.error = Some(error);
        held.save(&self.deps).await
    }

    async fn unwind(&self, steps: &[&'static dyn Step], held: &mut Held, reporter: &Reporter) -> Result<()> {
        let kept = |operation: &Operation| {
            steps.iter().rev().find(|step| {
                !operation.cancel_requested
                    && step.keeps_on_failure()
                    && operation.step(step.name()).is_some_and(|record| record.status == StageStatus::Failed)
            })
        };
        let only = kept(&held.operation).map(|step| step.name());
        for step in steps.iter().rev() {
            let Some(index) = held.operation.steps.iter().position(|record| record.name == step.name()) else {
                continue;
            };
            if held.operation.steps[index].undone || only.is_some_and(|name| name != step.name()) {
                continue;
            }
            reporter.undo(step.name());
            let undone = self.patiently(held, reporter, Heed::Nothing, |operation| {
                let deps = &self.deps;
                async move { self.undo_step(*step, &StepContext { deps, operation: &operation, reporter }).await }
            });
            if let Err(error) = undone.await? {
                let why = held
                    .operation
                    .error
                    .as_ref()
                    .map_or_else(String::new, |first| format!(" after: {}", first.message));
                return Err(Error::new(error.kind(), format!("cannot undo step {}{why}", step.name()))
                    .with_context("operation", &held.operation.id)
                    .with_hint(format!("when the cause is gone: dh ops resume {}", held.operation.id))
                    .with_source(error));
            }
            held.operation.steps[index].undone = true;
            held.save(&self.deps).await?;
        }
        held.operation.status =
            if held.operation.cancel_requested { OperationStatus::Cancelled } else { OperationStatus::Failed };
        held.operation.lease.owner = None;
        held.save(&self.deps).await
    }

    /// Tries a step or an undo until it succeeds, fails for good, or tries are used up, while the lease is renewed.
    ///
    /// The outer error means that the operation itself is out of our hands.
    async fn patiently<T, F>(
        &self,
        held: &mut Held,
        reporter: &Reporter,
        heed: Heed,
        attempt: impl Fn(Operation) -> F,
    ) -> Result<Result<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut backoff = BACKOFF.into_iter();
        loop {
            let mut attempt = std::pin::pin!(attempt(held.operation.clone()));
            let mut since_renewal = Duration::ZERO;
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut attempt => break result,
                    () = self.deps.clock.sleep(TICK) => {
                        reporter.tick();
                        since_renewal += TICK;
                        if since_renewal >= RENEW_EVERY {
                            held.save(&self.deps).await?;
                            since_renewal = Duration::ZERO;
                            if heed == Heed::Cancellation && held.operation.cancel_requested {
                                // Steps bear being cut off anywhere: the undo looks at what there is.
                                break Err(cancelled());
                            }
                        }
                    }
                }
            };
            match result {
                Err(error) if error.retry() == Retry::Later && error.kind() != ErrorKind::Capacity => {
                    match backoff.next() {
                        Some(pause) => {
                            reporter.note(format!("{}; trying again in {} s", error.full_message(), pause.as_secs()));
                            self.deps.clock.sleep(pause).await;
                            held.save(&self.deps).await?;
                        }
                        None => return Ok(Err(error.with_retry(Retry::Exhausted))),
                    }
                }
                result => return Ok(result),
            }
        }
    }
}

/// What may cut an attempt off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heed {
    Cancellation,
    Nothing,
}

fn finished(operation: Operation) -> Result<Operation> {
    match &operation.error {
        Some(error) if operation.status == OperationStatus::Failed => {
            let step = operation.steps.iter().find(|step| step.status == StageStatus::Failed);
            let error = Error::from(error.clone()).with_context("operation", &operation.id);
            Err(match step {
                Some(step) => error.with_context("step", &step.name),
                None => error,
            })
        }
        _ => Ok(operation),
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Interrupted, "cancelled")
}
