//! What the CLI, Python and REST call.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Capabilities, LocalCommand, LogSource, ProgressSink, SessionRequest, SshTarget};
use crate::domain::{
    Engine, EngineName, EngineView, EnvironmentName, IdlePolicy, Machine, Operation, OperationId, OperationSpec,
    Result, Studio, UserName, Volume,
};

/// How to submit an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubmitOptions {
    /// Detach the engine's studios first where they are in the way, rather than refuse.
    pub detach_studios: bool,
}

/// Which operations to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperationQuery {
    /// Only those with something left to do.
    pub open_only: bool,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// Why an engine runs or was stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The answer in one line.
    pub summary: String,
    /// What it rests on, newest first.
    pub entries: Vec<ExplanationEntry>,
}

/// One span of time in which the engine's state stayed the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplanationEntry {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// `active`, `idle`, `warned`, `stopped`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// What each sensor saw at its end.
    pub evidence: Vec<String>,
}

/// One `Host` entry for the SSH configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshEntry {
    /// The engine.
    pub engine: EngineName,
    /// Its owner.
    pub user: UserName,
    /// How to reach it.
    pub target: SshTarget,
}

/// What a backend has and no record knows, as after the state was lost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Orphans {
    /// Machines that belong to no engine.
    pub machines: Vec<Machine>,
    /// Volumes that belong to no studio.
    pub volumes: Vec<Volume>,
}

/// What became of orphans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adopted {
    /// The engines made of machines.
    pub engines: Vec<Engine>,
    /// The studios made of volumes.
    pub studios: Vec<Studio>,
    /// The volumes left as they are: their users have studios.
    pub left: Vec<Volume>,
}

/// Everything dh can do in one environment. In process, or over REST; a caller cannot tell which.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ControlPlane: Debug + Send + Sync + 'static {
    /// Returns the environment.
    fn environment(&self) -> &EnvironmentName;

    /// Returns who is calling.
    fn user(&self) -> &UserName;

    /// Returns what the backend can do.
    fn capabilities(&self) -> &Capabilities;

    /// Checks a request, goes on with whatever an earlier process left on the same engine or studio, and stores the new
    /// operation. Nothing has been done when this returns; [`ControlPlane::run`] does it.
    ///
    /// # Errors
    /// Whatever is wrong with the request, before anything is stored.
    async fn submit(
        &self,
        spec: OperationSpec,
        options: SubmitOptions,
        progress: Arc<dyn ProgressSink>,
    ) -> Result<Operation>;

    /// Takes hold of an operation and runs it to its end, from wherever it is. A finished one is returned as it is.
    ///
    /// Dropping the future leaves the operation resumable.
    ///
    /// # Errors
    /// The failure of the operation, once it is unwound; `Conflict` while another process runs it.
    async fn run(&self, id: &OperationId, progress: Arc<dyn ProgressSink>) -> Result<Operation>;

    /// Lets go of an operation that this process was running, so that it waits to be resumed.
    async fn pause(&self, id: &OperationId) -> Result<()>;

    /// Undoes what an unfinished operation has done.
    async fn cancel(&self, id: &OperationId, progress: Arc<dyn ProgressSink>) -> Result<Operation>;

    /// Lists operations, newest first.
    async fn operations(&self, query: OperationQuery) -> Result<Vec<Operation>>;

    /// Returns an operation.
    async fn operation(&self, id: &OperationId) -> Result<Operation>;

    /// Returns the open operations that no living process runs and nobody paused.
    async fn interrupted(&self) -> Result<Vec<Operation>>;

    /// Lists the engines of the environment, by name.
    async fn engines(&self) -> Result<Vec<EngineView>>;

    /// Returns an engine by its name or its machine's id.
    ///
    /// # Errors
    /// `NotFound`, with the nearest names as hint.
    async fn engine(&self, name_or_id: &str) -> Result<EngineView>;

    /// Lists the studios of the environment, by user.
    async fn studios(&self) -> Result<Vec<Studio>>;

    /// Returns a user's studio.
    async fn studio(&self, user: &UserName) -> Result<Studio>;

    /// Keeps an engine awake for a time from now, or lets go of it. Returns until when.
    async fn coffee(&self, name_or_id: &str, duration: Option<Duration>) -> Result<Option<Timestamp>>;

    /// Sets an engine's idle policy and returns it.
    async fn set_policy(&self, name_or_id: &str, policy: IdlePolicy) -> Result<IdlePolicy>;

    /// Explains why an engine runs or was stopped.
    async fn why(&self, name_or_id: &str) -> Result<Explanation>;

    /// Returns the last lines of one of an engine's logs.
    async fn logs(&self, name_or_id: &str, source: LogSource, lines: usize) -> Result<Vec<String>>;

    /// Returns the program that opens a session on an engine.
    async fn session(&self, name_or_id: &str, request: SessionRequest) -> Result<LocalCommand>;

    /// Returns the SSH entries of the running engines: the caller's, or everybody's.
    async fn ssh_entries(&self, all_users: bool, admin: bool) -> Result<Vec<SshEntry>>;

    /// Returns the machines and volumes that no record knows and no operation under way explains.
    async fn orphans(&self) -> Result<Orphans>;

    /// Makes engines and studios of the orphans: under the machine's name or, where that is taken, with the last four
    /// characters of its id after it; for users without a studio.
    async fn adopt(&self) -> Result<Adopted>;
}
