//! All processes of one engine at once: signalled, frozen, thawed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dh_core::backend::local::cgroup;
use dh_core::backend::local::process::{Member, descendants};
use rustix::process::{Pid, Signal, getpid};

/// How long freezing may take: a process in the middle of disk I/O finishes that first.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

/// Everything below this process.
#[derive(Debug)]
pub struct Group {
    cgroups: Vec<PathBuf>,
    frozen: Frozen,
}

#[derive(Debug, PartialEq, Eq)]
enum Frozen {
    No,
    /// By the control group.
    Whole,
    /// One by one; these were stopped before, and stay so.
    Signalled {
        stopped_before: BTreeSet<(i32, u64)>,
    },
}

impl Group {
    pub fn new(cgroups: Vec<PathBuf>) -> Self {
        Self { cgroups, frozen: Frozen::No }
    }

    pub fn cgroups(&self) -> &[PathBuf] {
        &self.cgroups
    }

    /// Sends a signal to every process.
    pub fn signal(&self, signal: Signal) {
        for member in descendants(getpid()) {
            send(&member, signal);
        }
    }

    /// Kills every process there is at this moment, the frozen ones too.
    pub fn kill(&mut self) {
        // Where the group can be frozen, nothing escapes by beginning new processes meanwhile.
        if self.frozen == Frozen::No {
            cgroup::freeze(&self.cgroups, Instant::now() + Duration::from_millis(100));
        }
        self.signal(Signal::KILL);
        cgroup::thaw(&self.cgroups);
        self.frozen = Frozen::No;
    }

    /// Kills a session: its process group, and whatever is below its first process.
    pub fn kill_session(leader: Pid) {
        let below = descendants(leader);
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        for member in below {
            send(&member, Signal::KILL);
        }
    }

    /// Freezes every process with its memory; false when that was not possible in time, and everything runs on.
    pub fn freeze(&mut self) -> bool {
        let deadline = Instant::now() + FREEZE_PATIENCE;
        if cgroup::freeze(&self.cgroups, deadline) {
            self.frozen = Frozen::Whole;
            return true;
        }
        let stopped_before = descendants(getpid()).iter().filter(|member| member.is_stopped()).map(identity).collect();
        let done = stop_all(deadline);
        self.frozen = Frozen::Signalled { stopped_before };
        if !done {
            self.thaw();
        }
        done
    }

    /// Lets everything run on.
    pub fn thaw(&mut self) {
        match std::mem::replace(&mut self.frozen, Frozen::No) {
            Frozen::No => {}
            Frozen::Whole => cgroup::thaw(&self.cgroups),
            // Children first: a shell that runs before its child is told that the child was stopped.
            Frozen::Signalled { stopped_before } => descendants(getpid())
                .iter()
                .rev()
                .filter(|member| !stopped_before.contains(&identity(member)))
                .for_each(|member| send(member, Signal::CONT)),
        }
    }
}

fn identity(member: &Member) -> (i32, u64) {
    (member.pid.as_raw_nonzero().get(), member.started)
}

fn send(member: &Member, signal: Signal) {
    if let Err(error) = member.signal(signal) {
        tracing::warn!(pid = ?member.pid, name = member.name, %error, "a process does not take a signal");
    }
}

/// Stops everything, parents before children, until a look finds the same processes as the one before, all stopped.
fn stop_all(deadline: Instant) -> bool {
    let mut before = None;
    let mut pause = Duration::from_millis(1);
    loop {
        let members = descendants(getpid());
        let running: Vec<&Member> = members.iter().filter(|member| !member.is_stopped()).collect();
        running.iter().for_each(|member| send(member, Signal::STOP));
        let now: Vec<(i32, u64)> = members.iter().map(identity).collect();
        if running.is_empty() && before.as_ref() == Some(&now) {
            return true;
        }
        before = Some(now);
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
