//! Studios and operations as programs see them.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{self, StageStatus, secs_opt};

/// A studio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Studio {
    /// Its volume's id, once there is one.
    pub id: Option<String>,
    /// Its owner.
    pub user: String,
    /// The environment.
    pub environment: String,
    /// Its size.
    pub size_gb: u32,
    /// `creating`, `available`, `attaching`, `attached`, `detaching`, `resizing`, `deleting` or `error`.
    pub status: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Where it is attached, or about to be.
    pub attached_to: Option<AttachedTo>,
    /// What about its volume differs from a block device of its size.
    pub caveat: Option<String>,
    /// The operation that has hold of it.
    pub operation: Option<String>,
}

/// Where a studio is attached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttachedTo {
    /// The engine.
    pub engine: String,
    /// Its machine's id.
    pub id: String,
    /// The device name.
    pub device: Option<String>,
    /// Where its files are, once mounted.
    pub mount_point: Option<String>,
}

impl From<&domain::Studio> for Studio {
    fn from(studio: &domain::Studio) -> Self {
        Self {
            id: studio.volume.as_ref().map(ToString::to_string),
            user: studio.user.to_string(),
            environment: studio.environment.to_string(),
            size_gb: studio.size_gb.get(),
            status: studio.status.to_string(),
            created_at: studio.created_at,
            attached_to: studio.attachment.as_ref().map(|attachment| AttachedTo {
                engine: attachment.engine.to_string(),
                id: attachment.machine.to_string(),
                device: attachment.device.map(String::from),
                mount_point: attachment.mount_point.clone(),
            }),
            caveat: studio.caveat.clone(),
            operation: studio.operation.as_ref().map(ToString::to_string),
        }
    }
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// `launch`, `start`, `stop`, `terminate`, `resize_engine`, `create_studio`, `attach`, `detach`, `resize_studio`,
    /// `delete_studio` or `reset_studio`.
    pub kind: String,
    /// The environment.
    pub environment: String,
    /// Who asked for it.
    pub requested_by: String,
    /// The engine it is about, where the request names one.
    pub engine: Option<String>,
    /// The owner of the studio it is about.
    pub studio: Option<String>,
    /// `in_progress`, `unwinding`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Whether it waits to be resumed.
    pub paused: bool,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// Why it failed.
    pub error: Option<domain::StoredError>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// The steps that have begun, in order.
    pub steps: Vec<Step>,
}

/// One step of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// `in_progress`, `completed`, `skipped` or `failed`.
    pub status: StageStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, once over.
    #[serde(rename = "duration_secs", default, with = "secs_opt")]
    pub duration: Option<Duration>,
    /// How it failed.
    pub error: Option<domain::StoredError>,
    /// Whether it has been undone.
    pub undone: bool,
}

impl From<&domain::Operation> for Operation {
    fn from(operation: &domain::Operation) -> Self {
        Self {
            id: operation.id.to_string(),
            kind: operation.spec.kind().to_owned(),
            environment: operation.environment.to_string(),
            requested_by: operation.requested_by.to_string(),
            engine: operation.spec.engine().map(ToString::to_string),
            studio: operation.spec.studio().map(ToString::to_string),
            status: operation.status.as_str().to_owned(),
            paused: operation.paused,
            cancel_requested: operation.cancel_requested,
            error: operation.error.clone(),
            created_at: operation.created_at,
            updated_at: operation.updated_at,
            steps: operation
                .steps
                .iter()
                .map(|step| Step {
                    name: step.name.clone(),
                    status: step.status,
                    started_at: step.started_at,
                    duration: step.duration,
                    error: step.error.clone(),
                    undone: step.undone,
                })
                .collect(),
        }
    }
}
