//! Engines as callers see them: what is stored, weighed against what the backend says.

use std::collections::BTreeMap;

use super::InProcess;
use crate::domain::{
    Engine, EngineState, EngineView, Error, ErrorKind, Machine, MachineId, Result, StateReason, StopCause, Studio,
};
use crate::logic::rules;
use crate::ports::{SshEntry, StateStoreExt, find_engine};

/// Names at least this much alike are suggested (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.7;

/// How many names are suggested at most.
const SUGGESTIONS: usize = 3;

impl InProcess {
    pub(super) async fn view_engines(&self) -> Result<Vec<EngineView>> {
        let deps = &self.deps;
        let engines = deps.store.load_all::<Engine>(deps.environment()).await?;
        if engines.is_empty() {
            return Ok(Vec::new());
        }
        let studios = self.list_studios().await?;
        let machines = deps.backend.list_machines(deps.environment()).await?;
        let mut machines: BTreeMap<MachineId, Machine> =
            machines.into_iter().map(|machine| (machine.id.clone(), machine)).collect();
        let mut views = Vec::new();
        for found in engines {
            let machine = found.value.machine.as_ref().and_then(|id| machines.remove(id));
            views.push(match (&found.value.machine, machine) {
                // A list leaves out what cannot be read: only a look at it alone tells that from what is gone.
                (Some(id), None) => {
                    let described = deps.backend.describe_machine(id).await;
                    self.view_described(found.value, described, &studios)?.0
                }
                (_, machine) => view(found.value, machine, &studios),
            });
        }
        Ok(views)
    }

    pub(super) async fn view_engine(&self, name_or_id: &str) -> Result<EngineView> {
        self.look_at_engine(name_or_id).await.map(|(view, _)| view)
    }

    /// Returns an engine, and what is wrong with its machine where the backend cannot read what it keeps of it.
    pub(super) async fn look_at_engine(&self, name_or_id: &str) -> Result<(EngineView, Option<Error>)> {
        let deps = &self.deps;
        let Some(found) = find_engine(&*deps.store, deps.environment(), name_or_id).await? else {
            return Err(self.no_engine(name_or_id).await?);
        };
        let described = match &found.value.machine {
            Some(id) => deps.backend.describe_machine(id).await,
            None => Ok(None),
        };
        self.view_described(found.value, described, &self.list_studios().await?)
    }

    fn view_described(
        &self,
        engine: Engine,
        described: Result<Option<Machine>>,
        studios: &[Studio],
    ) -> Result<(EngineView, Option<Error>)> {
        let error = match described {
            Ok(machine) => return Ok((view(engine, machine, studios), None)),
            Err(error) if rules::is_unreadable(&error) => error,
            Err(error) => return Err(error),
        };
        let message = error.full_message();
        let reason = StateReason { cause: StopCause::Died, message, at: self.deps.clock.now() };
        Ok((EngineView { state_reason: Some(reason), ..view(engine, None, studios) }, Some(error)))
    }

    async fn no_engine(&self, name: &str) -> Result<Error> {
        let engines = self.deps.store.load_all::<Engine>(self.deps.environment()).await?;
        let mut alike: Vec<(f64, &str)> = engines
            .iter()
            .map(|found| (strsim::jaro_winkler(name, found.value.name.as_str()), found.value.name.as_str()))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        let names: Vec<&str> = alike.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect();
        let hint = match names.as_slice() {
            [] => "list engines with: dh engine list".to_owned(),
            names => format!("did you mean {}?", names.join(" or ")),
        };
        let environment = self.deps.environment();
        Ok(Error::new(ErrorKind::NotFound, format!("no engine '{name}' in environment {environment}")).with_hint(hint))
    }

    pub(super) async fn list_ssh_entries(&self, all_users: bool, admin: bool) -> Result<Vec<SshEntry>> {
        let mut entries = Vec::new();
        for view in self.view_engines().await? {
            let ours = all_users || view.engine.user == self.deps.settings.user;
            if let (true, EngineState::Running, Some(machine)) = (ours, view.state, &view.machine) {
                let target = self.deps.backend.ssh_target(machine, admin)?;
                entries.push(SshEntry { engine: view.engine.name, user: view.engine.user, target });
            }
        }
        Ok(entries)
    }
}

fn view(engine: Engine, machine: Option<Machine>, studios: &[Studio]) -> EngineView {
    // An engine that had a machine and has none now was terminated behind our back.
    let lost = machine.is_none() && engine.machine.is_some() && engine.operation.is_none();
    let state = if lost { EngineState::Failed } else { engine.state(machine.as_ref()) };
    let here = |studio: &&Studio| studio.attachment.as_ref().is_some_and(|at| at.engine == engine.name);
    EngineView {
        state,
        state_reason: machine.as_ref().and_then(|machine| machine.state_reason.clone()),
        studios: studios.iter().filter(here).map(|studio| studio.user.clone()).collect(),
        engine,
        machine,
    }
}
