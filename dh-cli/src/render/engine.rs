//! Engines, drawn.

use dh_core::domain::{
    Activity, DetailValue, Engine, EngineState, EngineView, IdleStatus, Reading, StageName, StageStatus,
    describe_duration,
};
use dh_core::ports::Explanation;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Column, Paint, Table, ago, moment, plain, took, until};

/// How many lines of a list of evidence are shown.
const EVIDENCE_LINES: usize = 5;

/// Colours a state's name.
fn state_colour(paint: Paint, state: &str, shown: &str) -> String {
    match state {
        "running" => paint.green(shown),
        "stopped" | "hibernated" => paint.grey(shown),
        "failed" => paint.red(shown),
        _ => paint.yellow(shown),
    }
}

/// Draws the table of `dh engine list`.
pub fn engine_list(title: &str, engines: &[EngineView], paint: Paint, room: Option<usize>) -> String {
    let mut table = Table::new(vec![
        Column::new("Name", 12).with_colour(|paint, _, shown| paint.blue(shown)),
        Column::new("State", 11).with_colour(state_colour),
        Column::new("User", 11),
        Column::new("Type", 11),
        Column::new("Instance ID", 19).with_colour(|paint, _, shown| paint.grey(shown)),
    ]);
    for view in engines {
        let engine = &view.engine;
        table.push(vec![
            engine.name.to_string(),
            view.state.to_string(),
            engine.user.to_string(),
            engine.engine_type.clone(),
            id(engine).unwrap_or_else(|| "-".into()),
        ]);
    }
    format!("\nEngines for {title}\n{}\nTotal: {}\n", table.draw(paint, room), engines.len())
}

fn id(engine: &Engine) -> Option<String> {
    engine.machine.as_ref().map(ToString::to_string)
}

/// Draws `dh engine status`.
pub fn engine_status(view: &EngineView, detailed: bool, now: Timestamp, paint: Paint) -> String {
    let engine = &view.engine;
    let state = view.state.as_str();
    let mut lines = vec![
        format!("Engine: {}", paint.blue(engine.name.as_str())),
        format!("Instance ID: {}", id(engine).unwrap_or_else(|| "-".into())),
        format!("Type: {}", engine.engine_type),
        format!("State: {}", state_colour(paint, state, state)),
    ];
    if let Some(machine) = &view.machine
        && !detailed
    {
        lines.extend(machine.public_ip.as_ref().map(|ip| format!("Public IP: {ip}")));
        lines.push(format!("Launched: {}", ago(machine.launched_at, now)));
    }
    if !view.studios.is_empty() {
        let users: Vec<&str> = view.studios.iter().map(|user| user.as_str()).collect();
        lines.push(format!("Studios: {}", users.join(", ")));
    }
    if let Some(operation) = &engine.operation {
        lines.push(format!("Operation: {operation}"));
    }
    let rests = matches!(view.state, EngineState::Stopped | EngineState::Hibernated | EngineState::Failed);
    if let Some(reason) = view.state_reason.as_ref().filter(|_| rests) {
        lines.push(format!("Reason: {} ({})", plain(&reason.message), ago(reason.at, now)));
    }
    if let Some(stage) = engine.bootstrap.failed() {
        lines.push(format!("Failed at stage: {} (see: dh engine debug {})", stage.name.as_str(), engine.name));
    }
    lines.extend(engine.problems.iter().map(|problem| paint.yellow(&format!("⚠ {}", plain(problem)))));
    // What the agent last found says nothing of an engine that no longer runs.
    if let Some(idle) = engine.idle.as_ref().filter(|_| view.state == EngineState::Running) {
        lines.push(String::new());
        lines.extend(idle_lines(idle, now, paint));
        if detailed {
            lines.push(String::new());
            lines.extend(sensor_lines(&idle.readings, paint));
        }
    } else if view.state == EngineState::Running {
        lines.extend([String::new(), "Idle Status: ⚪ UNKNOWN".into(), "Reason: no report from its agent yet".into()]);
    }
    lines.join("\n")
}

fn idle_lines(idle: &IdleStatus, now: Timestamp, paint: Paint) -> Vec<String> {
    let status = if idle.is_idle { paint.yellow("🟡 IDLE") } else { paint.green("🟢 ACTIVE") };
    let mut lines = vec![format!("Idle Status: {status}"), format!("Reason: {}", plain(&idle.reason))];
    if idle.is_idle {
        lines.push(format!(
            "Idle for: {} (timeout: {})",
            describe_duration(idle.idle_for(now)),
            describe_duration(idle.timeout)
        ));
    }
    if let Some(at) = idle.coffee_until {
        lines.push(format!("Coffee: {} left", describe_duration(until(at, now))));
    }
    if let Some(at) = idle.stop_at {
        lines.push(paint.red(&format!("Stops in: {}", describe_duration(until(at, now)))));
    }
    lines
}

