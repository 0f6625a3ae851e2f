//! One look of all sensors, judged.

use serde::{Deserialize, Serialize};

use crate::domain::{Activity, Axis, Confidence, Reading};

/// The rule that decided, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Somebody asked to keep the engine.
    Hold,
    /// A sensor is certain of use.
    High,
    /// A sensor could not tell, or saw only half: never taken for idle.
    Unknown,
    /// A heuristic sees use.
    Medium,
    /// Nothing is in use.
    Idle,
}

/// What a look of all sensors comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The rule that decided.
    pub rule: Rule,
    /// The sensor that decided; none when all are idle, or when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor: Option<String>,
    /// Why, in one line.
    pub reason: String,
}

impl Decision {
    /// Returns whether the engine counts as in use.
    pub fn is_active(&self) -> bool {
        self.rule != Rule::Idle
    }

    fn by(rule: Rule, reading: &Reading) -> Self {
        let reason = match rule {
            Rule::Unknown => format!("{}: could not tell: {}", reading.sensor, reading.reason),
            _ => format!("{}: {}", reading.sensor, reading.reason),
        };
        Self { rule, sensor: Some(reading.sensor.clone()), reason }
    }
}

/// Returns whether a reading says less than idle or in use: it could not tell, or it is not to be relied on.
fn is_unknown(reading: &Reading) -> bool {
    reading.activity == Activity::Unknown || reading.confidence == Confidence::Low
}

/// Returns whether any sensor could not tell, or there is none to ask.
pub fn any_unknown(readings: &[Reading]) -> bool {
    readings.is_empty() || readings.iter().any(is_unknown)
}

