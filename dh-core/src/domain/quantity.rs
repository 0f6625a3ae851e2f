//! Durations and sizes as people type and read them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Error, ErrorKind, Result};

/// The longest duration accepted anywhere: a year of hours.
pub const DURATION_MAX: Duration = Duration::from_secs(8_760 * 3_600);

/// The largest volume, in GB (EBS gp3's own limit).
pub const SIZE_MAX_GB: u32 = 16_384;

/// Reads a duration such as `4h`, `2h30m`, `45m` or `90s`: whole numbers, each unit at most once, large before small.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] naming the accepted form; zero is refused too.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let refuse = |why: &str| {
        Err(Error::new(ErrorKind::InvalidArgument, format!("{text:?} is not a duration: {why}"))
            .with_hint("write hours, minutes and seconds such as 4h, 2h30m, 45m or 90s"))
    };
    let mut seconds: u64 = 0;
    let mut rest = text;
    let mut last_unit = u64::MAX;
    if rest.is_empty() {
        return refuse("it is empty");
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return refuse("a number is missing");
        }
        let Ok(number) = rest[..digits].parse::<u64>() else {
            return refuse("the number is too large");
        };
        let unit = match rest[digits..].chars().next() {
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            Some(_) => return refuse("a unit is not h, m or s"),
            None => return refuse("the unit is missing"),
        };
        if unit >= last_unit {
            return refuse("units go from large to small, each once");
        }
        last_unit = unit;
        seconds = match number.checked_mul(unit).and_then(|more| seconds.checked_add(more)) {
            Some(sum) if sum <= DURATION_MAX.as_secs() => sum,
            _ => return refuse("it is longer than a year"),
        };
        rest = &rest[digits + 1..];
    }
    if seconds == 0 {
        return refuse("it is zero");
    }
    Ok(Duration::from_secs(seconds))
}

/// Writes a duration the way [`parse_duration`] reads it; fractions of a second are dropped, zero is `0s`.
pub fn format_duration(duration: Duration) -> String {
    let (hours, minutes, seconds) = split(duration);
    let mut text = String::new();
    for (number, unit) in [(hours, 'h'), (minutes, 'm'), (seconds, 's')] {
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Writes a duration as a phrase with its two largest units: `30 minutes`, `2 hours 5 minutes`, `10 seconds`, `5 days`.
pub fn describe_duration(duration: Duration) -> String {
    let (hours, minutes, seconds) = split(duration);
    let parts: Vec<String> = [(hours / 24, "day"), (hours % 24, "hour"), (minutes, "minute"), (seconds, "second")]
        .into_iter()
        .skip_while(|(number, _)| *number == 0)
        .take(2)
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}{}", if number == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() { "0 seconds".into() } else { parts.join(" ") }
}

fn split(duration: Duration) -> (u64, u64, u64) {
    let total = duration.as_secs();
    (total / 3_600, total / 60 % 60, total % 60)
}

/// A disk's size in GB (2^30 bytes, as EBS counts), from 1 to [`SIZE_MAX_GB`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeGb(u32);

impl SizeGb {
    /// Checks and takes a number of GB.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when it is zero, negative, or above [`SIZE_MAX_GB`].
    pub fn new(gb: i64) -> Result<Self> {
        match u32::try_from(gb) {
            Ok(gb) if (1..=SIZE_MAX_GB).contains(&gb) => Ok(Self(gb)),
            _ => Err(Error::new(ErrorKind::InvalidArgument, format!("{gb} GB is not a disk size"))
                .with_hint(format!("give a whole number of GB from 1 to {SIZE_MAX_GB}"))),
        }
    }

    /// Returns the number of GB.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Returns the number of bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 30
    }
}

impl std::fmt::Display for SizeGb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}GB", self.0)
    }
}

impl std::str::FromStr for SizeGb {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.parse::<i64>() {
            Ok(gb) => Self::new(gb),
            Err(_) => Err(Error::new(ErrorKind::InvalidArgument, format!("{text:?} is not a disk size"))
                .with_hint(format!("give a whole number of GB from 1 to {SIZE_MAX_GB}, such as 200"))),
        }
    }
}

impl Serialize for SizeGb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for SizeGb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Serializes a `Duration` as seconds: whole ones as an integer, others with their fraction. For `#[serde(with = "secs")]`.
pub mod secs {
    use super::*;

    /// Writes seconds.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        if duration.subsec_nanos() == 0 {
            serializer.serialize_u64(duration.as_secs())
        } else {
            serializer.serialize_f64(duration.as_secs_f64())
        }
    }

    /// Reads seconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// [`secs`] for an `Option<Duration>`.
pub mod secs_opt {
    use super::*;

    /// Writes seconds or null.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => secs::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads seconds or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(deserializer)?
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documented_forms_are_read() {
        for (text, seconds) in
            [("4h", 14_400), ("2h30m", 9_000), ("45m", 2_700), ("10s", 10), ("1h1m1s", 3_661), ("90s", 90)]
        {
            assert_eq!(parse_duration(text).unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_accepted_form() {
        for text in [
            "",
            "4",
            "h",
            "-4h",
            "4 h",
            " 4h",
            "4h ",
            "4H",
            "1.5h",
            "30m2h",
            "2h2h",
            "0m",
            "4d",
            "４h",
            "99999999999999999999h",
            "9000h",
            "1e9",
            "abc",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text:?}");
            assert!(error.hint().unwrap().contains("2h30m"), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_whole_gigabytes() {
        assert_eq!("200".parse::<SizeGb>().unwrap().bytes(), 200 << 30);
        for text in ["0", "-5", "", "ten", "1.5", "99999", "99999999999999999999", "10GB"] {
            assert!(text.parse::<SizeGb>().unwrap_err().hint().is_some(), "{text}");
        }
    }

    #[test]
    fn phrases_read_well() {
        for (seconds, phrase) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (1_800, "30 minutes"),
            (7_500, "2 hours 5 minutes"),
            (432_000, "5 days"),
            (3_601, "1 hour"),
        ] {
            assert_eq!(describe_duration(Duration::from_secs(seconds)), phrase);
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back(seconds in 1u64..=DURATION_MAX.as_secs()) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
            let _ = text.parse::<SizeGb>();
        }
    }
}
