//! When an idle engine is warned and stopped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{StopMode, secs, secs_opt};

/// The rules by which an engine is judged idle and what is done then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct IdlePolicy {
    /// How long everything must be quiet before the engine is stopped.
    #[serde(rename = "idle_timeout_secs", with = "secs")]
    pub idle_timeout: Duration,
    /// How long before the stop people on the engine are warned.
    #[serde(rename = "warning_secs", with = "secs")]
    pub warning: Duration,
    /// What is done when the time is over.
    pub action: StopMode,
    /// How long readings of unknown may hold the engine; without it, for ever.
    #[serde(rename = "unknown_limit_secs", with = "secs_opt", skip_serializing_if = "Option::is_none")]
    pub unknown_limit: Option<Duration>,
}

impl Default for IdlePolicy {
    /// Thirty minutes, a warning five minutes ahead, an ordinary stop.
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(1_800),
            warning: Duration::from_secs(300),
            action: StopMode::Stop,
            unknown_limit: None,
        }
    }
}

impl IdlePolicy {
    /// Returns how long before the stop the warning goes out: as set, but never more than half the timeout.
    pub fn effective_warning(&self) -> Duration {
        self.warning.min(self.idle_timeout / 2)
    }

    /// Returns the time between two looks: a tenth of the timeout, at least one second and at most ten.
    pub fn tick(&self) -> Duration {
        (self.idle_timeout / 10).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_seconds_can_be_watched() {
        let policy = IdlePolicy { idle_timeout: Duration::from_secs(10), ..IdlePolicy::default() };
        assert_eq!((policy.tick().as_secs(), policy.effective_warning().as_secs()), (1, 5));
    }

    #[test]
    fn the_default_is_thirty_minutes() {
        assert_eq!(IdlePolicy::default().idle_timeout.as_secs(), 1800);
        assert_eq!(serde_json::to_value(IdlePolicy::default()).unwrap()["idle_timeout_secs"], 1800);
    }
}
