//! The coffee lock: somebody asked to keep the engine until a time.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::text::plain;
use crate::domain::{
    Activity, Axis, Confidence, DURATION_MAX, Error, ErrorKind, Reading, Result, describe_duration, format_duration,
};
use crate::ports::{BootTime, Sensor, SensorContext};

const NAME: &str = "coffee";

/// How far the end by the boot clock may lie from the end by the wall clock and still be the same.
const SAME_TIME: Duration = Duration::from_secs(2);

/// What the coffee lock says: until when the engine is held.
///
/// The file's first line is a time, as RFC 3339 or as seconds since 1970, and anybody may write it. dh-agent adds a second,
/// `boot ID SECONDS`: the same end by the boot clock, which holds for as long as that boot lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoffeeLock {
    /// The end by the wall clock, as it stood when the lock was written.
    pub until: Timestamp,
    /// The boot in which it was written, and the end by its clock.
    pub boot: Option<BootTime>,
}

impl CoffeeLock {
    /// Makes a lock that ends so long from now.
    pub fn lasting(time: Duration, now: Timestamp, boot: Option<BootTime>) -> Self {
        let boot = boot.map(|boot| BootTime { since_boot: boot.since_boot + time, ..boot });
        Self { until: now + time, boot }
    }

    /// Reads the file's text; `None` when it is no lock.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.trim().lines();
        let until = parse_time(lines.next()?)?;
        let boot = match lines.next() {
            None => None,
            Some(line) => {
                let (id, end) = line.trim().strip_prefix("boot ")?.split_once(' ')?;
                let since_boot = Duration::try_from_secs_f64(seconds(end)?).ok()?;
                Some(BootTime { id: id.to_owned(), since_boot })
            }
        };
        lines.next().is_none().then_some(Self { until, boot })
    }

    /// Returns for how long it still holds: by the boot clock in the boot that it was written in, and by the wall clock
    /// after that. `None` when it is over.
    pub fn remaining(&self, now: Timestamp, boot: Option<&BootTime>) -> Option<Duration> {
        let left = match (&self.boot, boot) {
            (Some(end), Some(here)) if end.id == here.id => end.since_boot.saturating_sub(here.since_boot),
            _ => Duration::try_from(self.until.duration_since(now)).unwrap_or_default(),
        };
        (!left.is_zero()).then_some(left)
    }

    /// Returns until when it holds, by the wall clock as it stands now.
    pub fn ends_at(&self, now: Timestamp, boot: Option<&BootTime>) -> Option<Timestamp> {
        // Where no clock has stepped people see the very time that they were told.
        let end = now.checked_add(self.remaining(now, boot)?).ok()?;
        let stepped = end.duration_since(self.until).unsigned_abs() >= SAME_TIME;
        Some(if stepped { end } else { self.until })
    }
}

impl fmt::Display for CoffeeLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.until)?;
        match &self.boot {
            Some(BootTime { id, since_boot }) => writeln!(f, "boot {id} {:.3}", since_boot.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// Reads the coffee lock, which holds the engine until a time: see [`CoffeeLock`].
///
/// A lock that ends further ahead than anybody can ask for ([`DURATION_MAX`]) reads unknown: it is damaged, or the clock
/// has stepped back. Believed, it would hold the engine for years; dropped, it might stop somebody's work.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoffeeSensor;

#[async_trait]
impl Sensor for CoffeeSensor {
    fn name(&self) -> &str {
        NAME
    }

    fn axis(&self) -> Axis {
        Axis::Hold
    }

    async fn sample(&self, context: &SensorContext) -> Result<Reading> {
        let none = || Ok(Reading::new(NAME, Activity::Idle, Confidence::High, Axis::Hold, "No coffee lock"));
        let Some(text) = context.host.coffee_lock()? else { return none() };
        let lock = CoffeeLock::parse(&text).ok_or_else(|| {
            Error::new(ErrorKind::Storage, format!("coffee lock holds {:?}, which is not a time", plain(text.trim())))
                .with_hint("take it away with `dh engine coffee NAME --cancel`")
        })?;
        let (now, boot) = (context.host.now(), context.host.boot());
        let Some(remaining) = lock.remaining(now, boot.as_ref()) else { return none() };
        if remaining > DURATION_MAX {
            return Err(Error::new(
                ErrorKind::Storage,
                format!(
                    "coffee lock ends in {}, later than can be asked for: it is damaged or the clock has stepped",
                    describe_duration(remaining)
                ),
            )
            .with_hint("set it anew with `dh engine coffee NAME 4h`, or take it away with --cancel"));
        }
        let until = lock.ends_at(now, boot.as_ref()).unwrap_or(lock.until);
        let reason = format!("Coffee lock active ({} remaining)", format_duration(rounded(remaining)));
        Ok(Reading::new(NAME, Activity::Active, Confidence::High, Axis::Hold, reason)
            .with_detail("remaining_seconds", remaining.as_secs().max(1) as f64)
            .with_detail("until", format!("{until:.0}")))
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    // What the first dh wrote: Python's time.time().
    Timestamp::from_millisecond((seconds(text)? * 1_000.0) as i64).ok()
}

/// Not every form of float: no "inf", no "1e9".
fn seconds(text: &str) -> Option<f64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    text.parse().ok()
}

/// Whole minutes, begun ones included, as people count them; seconds in the last minute.
fn rounded(remaining: Duration) -> Duration {
    let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
    Duration::from_secs(if seconds < 60 { seconds } else { seconds.div_ceil(60) * 60 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_of_the_lock_are_read_and_nothing_else() {
        let time: Timestamp = "2025-11-10T14:30:00Z".parse().unwrap();
        for text in ["2025-11-10T14:30:00Z\n", "2025-11-10T15:30:00+01:00", "1762785000", " 1762785000.0 \n"] {
            let lock = CoffeeLock { until: time, boot: None };
            assert_eq!(CoffeeLock::parse(text), Some(lock), "{text:?}");
        }
        for text in ["", "\n", "4h", "inf", "NaN", "1e9", "-5", "1.2.3", "2025-11-10", "9".repeat(400).as_str()] {
            assert_eq!(CoffeeLock::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_a_damaged_second_line_is_no_lock() {
        let boot = BootTime { id: "a1b2".into(), since_boot: Duration::from_millis(1_500) };
        let lock = CoffeeLock::lasting(Duration::from_secs(60), "2025-11-10T14:29:00Z".parse().unwrap(), Some(boot));
        assert_eq!(lock.to_string(), "2025-11-10T14:30:00Z\nboot a1b2 61.500\n");
        assert_eq!(CoffeeLock::parse(&lock.to_string()), Some(lock));
        for line in ["boot a1b2", "boot a1b2 inf", "boot a1b2 -1", "boat a1b2 61", "boot a1b2 61\nmore"] {
            assert_eq!(CoffeeLock::parse(&format!("2025-11-10T14:30:00Z\n{line}\n")), None, "{line:?}");
        }
    }

    #[test]
    fn begun_minutes_count() {
        for (seconds, shown) in [(1, "1s"), (59, "59s"), (60, "1m"), (841, "15m"), (900, "15m"), (14_399, "4h")] {
            assert_eq!(format_duration(rounded(Duration::from_secs(seconds))), shown);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = CoffeeLock::parse(&text);
            let _ = CoffeeLock::parse(&format!("2025-11-10T14:30:00Z\nboot {text}"));
        }
    }
}
