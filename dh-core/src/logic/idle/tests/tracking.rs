//! One test for every promise of the idle count and of the two phases of a stop.

use std::time::Duration;

use super::world::*;
use crate::domain::{IdlePolicy, StopMode};
use crate::logic::idle::*;

fn cancels(step: &Step) -> bool {
    step.effects.iter().any(|effect| matches!(effect, IdleEffect::Cancelled { .. }))
}

fn stops(effects: &[IdleEffect]) -> bool {
    effects.iter().any(|effect| matches!(effect, IdleEffect::Stop { .. }))
}

#[test]
fn nothing_is_done_on_the_first_look_however_long_the_machine_is_up() {
    let mut world = World::new(ten_minutes());
    let step = world.look(&quiet());
    assert_eq!((step.idle_for, step.effects.as_slice(), step.anew), (Some(secs(0)), &[][..], true));
}

#[test]
fn nine_minutes_and_59_seconds_of_ten_are_not_yet() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    assert!(!world.pass(secs(599), &quiet()).contains(&IdleEffect::Resample));
    assert_eq!(world.pass(secs(1), &quiet()), [IdleEffect::Resample]);
}

#[test]
fn people_are_warned_once_with_the_time_left() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    let effects = world.pass(secs(599), &quiet());
    assert_eq!(effects, [IdleEffect::Warn { idle_for: secs(480), left: secs(120) }]);
}

#[test]
fn only_a_second_look_commits() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(650), &quiet());
    assert_eq!(world.phase(), PhaseName::Warned, "looks alone never commit");
    let step = world.confirm(&quiet());
    assert_eq!(step.effects, [IdleEffect::Stop { epoch: 1, mode: StopMode::Stop, idle_for: secs(650) }]);
    assert_eq!(world.phase(), PhaseName::Committed);
}

#[test]
fn a_second_look_that_comes_too_early_commits_nothing() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(599), &quiet());
    assert!(!stops(&world.confirm(&quiet()).effects));
}

#[test]
fn activity_between_decision_and_action_cancels() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(600), &quiet());
    let step = world.confirm(&busy());
    let reason = "kept awake by ssh: 1 active SSH session(s)".to_owned();
    assert_eq!(step.effects, [IdleEffect::Cancelled { reason }]);
    assert_eq!((world.phase(), step.idle_for), (PhaseName::Watching, None));
}

#[test]
fn a_sensor_that_goes_blind_at_the_second_look_cancels() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(600), &quiet());
    assert!(cancels(&world.confirm(&blind())));
}

#[test]
fn coffee_after_the_warning_cancels_and_the_whole_time_counts_again_after_it() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(550), &quiet());
    assert!(cancels(&world.look(&coffee())));
    world.pass(secs(3_600), &coffee());
    assert!(!world.pass(secs(599), &quiet()).contains(&IdleEffect::Resample));
    assert!(world.pass(secs(20), &quiet()).contains(&IdleEffect::Resample));
}

#[test]
fn an_agent_that_is_restarted_keeps_the_count_and_warns_no_second_time() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    let mut effects = Vec::new();
    for _ in 0..60 {
        effects.extend(world.pass(secs(10), &quiet()));
        world.restart();
    }
    assert_eq!(effects, [IdleEffect::Warn { idle_for: secs(480), left: secs(120) }, IdleEffect::Resample]);
}

#[test]
fn an_agent_killed_between_decision_and_action_asks_for_the_stop_when_it_is_back() {
    let mut world = World::new(ten_minutes());
    world.commit();
    world.restart();
    world.at.since_boot += secs(2);
    assert!(stops(&world.look(&quiet()).effects));
}

#[test]
fn an_agent_killed_between_decision_and_action_stops_nothing_that_is_in_use_when_it_is_back() {
    let mut world = World::new(ten_minutes());
    world.commit();
    world.restart();
    world.at.since_boot += secs(2);
    assert!(cancels(&world.look(&busy())));
    assert!(!stops(&world.pass(secs(599), &quiet())));
}

#[test]
fn another_boot_counts_anew() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(590), &quiet());
    world.at.boot_id = "second".into();
    world.at.since_boot = secs(5_600);
    let step = world.look(&quiet());
    assert_eq!((step.anew, step.idle_for, world.phase()), (true, Some(secs(0)), PhaseName::Watching));
    assert!(!cancels(&step), "nobody of that boot is there any more");
}

