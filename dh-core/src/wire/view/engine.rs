//! Engines as programs see them.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{self, Activity, Confidence, Details, StopMode, secs};

/// An engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Its name.
    pub name: String,
    /// Its machine's id, once there is one.
    pub id: Option<String>,
    /// `launching`, `starting`, `running`, `stopping`, `stopped`, `hibernated`, `terminating` or `failed`.
    pub state: String,
    /// Why it is stopped.
    pub state_reason: Option<domain::StateReason>,
    /// Whether its bootstrap is over.
    pub ready: bool,
    /// The engine type's name.
    #[serde(rename = "type")]
    pub engine_type: String,
    /// The backend's name for its hardware.
    pub instance_type: Option<String>,
    /// Its owner.
    pub user: String,
    /// The environment.
    pub environment: String,
    /// The size of its boot disk.
    pub boot_disk_gb: u32,
    /// Its public address, where it has one.
    pub public_ip: Option<String>,
    /// When the launch was asked for.
    pub created_at: Timestamp,
    /// When its machine was last started.
    pub launched_at: Option<Timestamp>,
    /// The owners of the studios attached to it.
    pub studios: Vec<String>,
    /// How long everything must be quiet before it is stopped.
    #[serde(rename = "idle_timeout_secs", with = "secs")]
    pub idle_timeout: Duration,
    /// What its agent last found.
    pub idle: Option<IdleState>,
    /// What its agent could not do at its last start; left out when all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The operation that has hold of it.
    pub operation: Option<String>,
}

impl From<&domain::EngineView> for Engine {
    fn from(view: &domain::EngineView) -> Self {
        let (engine, machine) = (&view.engine, view.machine.as_ref());
        Self {
            name: engine.name.to_string(),
            id: engine.machine.as_ref().map(ToString::to_string),
            state: view.state.to_string(),
            state_reason: view.state_reason.clone(),
            ready: engine.bootstrap.is_ready(),
            engine_type: engine.engine_type.clone(),
            instance_type: machine.map(|machine| machine.instance_type.clone()),
            user: engine.user.to_string(),
            environment: engine.environment.to_string(),
            boot_disk_gb: engine.boot_disk_gb.get(),
            public_ip: machine.and_then(|machine| machine.public_ip.clone()),
            created_at: engine.created_at,
            launched_at: machine.map(|machine| machine.launched_at),
            studios: view.studios.iter().map(ToString::to_string).collect(),
            idle_timeout: engine.policy.idle_timeout,
            idle: engine.idle.as_ref().map(IdleState::from),
            problems: engine.problems.clone(),
            operation: engine.operation.as_ref().map(ToString::to_string),
        }
    }
}

/// What an engine's agent last found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdleState {
    /// Whether everything is quiet.
    pub is_idle: bool,
    /// Since when.
    pub idle_since: Option<Timestamp>,
    /// The timeout in force.
    #[serde(rename = "timeout_secs", with = "secs")]
    pub timeout: Duration,
    /// Why active, or that all is idle.
    pub reason: String,
    /// Until when a coffee lock holds the engine.
    pub coffee_until: Option<Timestamp>,
    /// When the engine will be stopped, once people have been warned.
    pub stop_at: Option<Timestamp>,
    /// When the agent found this.
    pub at: Timestamp,
    /// What each sensor saw, in display order.
    pub sensors: Vec<Sensor>,
}

/// What one sensor saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// `active`, `idle` or `unknown`.
    pub activity: Activity,
    /// `HIGH`, `MEDIUM` or `LOW`.
    pub confidence: Confidence,
    /// One line for people.
    pub reason: String,
    /// The evidence, in display order.
    #[serde(default)]
    pub details: Details,
}

impl From<&domain::IdleStatus> for IdleState {
    fn from(status: &domain::IdleStatus) -> Self {
        Self {
            is_idle: status.is_idle,
            idle_since: status.idle_since,
            timeout: status.timeout,
            reason: status.reason.clone(),
            coffee_until: status.coffee_until,
            stop_at: status.stop_at,
            at: status.at,
            sensors: status
                .readings
                .iter()
                .map(|reading| Sensor {
                    name: reading.sensor.clone(),
                    activity: reading.activity,
                    confidence: reading.confidence,
                    reason: reading.reason.clone(),
                    details: reading.details.clone(),
                })
                .collect(),
        }
    }
}

/// An engine's idle policy and state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// The engine.
    pub engine: String,
    /// How long everything must be quiet before it is stopped.
    #[serde(rename = "idle_timeout_secs", with = "secs")]
    pub idle_timeout: Duration,
    /// How long before the stop people are warned.
    #[serde(rename = "warning_secs", with = "secs")]
    pub warning: Duration,
    /// `stop` or `hibernate`.
    pub action: StopMode,
    /// What its agent last found.
    pub state: Option<IdleState>,
}

/// A coffee lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coffee {
    /// The engine.
    pub engine: String,
    /// Until when it is held; null when it is not.
    pub until: Option<Timestamp>,
}

/// How far an engine's bootstrap is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The engine.
    pub engine: String,
    /// Its machine's id.
    pub id: Option<String>,
    /// Whether it is over and nothing failed.
    pub ready: bool,
    /// The stage in progress, or the last one that began.
    pub current_stage: Option<String>,
    /// The stages that have begun, in order.
    pub stages: Vec<domain::Stage>,
}

impl From<&domain::Engine> for Bootstrap {
    fn from(engine: &domain::Engine) -> Self {
        Self {
            engine: engine.name.to_string(),
            id: engine.machine.as_ref().map(ToString::to_string),
            ready: engine.bootstrap.is_ready(),
            current_stage: engine.bootstrap.current().map(|stage| stage.name.as_str().to_owned()),
            stages: engine.bootstrap.stages.clone(),
        }
    }
}
