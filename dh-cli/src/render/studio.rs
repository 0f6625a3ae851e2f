//! Studios, drawn.

use dh_core::domain::Studio;
use jiff::Timestamp;

use super::{Column, Paint, Table, ago, plain};

fn status_colour(paint: Paint, status: &str, shown: &str) -> String {
    match status {
        "attached" => paint.purple(shown),
        "available" => paint.green(shown),
        "error" => paint.red(shown),
        _ => paint.yellow(shown),
    }
}

fn id(studio: &Studio) -> String {
    studio.volume.as_ref().map_or_else(|| "-".into(), ToString::to_string)
}

/// Draws the table of `dh studio list`.
pub fn studio_list(title: &str, studios: &[Studio], paint: Paint, room: Option<usize>) -> String {
    let mut table = Table::new(vec![
        Column::new("User", 6).with_colour(|paint, _, shown| paint.blue(shown)),
        Column::new("Status", 12).with_colour(status_colour),
        Column::new("Attached To", 12),
        Column::new("Size", 9),
        Column::new("Studio ID", 25).with_colour(|paint, _, shown| paint.grey(shown)),
    ]);
    for studio in studios {
        table.push(vec![
            studio.user.to_string(),
            studio.status.to_string(),
            studio.attachment.as_ref().map_or_else(|| "-".into(), |attachment| attachment.engine.to_string()),
            studio.size_gb.to_string(),
            id(studio),
        ]);
    }
    format!("\nStudios for {title}\n{}\nTotal: {}\n", table.draw(paint, room), studios.len())
}

/// Draws `dh studio status`.
pub fn studio_status(studio: &Studio, now: Timestamp, paint: Paint) -> String {
    let status = studio.status.as_str();
    let mut lines = vec![
        format!("Studio ID: {}", id(studio)),
        format!("User: {}", studio.user),
        format!("Size: {}", studio.size_gb),
        format!("Status: {}", status_colour(paint, status, status)),
        format!("Created: {}", ago(studio.created_at, now)),
    ];
    if let Some(attachment) = &studio.attachment {
        lines.push(format!("Attached to: {}", attachment.machine));
        lines.extend(attachment.mount_point.as_ref().map(|path| format!("Files: {}", plain(path))));
    }
    lines.extend(studio.operation.as_ref().map(|operation| format!("Operation: {operation}")));
    lines.extend(studio.caveat.as_ref().map(|caveat| format!("Note: {}", plain(caveat))));
    lines.join("\n")
}
