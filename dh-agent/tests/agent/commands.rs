//! `once`, `coffee`, `policy` and `status`.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use dh_core::domain::{ErrorKind, IdlePolicy, IdleStatus};
use dh_core::wire::CoffeeReply;
use jiff::Timestamp;

use crate::engine::{TestEngine, failure, policy, reply};

fn set_policy(engine: &TestEngine, json: &str) -> std::process::Output {
    let mut child = engine.command(&["policy", "--set", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn one_look_shows_every_sensor_and_writes_nothing() {
    let engine = TestEngine::new(|_, _| ());
    let status: IdleStatus = reply(&engine.call(&["once"]));
    let sensors: Vec<&str> = status.readings.iter().map(|reading| reading.sensor.as_str()).collect();
    assert_eq!(sensors, ["ssh", "ide", "docker", "coffee"]);
    assert_eq!(std::fs::read_dir(engine.disk("")).unwrap().count(), 0);
}

#[test]
fn coffee_is_set_seen_and_cancelled() {
    let engine = TestEngine::new(|_, _| ());
    let before = Timestamp::now();
    let until = reply::<CoffeeReply>(&engine.call(&["coffee", "--for", "3600"])).until.unwrap();
    let held = Duration::try_from(until.duration_since(before)).unwrap();
    assert!((3_600..3_660).contains(&held.as_secs()), "{held:?}");
    let status: IdleStatus = reply(&engine.call(&["once"]));
    assert!(!status.is_idle && status.reason.starts_with("coffee: "), "{}", status.reason);
    assert_eq!(status.coffee_until, Some(until));
    for _ in 0..2 {
        assert_eq!(reply::<CoffeeReply>(&engine.call(&["coffee", "--cancel"])).until, None);
    }
    assert_eq!(reply::<IdleStatus>(&engine.call(&["once"])).coffee_until, None);
}

#[test]
fn coffee_of_no_time_or_of_years_is_refused() {
    let engine = TestEngine::new(|_, _| ());
    for args in [
        &["coffee", "--for", "0"][..],
        &["coffee", "--for", "31536001"],
        &["coffee", "--for", "4h"],
        &["coffee", "--for", "-5"],
        &["coffee", "--for", "60", "--cancel"],
        &["coffee"],
    ] {
        assert_eq!(failure(&engine.call(args)).kind, ErrorKind::InvalidArgument, "{args:?}");
    }
    assert!(!engine.disk("var/coffee").exists());
}

#[test]
fn coffee_that_comes_after_the_decision_is_told_that_it_is_too_late() {
    let engine = TestEngine::new(|_, _| ());
    let var = engine.disk("var");
    std::fs::create_dir(&var).unwrap();
    let state = |boot: &str, tries: u32, accepted: bool| {
        serde_json::json!({ "schema": 1, "boot_id": boot, "began_secs": 1, "last_look_secs": 100, "suspended_secs": 0,
            "idle_since_secs": 2, "epoch": 1,
            "phase": { "name": "committed", "epoch": 1, "tries": tries, "accepted": accepted, "next_secs": 130 } })
        .to_string()
    };
    for (tries, accepted) in [(0, false), (1, true)] {
        std::fs::write(var.join("idle.json"), state("first", tries, accepted)).unwrap();
        let error = failure(&engine.call(&["coffee", "--for", "60"]));
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.hint.unwrap().contains("dh engine start lab"));
        assert!(!var.join("coffee").exists());
    }
    // A stop that failed can be taken back, and one of another boot is over.
    for (boot, tries, accepted) in [("first", 1, false), ("before", 1, true)] {
        std::fs::write(var.join("idle.json"), state(boot, tries, accepted)).unwrap();
        assert!(reply::<CoffeeReply>(&engine.call(&["coffee", "--for", "60"])).until.is_some());
    }
}

#[test]
fn a_policy_is_set_as_a_whole_or_not_at_all() {
    let engine = TestEngine::new(|_, config| config.policy = policy(900, 60));
    assert_eq!(reply::<IdlePolicy>(&engine.call(&["policy"])), policy(900, 60));
    let set = policy(10, 5);
    assert_eq!(reply::<IdlePolicy>(&set_policy(&engine, &serde_json::to_string(&set).unwrap())), set);
    for json in ["", "null", "[]", r#"{"idle_timeout_secs": 0}"#, r#"{"idle_timeout_secs": 10, "x": 1}"#] {
        let error = failure(&set_policy(&engine, json));
        assert!(error.kind == ErrorKind::InvalidArgument && error.hint.is_some(), "{json}");
    }
    assert_eq!(reply::<IdlePolicy>(&engine.call(&["policy"])), set);
}

#[test]
fn status_before_the_first_look_says_so() {
    let engine = TestEngine::new(|_, _| ());
    assert_eq!(failure(&engine.call(&["status"])).kind, ErrorKind::NotFound);
}

#[test]
fn without_a_configuration_it_says_where_it_looked() {
    let engine = TestEngine::new(|_, _| ());
    let output = engine.command(&["once"]).env("DH_AGENT_CONFIG", "/nowhere/agent.json").output().unwrap();
    let error = failure(&output);
    assert!(error.kind == ErrorKind::Config && error.message.contains("/nowhere/agent.json"), "{error:?}");
}
