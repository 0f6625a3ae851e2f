//! How far an operation is and how long the rest will take, learned from earlier ones.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{Operation, OperationSpec, OperationStatus, StageStatus};

/// How many earlier operations are looked at.
pub(crate) const HISTORY: usize = 50;

/// A current part never counts as more than this much done, so that a bar does not stand at 100 % and wait.
const NEVER_QUITE_DONE: f64 = 0.95;

/// The parts an operation consists of (its steps; a launch's bootstrap stages stand for the step that waits for them), and
/// how long each should take.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estimate {
    parts: Vec<(String, f64)>,
    learned: bool,
}

impl Estimate {
    /// Learns from operations of the same kind (and, for a launch, the same engine type): the median of each part. A part
    /// that was never seen counts as a second, and nothing is then said of the remaining time.
    pub fn learn<'a>(spec: &OperationSpec, parts: &[&str], earlier: impl IntoIterator<Item = &'a Operation>) -> Self {
        let mut seen: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for operation in earlier {
            if operation.status != OperationStatus::Completed || !alike(spec, &operation.spec) {
                continue;
            }
            for step in &operation.steps {
                if step.status == StageStatus::Completed {
                    if let Some(duration) = step.duration {
                        seen.entry(&step.name).or_default().push(duration.as_secs_f64());
                    }
                    for (stage, seconds) in
                        step.output.get("stages").and_then(|stages| stages.as_object()).into_iter().flatten()
                    {
                        seen.entry(stage).or_default().push(seconds.as_f64().unwrap_or(0.0));
                    }
                }
            }
        }
        let learned = parts.iter().all(|part| seen.contains_key(part));
        let parts = parts
            .iter()
            .map(|part| ((*part).to_owned(), seen.get_mut(part).map_or(1.0, |seconds| median(seconds).max(0.001))))
            .collect();
        Self { parts, learned }
    }

    /// Returns the percentage done and the time that remains, given the parts that are over, the one in progress, and for
    /// how long it has been.
    pub fn at(&self, done: &[String], current: Option<(&str, Duration)>) -> (u8, Option<Duration>) {
        let total: f64 = self.parts.iter().map(|(_, seconds)| seconds).sum();
        let mut spent = 0.0;
        for (name, seconds) in &self.parts {
            if done.contains(name) {
                spent += seconds;
            } else if let Some((part, elapsed)) = current
                && part == name
            {
                spent += elapsed.as_secs_f64().min(seconds * NEVER_QUITE_DONE);
            }
        }
        let percent = if total > 0.0 { (spent / total * 100.0).min(100.0) as u8 } else { 0 };
        (percent, self.learned.then(|| Duration::from_secs_f64((total - spent).max(0.0))))
    }
}

fn alike(a: &OperationSpec, b: &OperationSpec) -> bool {
    match (a, b) {
        (OperationSpec::Launch { engine_type: a, .. }, OperationSpec::Launch { engine_type: b, .. }) => a == b,
        _ => a.kind() == b.kind(),
    }
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    if seconds.len() % 2 == 1 { seconds[middle] } else { (seconds[middle - 1] + seconds[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::*;

    fn attach(seconds: &[(&str, u64)]) -> Operation {
        Operation {
            id: OperationId::new("op-1").unwrap(),
            environment: EnvironmentName::new("dev").unwrap(),
            requested_by: UserName::new("alice").unwrap(),
            spec: OperationSpec::Detach { user: UserName::new("alice").unwrap() },
            status: OperationStatus::Completed,
            steps: seconds
                .iter()
                .map(|(name, seconds)| StepRecord {
                    name: (*name).to_owned(),
                    status: StageStatus::Completed,
                    started_at: Timestamp::UNIX_EPOCH,
                    duration: Some(Duration::from_secs(*seconds)),
                    output: serde_json::Value::Null,
                    error: None,
                    undone: false,
                })
                .collect(),
            lease: RunnerLease { owner: None, epoch: 0, expires_at: Timestamp::UNIX_EPOCH },
            paused: false,
            cancel_requested: false,
            error: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_median_of_earlier_runs_is_expected() {
        let earlier = [attach(&[("a", 1), ("b", 9)]), attach(&[("a", 1), ("b", 9)]), attach(&[("a", 1), ("b", 900)])];
        let estimate = Estimate::learn(&earlier[0].spec, &["a", "b"], &earlier);
        assert_eq!(estimate.at(&[], None), (0, Some(Duration::from_secs(10))));
        assert_eq!(estimate.at(&["a".into()], None), (10, Some(Duration::from_secs(9))));
        let (percent, remaining) = estimate.at(&["a".into()], Some(("b", Duration::from_secs(4))));
        assert_eq!((percent, remaining), (50, Some(Duration::from_secs(5))));
    }

    #[test]
    fn a_late_part_never_looks_done() {
        let earlier = [attach(&[("a", 10)])];
        let estimate = Estimate::learn(&earlier[0].spec, &["a"], &earlier);
        assert_eq!(estimate.at(&[], Some(("a", Duration::from_secs(1000)))).0, 95);
    }

    #[test]
    fn without_history_no_time_is_promised() {
        let estimate = Estimate::learn(&attach(&[]).spec, &["a", "b"], &[]);
        assert_eq!(estimate.at(&["a".into()], None), (50, None));
    }

    #[test]
    fn failed_runs_and_other_kinds_teach_nothing() {
        let mut failed = attach(&[("a", 500)]);
        failed.status = OperationStatus::Failed;
        let estimate = Estimate::learn(&failed.spec, &["a"], [&failed]);
        assert_eq!(estimate.at(&[], None).1, None);
    }
}
