//! Which boot this is, and how long ago it began.

use std::path::PathBuf;
use std::time::Duration;

use dh_core::logic::idle::Moment;
use dh_core::ports::{BootTime, Clock};
use rustix::time::{ClockId, clock_gettime};

use crate::layout::Layout;

/// Tells one boot from the next, also across a thaw, after which this very process goes on.
#[derive(Debug)]
pub struct Boots {
    path: PathBuf,
}

impl Boots {
    pub fn of(layout: &Layout) -> Self {
        Self { path: layout.boot_id() }
    }

    /// Returns the boot's id. Where it cannot be read the answer is one that no boot has: time is counted anew.
    pub fn id(&self) -> String {
        self.known().unwrap_or_else(|| "unknown".to_owned())
    }

    fn known(&self) -> Option<String> {
        std::fs::read_to_string(&self.path)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "cannot tell which boot this is");
            })
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|id| !id.is_empty())
    }

    /// Returns the time by this boot's clock, where it is known which boot this is.
    pub fn time(&self, clock: &dyn Clock) -> Option<BootTime> {
        let since_boot = clock.since_boot();
        Some(BootTime { id: self.known()?, since_boot })
    }

    /// Returns this moment. The id is read last: whoever was frozen in between finds that it has changed.
    pub fn moment(&self, clock: &dyn Clock) -> Moment {
        let (since_boot, suspended) = (clock.since_boot(), suspended());
        Moment { boot_id: self.id(), since_boot, suspended }
    }
}

/// Returns how much of the time since boot the machine slept: what the boot clock counts and the monotonic one does not.
fn suspended() -> Duration {
    let read = |clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let monotonic = read(ClockId::Monotonic);
    read(ClockId::Boottime).saturating_sub(monotonic)
}