#[test]
fn a_machine_resumed_from_sleep_counts_anew_and_takes_the_warning_back() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(590), &quiet());
    world.at.since_boot += secs(40);
    world.at.suspended += secs(40);
    let step = world.look(&quiet());
    assert_eq!((step.anew, step.idle_for), (true, Some(secs(0))));
    assert!(cancels(&step));
}

#[test]
fn time_in_which_nobody_looked_is_not_idle_time() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(300), &quiet());
    world.at.since_boot += LOOK_GAP + secs(1);
    assert_eq!(world.look(&quiet()).idle_for, Some(secs(0)));
}

/// Changes one field of the stored state, as JSON.
fn tampered(change: impl Fn(&mut serde_json::Value)) -> Step {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(590), &quiet());
    let mut stored = serde_json::to_value(world.tracker.state().unwrap()).unwrap();
    change(&mut stored);
    world.tracker = IdleTracker::new(serde_json::from_value(stored).ok());
    world.at.since_boot += secs(10);
    world.look(&quiet())
}

#[test]
fn stored_state_that_is_left_alone_goes_on() {
    let step = tampered(|_| ());
    assert_eq!((step.anew, step.idle_for, step.effects), (false, Some(secs(600)), vec![IdleEffect::Resample]));
}

#[test]
fn an_idle_since_that_cannot_be_read_lies_ahead_or_is_older_than_the_boot_counts_anew() {
    for idle_since in ["\"yesterday\"", "-1", "6000", "4999", "0", "1e300", "{}"] {
        let step = tampered(|stored| stored["idle_since_secs"] = serde_json::from_str(idle_since).unwrap());
        assert_eq!((step.anew, step.idle_for), (true, Some(secs(0))), "{idle_since}");
        assert!(!step.effects.contains(&IdleEffect::Resample), "{idle_since}");
    }
}

#[test]
fn a_warning_from_the_future_or_without_idle_time_or_a_state_of_another_form_counts_anew() {
    for change in [
        |stored: &mut serde_json::Value| stored["phase"]["at_secs"] = 9_000.into(),
        |stored: &mut serde_json::Value| drop(stored.as_object_mut().unwrap().remove("idle_since_secs")),
        |stored: &mut serde_json::Value| stored["schema"] = 2.into(),
        |stored: &mut serde_json::Value| stored["last_look_secs"] = 9_000.into(),
        |stored: &mut serde_json::Value| *stored = serde_json::Value::Null,
    ] {
        let step = tampered(change);
        assert_eq!((step.anew, step.idle_for), (true, Some(secs(0))));
    }
}

#[test]
fn a_stop_that_fails_is_tried_again_for_ever_with_pauses_that_grow_to_five_minutes() {
    let mut world = World::new(ten_minutes());
    world.commit();
    let mut pauses = Vec::new();
    for _ in 0..40 {
        world.tracker.stopped(StopOutcome::Failed, world.at.since_boot);
        let begun = world.at.since_boot;
        while !stops(&world.look(&quiet()).effects) {
            world.at.since_boot += secs(1);
        }
        pauses.push((world.at.since_boot - begun).as_secs());
    }
    assert_eq!(pauses[..5], [2, 4, 8, 16, 32]);
    assert!(pauses[8..].iter().all(|pause| *pause == 300));
}

#[test]
fn somebody_who_comes_while_the_stop_keeps_failing_is_not_stopped() {
    let mut world = World::new(ten_minutes());
    world.commit();
    world.tracker.stopped(StopOutcome::Failed, world.at.since_boot);
    world.at.since_boot += secs(1);
    assert!(cancels(&world.look(&busy())));
    assert!(!stops(&world.pass(secs(3_600), &busy())));
}

#[test]
fn a_stop_that_was_accepted_is_asked_for_again_when_power_stays_on() {
    let mut world = World::new(ten_minutes());
    world.commit();
    world.tracker.stopped(StopOutcome::Accepted, world.at.since_boot);
    assert!(!stops(&world.pass(secs(29), &quiet())));
    assert!(stops(&world.pass(secs(2), &quiet())));
}

#[test]
fn the_last_moments_of_an_accepted_stop_take_nothing_back_but_lasting_use_does() {
    let mut world = World::new(ten_minutes());
    world.commit();
    world.tracker.stopped(StopOutcome::Accepted, world.at.since_boot);
    assert!(world.pass(secs(20), &busy()).is_empty());
    let effects = world.pass(secs(20), &quiet());
    assert!(!stops(&effects) && effects.iter().any(|effect| matches!(effect, IdleEffect::Cancelled { .. })));
}

