//! The stages, done by the real agent.

use std::time::Duration;

use dh_core::domain::{IdleStatus, StageName, StageStatus};

use crate::engine::{TestEngine, reply, wait};

fn script(text: &str) -> impl FnOnce(&std::path::Path, &mut dh_core::wire::AgentConfig) {
    let text = text.to_owned();
    move |dir, config| {
        let path = dir.join("setup.sh");
        std::fs::write(&path, text).unwrap();
        config.setup_script = Some(path);
    }
}

#[test]
fn every_stage_is_done_for_real_and_told_to_the_store() {
    let engine = TestEngine::new(script("echo hello from setup; touch made"));
    let agent = engine.run();
    let record = engine.until("the engine is ready", |engine| engine.bootstrap.is_ready());
    let stages: Vec<StageName> = record.bootstrap.stages.iter().map(|stage| stage.name).collect();
    assert_eq!(stages, StageName::ALL);
    assert!(record.bootstrap.stages.iter().all(|stage| stage.duration.is_some()), "{:?}", record.bootstrap);
    for made in ["home/made", "opt/dh/bin/dh-agent", "opt/dh/profile.sh", "etc/dh/env", "studios", "var/policy.json"] {
        assert!(engine.disk(made).exists(), "{made}");
    }
    let version =
        |program: std::path::PathBuf| std::process::Command::new(program).arg("--version").output().unwrap().stdout;
    assert_eq!(version(engine.disk("opt/dh/bin/dh-agent")), version(env!("CARGO_BIN_EXE_dh-agent").into()));
    let log = std::fs::read_to_string(engine.disk("log/bootstrap.log")).unwrap();
    assert!(StageName::ALL.iter().all(|stage| log.contains(&format!(" {} ", stage.as_str()))), "{log}");
    assert!(log.contains("hello from setup"));
    assert_eq!(agent.terminate(), 0);
}

#[test]
fn a_failing_set_up_is_told_with_its_last_lines_and_the_agent_goes_on() {
    let engine = TestEngine::new(script("echo one; echo two >&2; exit 7"));
    let agent = engine.run();
    let record = engine.until("the bootstrap has failed", |engine| engine.bootstrap.failed().is_some());
    let failed = record.bootstrap.failed().unwrap();
    assert_eq!(
        (failed.name, failed.error.as_deref()),
        (StageName::InstallingPackages, Some("the set-up script ended with exit code 7"))
    );
    assert!(failed.log_tail.starts_with(&["one".into(), "two".into()]), "{:?}", failed.log_tail);
    // It still looks, so that the engine does not run for ever.
    let status = wait("the agent counts idle time", || {
        Some(engine.call(&["status"]))
            .filter(|output| output.status.success())
            .map(|output| reply::<IdleStatus>(&output))
            .filter(|status| status.readings.iter().all(|reading| reading.sensor != "bootstrap"))
    });
    assert_eq!(status.readings.len(), 4);
    assert_eq!(agent.terminate(), 0);
}

#[test]
fn killed_in_the_set_up_it_goes_on_there_when_it_is_back() {
    // The first run waits for a file that never comes; the second finds that it is the second.
    let engine = TestEngine::new(script(
        "echo run >> runs; if [ \"$(wc -l < runs)\" = 1 ]; then echo $$ > pid; exec sleep 1000; fi",
    ));
    let mut agent = engine.run();
    let pid = wait("the set-up runs", || {
        std::fs::read_to_string(engine.disk("home/pid")).ok().filter(|text| text.ends_with('\n'))
    });
    let before = engine.until("the stage is told", |engine| {
        engine.bootstrap.current().is_some_and(|stage| stage.name == StageName::InstallingPackages)
    });
    agent.0.kill().unwrap();
    agent.0.wait().unwrap();
    let again = engine.run();
    let record = engine.until("the engine is ready", |engine| engine.bootstrap.is_ready());
    assert_eq!(record.bootstrap.stages[..2], before.bootstrap.stages[..2], "what was done is not done again");
    assert_eq!(std::fs::read_to_string(engine.disk("home/runs")).unwrap(), "run\nrun\n");
    let first_run = format!("/proc/{}", pid.trim());
    wait("the first run has ended", || {
        let stat = std::fs::read_to_string(format!("{first_run}/stat")).unwrap_or_default();
        let over = stat.is_empty() || stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"));
        over.then_some(())
    });
    assert_eq!(again.terminate(), 0);
}

#[test]
fn a_restarted_engine_skips_what_is_done_and_still_tells_the_store() {
    let engine = TestEngine::new(script("echo run >> runs"));
    let agent = engine.run();
    let first = engine.until("the engine is ready", |engine| engine.bootstrap.is_ready());
    assert_eq!(agent.terminate(), 0);
    std::fs::write(engine.path().join("boot-id"), "second\n").unwrap();
    let agent = engine.run();
    wait("the second agent has looked", || {
        let ledger = std::fs::read_to_string(engine.disk("var/ledger.jsonl")).unwrap_or_default();
        ledger.contains("\"boot_id\":\"second\"").then_some(())
    });
    assert_eq!(engine.record().bootstrap, first.bootstrap);
    assert_eq!(std::fs::read_to_string(engine.disk("home/runs")).unwrap(), "run\n");
    assert!(first.bootstrap.stages.iter().all(|stage| stage.status != StageStatus::InProgress));
    assert!(first.bootstrap.stages[0].duration.unwrap() < Duration::from_secs(600));
    assert_eq!(agent.terminate(), 0);
}