/// Judges the readings of one look: a hold, then certain use, then anything unknown, then likely use; else idle.
///
/// With `ignore_unknown`, for policies that bound how long a blind sensor may hold an engine, unknown readings say nothing.
/// Of several readings that fit one rule, the first decides. No readings at all are unknown, too.
pub fn decide(readings: &[Reading], ignore_unknown: bool) -> Decision {
    let first = |rule: Rule, fits: &dyn Fn(&Reading) -> bool| {
        readings.iter().find(|reading| fits(reading)).map(|reading| Decision::by(rule, reading))
    };
    let unknown = || {
        if ignore_unknown {
            return None;
        }
        let nobody = || Decision { rule: Rule::Unknown, sensor: None, reason: "no sensor looked".into() };
        first(Rule::Unknown, &is_unknown).or_else(|| readings.is_empty().then(nobody))
    };
    let idle = || {
        let blind: Vec<&str> =
            readings.iter().filter(|reading| is_unknown(reading)).map(|reading| reading.sensor.as_str()).collect();
        let reason = match blind.as_slice() {
            [] if readings.is_empty() => "no sensor looked for longer than the policy waits".into(),
            [] => "all sensors idle".into(),
            blind => {
                format!("all sensors idle, but {} could not tell for longer than the policy waits", blind.join(", "))
            }
        };
        Decision { rule: Rule::Idle, sensor: None, reason }
    };
    first(Rule::Hold, &|reading| reading.is_active() && reading.axis == Axis::Hold)
        .or_else(|| first(Rule::High, &|reading| reading.is_active() && reading.confidence == Confidence::High))
        .or_else(unknown)
        .or_else(|| first(Rule::Medium, &|reading| reading.is_active() && reading.confidence == Confidence::Medium))
        .unwrap_or_else(idle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(sensor: &str, activity: Activity, confidence: Confidence, axis: Axis) -> Reading {
        Reading::new(sensor, activity, confidence, axis, format!("{sensor} says so"))
    }

    use Activity::{Active, Idle};
    use Confidence::{High, Low, Medium};

    fn blind(sensor: &str) -> Reading {
        Reading::unknown(sensor, Axis::Work, "timed out")
    }

    #[test]
    fn the_rules_are_tried_in_order() {
        let quiet = reading("ide", Idle, Medium, Axis::Presence);
        let coffee = reading("coffee", Active, High, Axis::Hold);
        let ssh = reading("ssh", Active, High, Axis::Presence);
        let docker = reading("docker", Active, Medium, Axis::Work);
        let all = [quiet.clone(), docker.clone(), blind("gpu"), ssh, coffee];
        for (readings, rule, sensor) in [
            (&all[..], Rule::Hold, Some("coffee")),
            (&all[..4], Rule::High, Some("ssh")),
            (&all[..3], Rule::Unknown, Some("gpu")),
            (&all[..2], Rule::Medium, Some("docker")),
            (&all[..1], Rule::Idle, None),
        ] {
            let decision = decide(readings, false);
            assert_eq!((decision.rule, decision.sensor.as_deref()), (rule, sensor));
        }
    }

    #[test]
    fn the_reason_names_the_sensor_as_people_read_it() {
        let ssh = Reading::new("ssh", Active, High, Axis::Presence, "1 active SSH session(s)");
        assert_eq!(decide(&[ssh], false).reason, "ssh: 1 active SSH session(s)");
        assert_eq!(decide(&[blind("gpu")], false).reason, "gpu: could not tell: timed out");
    }

    #[test]
    fn no_sensor_at_all_is_not_idle() {
        assert_eq!(decide(&[], false).rule, Rule::Unknown);
        assert!(any_unknown(&[]));
    }

    #[test]
    fn four_gpus_of_which_only_the_last_is_busy_are_active() {
        let gpu = |n: usize, activity| reading(&format!("gpu{n}"), activity, Medium, Axis::Work);
        let readings = [gpu(0, Idle), gpu(1, Idle), gpu(2, Idle), gpu(3, Active)];
        assert_eq!(decide(&readings, false).sensor.as_deref(), Some("gpu3"));
    }

    #[test]
    fn a_reading_of_low_confidence_is_unknown_whatever_it_says() {
        for activity in [Active, Idle] {
            assert_eq!(decide(&[reading("docker", activity, Low, Axis::Work)], false).rule, Rule::Unknown);
        }
    }

    #[test]
    fn past_the_policys_limit_unknown_says_nothing_but_use_is_still_seen() {
        let docker = reading("docker", Active, Medium, Axis::Work);
        assert_eq!(decide(&[blind("gpu"), docker], true).rule, Rule::Medium);
        let decision = decide(&[blind("gpu"), reading("ssh", Idle, High, Axis::Presence)], true);
        assert_eq!(decision.rule, Rule::Idle);
        assert!(decision.reason.contains("gpu"), "{}", decision.reason);
    }

    fn any_reading() -> impl Strategy<Value = Reading> {
        (
            prop_oneof![Just(Active), Just(Idle), Just(Activity::Unknown)],
            prop_oneof![Just(Low), Just(Medium), Just(High)],
            prop_oneof![Just(Axis::Presence), Just(Axis::Work), Just(Axis::Hold)],
        )
            .prop_map(|(activity, confidence, axis)| reading("any", activity, confidence, axis))
    }

    proptest! {
        #[test]
        fn idle_needs_every_sensor_to_say_so(readings in prop::collection::vec(any_reading(), 0..6)) {
            let all_say_so = !readings.is_empty()
                && readings.iter().all(|reading| reading.activity == Idle && reading.confidence > Low);
            prop_assert_eq!(!decide(&readings, false).is_active(), all_say_so);
        }

        #[test]
        fn the_order_of_sensors_never_matters(readings in prop::collection::vec(any_reading(), 0..6), ignore: bool) {
            let backwards: Vec<_> = readings.iter().rev().cloned().collect();
            prop_assert_eq!(decide(&readings, ignore).rule, decide(&backwards, ignore).rule);
        }

        #[test]
        fn one_more_sensor_never_makes_an_active_engine_idle(
            readings in prop::collection::vec(any_reading(), 1..6),
            more in any_reading(),
        ) {
            let with: Vec<_> = readings.iter().cloned().chain([more]).collect();
            prop_assert!(!decide(&readings, false).is_active() || decide(&with, false).is_active());
        }
    }
}
