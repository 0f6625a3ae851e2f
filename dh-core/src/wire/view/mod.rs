//! What dh shows to programs: the JSON of `--output json`, meant for REST as well. `docs/json.md` describes it.
//!
//! These types are kept apart from the domain's: those may change with the code, these only by adding optional fields
//! or, with a new [`VERSION`], otherwise.

mod engine;
mod operation;

use serde::{Deserialize, Serialize};

pub use engine::*;
pub use operation::*;

use crate::domain::{self, Retry};
use crate::ports;

/// The version of every document here.
pub const VERSION: u32 = 1;

/// One JSON document: a version, the kind of object, and the object under the name of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// What it holds.
    #[serde(flatten)]
    pub body: Body,
}

impl From<Body> for Document {
    fn from(body: Body) -> Self {
        Self { version: VERSION, body }
    }
}

/// What a document holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "object", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Body {
    /// The engines of an environment, by name.
    Engines {
        /// The environment.
        environment: String,
        /// The engines.
        engines: Vec<Engine>,
    },
    /// One engine.
    Engine {
        /// The engine.
        engine: Box<Engine>,
    },
    /// The studios of an environment, by user.
    Studios {
        /// The environment.
        environment: String,
        /// The studios.
        studios: Vec<Studio>,
    },
    /// One studio.
    Studio {
        /// The studio.
        studio: Box<Studio>,
    },
    /// Operations, newest first.
    Operations {
        /// The environment.
        environment: String,
        /// The operations.
        operations: Vec<Operation>,
    },
    /// One operation, with what it left behind.
    Operation {
        /// The operation.
        operation: Box<Operation>,
        /// The engine it was about, where there still is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engine: Option<Box<Engine>>,
        /// The studio it was about, where there still is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        studio: Option<Box<Studio>>,
    },
    /// How far an engine's bootstrap is.
    Bootstrap {
        /// The bootstrap.
        bootstrap: Bootstrap,
    },
    /// An engine's idle policy and state.
    Idle {
        /// Both.
        idle: Idle,
    },
    /// A coffee lock.
    Coffee {
        /// The lock.
        coffee: Coffee,
    },
    /// Why an engine runs or was stopped.
    Explanation {
        /// The explanation.
        explanation: Explanation,
    },
    /// The last lines of a log.
    Log {
        /// The lines.
        log: Log,
    },
    /// What became of the SSH configuration.
    SshConfig {
        /// What became of it.
        ssh_config: SshConfig,
    },
    /// Where dh keeps things, and the environments.
    Config {
        /// The configuration.
        config: Config,
    },
    /// The checks of `dh doctor`.
    Checks {
        /// The checks, in order.
        checks: Vec<Check>,
    },
    /// An event of an operation; only in `jsonl`.
    Event {
        /// The event.
        event: domain::ProgressEvent,
    },
    /// A failure.
    Error {
        /// The failure.
        error: Failure,
    },
}

/// Why an engine runs or was stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The engine.
    pub engine: String,
    /// The answer in one line.
    pub summary: String,
    /// What it rests on, newest first.
    pub entries: Vec<ports::ExplanationEntry>,
}

/// The last lines of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// The engine.
    pub engine: String,
    /// `bootstrap`, `agent`, `ledger` or `console`.
    pub source: ports::LogSource,
    /// The lines.
    pub lines: Vec<String>,
}

/// What became of the SSH configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SshConfig {
    /// The file.
    pub path: String,
    /// Whether it was written.
    pub changed: bool,
    /// The engines of this environment that have an entry now.
    pub engines: Vec<String>,
    /// What is worth knowing about it.
    pub warnings: Vec<String>,
}

/// Where dh keeps things, and the environments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The configuration file.
    pub path: String,
    /// Whether there is one.
    pub exists: bool,
    /// The folder of engines and volumes.
    pub data: String,
    /// The folder of the state.
    pub state: String,
    /// The folder of the logs.
    pub logs: String,
    /// The environment in force.
    pub environment: String,
    /// Its backend.
    pub backend: String,
    /// The file's content, read and checked.
    pub settings: serde_json::Value,
}

/// One check of `dh doctor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// `ok`, `failed` or `absent`.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Well.
    Ok,
    /// Badly: something does not work.
    Failed,
    /// Something is not there, and dh does without it.
    Absent,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind's slug.
    pub kind: String,
    /// What went wrong, causes included.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// The operation that failed or can be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

impl From<&domain::Error> for Failure {
    fn from(error: &domain::Error) -> Self {
        Self {
            kind: error.kind().slug().to_owned(),
            message: error.full_message(),
            hint: error.hint().map(str::to_owned),
            retryable: error.retry() == Retry::Later,
            operation: None,
        }
    }
}
