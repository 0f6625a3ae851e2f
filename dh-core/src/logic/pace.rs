//! How often to look at what takes its own time.

use std::time::Duration;

use super::Deps;

/// The first pause between two looks; each further one is half as long again, up to [`SLOWEST`].
const QUICKEST: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_secs(2);

/// The pauses between looks.
#[derive(Debug)]
pub(crate) struct Pace {
    pause: Duration,
    waited: Duration,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { pause: QUICKEST, waited: Duration::ZERO }
    }

    /// Waits until the next look is due, and returns whether the deadline has passed.
    pub(crate) async fn over(&mut self, deps: &Deps, deadline: Duration) -> bool {
        if self.waited >= deadline {
            return true;
        }
        deps.clock.sleep(self.pause).await;
        self.waited += self.pause;
        self.pause = (self.pause * 3 / 2).min(SLOWEST);
        false
    }

    /// Begins anew: there was news.
    pub(crate) fn restart(&mut self) {
        *self = Self::new();
    }
}
