//! The idle loop of the real agent, with timeouts of seconds.

use std::time::{Duration, Instant};

use dh_core::backend::local::control::Request;
use dh_core::domain::{EngineState, IdleStatus, StopCause, StopMode};
use dh_core::wire::CoffeeReply;

use crate::engine::{TestEngine, policy, reply, wait};

#[test]
fn an_idle_engine_is_warned_and_stopped_by_its_agent() {
    let engine = TestEngine::new(|_, config| config.policy = policy(2, 1));
    let _agent = engine.run();
    engine.until("people are warned", |engine| engine.idle.as_ref().is_some_and(|idle| idle.stop_at.is_some()));
    let Request::Stop { mode, cause, message } = engine.next_request() else { panic!("another request") };
    assert_eq!((mode, cause), (StopMode::Stop, StopCause::Idle));
    assert_eq!(message, "idle for 2 seconds (timeout 2 seconds)");
    assert_eq!(engine.record().state, EngineState::Stopping);
    wait("the ledger tells it", || {
        let ledger = std::fs::read_to_string(engine.disk("var/ledger.jsonl")).ok()?;
        ledger.contains("stop_accepted").then_some(())
    });
}

#[test]
fn coffee_and_policy_take_effect_at_once() {
    // A tick of ten seconds: what follows sooner was poked.
    let engine = TestEngine::new(|_, config| config.policy = policy(3_600, 60));
    let agent = engine.run();
    engine.until("the engine is ready and idle", |engine| {
        engine.bootstrap.is_ready() && engine.idle.as_ref().is_some_and(|idle| idle.is_idle)
    });
    let begun = Instant::now();
    let until = reply::<CoffeeReply>(&engine.call(&["coffee", "--for", "600"])).until;
    engine.until("the agent has seen the coffee", |engine| {
        engine.idle.as_ref().is_some_and(|idle| !idle.is_idle && idle.coffee_until == until)
    });
    std::fs::write(engine.path().join("policy.json"), r#"{"idle_timeout_secs": 7200}"#).unwrap();
    let path = engine.path().join("policy.json");
    engine.call(&["policy", "--set", path.to_str().unwrap()]);
    engine.until("the agent has seen the policy", |engine| {
        engine.idle.as_ref().is_some_and(|idle| idle.timeout == Duration::from_secs(7_200))
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let status: IdleStatus = reply(&engine.call(&["status"]));
    assert_eq!(status.coffee_until, until);
    assert_eq!(agent.terminate(), 0);
}

#[test]
fn coffee_after_the_warning_keeps_the_engine() {
    let engine = TestEngine::new(|_, config| config.policy = policy(6, 3));
    let agent = engine.run();
    engine.until("people are warned", |engine| engine.idle.as_ref().is_some_and(|idle| idle.stop_at.is_some()));
    reply::<CoffeeReply>(&engine.call(&["coffee", "--for", "600"]));
    engine.until("the warning is taken back", |engine| {
        engine.idle.as_ref().is_some_and(|idle| idle.stop_at.is_none() && !idle.is_idle)
    });
    let ledger = std::fs::read_to_string(engine.disk("var/ledger.jsonl")).unwrap();
    assert!(ledger.contains("\"action\":\"cancelled\""));
    assert!(!engine.is_asked());
    assert_eq!(agent.terminate(), 0);
}

#[test]
fn a_studio_that_is_not_mounted_again_is_told_with_the_first_report() {
    let engine = TestEngine::new(|_, _| ());
    let volume = "vol-0123456789abcdef0";
    std::fs::create_dir_all(engine.disk("var")).unwrap();
    let mounts = format!(
        r#"{{"schema":1,"mounts":{{"{volume}":{{"user":"alice","epoch":3,"size_gb":100,"device":"/dev/sdf"}}}}}}"#
    );
    std::fs::write(engine.disk("var/mounts.json"), mounts).unwrap();
    let agent = engine.run();
    let first =
        engine.until("the agent reports", |engine| engine.idle.is_some() || !engine.bootstrap.stages.is_empty());
    assert_eq!(first.problems.len(), 1, "{first:?}");
    assert!(first.problems[0].starts_with(&format!("the studio of alice ({volume}) is not mounted: ")), "{first:?}");
    assert_eq!(agent.terminate(), 0);
}

#[test]
fn there_is_one_agent_on_an_engine() {
    let engine = TestEngine::new(|_, _| ());
    let first = engine.run();
    engine.until("the first agent is there", |engine| engine.bootstrap.is_ready());
    let lock = std::fs::File::open(engine.disk("var/agent.lock")).unwrap();
    assert!(lock.try_lock().is_err(), "a second agent would find the lock held");
    assert_eq!(first.terminate(), 0);
    lock.try_lock().expect("it ends with its holder");
}

#[test]
fn the_agent_is_small() {
    let engine = TestEngine::new(|_, _| ());
    let agent = engine.run();
    engine.until("the engine is ready and idle", |engine| {
        engine.bootstrap.is_ready() && engine.idle.as_ref().is_some_and(|idle| idle.is_idle)
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // Pages of the program's file are those of an unoptimized build here; what it allocates is the same in any.
    assert!(kib("RssAnon:") <= 6 << 10, "{status}");
}
