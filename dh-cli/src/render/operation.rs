//! Operations, drawn.

use dh_core::domain::{Operation, OperationSpec, OperationStatus, StageStatus};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Column, Paint, Table, ago, moment, plain, sentence, took};

/// Says what an operation is about: `launch of engine 'a'`, `attachment of alice's studio to 'a'`.
pub fn what(operation: &Operation) -> String {
    match &operation.spec {
        OperationSpec::Launch { engine, .. } => format!("the launch of engine '{engine}'"),
        OperationSpec::Start { engine } => format!("the start of engine '{engine}'"),
        OperationSpec::Stop { engine, .. } => format!("the stop of engine '{engine}'"),
        OperationSpec::Terminate { engine } => format!("the termination of engine '{engine}'"),
        OperationSpec::ResizeEngine { engine, size_gb, .. } => {
            format!("the resize of the boot disk of '{engine}' to {size_gb}")
        }
        OperationSpec::CreateStudio { user, .. } => format!("the creation of {user}'s studio"),
        OperationSpec::Attach { user, engine } => format!("the attachment of {user}'s studio to '{engine}'"),
        OperationSpec::Detach { user } => format!("the detachment of {user}'s studio"),
        OperationSpec::ResizeStudio { user, size_gb } => format!("the resize of {user}'s studio to {size_gb}"),
        OperationSpec::DeleteStudio { user } => format!("the deletion of {user}'s studio"),
        OperationSpec::ResetStudio { user } => format!("the reset of {user}'s studio"),
        other => format!("the operation {}", other.kind()),
    }
}

/// Names what failed: `Launch failed`.
pub fn failed_title(spec: &OperationSpec) -> &'static str {
    match spec {
        OperationSpec::Launch { .. } => "Launch failed",
        OperationSpec::Start { .. } => "Start failed",
        OperationSpec::Stop { .. } => "Stop failed",
        OperationSpec::Terminate { .. } => "Termination failed",
        OperationSpec::ResizeEngine { .. } | OperationSpec::ResizeStudio { .. } => "Resize failed",
        OperationSpec::CreateStudio { .. } => "Creation failed",
        OperationSpec::Attach { .. } => "Attachment failed",
        OperationSpec::Detach { .. } => "Detachment failed",
        OperationSpec::DeleteStudio { .. } => "Deletion failed",
        OperationSpec::ResetStudio { .. } => "Reset failed",
        _ => "Operation failed",
    }
}

/// Says how an operation stands, pauses included.
fn standing(operation: &Operation) -> String {
    match operation.status {
        status if status.is_open() && operation.paused => format!("{} (paused)", status.as_str()),
        status => status.as_str().to_owned(),
    }
}

fn status_colour(paint: Paint, status: &str, shown: &str) -> String {
    match status {
        "completed" => paint.green(shown),
        "failed" => paint.red(shown),
        "cancelled" => paint.grey(shown),
        _ => paint.yellow(shown),
    }
}

/// Draws the table of `dh ops list`.
pub fn operation_list(
    environment: &str,
    operations: &[Operation],
    now: Timestamp,
    paint: Paint,
    room: Option<usize>,
) -> String {
    let mut table = Table::new(vec![
        Column::new("Operation", 15).with_colour(|paint, _, shown| paint.grey(shown)),
        Column::new("Kind", 9),
        Column::new("About", 12).with_colour(|paint, _, shown| paint.blue(shown)),
        Column::new("Status", 11).with_colour(status_colour),
        Column::new("Asked for", 14),
    ]);
    for operation in operations {
        let about = match (operation.spec.studio(), operation.spec.engine()) {
            (Some(user), Some(engine)) => format!("{user} → {engine}"),
            (Some(user), None) => user.to_string(),
            (None, Some(engine)) => engine.to_string(),
            (None, None) => "-".into(),
        };
        table.push(vec![
            operation.id.to_string(),
            operation.spec.kind().to_owned(),
            about,
            standing(operation),
            ago(operation.created_at, now),
        ]);
    }
    format!("\nOperations in environment {environment}\n{}\nTotal: {}\n", table.draw(paint, room), operations.len())
}

/// Draws `dh ops show`.
pub fn operation(operation: &Operation, zone: &TimeZone, paint: Paint) -> String {
    let status = operation.status.as_str();
    let mut lines = vec![
        format!("Operation: {}", operation.id),
        format!("What: {}", sentence(&what(operation))),
        format!("Status: {}", status_colour(paint, status, &standing(operation))),
        format!("Asked for: {} by {}", moment(operation.created_at, zone), operation.requested_by),
    ];
    if let Some(owner) = operation.lease.owner.as_ref().filter(|_| operation.status.is_open()) {
        lines.push(format!("Run by: {owner}"));
    }
    if let Some(error) = &operation.error {
        lines.push(paint.red(&format!("Error: {}", plain(&error.message))));
        lines.extend(error.hint.iter().map(|hint| format!("  {}", sentence(&plain(hint)))));
    }
    lines.extend([String::new(), "Steps:".into()]);
    if operation.steps.is_empty() {
        lines.push("  none has begun".into());
    }
    for step in &operation.steps {
        let mark = match step.status {
            StageStatus::Completed => paint.green("✓"),
            StageStatus::InProgress => "⏳".into(),
            StageStatus::Skipped => paint.grey("–"),
            StageStatus::Failed => paint.red("✗"),
        };
        let time = step.duration.map_or_else(String::new, |duration| format!(" ({})", took(duration)));
        let undone = if step.undone { ", undone" } else { "" };
        lines.push(format!("  {mark} {}{time}{undone}", step.name));
        lines.extend(step.error.iter().map(|error| format!("      Error: {}", plain(&error.message))));
    }
    if operation.status.is_open() {
        let id = &operation.id;
        lines.extend([String::new(), format!("Go on:  dh ops resume {id}"), format!("Undo:   dh ops cancel {id}")]);
    }
    lines.join("\n")
}

/// Says how an operation ended.
pub fn ended(operation: &Operation, paint: Paint) -> String {
    let (mark, how) = match operation.status {
        OperationStatus::Completed => (paint.green("✓"), "is done"),
        OperationStatus::Cancelled => (paint.green("✓"), "is cancelled; what it did is undone"),
        OperationStatus::Failed => (paint.red("✗"), "failed; what it did is undone"),
        _ => ("⏳".into(), "goes on"),
    };
    format!("{mark} {} {how}", sentence(&what(operation)))
}
