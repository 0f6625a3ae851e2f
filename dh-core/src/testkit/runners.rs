//! Processes that run operations, made up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::RunnerId;
use crate::ports::Runners;

/// Runners on one made-up host. Tests say which process asks and which have ended.
#[derive(Debug)]
pub struct FakeRunners(Mutex<State>);

#[derive(Debug)]
struct State {
    this: RunnerId,
    gone: Vec<RunnerId>,
}

impl FakeRunners {
    /// Makes them; process 1 is the one that asks.
    pub fn new() -> Self {
        Self(Mutex::new(State { this: Self::runner(1), gone: Vec::new() }))
    }

    /// Returns the runner with a process id.
    pub fn runner(pid: u32) -> RunnerId {
        RunnerId { host: "testhost".into(), boot_id: "boot-1".into(), pid, started: u64::from(pid) }
    }

    /// Makes another process the one that asks.
    pub fn become_pid(&self, pid: u32) {
        self.lock().this = Self::runner(pid);
    }

    /// Makes any runner the one that asks.
    pub fn set_this(&self, runner: RunnerId) {
        self.lock().this = runner;
    }

    /// Lets a runner's process have ended.
    pub fn mark_gone(&self, runner: RunnerId) {
        self.lock().gone.push(runner);
    }

    /// Lets the process that asks have ended, and another take its place, as after a crash.
    pub fn crash_and_become(&self, pid: u32) {
        let mut state = self.lock();
        let dead = std::mem::replace(&mut state.this, Self::runner(pid));
        state.gone.push(dead);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FakeRunners {
    fn default() -> Self {
        Self::new()
    }
}

impl Runners for FakeRunners {
    fn this(&self) -> RunnerId {
        self.lock().this.clone()
    }

    fn is_gone(&self, runner: &RunnerId) -> bool {
        self.lock().gone.contains(runner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_crash_the_old_process_is_known_to_be_gone() {
        let runners = FakeRunners::new();
        let old = runners.this();
        assert!(!runners.is_gone(&old));
        runners.crash_and_become(2);
        assert!(runners.is_gone(&old) && !runners.is_gone(&runners.this()));
        assert_eq!(runners.this(), FakeRunners::runner(2));
    }
}
