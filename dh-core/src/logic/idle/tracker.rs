//! Counts idle time on the boot clock and goes from warning to stop in two phases.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Decision, Rule, any_unknown, decide};
use crate::domain::{IdlePolicy, Reading, StopMode, describe_duration, secs, secs_opt};

/// The version of [`IdleState`] as this dh writes it.
pub const IDLE_STATE_SCHEMA: u32 = 1;

/// After a longer time without a look the count starts anew: nobody saw whether the engine was in use.
///
/// Long enough for an agent to be killed and started again, short enough for no training run to fit in.
pub const LOOK_GAP: Duration = Duration::from_secs(60);

/// How far two reads of the time spent suspended may differ without the machine having slept in between.
const SUSPEND_SLACK: Duration = Duration::from_secs(2);

/// How long after an accepted stop the power may stay on before it is asked for again.
const READ_BACK: Duration = Duration::from_secs(30);

/// The pause after the first failed stop; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(2);

/// The longest pause between two tries to stop. They never end.
const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// A moment, on clocks that no one sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Which boot: new after every start, resume and thaw.
    pub boot_id: String,
    /// The boot clock.
    pub since_boot: Duration,
    /// How much of that the machine was suspended.
    pub suspended: Duration,
}

/// One look at the engine.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// When the sensors had looked.
    pub at: &'a Moment,
    /// The policy in force.
    pub policy: &'a IdlePolicy,
    /// What they saw.
    pub readings: &'a [Reading],
    /// Whether this is the second look, asked for by [`IdleEffect::Resample`]. Only such a one commits to a stop.
    pub confirm: bool,
}

/// What the agent remembers between looks, and over its own restarts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdleState {
    /// The version of this form.
    pub schema: u32,
    /// The boot that everything below belongs to.
    pub boot_id: String,
    /// When this boot was first looked at, on the boot clock.
    #[serde(rename = "began_secs", with = "secs")]
    pub began: Duration,
    /// The last look.
    #[serde(rename = "last_look_secs", with = "secs")]
    pub last_look: Duration,
    /// How much of the time up to then the machine was suspended.
    #[serde(rename = "suspended_secs", with = "secs")]
    pub suspended: Duration,
    /// Since when everything is quiet.
    #[serde(rename = "idle_since_secs", default, with = "secs_opt", skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Duration>,
    /// Since when nothing but a blind sensor could speak for the engine.
    #[serde(rename = "unknown_since_secs", default, with = "secs_opt", skip_serializing_if = "Option::is_none")]
    pub unknown_since: Option<Duration>,
    /// How far on the way to a stop.
    pub phase: IdlePhase,
    /// Counts the decisions to stop, so that each has a number of its own.
    pub epoch: u64,
}

/// How far on the way to a stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum IdlePhase {
    /// Nobody has been warned.
    Watching,
    /// People have been warned; anything that moves cancels.
    Warned {
        /// When they were.
        #[serde(rename = "at_secs", with = "secs")]
        at: Duration,
    },
    /// The decision is made; the stop is asked for until power is off.
    Committed {
        /// The decision's number.
        epoch: u64,
        /// How often the stop has been asked for.
        tries: u32,
        /// Whether the last try may have worked.
        accepted: bool,
        /// When to ask next.
        #[serde(rename = "next_secs", with = "secs")]
        next: Duration,
    },
}

/// What the agent is to do after a look, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdleEffect {
    /// Tell whoever is there that the engine will be stopped.
    Warn {
        /// For how long it has been idle.
        idle_for: Duration,
        /// How long is left.
        left: Duration,
    },
    /// Tell them that it will not, and why.
    Cancelled {
        /// What kept it.
        reason: String,
    },
    /// Look once more with every sensor and step again with `confirm`.
    Resample,
    /// Store the state, then stop the engine.
    Stop {
        /// The decision's number.
        epoch: u64,
        /// How.
        mode: StopMode,
        /// For how long the engine has been idle.
        idle_for: Duration,
    },
}

