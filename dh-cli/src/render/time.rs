//! Times as people say them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Says how long ago something was, in its largest unit: `2 hours ago`, `5 days ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    // A clock that was set back must not give a negative age.
    let seconds = Duration::try_from(now.duration_since(then)).unwrap_or_default().as_secs();
    let (number, unit) = match seconds {
        0..5 => return "just now".into(),
        5..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

/// Writes a moment in a time zone: `2025-11-10 14:30:05`.
pub fn moment(then: Timestamp, zone: &TimeZone) -> String {
    then.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Writes how long something took: `8.0s`.
pub fn took(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// Returns how long it is until a moment; nothing once it is past.
pub fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        let now: Timestamp = "2025-11-10T12:00:00Z".parse().unwrap();
        for (seconds, text) in [
            (-5, "just now"),
            (4, "just now"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (7_300, "2 hours ago"),
            (86_399, "23 hours ago"),
            (5 * 86_400 + 7, "5 days ago"),
        ] {
            let then = now - jiff::SignedDuration::from_secs(seconds);
            assert_eq!(ago(then, now), text);
        }
    }
}
