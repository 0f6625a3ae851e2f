//! The coffee lock: somebody asked to keep the engine until a time.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::text::plain;
use crate::domain::{
    Activity, Axis, Confidence, DURATION_MAX, Error, ErrorKind, Reading, Result, describe_duration, format_duration,
};
use crate::ports::{Sensor, SensorContext};

const NAME: &str = "coffee";

/// Reads the coffee lock: a time, as RFC 3339 or as seconds since 1970, until which the engine is held.
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
        let until = parse(&text).ok_or_else(|| {
            Error::new(ErrorKind::Storage, format!("coffee lock holds {:?}, which is not a time", plain(text.trim())))
                .with_hint("take it away with `dh engine coffee NAME --cancel`")
        })?;
        let remaining = until.duration_since(context.host.now());
        if !remaining.is_positive() {
            return none();
        }
        let remaining = remaining.unsigned_abs();
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
        let reason = format!("Coffee lock active ({} remaining)", format_duration(rounded(remaining)));
        Ok(Reading::new(NAME, Activity::Active, Confidence::High, Axis::Hold, reason)
            .with_detail("remaining_seconds", remaining.as_secs().max(1) as f64)
            .with_detail("until", format!("{until:.0}")))
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    // What the first dh wrote: Python's time.time(). Not every form of float: no "inf", no "1e9".
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Timestamp::from_millisecond((text.parse::<f64>().ok()? * 1_000.0) as i64).ok()
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
            assert_eq!(parse(text), Some(time), "{text:?}");
        }
        for text in ["", "\n", "4h", "inf", "NaN", "1e9", "-5", "1.2.3", "2025-11-10", "9".repeat(400).as_str()] {
            assert_eq!(parse(text), None, "{text:?}");
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
            let _ = parse(&text);
        }
    }
}
