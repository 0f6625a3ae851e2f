//! `dh-agent once`: one look, as the agent would judge it. Nothing is written and nothing is done.

use dh_core::connect::SystemClock;
use dh_core::domain::{IdleStatus, Result};
use dh_core::logic::idle::{IdleState, IdleTracker, Look};
use dh_core::ports::Clock;

use crate::boot::Boots;
use crate::layout::{Layout, load_config};
use crate::sense::{Senses, bootstrap_hold, host};
use crate::{bootstrap, coffee, files, policy};

/// Looks with every sensor and returns the verdict, with the count as the running agent would go on with it.
pub async fn run() -> Result<IdleStatus> {
    let config = load_config()?;
    let layout = Layout::of(&config);
    let policy = policy::in_force(&layout, &config.policy);
    let mut readings = Senses::stock(host(&config, &layout, false)?).look().await;
    readings.extend(bootstrap::stored(&layout, &config)?.as_ref().and_then(bootstrap_hold));
    let stored = files::read(&layout.idle())?.and_then(|text| serde_json::from_str::<IdleState>(&text).ok());
    let at = Boots::of(&layout).moment(&SystemClock);
    let step = IdleTracker::new(stored).step(&Look { at: &at, policy: &policy, readings: &readings, confirm: false });
    let now = SystemClock.now();
    Ok(IdleStatus {
        is_idle: !step.decision.is_active(),
        idle_since: step.idle_for.map(|idle_for| now - idle_for),
        timeout: policy.idle_timeout,
        reason: step.decision.reason,
        readings,
        coffee_until: coffee::until(&layout, &SystemClock),
        stop_at: step.stop_at.map(|stop_at| now + stop_at.saturating_sub(at.since_boot)),
        at: now,
    })
}
