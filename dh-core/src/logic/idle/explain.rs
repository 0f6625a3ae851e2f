//! Why an engine runs or was stopped, read back from its ledger.

use jiff::Timestamp;

use super::{LedgerAction, LedgerEntry, LedgerReading, PhaseName};
use crate::domain::{Activity, EngineState, EngineView, StateReason, StopCause, describe_duration};
use crate::ports::{Explanation, ExplanationEntry};

/// Explains an engine from the lines of its ledger, oldest first. Lines that cannot be read are passed over: the last one
/// may have been cut by a loss of power, the first one by whoever took only the end of the file.
pub fn explain(view: &EngineView, lines: &[String]) -> Explanation {
    let ledger: Vec<LedgerEntry> = lines.iter().filter_map(|line| LedgerEntry::parse(line)).collect();
    let mut entries: Vec<ExplanationEntry> = Vec::new();
    let mut begun: Option<&LedgerEntry> = None;
    for entry in &ledger {
        match (begun, entries.last_mut()) {
            (Some(before), Some(span)) if goes_on(before, entry) => {
                span.from = span.from.min(entry.at);
                span.until = span.until.max(entry.at);
                span.state = state(entry).into();
                span.reason = reason(entry);
                span.evidence = evidence(entry);
            }
            _ => entries.push(span(entry)),
        }
        begun = Some(entry);
    }
    if is_off(view.state)
        && let Some(why) = &view.state_reason
        && entries.last().is_none_or(|last| last.state != "stopped" || why.cause != StopCause::Idle)
    {
        entries.push(stopped(why));
    }
    entries.reverse();
    Explanation { summary: summary(view, &ledger), entries }
}

fn is_off(state: EngineState) -> bool {
    matches!(state, EngineState::Stopping | EngineState::Stopped | EngineState::Hibernated)
}

/// Returns whether two looks one after the other tell the same: state, deciding sensor, boot. Asking for a stop that is
/// accepted is the stop.
fn goes_on(before: &LedgerEntry, after: &LedgerEntry) -> bool {
    (state(before) == state(after) || (state(before), state(after)) == ("stopping", "stopped"))
        && before.boot_id == after.boot_id
        && before.decision.rule == after.decision.rule
        && before.decision.sensor == after.decision.sensor
        && !after.actions.contains(&LedgerAction::Anew)
}

fn state(entry: &LedgerEntry) -> &'static str {
    let accepted = entry.actions.iter().any(|action| matches!(action, LedgerAction::StopAccepted { .. }));
    match entry.phase {
        _ if accepted => "stopped",
        PhaseName::Committed => "stopping",
        PhaseName::Warned => "warned",
        PhaseName::Watching if entry.decision.is_active() => "active",
        PhaseName::Watching => "idle",
    }
}

fn span(entry: &LedgerEntry) -> ExplanationEntry {
    ExplanationEntry {
        from: entry.at,
        until: entry.at,
        state: state(entry).into(),
        reason: reason(entry),
        evidence: evidence(entry),
    }
}

fn stopped(why: &StateReason) -> ExplanationEntry {
    ExplanationEntry {
        from: why.at,
        until: why.at,
        state: "stopped".into(),
        reason: why.message.clone(),
        evidence: Vec::new(),
    }
}

fn reason(entry: &LedgerEntry) -> String {
    let mut reason = match entry.idle_for {
        Some(idle_for) if !entry.decision.is_active() => format!(
            "{}, idle for {} of {}",
            entry.decision.reason,
            describe_duration(idle_for),
            describe_duration(entry.timeout)
        ),
        _ => entry.decision.reason.clone(),
    };
    for action in &entry.actions {
        match action {
            LedgerAction::Cancelled { reason: why } => reason.push_str(&format!("; stop cancelled: {why}")),
            LedgerAction::StopFailed { error, .. } => reason.push_str(&format!("; stop failed: {error}")),
            _ => {}
        }
    }
    reason
}

fn evidence(entry: &LedgerEntry) -> Vec<String> {
    let line = |reading: &LedgerReading| {
        let activity = match reading.activity {
            Activity::Active => "active",
            Activity::Idle => "idle",
            Activity::Unknown => "unknown",
        };
        format!("{}: {activity} ({} confidence): {}", reading.sensor, reading.confidence, reading.reason)
    };
    entry.readings.iter().map(line).collect()
}

/// Answers in one line, without the engine's name: whoever shows it has that.
fn summary(view: &EngineView, ledger: &[LedgerEntry]) -> String {
    if let Some(stage) = view.engine.bootstrap.failed() {
        let error = stage.error.as_deref().unwrap_or("no reason was given");
        return format!("bootstrap failed at {}: {error}", stage.name.as_str());
    }
    match (&view.state_reason, ledger.last()) {
        (Some(why), _) if is_off(view.state) => off(view.state, why),
        (_, Some(last)) if view.state == EngineState::Running => running(view, last, last_failure(ledger)),
        (_, None) if view.state == EngineState::Running => "running; its agent has not looked around yet".into(),
        _ => view.state.to_string(),
    }
}

fn off(state: EngineState, why: &StateReason) -> String {
    let because = match why.cause {
        StopCause::Idle => "because nobody used it",
        StopCause::User => "because somebody asked for it",
        StopCause::Died => "because it ended by itself",
        StopCause::HostRebooted => "because the machine it ran on was restarted",
    };
    format!("{state} {because}: {}", why.message)
}

/// Returns how the last try failed to stop an engine that is still to be stopped.
fn last_failure(ledger: &[LedgerEntry]) -> Option<&str> {
    let tries = ledger.iter().rev().take_while(|entry| entry.phase == PhaseName::Committed);
    tries.flat_map(|entry| entry.actions.iter().rev()).find_map(|action| match action {
        LedgerAction::StopFailed { error, .. } => Some(error.as_str()),
        _ => None,
    })
}

fn running(view: &EngineView, last: &LedgerEntry, failure: Option<&str>) -> String {
    let idle_for = describe_duration(last.idle_for.unwrap_or_default());
    let idle = format!("idle for {idle_for} of {}", describe_duration(last.timeout));
    match (state(last), failure) {
        (_, Some(error)) => format!("running although {idle}, because it could not be stopped: {error}"),
        ("active", _) => format!("running because it is in use: {}", last.decision.reason),
        ("warned", _) => {
            let when = view.engine.idle.as_ref().and_then(|idle| idle.stop_at);
            let when = when.map_or_else(String::new, |at: Timestamp| format!(" at {at:.0}"));
            format!("running, {idle}; it will be stopped{when}")
        }
        ("idle", _) => format!("running, {idle}"),
        _ => format!("being stopped: {idle}"),
    }
}
