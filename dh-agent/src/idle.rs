//! The idle loop: look, decide, tell, and stop. One task owns all of its state.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::sync::Arc;
use std::time::Duration;

use dh_core::domain::{
    Bootstrap, Effect, EngineName, ErrorKind, IdlePolicy, IdleStatus, Reading, Result, StopMode, describe_duration,
};
use dh_core::logic::idle::{
    IdleEffect, IdlePhase, IdleState, IdleTracker, LEDGER_SCHEMA, LedgerAction, LedgerEntry, LedgerReading, Look,
    Moment, PhaseName, Step, StopOutcome,
};
use dh_core::ports::{Clock, Notifier};
use tokio::sync::watch;

use crate::boot::Boots;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::power::Actuator;
use crate::report::Reporter;
use crate::sense::{Senses, bootstrap_hold};
use crate::{coffee, files, policy, warn};

/// How long somebody who pours coffee may keep the loop from deciding.
const COFFEE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a stop waits for the store to hear of it.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// What the loop uses of the world.
#[derive(Debug)]
pub struct Parts {
    pub engine: EngineName,
    pub layout: Layout,
    /// The policy of the launch, until another is set.
    pub policy: IdlePolicy,
    pub clock: Arc<dyn Clock>,
    pub senses: Arc<Senses>,
    pub notifier: Arc<dyn Notifier>,
    pub power: Box<dyn Actuator>,
    pub reporter: Reporter,
    pub bootstrap: watch::Receiver<Bootstrap>,
}

/// The loop.
#[derive(Debug)]
pub struct IdleLoop {
    parts: Parts,
    boots: Boots,
    tracker: IdleTracker,
    ledger: Ledger,
    policy: IdlePolicy,
    /// What was last said about each thing that fails, so that it is said once.
    complaints: HashMap<&'static str, String>,
    last_error: Option<String>,
}