/// The outcome of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The verdict and its reason.
    pub decision: Decision,
    /// For how long everything has been quiet; none while active.
    pub idle_for: Option<Duration>,
    /// When the engine will be stopped, on the boot clock, once people have been warned.
    pub stop_at: Option<Duration>,
    /// Whether a new count began: another boot, a sleep, a gap, or nothing usable stored.
    pub anew: bool,
    /// What is to be done.
    pub effects: Vec<IdleEffect>,
}

/// How a try to stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It was accepted, or may have been.
    Accepted,
    /// It failed and changed nothing.
    Failed,
}

/// Counts idle time from look to look. All times are on the boot clock, so that a stepped wall clock changes nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IdleTracker {
    state: Option<IdleState>,
}

impl IdleTracker {
    /// Goes on from what was stored; `None` where nothing was or it could not be read. The first look decides what of it
    /// still holds.
    pub fn new(stored: Option<IdleState>) -> Self {
        Self { state: stored }
    }

    /// Returns what to store; nothing before the first look.
    pub fn state(&self) -> Option<&IdleState> {
        self.state.as_ref()
    }

    /// Takes one look and says what to do.
    pub fn step(&mut self, look: &Look<'_>) -> Step {
        let now = look.at.since_boot;
        let (mut state, anew, was_warned) = self.adopt(look.at);
        let mut effects = Vec::new();
        if anew && was_warned {
            effects.push(IdleEffect::Cancelled { reason: "the engine slept or was not looked at for a while".into() });
        }
        let decision = state.judge(look);
        if decision.is_active() {
            state.idle_since = None;
            state.active(now, &decision, &mut effects);
        } else {
            state.idle_since.get_or_insert(now);
            state.idle(look, &mut effects);
        }
        let step = Step {
            decision,
            idle_for: state.idle_since.map(|since| now.saturating_sub(since)),
            stop_at: state.stop_at(look.policy),
            anew,
            effects,
        };
        self.state = Some(state);
        step
    }

    /// Takes note of how a try to stop ended.
    pub fn stopped(&mut self, outcome: StopOutcome, since_boot: Duration) {
        let Some(IdleState { phase: IdlePhase::Committed { tries, accepted, next, .. }, .. }) = &mut self.state else {
            return;
        };
        *tries = tries.saturating_add(1);
        *accepted = outcome == StopOutcome::Accepted;
        *next = since_boot + if *accepted { READ_BACK } else { backoff(*tries) };
    }

    /// Returns when something is due before the next regular look, on the boot clock.
    pub fn due(&self, policy: &IdlePolicy) -> Option<Duration> {
        let state = self.state.as_ref()?;
        match state.phase {
            IdlePhase::Watching => {
                state.idle_since.map(|since| since + policy.idle_timeout.saturating_sub(policy.effective_warning()))
            }
            IdlePhase::Warned { .. } | IdlePhase::Committed { .. } => state.stop_at(policy),
        }
    }

    /// Returns what of the stored state still holds, whether the count begins anew, and whether that takes back a warning
    /// that people of this very boot have seen.
    fn adopt(&mut self, at: &Moment) -> (IdleState, bool, bool) {
        let fresh = |epoch| IdleState {
            schema: IDLE_STATE_SCHEMA,
            boot_id: at.boot_id.clone(),
            began: at.since_boot,
            last_look: at.since_boot,
            suspended: at.suspended,
            idle_since: None,
            unknown_since: None,
            phase: IdlePhase::Watching,
            epoch,
        };
        let Some(mut state) = self.state.take() else {
            return (fresh(0), true, false);
        };
        let same_boot = state.boot_id == at.boot_id && state.schema == IDLE_STATE_SCHEMA;
        let whole = same_boot
            && state.is_sound()
            && state.last_look <= at.since_boot
            && at.since_boot - state.last_look <= LOOK_GAP
            && at.suspended.abs_diff(state.suspended) <= SUSPEND_SLACK;
        if !whole {
            let was_warned = same_boot && state.phase != IdlePhase::Watching;
            return (fresh(state.epoch), true, was_warned);
        }
        state.last_look = at.since_boot;
        (state, false, false)
    }
}

