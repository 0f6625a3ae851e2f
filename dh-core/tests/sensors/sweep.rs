//! All sensors at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dh_core::domain::Activity;
use dh_core::ports::{Host, SensorContext};
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{Sweep, stock};
use dh_core::testkit::{HostCall, HostFault, RecordedHost};

use crate::support::{PATIENCE, context, recording};

#[tokio::test]
async fn readings_come_in_display_order() {
    let host = Arc::new(RecordedHost::new(recording("ssh-active")));
    let readings = Sweep::new(stock()).run(&context(host)).await;
    let names: Vec<&str> = readings.iter().map(|reading| reading.sensor.as_str()).collect();
    assert_eq!(names, ["ssh", "ide", "docker", "coffee"]);
}

#[tokio::test]
async fn the_sensors_of_one_sweep_share_one_look_at_the_processes() {
    let host = Arc::new(RecordedHost::new(recording("ssh-idle")));
    let sweep = Sweep::new(stock());
    for looks in 1..=2 {
        sweep.run(&context(host.clone())).await;
        let made = host.calls().iter().filter(|call| **call == HostCall::Processes).count();
        assert_eq!(made, looks, "one a sweep, and a new one at the next");
    }
}

#[tokio::test]
async fn an_unreadable_proc_blinds_those_that_need_it_and_no_other() {
    let recording =
        recording("coffee-active").with_fault(HostCall::Processes, HostFault::Error("no \u{1b}[31m".into()));
    let readings = Sweep::new(stock()).run(&context(Arc::new(RecordedHost::new(recording)))).await;
    let activities: Vec<Activity> = readings.iter().map(|reading| reading.activity).collect();
    assert_eq!(activities, [Activity::Unknown, Activity::Unknown, Activity::Unknown, Activity::Active]);
    assert_eq!(readings[0].reason, "no \\u{1b}[31m");
}

#[tokio::test]
async fn a_sensor_past_its_deadline_names_it() {
    let recording = recording("docker-idle").with_fault(HostCall::HttpGet, HostFault::Hang);
    let context = SensorContext {
        host: Arc::new(RecordedHost::new(recording)) as Arc<dyn Host>,
        deadline: Duration::from_millis(50),
    };
    let readings = Sweep::new(stock()).run(&context).await;
    assert_eq!(readings[2].reason, "no answer within 50ms");
    assert!(readings.iter().filter(|reading| reading.activity == Activity::Unknown).count() == 1, "{readings:?}");
}

/// Runs alone in its process under nextest; elsewhere another test's children may end meanwhile, so it looks at the
/// processes themselves: a child that a sweep began would have been started after it, by this very thread group.
#[tokio::test]
async fn a_sweep_starts_no_process() {
    let host = Arc::new(ProcHost::new(Scope::Machine, PathBuf::from("/nonexistent/coffee")));
    let sweep = Sweep::new(stock());
    sweep.run(&context(host.clone())).await;
    let before = forks();
    for _ in 0..5 {
        let readings = sweep.run(&SensorContext { host: host.clone(), deadline: PATIENCE }).await;
        assert_eq!(readings.len(), 4);
    }
    assert_eq!(forks(), before, "something was forked by this process");
}

/// Returns the processor time and faults of children that have ended, and the children that live.
fn forks() -> (u64, Vec<String>) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // cminflt: every child faults in pages before it can do anything at all, so one that was waited for shows here.
    let faults = fields[8].parse().unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut children: Vec<String> = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    children.sort();
    (faults, children)
}
