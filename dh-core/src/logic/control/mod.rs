//! The control plane in this process: a backend and a store.

mod agent;
mod operations;
mod orphans;
mod views;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{
    EngineView, EnvironmentName, IdlePolicy, Operation, OperationId, OperationSpec, Result, Studio, UserName,
};
use crate::logic::Deps;
use crate::logic::saga::Runner;
use crate::ports::{
    Adopted, Capabilities, ControlPlane, Explanation, LocalCommand, LogSource, OperationQuery, Orphans, ProgressSink,
    SessionRequest, SshEntry, SubmitOptions,
};

/// Runs everything in the calling process.
#[derive(Debug, Clone)]
pub struct InProcess {
    deps: Deps,
    runner: Runner,
}

impl InProcess {
    /// Makes a control plane over these ports.
    pub fn new(deps: Deps) -> Self {
        Self { runner: Runner::new(deps.clone()), deps }
    }
}

#[async_trait]
impl ControlPlane for InProcess {
    fn environment(&self) -> &EnvironmentName {
        self.deps.environment()
    }

    fn user(&self) -> &UserName {
        &self.deps.settings.user
    }

    fn capabilities(&self) -> &Capabilities {
        self.deps.backend.capabilities()
    }

    async fn submit(
        &self,
        spec: OperationSpec,
        options: SubmitOptions,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Operation> {
        self.submit_operation(spec, options, progress).await
    }

    async fn run(&self, id: &OperationId, progress: Arc<dyn ProgressSink>) -> Result<Operation> {
        self.runner.drive(id, progress).await
    }

    async fn pause(&self, id: &OperationId) -> Result<()> {
        self.pause_operation(id).await
    }

    async fn cancel(&self, id: &OperationId, progress: Arc<dyn ProgressSink>) -> Result<Operation> {
        self.cancel_operation(id, progress).await
    }

    async fn operations(&self, query: OperationQuery) -> Result<Vec<Operation>> {
        self.list_operations(query).await
    }

    async fn operation(&self, id: &OperationId) -> Result<Operation> {
        self.find_operation(id).await
    }

    async fn interrupted(&self) -> Result<Vec<Operation>> {
        self.interrupted_operations().await
    }

    async fn engines(&self) -> Result<Vec<EngineView>> {
        self.view_engines().await
    }

    async fn engine(&self, name_or_id: &str) -> Result<EngineView> {
        self.view_engine(name_or_id).await
    }

    async fn studios(&self) -> Result<Vec<Studio>> {
        self.list_studios().await
    }

    async fn studio(&self, user: &UserName) -> Result<Studio> {
        self.find_studio(user).await
    }

    async fn coffee(&self, name_or_id: &str, duration: Option<Duration>) -> Result<Option<Timestamp>> {
        self.set_coffee(name_or_id, duration).await
    }

    async fn set_policy(&self, name_or_id: &str, policy: IdlePolicy) -> Result<IdlePolicy> {
        self.write_policy(name_or_id, policy).await
    }

    async fn why(&self, name_or_id: &str) -> Result<Explanation> {
        self.explain(name_or_id).await
    }

    async fn logs(&self, name_or_id: &str, source: LogSource, lines: usize) -> Result<Vec<String>> {
        self.read_logs(name_or_id, source, lines).await
    }

    async fn session(&self, name_or_id: &str, request: SessionRequest) -> Result<LocalCommand> {
        self.open_session(name_or_id, request).await
    }

    async fn ssh_entries(&self, all_users: bool, admin: bool) -> Result<Vec<SshEntry>> {
        self.list_ssh_entries(all_users, admin).await
    }

    async fn orphans(&self) -> Result<Orphans> {
        self.find_orphans().await
    }

    async fn adopt(&self) -> Result<Adopted> {
        self.adopt_orphans().await
    }
}
