//! Telling the state store what the agent finds, beside the loop: a store that fails or hangs delays no look.

use std::sync::Arc;
use std::time::Duration;

use dh_core::domain::{Bootstrap, Engine, EngineName, EngineState, EnvironmentName, IdleStatus, Result};
use dh_core::ports::{Clock, StateStore, StateStoreExt};
use tokio::sync::{oneshot, watch};

/// The pause after the first failed write; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two tries.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How often changes of mere details are reported.
const DETAILS_EVERY: Duration = Duration::from_secs(60);

/// By how much a computed time may differ from the one reported and still be the same.
const SAME_TIME: Duration = Duration::from_secs(2);

/// What the store should hold.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Grows with every change, so that its writing can be awaited.
    number: u64,
    idle: Option<IdleStatus>,
    stopping: bool,
}

/// The loop's end: says what is to be reported.
#[derive(Debug)]
pub struct Reporter {
    wanted: watch::Sender<Wanted>,
    written: watch::Receiver<u64>,
    clock: Arc<dyn Clock>,
}

/// The other end: writes it.
pub struct Writer {
    wanted: watch::Receiver<Wanted>,
    written: watch::Sender<u64>,
    bootstrap: watch::Receiver<Bootstrap>,
    open: Box<dyn Fn() -> Result<Arc<dyn StateStore>> + Send>,
    clock: Arc<dyn Clock>,
    environment: EnvironmentName,
    engine: EngineName,
    start: oneshot::Receiver<Vec<String>>,
}

impl Reporter {
    /// Makes both ends. The store is opened when there is something to write, and again after each failure.
    ///
    /// Nothing is written before the start is over, and then first of all what could not be done in it.
    pub fn new(
        environment: EnvironmentName,
        engine: EngineName,
        bootstrap: watch::Receiver<Bootstrap>,
        clock: Arc<dyn Clock>,
        start: oneshot::Receiver<Vec<String>>,
        open: impl Fn() -> Result<Arc<dyn StateStore>> + Send + 'static,
    ) -> (Self, Writer) {
        let (wanted, wanted_end) = watch::channel(Wanted::default());
        let (written, written_end) = watch::channel(0);
        let writer = Writer {
            wanted: wanted_end,
            written,
            bootstrap,
            open: Box::new(open),
            clock: clock.clone(),
            environment,
            engine,
            start,
        };
        (Self { wanted, written: written_end, clock }, writer)
    }

    /// Reports what was found, if it is news; always when told to.
    pub fn idle(&self, status: &IdleStatus, anyway: bool) {
        self.wanted.send_if_modified(|wanted| {
            let news = anyway || wanted.idle.as_ref().is_none_or(|last| is_news(last, status));
            if news {
                wanted.idle = Some(status.clone());
                wanted.number += 1;
            }
            news
        });
    }

    /// Reports that the engine is about to stop, or is not after all.
    pub fn stopping(&self, stopping: bool) {
        self.wanted.send_if_modified(|wanted| {
            let news = wanted.stopping != stopping;
            wanted.stopping = stopping;
            wanted.number += u64::from(news);
            news
        });
    }

    /// Waits until all of it is written, but no longer than this.
    pub async fn flush(&self, patience: Duration) {
        let number = self.wanted.borrow().number;
        let mut written = self.written.clone();
        tokio::select! {
            _ = written.wait_for(|done| *done >= number) => {}
            () = self.clock.sleep(patience) => tracing::warn!("the store does not take the agent's report"),
        }
    }
}

/// Returns whether a status says something else than the last one that was reported.
fn is_news(last: &IdleStatus, now: &IdleStatus) -> bool {
    let near = |a: Option<jiff::Timestamp>, b: Option<jiff::Timestamp>| match (a, b) {
        (Some(a), Some(b)) => a.duration_since(b).unsigned_abs() < SAME_TIME,
        (a, b) => a.is_none() && b.is_none(),
    };
    let same = last.is_idle == now.is_idle
        && last.timeout == now.timeout
        && last.reason == now.reason
        && near(last.coffee_until, now.coffee_until)
        && near(last.idle_since, now.idle_since)
        && near(last.stop_at, now.stop_at)
        && last.readings.len() == now.readings.len()
        && last.readings.iter().zip(&now.readings).all(|(last, now)| {
            (&last.sensor, last.activity, last.confidence, &last.reason)
                == (&now.sensor, now.activity, now.confidence, &now.reason)
        });
    let details = || last.readings != now.readings;
    !same || (now.at.duration_since(last.at).unsigned_abs() >= DETAILS_EVERY && details())
}

