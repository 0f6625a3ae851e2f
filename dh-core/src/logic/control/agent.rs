//! What is asked of an engine's agent, and what its logs tell.

use std::time::Duration;

use jiff::Timestamp;

use super::InProcess;
use crate::domain::{Engine, EngineState, EngineView, Error, ErrorKind, IdlePolicy, MachineId, Result};
use crate::logic::{rules, saga::agent_call};
use crate::ports::{Explanation, LocalCommand, LogSource, SessionRequest, StateStoreExt};
use crate::wire::CoffeeReply;

/// How much of the ledger an explanation looks at.
const LEDGER_LINES: usize = 2_000;

impl InProcess {
    pub(super) async fn set_coffee(&self, name_or_id: &str, duration: Option<Duration>) -> Result<Option<Timestamp>> {
        let (_, machine) = self.running(name_or_id).await?;
        let seconds = duration.map(|duration| duration.as_secs().to_string());
        let args = match &seconds {
            Some(seconds) => ["coffee", "--for", seconds].to_vec(),
            None => ["coffee", "--cancel"].to_vec(),
        };
        let reply: CoffeeReply = agent_call::call(&self.deps, &machine, &args, Vec::new()).await?;
        Ok(reply.until)
    }

    pub(super) async fn write_policy(&self, name_or_id: &str, policy: IdlePolicy) -> Result<IdlePolicy> {
        let (view, machine) = self.running(name_or_id).await?;
        let stdin = serde_json::to_vec(&policy).map_err(|error| {
            Error::new(ErrorKind::Internal, "a policy cannot be written as JSON").with_source(error)
        })?;
        let now: IdlePolicy = agent_call::call(&self.deps, &machine, &["policy", "--set", "-"], stdin).await?;
        self.deps
            .store
            .modify(self.deps.environment(), view.engine.name.as_str(), &|engine: &mut Engine| {
                let news = engine.policy != now;
                engine.policy = now.clone();
                Ok(news)
            })
            .await?;
        Ok(now)
    }

    pub(super) async fn explain(&self, name_or_id: &str) -> Result<Explanation> {
        let (view, machine) = self.with_machine(name_or_id).await?;
        let lines = self.deps.backend.read_log(&machine, LogSource::Ledger, LEDGER_LINES).await?;
        Ok(crate::logic::idle::explain(&view, &lines))
    }

    pub(super) async fn read_logs(&self, name_or_id: &str, source: LogSource, lines: usize) -> Result<Vec<String>> {
        let (_, machine) = self.with_machine(name_or_id).await?;
        self.deps.backend.read_log(&machine, source, lines).await
    }

    pub(super) async fn open_session(&self, name_or_id: &str, request: SessionRequest) -> Result<LocalCommand> {
        let view = self.view_engine(name_or_id).await?;
        // A failed bootstrap is looked at from inside.
        let name = view.engine.name.clone();
        match (view.state, view.machine) {
            (EngineState::Running | EngineState::Failed | EngineState::Launching, Some(machine)) => {
                self.deps.backend.session(&machine.id, request)
            }
            (state, _) => Err(rules::not_running(&name, state)),
        }
    }

    async fn with_machine(&self, name_or_id: &str) -> Result<(EngineView, MachineId)> {
        let view = self.view_engine(name_or_id).await?;
        match view.machine.as_ref().map(|machine| machine.id.clone()) {
            Some(id) => Ok((view, id)),
            None => Err(Error::new(ErrorKind::Conflict, format!("engine '{}' has no machine", view.engine.name))
                .with_hint(format!("see its launch with: dh engine debug {}", view.engine.name))),
        }
    }

    async fn running(&self, name_or_id: &str) -> Result<(EngineView, MachineId)> {
        let (view, machine) = self.with_machine(name_or_id).await?;
        match view.state {
            EngineState::Running => Ok((view, machine)),
            state => Err(rules::not_running(&view.engine.name, state)),
        }
    }
}
