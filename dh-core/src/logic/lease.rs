//! A runner's hold on an operation.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{Error, ErrorKind, Operation, Result, RunnerLease};
use crate::logic::Deps;
use crate::ports::{StateStoreExt, Versioned, find_operation};

/// How long a lease lasts unless it is renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// How often it is renewed.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Returns whether nobody runs an operation any more: it was let go of, its lease is over, or its runner is gone.
pub(crate) fn is_free(lease: &RunnerLease, now: Timestamp, is_gone: impl Fn(&crate::domain::RunnerId) -> bool) -> bool {
    match &lease.owner {
        None => true,
        Some(owner) => now >= lease.expires_at || is_gone(owner),
    }
}

/// An operation that this process holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) operation: Operation,
    version: u64,
}

impl Held {
    /// Takes the lease. The epoch grows, so that whoever held it before is fenced off.
    pub(crate) async fn take(deps: &Deps, found: Versioned<Operation>) -> Result<Self> {
        let mut held = Self { operation: found.value, version: found.version };
        let now = deps.clock.now();
        if !is_free(&held.operation.lease, now, |runner| deps.runners.is_gone(runner)) {
            return Err(busy(&held.operation));
        }
        let lease = &mut held.operation.lease;
        *lease = RunnerLease { owner: Some(deps.runners.this()), epoch: lease.epoch + 1, expires_at: now + LEASE };
        held.operation.paused = false;
        held.operation.updated_at = now;
        match deps.store.save(&held.operation, held.version).await {
            Ok(version) => {
                held.version = version;
                Ok(held)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let now_held = find_operation(&*deps.store, deps.environment(), &held.operation.id).await?;
                Err(now_held.map_or(error, |found| busy(&found.value)))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the operation and renews the lease. A cancellation asked for meanwhile is taken over.
    ///
    /// # Errors
    /// `Conflict` when another process has taken the lease: this one must not act any more.
    pub(crate) async fn save(&mut self, deps: &Deps) -> Result<()> {
        let now = deps.clock.now();
        self.operation.updated_at = now;
        if self.operation.lease.owner.is_some() {
            self.operation.lease.expires_at = now + LEASE;
        }
        loop {
            let error = match deps.store.save(&self.operation, self.version).await {
                Ok(version) => {
                    self.version = version;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Conflict => error,
                Err(error) => return Err(error),
            };
            let Some(found) = find_operation(&*deps.store, deps.environment(), &self.operation.id).await? else {
                return Err(error);
            };
            if found.value.lease.epoch != self.operation.lease.epoch {
                return Err(lost(&found.value));
            }
            // Whatever else differs is what this process itself wrote before an answer was lost.
            self.operation.cancel_requested |= found.value.cancel_requested;
            self.version = found.version;
        }
    }
}

pub(crate) fn busy(operation: &Operation) -> Error {
    let by = operation.lease.owner.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
    Error::new(ErrorKind::Conflict, format!("{} {} is being run by {by}", operation.spec.kind(), operation.id))
        .with_hint(format!("wait for it, or watch it with: dh ops show {}", operation.id))
}

fn lost(operation: &Operation) -> Error {
    let by = operation.lease.owner.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
    Error::new(ErrorKind::Conflict, format!("{} {} was taken over by {by}", operation.spec.kind(), operation.id))
        .with_context("reason", "lease_lost")
        .with_hint(format!("watch it with: dh ops show {}", operation.id))
}