impl Writer {
    /// Writes until the loop ends.
    pub async fn run(mut self) {
        let mut store: Option<Arc<dyn StateStore>> = None;
        let mut pause = FIRST_PAUSE;
        // What an agent before this one has done is told, too.
        self.bootstrap.mark_changed();
        let mut bootstrapping = true;
        // Whoever waits for the engine takes the first report for the word that its studios are there.
        let mut problems = Some((&mut self.start).await.unwrap_or_default());
        loop {
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                changed = self.bootstrap.changed(), if bootstrapping => if changed.is_err() {
                    bootstrapping = false;
                    continue;
                },
            }
            loop {
                let wanted = self.wanted.borrow_and_update().clone();
                match self.write(&mut store, &wanted, problems.as_ref()).await {
                    Ok(()) => {
                        // Once told they are the store's: a studio that is mounted later is no problem any more.
                        problems = None;
                        pause = FIRST_PAUSE;
                        self.written.send_replace(wanted.number);
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(error = %error.full_message(), hint = error.hint(), "cannot report to the store");
                        store = None;
                        self.clock.sleep(pause).await;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                }
            }
        }
    }

    async fn write(
        &mut self,
        store: &mut Option<Arc<dyn StateStore>>,
        wanted: &Wanted,
        problems: Option<&Vec<String>>,
    ) -> Result<()> {
        let store = match store {
            Some(store) => store,
            None => store.insert((self.open)()?),
        };
        let bootstrap = self.bootstrap.borrow_and_update().clone();
        let change = |engine: &mut Engine| {
            let before = engine.clone();
            if !bootstrap.stages.is_empty() {
                engine.bootstrap = bootstrap.clone();
            }
            if let Some(problems) = problems {
                engine.problems.clone_from(problems);
            }
            if wanted.idle.is_some() {
                engine.idle = wanted.idle.clone();
            }
            // While an operation has hold of the engine, the state is the operation's.
            match (engine.operation.is_some(), engine.state, wanted.stopping) {
                (false, EngineState::Running, true) => engine.state = EngineState::Stopping,
                (false, EngineState::Stopping, false) => engine.state = EngineState::Running,
                _ => {}
            }
            Ok(*engine != before)
        };
        let found = store.modify(&self.environment, self.engine.as_str(), &change).await?;
        if found.is_none() {
            tracing::warn!(engine = %self.engine, "the store knows no such engine");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dh_core::domain::{Activity, Axis, Confidence, Reading};
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    fn status() -> IdleStatus {
        IdleStatus {
            is_idle: true,
            idle_since: Some(Timestamp::UNIX_EPOCH),
            timeout: Duration::from_secs(600),
            reason: "all sensors idle".into(),
            readings: vec![Reading::new("ssh", Activity::Idle, Confidence::High, Axis::Presence, "No sessions")],
            coffee_until: None,
            stop_at: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn time_that_goes_by_is_no_news() {
        let last = status();
        let jitter = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_millis(3));
        assert!(!is_news(&last, &IdleStatus { at: Timestamp::constant(9, 0), idle_since: jitter, ..status() }));
    }

    #[test]
    fn every_change_that_people_see_is_news() {
        let last = status();
        let other = Some(Timestamp::constant(100, 0));
        for now in [
            IdleStatus { is_idle: false, ..status() },
            IdleStatus { idle_since: None, ..status() },
            IdleStatus { idle_since: other, ..status() },
            IdleStatus { stop_at: other, ..status() },
            IdleStatus { coffee_until: other, ..status() },
            IdleStatus { timeout: Duration::from_secs(5), ..status() },
            IdleStatus { readings: Vec::new(), ..status() },
        ] {
            assert!(is_news(&last, &now), "{now:?}");
        }
    }

    #[test]
    fn details_alone_are_news_once_a_minute() {
        let last = status();
        let mut now = status();
        now.readings[0] = now.readings[0].clone().with_detail("sessions", 0.0);
        assert!(!is_news(&last, &now));
        now.at = Timestamp::constant(60, 0);
        assert!(is_news(&last, &now));
    }
}
