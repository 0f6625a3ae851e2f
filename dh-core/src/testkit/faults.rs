//! Faults on purpose: which call fails, when, and whether its effect happens all the same.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::{Error, Result};

/// How a call goes wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum FaultKind {
    /// It fails and nothing has happened.
    Before(Error),
    /// It happens, and the answer is lost: the caller gets the error.
    After(Error),
    /// It never returns and nothing happens, as when the caller is killed just before.
    Hang,
    /// It happens and never returns, as when the caller is killed just after.
    HangAfter,
    /// The agent's command runs and fails with this error on its standard error. For other calls the same as `Before`.
    Exit(Error),
}

impl FaultKind {
    fn copy(&self) -> Self {
        match self {
            Self::Before(error) => Self::Before(copy_error(error)),
            Self::After(error) => Self::After(copy_error(error)),
            Self::Hang => Self::Hang,
            Self::HangAfter => Self::HangAfter,
            Self::Exit(error) => Self::Exit(copy_error(error)),
        }
    }
}

/// An error cannot be cloned because of its source; a fault's is told in the message.
fn copy_error(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.full_message()).with_retry(error.retry()).with_effect(error.effect());
    for (key, value) in error.context() {
        copy = copy.with_context(key, value);
    }
    match error.hint() {
        Some(hint) => copy.with_hint(hint),
        None => copy,
    }
}

/// The faults planned for something with calls of type `C`.
#[derive(Debug)]
pub struct Faults<C> {
    rules: Mutex<Vec<Rule<C>>>,
    hung: watch::Sender<u64>,
}

#[derive(Debug)]
struct Rule<C> {
    calls: Vec<C>,
    /// How many matching calls there are until it strikes, this one included; `None` strikes always.
    due_in: Option<u64>,
    kind: FaultKind,
}

impl<C: Copy + PartialEq + Debug> Faults<C> {
    /// Makes an empty plan.
    pub fn new() -> Self {
        Self { rules: Mutex::new(Vec::new()), hung: watch::Sender::new(0) }
    }

    /// Makes the next call of this kind go wrong, once.
    pub fn fail_next(&self, call: C, kind: FaultKind) {
        self.fail_nth(&[call], 1, kind);
    }

