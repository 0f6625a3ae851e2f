//! A machine that ticks, for the tests of the tracker.

use std::time::Duration;

use crate::domain::{Activity, Axis, Confidence, IdlePolicy, Reading};
use crate::logic::idle::*;

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ten minutes, a warning two minutes ahead.
pub fn ten_minutes() -> IdlePolicy {
    IdlePolicy { idle_timeout: secs(600), warning: secs(120), ..IdlePolicy::default() }
}

pub fn quiet() -> Vec<Reading> {
    vec![
        Reading::new("ssh", Activity::Idle, Confidence::High, Axis::Presence, "No SSH sessions"),
        Reading::new("docker", Activity::Idle, Confidence::Medium, Axis::Work, "No workload containers"),
    ]
}

pub fn busy() -> Vec<Reading> {
    vec![Reading::new("ssh", Activity::Active, Confidence::High, Axis::Presence, "1 active SSH session(s)")]
}

pub fn coffee() -> Vec<Reading> {
    let mut readings = quiet();
    readings.push(Reading::new("coffee", Activity::Active, Confidence::High, Axis::Hold, "Coffee lock active"));
    readings
}

pub fn blind() -> Vec<Reading> {
    let mut readings = quiet();
    readings.push(Reading::unknown("gpu", Axis::Work, "no answer within 2 seconds"));
    readings
}

pub struct World {
    pub tracker: IdleTracker,
    pub policy: IdlePolicy,
    pub at: Moment,
}

impl World {
    pub fn new(policy: IdlePolicy) -> Self {
        let at = Moment { boot_id: "first".into(), since_boot: secs(5_000), suspended: secs(0) };
        Self { tracker: IdleTracker::default(), policy, at }
    }

    pub fn look(&mut self, readings: &[Reading]) -> Step {
        self.tracker.step(&Look { at: &self.at, policy: &self.policy, readings, confirm: false })
    }

    pub fn confirm(&mut self, readings: &[Reading]) -> Step {
        self.tracker.step(&Look { at: &self.at, policy: &self.policy, readings, confirm: true })
    }

    /// Lets time go by in ticks of at most ten seconds, looking after each; returns what was to be done, with the time.
    pub fn pass(&mut self, time: Duration, readings: &[Reading]) -> Vec<IdleEffect> {
        let end = self.at.since_boot + time;
        let mut effects = Vec::new();
        while self.at.since_boot < end {
            self.at.since_boot = (self.at.since_boot + self.policy.tick()).min(end);
            effects.extend(self.look(readings).effects);
        }
        effects
    }

    /// Brings an engine that was looked at once to its decision.
    pub fn commit(&mut self) -> Step {
        self.look(&quiet());
        self.pass(self.policy.idle_timeout, &quiet());
        let step = self.confirm(&quiet());
        assert!(matches!(step.effects[..], [IdleEffect::Stop { .. }]), "{step:?}");
        step
    }

    /// Kills the agent and starts another, which finds what was stored.
    pub fn restart(&mut self) {
        let stored = serde_json::to_string(self.tracker.state().unwrap()).unwrap();
        self.tracker = IdleTracker::new(serde_json::from_str(&stored).ok());
    }

    pub fn phase(&self) -> PhaseName {
        PhaseName::from(&self.tracker.state().unwrap().phase)
    }
}
