//! Operations as sagas: steps that are recorded before they take effect, can be repeated, and can be undone.
//!
//! A process that runs an operation holds a fenced lease on it. When the process dies, the next one that looks takes the
//! lease and goes on from the last step recorded, or unwinds. Steps therefore look before they act: each one, its undo
//! too, may run again after having been cut off anywhere.

pub(crate) mod agent_call;
mod attach;
mod detach;
mod joint;
mod launch;
mod power;
mod report;
mod reserve;
mod runner;
mod studio;
mod wait;

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use crate::domain::{Error, ErrorKind, Operation, OperationSpec, Result};
use crate::logic::Deps;

pub use runner::Runner;
#[cfg(any(test, feature = "testkit"))]
pub use runner::{Drill, FailAt};

use report::Reporter;

/// What later steps and the undo need to know of a step.
pub(crate) type Output = serde_json::Value;

/// One step of a saga.
#[async_trait]
pub(crate) trait Step: Send + Sync {
    /// Returns its stable name: `attach_volume`.
    fn name(&self) -> &'static str;

    /// Does it, or finds it done.
    async fn run(&self, cx: &StepContext<'_>) -> Result<Output>;

    /// Undoes it, or finds that there is nothing to undo. It may have been done in part, or not at all.
    async fn undo(&self, _cx: &StepContext<'_>) -> Result<()> {
        Ok(())
    }

    /// Returns whether a failure here ends the operation with all earlier steps kept, this one's undo alone being run.
    fn keeps_on_failure(&self) -> bool {
        false
    }
}

/// What a step has.
pub(crate) struct StepContext<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) operation: &'a Operation,
    pub(crate) reporter: &'a Reporter,
}

impl StepContext<'_> {
    /// Returns a field of an earlier step's output.
    pub(crate) fn output<T: DeserializeOwned>(&self, step: &str, field: &str) -> Option<T> {
        let value = self.operation.step(step)?.output.get(field)?.clone();
        serde_json::from_value(value).ok()
    }

    /// [`Self::output`] of a step that must have run.
    pub(crate) fn required<T: DeserializeOwned>(&self, step: &str, field: &str) -> Result<T> {
        self.output(step, field).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("step {step} left no {field}"))
                .with_context("operation", &self.operation.id)
        })
    }
}

/// Returns the steps of an operation, in order.
pub(crate) fn steps(spec: &OperationSpec) -> &'static [&'static dyn Step] {
    match spec {
        OperationSpec::Launch { .. } => launch::STEPS,
        OperationSpec::Start { .. } => power::START,
        OperationSpec::Stop { .. } => power::STOP,
        OperationSpec::Terminate { .. } => power::TERMINATE,
        OperationSpec::ResizeEngine { .. } => power::RESIZE,
        OperationSpec::CreateStudio { .. } => studio::CREATE,
        OperationSpec::ResizeStudio { .. } => studio::RESIZE,
        OperationSpec::DeleteStudio { .. } => studio::DELETE,
        OperationSpec::ResetStudio { .. } => studio::RESET,
        OperationSpec::Attach { .. } => attach::STEPS,
        OperationSpec::Detach { .. } => detach::STEPS,
    }
}

/// Returns a step's name for people: `attach_volume` is `Attach Volume`.
pub(crate) fn title(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the names of an operation's steps, in order.
pub fn step_names(spec: &OperationSpec) -> Vec<&'static str> {
    steps(spec).iter().map(|step| step.name()).collect()
}
