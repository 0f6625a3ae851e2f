//! What is told while an operation runs.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{OperationId, OperationStatus, StageStatus, StoredError};

/// One event of an operation. Every sink gets the same ones, in the same order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// The operation.
    pub operation: OperationId,
    /// Its kind's name.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// How long the operation has been running.
    #[serde(rename = "elapsed_secs", with = "super::secs")]
    pub elapsed: Duration,
    /// How much is done, from 0 to 100.
    pub percent: u8,
    /// How long the rest should take, learned from earlier operations; `None` while nothing is known.
    #[serde(rename = "remaining_secs", default, with = "super::secs_opt", skip_serializing_if = "Option::is_none")]
    pub remaining: Option<Duration>,
    /// What happened.
    #[serde(flatten)]
    pub body: ProgressBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProgressBody {
    /// The operation began, or another process goes on with it.
    Started {
        /// Whether another process had begun it.
        resumed: bool,
    },
    /// A step of the operation changed.
    Step {
        /// Its name: `attach_volume`.
        name: String,
        /// Its name for people: `Attach Volume`.
        title: String,
        /// How far it is.
        status: StageStatus,
    },
    /// A stage of the engine's bootstrap changed.
    Stage {
        /// Its name: `installing_packages`.
        name: String,
        /// Its name for people.
        title: String,
        /// How far it is.
        status: StageStatus,
        /// Why it was skipped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Something worth a line.
    Note {
        /// The line.
        message: String,
    },
    /// A step is being undone.
    Undo {
        /// Its name.
        name: String,
    },
    /// Time went by; percent and remaining are new.
    Tick,
    /// The operation is over.
    Finished {
        /// How.
        status: OperationStatus,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<StoredError>,
    },
}
