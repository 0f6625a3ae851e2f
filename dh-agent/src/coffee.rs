//! `dh-agent coffee`: keeps the engine awake for a time, or lets go of it.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use dh_core::backend::local::durable::lock;
use dh_core::backend::local::map::io_error;
use dh_core::connect::SystemClock;
use dh_core::domain::{DURATION_MAX, Error, ErrorKind, Result};
use dh_core::logic::idle::{IdlePhase, IdleState};
use dh_core::ports::Clock;
use dh_core::sensor::CoffeeLock;
use dh_core::wire::CoffeeReply;
use jiff::Timestamp;

use crate::boot::Boots;
use crate::layout::{Layout, load_config};
use crate::{files, poke};

/// How long a stop that is being asked for may keep coffee waiting.
const PATIENCE: Duration = Duration::from_secs(20);

/// The arguments of `dh-agent coffee`.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct CoffeeArgs {
    /// Keeps the engine awake for so many seconds from now.
    #[arg(long = "for", value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=DURATION_MAX.as_secs()))]
    pub seconds: Option<u64>,
    /// Lets go of it.
    #[arg(long)]
    pub cancel: bool,
}

/// Sets or takes away the coffee lock. Once it returns with a time, no decision made before stops the engine.
pub fn run(args: &CoffeeArgs) -> Result<CoffeeReply> {
    let config = load_config()?;
    let layout = Layout::of(&config);
    layout.make()?;
    let boot = Boots::of(&layout).time(&SystemClock);
    let held = args.seconds.map(|seconds| CoffeeLock::lasting(Duration::from_secs(seconds), SystemClock.now(), boot));
    {
        let _first = lock(&layout.commit_lock(), PATIENCE)?;
        match &held {
            Some(held) => {
                refuse_when_too_late(&layout, config.engine.as_str())?;
                files::replace(&layout.coffee(), held.to_string().as_bytes())?;
            }
            None => remove(&layout.coffee())?,
        }
    }
    poke::poke(&layout.poke());
    Ok(CoffeeReply { until: held.map(|held| held.until) })
}

/// Returns until when the engine is held, where it is.
pub fn until(layout: &Layout, clock: &dyn Clock) -> Option<Timestamp> {
    let held = CoffeeLock::parse(&files::read(&layout.coffee()).ok()??)?;
    held.ends_at(clock.now(), Boots::of(layout).time(clock).as_ref())
}

/// A stop that has been asked for, or is about to be, cannot be taken back; one that failed can.
fn refuse_when_too_late(layout: &Layout, engine: &str) -> Result<()> {
    let state = files::read(&layout.idle())?.and_then(|text| serde_json::from_str::<IdleState>(&text).ok());
    let too_late = state.is_some_and(|state| {
        let asked = matches!(state.phase, IdlePhase::Committed { tries, accepted, .. } if accepted || tries == 0);
        asked && state.boot_id == Boots::of(layout).id()
    });
    if too_late {
        return Err(Error::new(ErrorKind::Conflict, format!("engine '{engine}' is already being stopped"))
            .with_hint(format!("wait until it has stopped, then run: dh engine start {engine}")));
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("cannot remove", path, error)),
        _ => Ok(()),
    }
}