impl IdleState {
    /// Returns whether no time lies before this boot was first seen, or after the last look.
    fn is_sound(&self) -> bool {
        let warned = match self.phase {
            IdlePhase::Warned { at } => Some(at),
            _ => None,
        };
        (warned.is_none() || self.idle_since.is_some())
            && [self.idle_since, self.unknown_since, warned, Some(self.last_look)]
                .into_iter()
                .flatten()
                .all(|time| (self.began..=self.last_look).contains(&time))
    }

    /// Judges the readings, and counts for how long blind sensors alone have been holding the engine.
    fn judge(&mut self, look: &Look<'_>) -> Decision {
        let decision = decide(look.readings, false);
        if !any_unknown(look.readings) || matches!(decision.rule, Rule::Hold | Rule::High) {
            self.unknown_since = None;
            return decision;
        }
        let since = *self.unknown_since.get_or_insert(look.at.since_boot);
        let blind_for = look.at.since_boot.saturating_sub(since);
        match look.policy.unknown_limit {
            Some(limit) if blind_for >= limit => decide(look.readings, true),
            _ => decision,
        }
    }

    fn active(&mut self, now: Duration, decision: &Decision, effects: &mut Vec<IdleEffect>) {
        match self.phase {
            IdlePhase::Watching => return,
            // The power is going off; what is seen until then are its last moments.
            IdlePhase::Committed { accepted: true, next, .. } if now < next => return,
            // A stop that failed, or was never asked for, is no reason to end what has begun since.
            IdlePhase::Warned { .. } | IdlePhase::Committed { .. } => {}
        }
        self.phase = IdlePhase::Watching;
        effects.push(IdleEffect::Cancelled { reason: format!("kept awake by {}", decision.reason) });
    }

    fn idle(&mut self, look: &Look<'_>, effects: &mut Vec<IdleEffect>) {
        let (now, policy) = (look.at.since_boot, look.policy);
        let Some(since) = self.idle_since else { return };
        let idle_for = now.saturating_sub(since);
        let warning = policy.effective_warning();
        if matches!(self.phase, IdlePhase::Warned { .. }) && idle_for + warning < policy.idle_timeout {
            self.phase = IdlePhase::Watching;
            let reason = format!("the idle timeout is now {}", describe_duration(policy.idle_timeout));
            effects.push(IdleEffect::Cancelled { reason });
        }
        if self.phase == IdlePhase::Watching && idle_for + warning >= policy.idle_timeout {
            self.phase = IdlePhase::Warned { at: now };
            if !warning.is_zero() {
                effects.push(IdleEffect::Warn { idle_for, left: self.left(now, policy) });
            }
        }
        if matches!(self.phase, IdlePhase::Warned { .. }) && self.left(now, policy).is_zero() {
            if look.confirm {
                self.epoch += 1;
                self.phase = IdlePhase::Committed { epoch: self.epoch, tries: 0, accepted: false, next: now };
            } else {
                effects.push(IdleEffect::Resample);
            }
        }
        match self.phase {
            IdlePhase::Committed { epoch, next, .. } if now >= next && idle_for >= policy.idle_timeout => {
                effects.push(IdleEffect::Stop { epoch, mode: policy.action, idle_for });
            }
            IdlePhase::Committed { next, .. } if now >= next => {
                self.phase = IdlePhase::Watching;
                effects.push(IdleEffect::Cancelled { reason: "it was in use again before it could be stopped".into() });
            }
            _ => {}
        }
    }

    fn left(&self, now: Duration, policy: &IdlePolicy) -> Duration {
        self.stop_at(policy).map_or(Duration::ZERO, |stop_at| stop_at.saturating_sub(now))
    }

    /// Returns when the stop is due: at the timeout, but never before the warning has been out for as long as it says. A
    /// timeout that was shortened while the engine was idle could otherwise strike unannounced.
    fn stop_at(&self, policy: &IdlePolicy) -> Option<Duration> {
        match self.phase {
            IdlePhase::Watching => None,
            IdlePhase::Warned { at } => {
                Some((self.idle_since? + policy.idle_timeout).max(at + policy.effective_warning()))
            }
            IdlePhase::Committed { next, .. } => Some(next),
        }
    }
}

/// Returns the pause after so many failed tries: 2, 4, 8 … seconds, at most five minutes.
fn backoff(tries: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LAST_BACKOFF)
}