    /// Makes the `n`-th call from now, among those named, go wrong, once; 1 is the next.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn fail_nth(&self, calls: &[C], n: u64, kind: FaultKind) {
        assert!(n > 0, "the next call is number 1");
        self.lock().push(Rule { calls: calls.to_vec(), due_in: Some(n), kind });
    }

    /// Makes every call of this kind go wrong until [`Self::clear`].
    pub fn fail_always(&self, call: C, kind: FaultKind) {
        self.lock().push(Rule { calls: vec![call], due_in: None, kind });
    }

    /// Forgets every fault that has not struck.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Returns how many faults have yet to strike.
    pub fn pending(&self) -> usize {
        self.lock().iter().filter(|rule| rule.due_in.is_some()).count()
    }

    /// Runs a future until it is over, or until a call hangs: then it is dropped, as if its process had been killed
    /// there, and `None` is returned.
    pub async fn until_hung<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut hung = self.hung.subscribe();
        hung.mark_unchanged();
        tokio::select! {
            biased;
            Ok(()) = hung.changed() => None,
            done = future => Some(done),
        }
    }

    /// Counts a call and returns the fault that it meets.
    pub(super) fn strike(&self, call: C) -> Option<FaultKind> {
        let mut rules = self.lock();
        let mut struck = None;
        let mut index = 0;
        while index < rules.len() {
            let rule = &mut rules[index];
            index += 1;
            if !rule.calls.contains(&call) {
                continue;
            }
            match &mut rule.due_in {
                Some(1) if struck.is_none() => {
                    index -= 1;
                    struck = Some(rules.remove(index).kind);
                }
                // A second fault due at the same call waits for the next one.
                Some(1) => {}
                Some(due_in) => *due_in -= 1,
                None if struck.is_none() => struck = Some(rule.kind.copy()),
                None => {}
            }
        }
        struck
    }

    /// Lets an effect happen under a fault, or not.
    pub(super) async fn apply<T>(
        &self,
        fault: Option<FaultKind>,
        effect: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match fault {
            None => effect.await,
            Some(FaultKind::Before(error) | FaultKind::Exit(error)) => Err(error),
            Some(FaultKind::After(error)) => {
                effect.await?;
                Err(error)
            }
            Some(FaultKind::Hang) => self.hang().await,
            Some(FaultKind::HangAfter) => {
                effect.await?;
                self.hang().await
            }
        }
    }

    /// Never returns, and lets [`Self::until_hung`] know.
    pub(super) async fn hang<T>(&self) -> T {
        self.hung.send_modify(|count| *count += 1);
        std::future::pending().await
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule<C>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Copy + PartialEq + Debug> Default for Faults<C> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ErrorKind, Retry};

    fn error(message: &str) -> Error {
        Error::new(ErrorKind::Throttled, message).with_context("why", "test").with_hint("wait")
    }

    fn message(fault: Option<FaultKind>) -> Option<String> {
        match fault? {
            FaultKind::Before(error) => Some(error.message().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_nth_call_of_those_named_fails_once() {
        let faults = Faults::new();
        faults.fail_nth(&['a', 'b'], 3, FaultKind::Before(error("third")));
        let struck: Vec<_> = ['a', 'c', 'b', 'a', 'a'].map(|call| message(faults.strike(call))).into();
        assert_eq!(struck, [None, None, None, Some("third".into()), None]);
        assert_eq!(faults.pending(), 0);
    }

    #[test]
    fn faults_of_one_call_strike_one_after_the_other() {
        let faults = Faults::new();
        faults.fail_next('a', FaultKind::Before(error("one")));
        faults.fail_next('a', FaultKind::Before(error("two")));
        let struck: Vec<_> = ['a', 'a', 'a'].map(|call| message(faults.strike(call))).into();
        assert_eq!(struck, [Some("one".into()), Some("two".into()), None]);
    }

    #[test]
    fn a_lasting_fault_keeps_all_but_the_source_of_its_error() {
        let faults = Faults::new();
        faults.fail_always('a', FaultKind::Before(error("again").with_retry(Retry::Never)));
        faults.strike('a');
        let Some(FaultKind::Before(copy)) = faults.strike('a') else { panic!("it lasts") };
        assert_eq!((copy.kind(), copy.retry(), copy.hint()), (ErrorKind::Throttled, Retry::Never, Some("wait")));
        assert_eq!(copy.context(), [("why", "test".to_owned())]);
        faults.clear();
        assert!(faults.strike('a').is_none());
    }

    #[tokio::test]
    async fn the_effect_happens_before_a_lost_answer_and_not_before_a_refusal() {
        let faults = Faults::<char>::new();
        for (fault, happens) in [(FaultKind::Before(error("x")), false), (FaultKind::After(error("x")), true)] {
            let mut happened = false;
            let outcome = faults.apply(Some(fault), async {
                happened = true;
                Ok(())
            });
            assert!(outcome.await.is_err());
            assert_eq!(happened, happens);
        }
    }

    #[tokio::test]
    async fn a_hang_ends_the_future_that_met_it() {
        let faults = Faults::<char>::new();
        for (fault, happens) in [(FaultKind::Hang, false), (FaultKind::HangAfter, true)] {
            let mut happened = false;
            let effect = async {
                happened = true;
                Ok(())
            };
            assert!(faults.until_hung(faults.apply(Some(fault), effect)).await.is_none());
            assert_eq!(happened, happens);
        }
        assert_eq!(faults.until_hung(async { 5 }).await, Some(5), "earlier hangs do not count");
    }
}
