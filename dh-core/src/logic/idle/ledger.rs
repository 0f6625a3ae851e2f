//! What one look leaves behind for good.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Decision, IdlePhase};
use crate::domain::{Activity, Axis, Confidence, Reading, StopMode, secs, secs_opt};

/// The version of [`LedgerEntry`] as this dh writes it.
pub const LEDGER_SCHEMA: u32 = 1;

/// One line of the ledger: a look, its verdict, and what was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The version of this form.
    pub schema: u32,
    /// When, on the wall clock, for people. It may step.
    pub at: Timestamp,
    /// When, on the boot clock.
    #[serde(rename = "boot_secs", with = "secs")]
    pub boot: Duration,
    /// Which boot.
    pub boot_id: String,
    /// The verdict.
    #[serde(flatten)]
    pub decision: Decision,
    /// For how long everything has been quiet.
    #[serde(rename = "idle_secs", default, with = "secs_opt", skip_serializing_if = "Option::is_none")]
    pub idle_for: Option<Duration>,
    /// The timeout in force.
    #[serde(rename = "timeout_secs", with = "secs")]
    pub timeout: Duration,
    /// How far on the way to a stop.
    pub phase: PhaseName,
    /// What each sensor saw.
    pub readings: Vec<LedgerReading>,
    /// What was done, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<LedgerAction>,
}

/// How far on the way to a stop, by name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// Nobody has been warned.
    Watching,
    /// People have been warned.
    Warned,
    /// The stop is being asked for.
    Committed,
}

impl From<&IdlePhase> for PhaseName {
    fn from(phase: &IdlePhase) -> Self {
        match phase {
            IdlePhase::Watching => Self::Watching,
            IdlePhase::Warned { .. } => Self::Warned,
            IdlePhase::Committed { .. } => Self::Committed,
        }
    }
}

/// A reading without its details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerReading {
    /// The sensor.
    pub sensor: String,
    /// In use, not in use, or not known.
    pub activity: Activity,
    /// How far to trust it.
    pub confidence: Confidence,
    /// What it looks at.
    pub axis: Axis,
    /// One line for people.
    pub reason: String,
}

impl From<&Reading> for LedgerReading {
    fn from(reading: &Reading) -> Self {
        Self {
            sensor: reading.sensor.clone(),
            activity: reading.activity,
            confidence: reading.confidence,
            axis: reading.axis,
            reason: reading.reason.clone(),
        }
    }
}

impl LedgerReading {
    /// Returns the reading as it was, without its details: what a replay judges.
    pub fn to_reading(&self) -> Reading {
        Reading::new(&self.sensor, self.activity, self.confidence, self.axis, self.reason.clone())
    }
}

/// Something the agent did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LedgerAction {
    /// Began to count anew: another boot, a sleep, a gap, or nothing usable stored.
    Anew,
    /// Warned whoever was there.
    Warned {
        /// How long before the stop.
        #[serde(rename = "left_secs", with = "secs")]
        left: Duration,
        /// How many terminals it reached.
        reached: usize,
    },
    /// Took the stop back.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// Is about to ask for the stop.
    Stopping {
        /// The decision's number.
        epoch: u64,
        /// How.
        mode: StopMode,
    },
    /// The stop was accepted.
    StopAccepted {
        /// The decision's number.
        epoch: u64,
    },
    /// The stop failed.
    StopFailed {
        /// The decision's number.
        epoch: u64,
        /// How.
        error: String,
    },
}

impl LedgerEntry {
    /// Reads one line. A line that was cut, is damaged or was written by a newer dh gives nothing.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str::<Self>(line).ok().filter(|entry| entry.schema <= LEDGER_SCHEMA)
    }
}
