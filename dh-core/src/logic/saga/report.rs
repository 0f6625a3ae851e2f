//! Turns what happens in an operation into progress events.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::title;
use crate::domain::{
    Operation, OperationId, OperationStatus, ProgressBody, ProgressEvent, Stage, StageName, StageStatus, StoredError,
};
use crate::logic::Estimate;
use crate::ports::{Clock, ProgressSink};

/// The step that a launch's bootstrap stages stand for in an estimate.
pub(crate) const WAIT_READY: &str = "wait_ready";

/// Returns the parts by which an operation's progress is measured.
pub(crate) fn parts(spec: &crate::domain::OperationSpec) -> Vec<&'static str> {
    let launch = matches!(spec, crate::domain::OperationSpec::Launch { .. });
    super::steps(spec)
        .iter()
        .flat_map(|step| match step.name() {
            WAIT_READY if launch => StageName::ALL.map(StageName::as_str).to_vec(),
            name => vec![name],
        })
        .collect()
}

/// Emits the events of one operation.
#[derive(Debug)]
pub(crate) struct Reporter {
    sink: Arc<dyn ProgressSink>,
    clock: Arc<dyn Clock>,
    operation: OperationId,
    kind: &'static str,
    created_at: Timestamp,
    estimate: Estimate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    done: Vec<String>,
    current: Option<(String, Timestamp)>,
    stages: Vec<(StageName, StageStatus)>,
}

impl Reporter {
    pub(crate) fn new(
        sink: Arc<dyn ProgressSink>,
        clock: Arc<dyn Clock>,
        operation: &Operation,
        estimate: Estimate,
    ) -> Self {
        let done = operation
            .steps
            .iter()
            .filter(|step| matches!(step.status, StageStatus::Completed | StageStatus::Skipped))
            .map(|step| step.name.clone())
            .collect();
        Self {
            sink,
            clock,
            operation: operation.id.clone(),
            kind: operation.spec.kind(),
            created_at: operation.created_at,
            estimate,
            state: Mutex::new(State { done, ..State::default() }),
        }
    }

    pub(crate) fn started(&self, resumed: bool) {
        self.emit(ProgressBody::Started { resumed });
    }

    pub(crate) fn step(&self, name: &str, status: StageStatus) {
        self.mark(name, status);
        self.emit(ProgressBody::Step { name: name.to_owned(), title: title(name), status });
    }

    /// Tells those of a bootstrap's stages that have changed since the last call.
    pub(crate) fn stages(&self, stages: &[Stage]) {
        for stage in stages {
            let news = (stage.name, stage.status);
            {
                let mut state = self.lock();
                if state.stages.contains(&news) {
                    continue;
                }
                state.stages.push(news);
            }
            self.mark(stage.name.as_str(), stage.status);
            self.emit(ProgressBody::Stage {
                name: stage.name.as_str().to_owned(),
                title: stage.name.title().to_owned(),
                status: stage.status,
                note: stage.note.clone(),
            });
        }
    }

    pub(crate) fn note(&self, message: impl Into<String>) {
        self.emit(ProgressBody::Note { message: message.into() });
    }

    pub(crate) fn undo(&self, name: &str) {
        self.emit(ProgressBody::Undo { name: name.to_owned() });
    }

    pub(crate) fn tick(&self) {
        self.emit(ProgressBody::Tick);
    }

    pub(crate) fn finished(&self, status: OperationStatus, error: Option<StoredError>) {
        self.emit(ProgressBody::Finished { status, error });
    }

    fn mark(&self, name: &str, status: StageStatus) {
        let mut state = self.lock();
        match status {
            StageStatus::InProgress => state.current = Some((name.to_owned(), self.clock.now())),
            StageStatus::Completed | StageStatus::Skipped => {
                if !state.done.iter().any(|done| done == name) {
                    state.done.push(name.to_owned());
                }
                if state.current.as_ref().is_some_and(|(current, _)| current == name) {
                    state.current = None;
                }
            }
            StageStatus::Failed => {}
        }
    }

    fn emit(&self, body: ProgressBody) {
        let now = self.clock.now();
        let since = |then: Timestamp| Duration::try_from(now.duration_since(then)).unwrap_or_default();
        let (percent, remaining) = match &body {
            ProgressBody::Finished { status: OperationStatus::Completed, .. } => (100, Some(Duration::ZERO)),
            _ => {
                let state = self.lock();
                let current = state.current.as_ref().map(|(name, began)| (name.as_str(), since(*began)));
                self.estimate.at(&state.done, current)
            }
        };
        self.sink.emit(&ProgressEvent {
            operation: self.operation.clone(),
            kind: self.kind.to_owned(),
            at: now,
            elapsed: since(self.created_at),
            percent,
            remaining,
            body,
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
