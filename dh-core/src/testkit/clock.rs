//! Virtual time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::domain::{Error, ErrorKind, Result};
use crate::ports::Clock;

/// How long after boot a [`TestClock`] begins, so that nothing under test sees a time before the boot.
const UPTIME: Duration = Duration::from_secs(3_600);

/// A clock that follows tokio's time. Paused by `#[tokio::test(start_paused = true)]`, it jumps to the next thing that
/// anybody waits for. Make it within the runtime that it is to follow.
#[derive(Debug)]
pub struct TestClock {
    began: Instant,
    shift: Mutex<Shift>,
}

#[derive(Debug)]
struct Shift {
    wall: SignedDuration,
    suspended: Duration,
}

impl TestClock {
    /// Makes a clock that begins at 2026-01-01T00:00:00Z, an hour after boot.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            shift: Mutex::new(Shift { wall: SignedDuration::ZERO, suspended: Duration::ZERO }),
        }
    }

    /// Steps the wall clock, forwards or back; the boot clock stays as it is.
    pub fn step_wall(&self, by: SignedDuration) {
        self.shift.lock().unwrap_or_else(PoisonError::into_inner).wall += by;
    }

    /// Lets time go by at once as if the machine had slept: both clocks go on, and nobody's `sleep` is shortened.
    pub fn suspend(&self, for_how_long: Duration) {
        self.shift.lock().unwrap_or_else(PoisonError::into_inner).suspended += for_how_long;
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed() + self.shift.lock().unwrap_or_else(PoisonError::into_inner).suspended
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        const BEGIN: Timestamp = Timestamp::constant(1_767_225_600, 0);
        let wall = self.shift.lock().unwrap_or_else(PoisonError::into_inner).wall;
        BEGIN + self.elapsed() + wall
    }

    fn since_boot(&self) -> Duration {
        UPTIME + self.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Looks again and again, `every` so often, until there is something to see.
///
/// # Errors
/// `Timeout` naming `what` when the deadline is over; the error of a look.
pub async fn until<T>(
    clock: &dyn Clock,
    deadline: Duration,
    every: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = clock.since_boot();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if clock.since_boot().saturating_sub(began) >= deadline {
            return Err(Error::new(ErrorKind::Timeout, format!("waited {deadline:?} in vain until {what}")));
        }
        clock.sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sleeping_moves_both_clocks_and_takes_no_time() {
        let clock = TestClock::new();
        let (wall, boot) = (clock.now(), clock.since_boot());
        let real = std::time::Instant::now();
        clock.sleep(Duration::from_secs(86_400)).await;
        assert_eq!(clock.since_boot() - boot, Duration::from_secs(86_400));
        assert_eq!(clock.now().duration_since(wall), SignedDuration::from_secs(86_400));
        assert!(real.elapsed() < Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_steps_alone() {
        let clock = TestClock::new();
        let (wall, boot) = (clock.now(), clock.since_boot());
        clock.step_wall(SignedDuration::from_hours(-2));
        assert_eq!((clock.now().duration_since(wall), clock.since_boot()), (SignedDuration::from_hours(-2), boot));
    }

    #[tokio::test(start_paused = true)]
    async fn suspended_time_counts_on_both_clocks() {
        let clock = TestClock::new();
        let (wall, boot) = (clock.now(), clock.since_boot());
        clock.suspend(Duration::from_secs(60));
        assert_eq!(clock.since_boot() - boot, Duration::from_secs(60));
        assert_eq!(clock.now().duration_since(wall), SignedDuration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_in_vain_ends_at_the_deadline() {
        let clock = TestClock::new();
        let second = Duration::from_secs(1);
        let waited = until(&clock, 5 * second, second, "pigs fly", async || Ok(None::<()>)).await;
        assert_eq!(waited.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(clock.since_boot(), UPTIME + 5 * second);
    }
}