fn sensor_lines(readings: &[Reading], paint: Paint) -> Vec<String> {
    let rule = "=".repeat(60);
    let mut lines = vec![rule.clone(), "Activity Sensors:".to_owned(), rule];
    for reading in readings {
        let mark = match reading.activity {
            Activity::Active => paint.green("✓"),
            Activity::Idle => paint.grey("✗"),
            Activity::Unknown => paint.yellow("?"),
        };
        lines.push(String::new());
        lines.push(format!("{mark} {} ({} confidence)", reading.sensor.to_uppercase(), reading.confidence));
        lines.push(format!("  {}", plain(&reading.reason)));
        for (key, value) in reading.details.iter() {
            match value {
                DetailValue::Number(number) => lines.push(format!("  {key}: {number}")),
                DetailValue::Text(text) => lines.push(format!("  {key}: {}", plain(text))),
                DetailValue::List(items) if items.is_empty() => {}
                DetailValue::List(items) => {
                    lines.push(format!("  {key}:"));
                    lines.extend(items.iter().take(EVIDENCE_LINES).map(|item| format!("    - {}", plain(item))));
                    if items.len() > EVIDENCE_LINES {
                        lines.push(format!("    … and {} more", items.len() - EVIDENCE_LINES));
                    }
                }
            }
        }
    }
    lines
}

/// Draws `dh engine idle`.
pub fn idle_settings(view: &EngineView, now: Timestamp) -> String {
    let engine = &view.engine;
    let state = match (&engine.idle, view.state) {
        (Some(idle), EngineState::Running) if idle.is_idle => {
            format!("IDLE (for {})", describe_duration(idle.idle_for(now)))
        }
        (Some(_), EngineState::Running) => "ACTIVE".into(),
        (None, EngineState::Running) => "UNKNOWN (no report from its agent yet)".into(),
        (_, state) => format!("{} (not watched)", state.as_str().to_uppercase()),
    };
    format!(
        "Idle Settings for '{}':\n  Timeout: {}\n  Current State: {state}",
        engine.name,
        describe_duration(engine.policy.idle_timeout)
    )
}

/// Draws `dh engine debug`.
pub fn bootstrap(engine: &Engine, paint: Paint) -> String {
    let ready = if engine.bootstrap.is_ready() { "True" } else { "False" };
    let current = engine.bootstrap.current().map_or("-", |stage| stage.name.as_str());
    let mut lines = vec![
        format!("Engine: {}", id(engine).unwrap_or_else(|| engine.name.to_string())),
        format!("Ready: {ready}"),
        format!("Current Stage: {current}"),
        String::new(),
        "Bootstrap Stages:".into(),
    ];
    if engine.bootstrap.stages.is_empty() {
        lines.push("  none has begun".into());
    }
    for stage in &engine.bootstrap.stages {
        let number = StageName::ALL.iter().position(|name| *name == stage.name).map_or(0, |index| index + 1);
        let name = stage.name.as_str();
        let time = stage.duration.map_or_else(String::new, |duration| format!(" ({})", took(duration)));
        match stage.status {
            StageStatus::Completed => lines.push(format!("  {} {number}. {name}{time}", paint.green("✓"))),
            StageStatus::InProgress => lines.push(format!("  ⏳ {number}. {name}")),
            StageStatus::Skipped => {
                let why = stage.note.as_ref().map_or_else(String::new, |note| format!(": {}", plain(note)));
                lines.push(format!("  {} {number}. {name} (skipped{why})", paint.grey("–")));
            }
            StageStatus::Failed => {
                lines.push(format!("  {} {number}. {name}{time}", paint.red("✗")));
                lines.extend(stage.error.iter().map(|error| format!("       Error: {}", plain(error))));
                lines.extend(stage.log_tail.iter().map(|line| format!("       | {}", plain(line))));
            }
        }
        if let (StageStatus::Completed, Some(note)) = (stage.status, &stage.note) {
            lines.push(format!("       {}", plain(note)));
        }
    }
    lines.join("\n")
}

/// Draws `dh engine why`.
pub fn explanation(name: &str, explanation: &Explanation, zone: &TimeZone, paint: Paint) -> String {
    let mut lines = vec![format!("{}: {}", paint.blue(name), plain(&explanation.summary))];
    for entry in &explanation.entries {
        let state = match entry.state.as_str() {
            "active" => paint.green("active"),
            "idle" => paint.yellow("idle"),
            "warned" => paint.red("warned"),
            other => plain(other),
        };
        lines.push(String::new());
        lines.push(format!("{} to {}  {state}", moment(entry.from, zone), moment(entry.until, zone)));
        lines.push(format!("  {}", plain(&entry.reason)));
        lines.extend(entry.evidence.iter().map(|line| format!("    - {}", plain(line))));
    }
    lines.join("\n")
}