impl IdleLoop {
    /// Goes on from what an agent before stored.
    pub fn new(parts: Parts) -> Self {
        let stored = files::read(&parts.layout.idle()).ok().flatten();
        let stored = stored.and_then(|text| match serde_json::from_str::<IdleState>(&text) {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::warn!(%error, "the stored idle state cannot be read; time is counted anew");
                None
            }
        });
        Self {
            boots: Boots::of(&parts.layout),
            tracker: IdleTracker::new(stored),
            ledger: Ledger::new(parts.layout.ledger()),
            policy: policy::in_force(&parts.layout, &parts.policy),
            complaints: HashMap::new(),
            last_error: None,
            parts,
        }
    }

    /// Looks once and does what follows from it. Returns how long to wait until the next look.
    pub async fn tick(&mut self) -> Duration {
        self.policy = policy::in_force(&self.parts.layout, &self.parts.policy);
        let committed = matches!(self.tracker.state().map(|state| &state.phase), Some(IdlePhase::Committed { .. }));
        let _first = if committed { self.first().await } else { None };
        let (look, step, readings) = self.look(false).await;
        if step.effects.contains(&IdleEffect::Resample) {
            self.record(&look, &step, &readings, Vec::new());
            // From here to the end of the stop nobody else decides: coffee comes before, or learns that it is too late.
            let _first = self.first().await;
            let (look, step, readings) = self.look(true).await;
            self.follow(&look, &step, &readings).await;
        } else {
            self.follow(&look, &step, &readings).await;
        }
        self.pause()
    }

    /// Lets the last report reach the store.
    pub async fn end(&self, patience: Duration) {
        self.parts.reporter.flush(patience).await;
    }

    /// Samples every sensor, and only then reads the clock: nothing is decided on readings older than they seem.
    async fn look(&mut self, confirm: bool) -> (Moment, Step, Vec<Reading>) {
        let mut readings = self.parts.senses.look().await;
        readings.extend(bootstrap_hold(&self.parts.bootstrap.borrow()));
        let at = self.boots.moment(&*self.parts.clock);
        let step = self.tracker.step(&Look { at: &at, policy: &self.policy, readings: &readings, confirm });
        let stored = match self.tracker.state() {
            Some(state) => files::replace_json(&self.parts.layout.idle(), state),
            None => Ok(()),
        };
        self.note("the idle state cannot be stored", stored);
        (at, step, readings)
    }

    async fn follow(&mut self, at: &Moment, step: &Step, readings: &[Reading]) {
        let mut actions = Vec::new();
        let mut stop = None;
        for effect in &step.effects {
            match effect {
                IdleEffect::Warn { idle_for, left } => {
                    tracing::info!(idle = ?idle_for, left = ?left, "idle: warning whoever is there");
                    let reached = self.tell(&warn::warning(&self.parts.engine, *idle_for, *left)).await;
                    actions.push(LedgerAction::Warned { left: *left, reached });
                }
                IdleEffect::Cancelled { reason } => {
                    tracing::info!(%reason, "the stop is cancelled");
                    self.last_error = None;
                    self.parts.reporter.stopping(false);
                    self.tell(&warn::all_clear(&self.parts.engine, reason)).await;
                    actions.push(LedgerAction::Cancelled { reason: reason.clone() });
                }
                IdleEffect::Stop { epoch, mode, idle_for } => {
                    actions.push(LedgerAction::Stopping { epoch: *epoch, mode: *mode });
                    stop = Some((*epoch, *mode, *idle_for));
                }
                IdleEffect::Resample => {}
            }
        }
        self.record(at, step, readings, actions);
        self.publish(step, readings);
        if let Some((epoch, mode, idle_for)) = stop {
            let action = self.stop(epoch, mode, idle_for).await;
            self.record(at, step, readings, vec![action]);
            self.publish(step, readings);
        }
    }

    /// Asks for the stop of a decision that is stored.
    async fn stop(&mut self, epoch: u64, mode: StopMode, idle_for: Duration) -> LedgerAction {
        tracing::info!(epoch, ?mode, idle = ?idle_for, "idle: stopping");
        self.parts.reporter.stopping(true);
        self.parts.reporter.flush(STORE_PATIENCE).await;
        let message = format!(
            "idle for {} (timeout {})",
            describe_duration(idle_for),
            describe_duration(self.policy.idle_timeout)
        );
        let mut answer = self.parts.power.stop(mode, &message).await;
        if let Err(error) = &answer
            && mode == StopMode::Hibernate
            && error.kind() == ErrorKind::Unsupported
        {
            tracing::warn!(error = %error.full_message(), "the engine cannot hibernate; it is stopped instead");
            answer = self.parts.power.stop(StopMode::Stop, &message).await;
        }
        let (outcome, action) = match answer {
            Ok(()) => (StopOutcome::Accepted, LedgerAction::StopAccepted { epoch }),
            Err(error) => {
                let text = error.full_message();
                tracing::error!(error = %text, "the stop failed and will be tried again");
                self.last_error = Some(text.clone());
                let unknown = error.effect() == Effect::Unknown;
                let outcome = if unknown { StopOutcome::Accepted } else { StopOutcome::Failed };
                (outcome, LedgerAction::StopFailed { epoch, error: text })
            }
        };
        if outcome == StopOutcome::Accepted {
            self.last_error = None;
        }
        self.tracker.stopped(outcome, self.parts.clock.since_boot());
        let stored = self.tracker.state().map_or(Ok(()), |state| files::replace_json(&self.parts.layout.idle(), state));
        self.note("the idle state cannot be stored", stored);
        action
    }

    async fn tell(&mut self, message: &str) -> usize {
        match self.parts.notifier.notify(message).await {
            Ok(reached) => reached,
            Err(error) => {
                tracing::warn!(error = %error.full_message(), "people on the engine could not be told");
                0
            }
        }
    }

    /// Makes this the only one who decides: [`coffee`] takes the same lock. Whoever holds it too long is not waited for.
    async fn first(&self) -> Option<File> {
        let path = self.parts.layout.commit_lock();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
        let begun = self.parts.clock.since_boot();
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if self.parts.clock.since_boot().saturating_sub(begun) > COFFEE_PATIENCE {
                tracing::warn!("somebody has held the commit lock for too long; deciding without it");
                return None;
            }
            self.parts.clock.sleep(Duration::from_millis(20)).await;
        }
        Some(file)
    }

    fn record(&mut self, at: &Moment, step: &Step, readings: &[Reading], mut actions: Vec<LedgerAction>) {
        if step.anew {
            actions.insert(0, LedgerAction::Anew);
        }
        let entry = LedgerEntry {
            schema: LEDGER_SCHEMA,
            at: self.parts.clock.now(),
            boot: at.since_boot,
            boot_id: at.boot_id.clone(),
            decision: step.decision.clone(),
            idle_for: step.idle_for,
            timeout: self.policy.idle_timeout,
            phase: self.tracker.state().map_or(PhaseName::Watching, |state| PhaseName::from(&state.phase)),
            readings: readings.iter().map(LedgerReading::from).collect(),
            actions,
        };
        let written = self.ledger.append(&entry);
        self.note("the ledger cannot be written", written);
    }

    fn publish(&mut self, step: &Step, readings: &[Reading]) {
        let mut status = status(&self.parts, &self.policy, step, readings);
        if let Some(error) = &self.last_error {
            status.reason = format!("{}; it could not be stopped: {error}", status.reason);
        }
        let written = files::replace_json(&self.parts.layout.status(), &status);
        self.note("the status cannot be written", written);
        // After a thaw the store may have forgotten what it was told before.
        self.parts.reporter.idle(&status, step.anew);
    }

    /// Says once what fails, and once that it works again.
    fn note(&mut self, what: &'static str, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                if self.complaints.remove(what).is_some() {
                    tracing::info!("works again: {what}");
                }
            }
            Err(error) => {
                let text = error.full_message();
                if self.complaints.get(what) != Some(&text) {
                    tracing::error!(error = %text, "{what}");
                    self.complaints.insert(what, text);
                }
            }
        }
    }

    /// Until the next tick, or until something is due before it.
    fn pause(&self) -> Duration {
        let (tick, now) = (self.policy.tick(), self.parts.clock.since_boot());
        match self.tracker.due(&self.policy).map(|due| due.saturating_sub(now)) {
            Some(left) if !left.is_zero() => left.min(tick),
            _ => tick,
        }
    }
}

/// Returns what a look comes to, for people.
fn status(parts: &Parts, policy: &IdlePolicy, step: &Step, readings: &[Reading]) -> IdleStatus {
    let (now, since_boot) = (parts.clock.now(), parts.clock.since_boot());
    IdleStatus {
        is_idle: !step.decision.is_active(),
        idle_since: step.idle_for.map(|idle_for| now - idle_for),
        timeout: policy.idle_timeout,
        reason: step.decision.reason.clone(),
        readings: readings.to_vec(),
        coffee_until: coffee::until(&parts.layout, &*parts.clock),
        stop_at: step.stop_at.map(|at| now + at.saturating_sub(since_boot)),
        at: now,
    }
}

#[cfg(test)]
#[path = "idle_tests.rs"]
mod tests;
