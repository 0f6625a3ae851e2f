//! What holds whatever happens: an agent is run over generated histories.

use std::time::Duration;

use proptest::prelude::*;

use super::world::*;
use crate::domain::{IdlePolicy, Reading};
use crate::logic::idle::*;

/// What may happen between two looks.
#[derive(Debug, Clone, Copy)]
enum Event {
    Quiet,
    Busy,
    Coffee,
    Blind,
    Restart,
    Reboot,
    Sleep(u64),
    StopFails,
    Policy(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => Just(Event::Quiet),
        2 => Just(Event::Busy),
        1 => Just(Event::Coffee),
        1 => Just(Event::Blind),
        2 => Just(Event::Restart),
        1 => Just(Event::Reboot),
        1 => (1_u64..7_200).prop_map(Event::Sleep),
        3 => Just(Event::StopFails),
        1 => (5_u64..300).prop_map(Event::Policy),
    ]
}

/// What a run did, in order: the number of the event, the boot clock, and the outcome of the look.
type Trace = Vec<(usize, Duration, Step)>;

/// Runs the agent over a history, as its loop does: a look each tick or when something is due, a second look when asked
/// for. Checks at each stop that the engine had been quiet for the whole timeout of this boot, with people warned.
fn run(timeout: u64, history: &[Event]) -> Result<Trace, TestCaseError> {
    let policy = IdlePolicy { idle_timeout: secs(timeout), warning: secs(timeout / 3), ..IdlePolicy::default() };
    let mut world = World::new(policy);
    let mut trace = Vec::new();
    // The first look since which all was quiet; set by the test itself, not taken from the tracker.
    let mut quiet_since: Option<Duration> = None;
    let mut warned_at: Option<Duration> = None;
    for (number, event) in history.iter().enumerate() {
        let next = world.at.since_boot + world.policy.tick();
        world.at.since_boot =
            world.tracker.due(&world.policy).map_or(next, |due| next.min(due.max(world.at.since_boot)));
        let mut readings: Vec<Reading> = quiet();
        let mut stop_fails = false;
        match event {
            Event::Quiet => {}
            Event::Busy => readings = busy(),
            Event::Coffee => readings = coffee(),
            Event::Blind => readings = blind(),
            Event::Restart => {
                if world.tracker.state().is_some() {
                    world.restart();
                }
            }
            Event::Reboot => {
                world.at.boot_id.push('+');
                world.at.since_boot = secs(30);
                quiet_since = None;
            }
            Event::Sleep(seconds) => {
                world.at.since_boot += secs(*seconds);
                world.at.suspended += secs(*seconds);
                if *seconds > 2 {
                    quiet_since = None;
                }
            }
            Event::StopFails => stop_fails = true,
            Event::Policy(seconds) => world.policy.idle_timeout = secs(*seconds),
        }
        if decide(&readings, false).is_active() {
            quiet_since = None;
        } else {
            quiet_since.get_or_insert(world.at.since_boot);
        }
        let mut step = world.look(&readings);
        if step.effects.contains(&IdleEffect::Resample) {
            trace.push((number, world.at.since_boot, step));
            step = world.confirm(&readings);
        }
        for effect in &step.effects {
            match effect {
                IdleEffect::Warn { .. } => warned_at = Some(world.at.since_boot),
                IdleEffect::Cancelled { .. } => warned_at = None,
                IdleEffect::Stop { .. } => {
                    let since = quiet_since.ok_or_else(|| TestCaseError::fail("stopped while in use"))?;
                    let quiet_for = world.at.since_boot - since;
                    prop_assert!(quiet_for >= world.policy.idle_timeout, "stopped after {:?}", quiet_for);
                    prop_assert!(warned_at.is_some(), "stopped unannounced");
                    let outcome = if stop_fails { StopOutcome::Failed } else { StopOutcome::Accepted };
                    world.tracker.stopped(outcome, world.at.since_boot);
                }
                IdleEffect::Resample => {}
            }
        }
        trace.push((number, world.at.since_boot, step));
    }
    Ok(trace)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_engine_in_use_within_the_timeout_is_never_stopped(
        timeout in 5_u64..300,
        history in prop::collection::vec(event(), 1..200),
    ) {
        run(timeout, &history)?;
    }

    #[test]
    fn the_same_history_gives_the_same_trace(
        timeout in 5_u64..300,
        history in prop::collection::vec(event(), 1..200),
    ) {
        prop_assert_eq!(run(timeout, &history)?, run(timeout, &history)?);
    }

    #[test]
    fn an_idle_engine_is_acted_on_within_its_timeout_and_two_ticks_whatever_came_before(
        timeout in 5_u64..300,
        mut history in prop::collection::vec(event(), 0..60),
    ) {
        // The timeout is that of the last change. Whoever is there stays until a stop that was accepted before, and did
        // not come about, is forgotten; then they leave, and nothing stirs any more.
        history.push(Event::Policy(timeout));
        history.extend(std::iter::repeat_n(Event::Busy, 40));
        let left = history.len() - 1;
        history.extend(std::iter::repeat_n(Event::Quiet, 100));
        let trace = run(timeout, &history)?;
        let left_at = trace.iter().find(|(number, ..)| *number == left).map(|(_, at, _)| *at).unwrap_or_default();
        let acted = trace.iter().find(|(number, _, step)| {
            *number > left && step.effects.iter().any(|effect| matches!(effect, IdleEffect::Stop { .. }))
        });
        let Some((_, acted_at, _)) = acted else {
            return Err(TestCaseError::fail("never stopped"));
        };
        let tick = IdlePolicy { idle_timeout: secs(timeout), ..IdlePolicy::default() }.tick();
        prop_assert!(*acted_at <= left_at + secs(timeout) + 2 * tick, "{:?} after", *acted_at - left_at);
    }

    #[test]
    fn any_stored_state_is_survived_and_stops_nothing_at_once(
        began in 0.0..9_000.0_f64, last in 0.0..9_000.0_f64, idle in prop::option::of(0.0..9_000.0_f64), at in 0.0..9_000.0_f64,
    ) {
        let mut world = World::new(ten_minutes());
        let stored = serde_json::json!({ "schema": 1, "boot_id": "first", "began_secs": began, "last_look_secs": last,
            "suspended_secs": 0, "idle_since_secs": idle, "phase": { "name": "warned", "at_secs": at }, "epoch": 7 });
        world.tracker = IdleTracker::new(serde_json::from_value(stored).ok());
        let step = world.look(&quiet());
        let at_once = step.effects.iter().any(|effect| matches!(effect, IdleEffect::Stop { .. }));
        prop_assert!(!at_once);
        prop_assert!(step.idle_for.unwrap_or_default() <= world.at.since_boot - secs(0));
    }
}
