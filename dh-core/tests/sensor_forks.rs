//! A sweep of the stock sensors starts no process: no `who`, no `ss`, no `docker`.
//!
//! A test program of its own, for it looks at everything that this process has ever begun.

use std::sync::Arc;
use std::time::Duration;

use dh_core::ports::SensorContext;
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{Sweep, stock};

#[tokio::test]
async fn a_sweep_starts_no_process() {
    let host = Arc::new(ProcHost::new(Scope::Machine, "/nonexistent/coffee"));
    let sweep = Sweep::new(stock());
    let context = SensorContext { host, deadline: Duration::from_secs(30) };
    sweep.run(&context).await;
    let before = forks();
    for _ in 0..5 {
        let readings = sweep.run(&context).await;
        assert_eq!(readings.len(), 4);
    }
    assert_eq!(forks(), before, "something was forked by this process");
    // The measure is worth something only if it notices.
    std::process::Command::new("true").status().unwrap();
    assert_ne!(forks(), before, "a process that came and went left no trace");
}

/// Returns the page faults of children that have ended, and the children that live.
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