#[test]
fn a_longer_timeout_takes_the_warning_back() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(500), &quiet());
    world.policy.idle_timeout = secs(7_200);
    let step = world.look(&quiet());
    assert_eq!(step.effects, [IdleEffect::Cancelled { reason: "the idle timeout is now 2 hours".into() }]);
    assert_eq!(step.idle_for, Some(secs(500)), "the count goes on");
}

#[test]
fn a_shorter_timeout_still_warns_for_as_long_as_it_says() {
    let mut world = World::new(ten_minutes());
    world.look(&quiet());
    world.pass(secs(470), &quiet());
    world.policy = IdlePolicy { idle_timeout: secs(10), warning: secs(300), ..world.policy };
    let step = world.look(&quiet());
    assert_eq!(step.effects, [IdleEffect::Warn { idle_for: secs(470), left: secs(5) }]);
    assert!(!world.pass(secs(4), &quiet()).contains(&IdleEffect::Resample));
    assert!(world.pass(secs(1), &quiet()).contains(&IdleEffect::Resample));
}

#[test]
fn without_a_warning_nobody_is_warned_and_the_timeout_holds_all_the_same() {
    let mut world = World::new(IdlePolicy { warning: Duration::ZERO, ..ten_minutes() });
    world.look(&quiet());
    assert_eq!(world.pass(secs(599), &quiet()), []);
    assert_eq!(world.pass(secs(1), &quiet()), [IdleEffect::Resample]);
}

#[test]
fn a_blind_sensor_holds_the_engine_for_ever_unless_the_policy_says_otherwise() {
    let mut world = World::new(ten_minutes());
    world.look(&blind());
    assert_eq!(world.pass(secs(86_400), &blind()), []);
}

#[test]
fn a_policy_may_bound_a_blind_sensor_and_the_whole_timeout_follows() {
    let mut world = World::new(IdlePolicy { unknown_limit: Some(secs(3_600)), ..ten_minutes() });
    world.look(&blind());
    assert!(!world.pass(secs(3_600 + 599), &blind()).contains(&IdleEffect::Resample));
    assert!(world.pass(secs(10), &blind()).contains(&IdleEffect::Resample));
}

#[test]
fn a_sensor_that_is_blind_off_and_on_counts_from_its_last_fault() {
    let mut world = World::new(IdlePolicy { unknown_limit: Some(secs(300)), ..ten_minutes() });
    world.look(&blind());
    for _ in 0..10 {
        assert_eq!(world.pass(secs(290), &blind()), []);
        assert_eq!(world.pass(secs(10), &busy()), []);
    }
}

#[test]
fn what_is_due_next_is_the_warning_then_the_stop() {
    let mut world = World::new(ten_minutes());
    assert_eq!(world.tracker.due(&world.policy), None);
    world.look(&busy());
    assert_eq!(world.tracker.due(&world.policy), None);
    let begun = world.at.since_boot;
    world.look(&quiet());
    assert_eq!(world.tracker.due(&world.policy), Some(begun + secs(480)));
    world.pass(secs(480), &quiet());
    assert_eq!(world.tracker.due(&world.policy), Some(begun + secs(600)));
}

#[test]
fn decisions_are_numbered_over_boots() {
    let mut world = World::new(ten_minutes());
    world.commit();
    world.restart();
    world.at.boot_id = "second".into();
    let step = world.commit();
    assert!(matches!(step.effects[..], [IdleEffect::Stop { epoch: 2, .. }]), "{step:?}");
}

#[test]
fn the_stored_form_of_version_1_is_still_read() {
    let text = r#"{"schema":1,"boot_id":"b","began_secs":10,"last_look_secs":640.5,"suspended_secs":0,
        "idle_since_secs":20,"phase":{"name":"committed","epoch":3,"tries":1,"accepted":false,"next_secs":642},"epoch":3}"#;
    let state: IdleState = serde_json::from_str(text).unwrap();
    assert_eq!((state.epoch, state.idle_since), (3, Some(secs(20))));
    for phase in [r#"{"name":"watching"}"#, r#"{"name":"warned","at_secs":30}"#] {
        assert!(serde_json::from_str::<IdlePhase>(phase).is_ok());
    }
}
