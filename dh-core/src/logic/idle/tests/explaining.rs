//! What `dh engine why` is told.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::world::*;
use crate::domain::*;
use crate::logic::idle::*;

const BEGIN: Timestamp = Timestamp::constant(1_767_225_600, 0);

fn view(state: EngineState, why: Option<(StopCause, &str)>) -> EngineView {
    EngineView {
        engine: Engine {
            name: EngineName::new("lab").unwrap(),
            environment: EnvironmentName::new("dev").unwrap(),
            user: UserName::new("alice").unwrap(),
            engine_type: "cpu".into(),
            machine: None,
            boot_disk_gb: SizeGb::new(50).unwrap(),
            state,
            created_at: BEGIN,
            bootstrap: Bootstrap::default(),
            idle: None,
            problems: Vec::new(),
            policy: IdlePolicy::default(),
            operation: None,
        },
        state,
        state_reason: why.map(|(cause, message)| StateReason {
            cause,
            message: message.into(),
            at: BEGIN + SignedDuration::from_hours(1),
        }),
        machine: None,
        studios: Vec::new(),
    }
}

/// A ledger of a machine that is busy for two minutes and then left alone until it is stopped.
fn ledger() -> Vec<LedgerEntry> {
    let mut world = World::new(ten_minutes());
    let mut entries = Vec::new();
    let begun = world.at.since_boot;
    for tick in 0..=72 {
        world.at.since_boot = begun + secs(tick * 10);
        let readings = if tick < 12 { busy() } else { quiet() };
        let mut step = world.look(&readings);
        if step.effects.contains(&IdleEffect::Resample) {
            step = world.confirm(&readings);
        }
        let actions = step
            .effects
            .iter()
            .filter_map(|effect| match effect {
                IdleEffect::Warn { left, .. } => Some(LedgerAction::Warned { left: *left, reached: 1 }),
                IdleEffect::Stop { epoch, .. } => Some(LedgerAction::StopAccepted { epoch: *epoch }),
                _ => None,
            })
            .collect();
        entries.push(LedgerEntry {
            schema: LEDGER_SCHEMA,
            at: BEGIN + secs(tick * 10),
            boot: world.at.since_boot,
            boot_id: world.at.boot_id.clone(),
            decision: step.decision,
            idle_for: step.idle_for,
            timeout: world.policy.idle_timeout,
            phase: world.phase(),
            readings: readings.iter().map(LedgerReading::from).collect(),
            actions,
        });
    }
    entries
}

fn lines(entries: &[LedgerEntry]) -> Vec<String> {
    entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect()
}

#[test]
fn equal_looks_become_spans_with_the_newest_first() {
    let explanation =
        explain(&view(EngineState::Stopped, Some((StopCause::Idle, "idle for 10 minutes"))), &lines(&ledger()));
    let spans: Vec<(&str, i64, i64)> = explanation
        .entries
        .iter()
        .map(|span| {
            (span.state.as_str(), span.from.as_second() - BEGIN.as_second(), span.until.as_second() - BEGIN.as_second())
        })
        .collect();
    assert_eq!(spans, [("stopped", 720, 720), ("warned", 600, 710), ("idle", 120, 590), ("active", 0, 110)]);
    assert_eq!(explanation.summary, "stopped because nobody used it: idle for 10 minutes");
}

#[test]
fn a_span_tells_its_reason_and_the_evidence_at_its_end() {
    let explanation = explain(&view(EngineState::Running, None), &lines(&ledger()[..20]));
    assert_eq!(explanation.entries[0].reason, "all sensors idle, idle for 1 minute 10 seconds of 10 minutes");
    assert_eq!(explanation.entries[0].evidence[1], "docker: idle (MEDIUM confidence): No workload containers");
    assert_eq!(explanation.entries[1].reason, "ssh: 1 active SSH session(s)");
    assert_eq!(explanation.summary, "running, idle for 1 minute 10 seconds of 10 minutes");
}

#[test]
fn an_engine_in_use_says_by_what() {
    let explanation = explain(&view(EngineState::Running, None), &lines(&ledger()[..5]));
    assert_eq!(explanation.summary, "running because it is in use: ssh: 1 active SSH session(s)");
}

#[test]
fn a_warned_engine_says_that_it_will_be_stopped() {
    let explanation = explain(&view(EngineState::Running, None), &lines(&ledger()[..65]));
    assert!(explanation.summary.contains("will be stopped"), "{}", explanation.summary);
}

#[test]
fn an_engine_that_cannot_be_stopped_says_so() {
    let mut entries = ledger();
    let last = entries.last_mut().unwrap();
    last.actions = vec![
        LedgerAction::Stopping { epoch: 1, mode: StopMode::Stop },
        LedgerAction::StopFailed { epoch: 1, error: "no supervisor answers".into() },
    ];
    let explanation = explain(&view(EngineState::Running, None), &lines(&entries));
    assert!(explanation.summary.contains("could not be stopped: no supervisor answers"), "{}", explanation.summary);
    assert_eq!(explanation.entries[0].state, "stopping");
    // Also at the looks between two tries.
    entries.push(LedgerEntry { actions: Vec::new(), ..entries[entries.len() - 1].clone() });
    let later = explain(&view(EngineState::Running, None), &lines(&entries));
    assert_eq!(later.summary, explanation.summary);
}

#[test]
fn asking_for_a_stop_and_the_stop_are_one_span() {
    let mut entries = ledger();
    let mut asked = entries[entries.len() - 1].clone();
    asked.actions = vec![LedgerAction::Stopping { epoch: 1, mode: StopMode::Stop }];
    entries.insert(entries.len() - 1, asked);
    let explanation = explain(&view(EngineState::Running, None), &lines(&entries));
    let states: Vec<&str> = explanation.entries.iter().map(|span| span.state.as_str()).collect();
    assert_eq!(states, ["stopped", "warned", "idle", "active"]);
}

#[test]
fn a_stop_by_somebody_is_told_although_the_ledger_knows_nothing_of_it() {
    let explanation =
        explain(&view(EngineState::Stopped, Some((StopCause::User, "dh engine stop"))), &lines(&ledger()[..5]));
    assert_eq!(explanation.entries[0].state, "stopped");
    assert_eq!(explanation.summary, "stopped because somebody asked for it: dh engine stop");
    for cause in [StopCause::Died, StopCause::HostRebooted] {
        let explanation = explain(&view(EngineState::Stopped, Some((cause, "so it is"))), &[]);
        assert!(explanation.summary.contains("because") && explanation.summary.ends_with(": so it is"));
    }
}

#[test]
fn a_failed_bootstrap_is_the_reason_for_everything() {
    let mut view = view(EngineState::Failed, None);
    view.engine.bootstrap.stages.push(Stage {
        name: StageName::InstallingPackages,
        status: StageStatus::Failed,
        started_at: BEGIN,
        duration: None,
        note: None,
        error: Some("the set-up script ended with 3".into()),
        log_tail: Vec::new(),
    });
    assert_eq!(explain(&view, &[]).summary, "bootstrap failed at installing_packages: the set-up script ended with 3");
}

#[test]
fn a_ledger_cut_in_mid_line_at_either_end_is_still_read() {
    let mut lines = lines(&ledger()[..20]);
    lines[0] = lines[0][40..].to_owned();
    let last = lines.len() - 1;
    lines[last].truncate(100);
    lines.push("\0\0\0\0".into());
    let explanation = explain(&view(EngineState::Running, None), &lines);
    assert_eq!(explanation.entries.len(), 2);
    assert_eq!(explanation.entries[1].from, BEGIN + secs(10));
}

#[test]
fn lines_of_a_newer_dh_are_passed_over() {
    let mut entries = ledger()[..2].to_vec();
    entries[1].schema = LEDGER_SCHEMA + 1;
    assert_eq!(explain(&view(EngineState::Running, None), &lines(&entries)).entries[0].until, BEGIN);
}

#[test]
fn a_wall_clock_that_steps_back_gives_no_span_that_ends_before_it_begins() {
    let mut entries = ledger()[..10].to_vec();
    entries[9].at = BEGIN - SignedDuration::from_hours(3);
    let spans = explain(&view(EngineState::Running, None), &lines(&entries)).entries;
    assert!(spans.iter().all(|span| span.from <= span.until), "{spans:?}");
}

#[test]
fn an_empty_ledger_says_that_nothing_is_known() {
    let explanation = explain(&view(EngineState::Running, None), &[]);
    assert!(explanation.entries.is_empty() && explanation.summary.contains("not looked around yet"));
}

#[test]
fn a_reading_replays_to_the_same_verdict() {
    for entry in ledger() {
        let readings: Vec<Reading> = entry.readings.iter().map(LedgerReading::to_reading).collect();
        assert_eq!(decide(&readings, false), entry.decision);
    }
}

#[test]
fn the_stored_form_of_version_1_is_still_read() {
    let line = r#"{"schema":1,"at":"2026-01-01T00:00:00Z","boot_secs":12.5,"boot_id":"b","rule":"high","sensor":"ssh",
        "reason":"ssh: 1","timeout_secs":600,"phase":"watching","readings":[{"sensor":"ssh","activity":"active",
        "confidence":"HIGH","axis":"presence","reason":"1"}],"actions":[{"action":"anew"},
        {"action":"warned","left_secs":5,"reached":1},{"action":"stop_failed","epoch":1,"error":"x"}]}"#;
    let entry = LedgerEntry::parse(line).unwrap();
    assert_eq!((entry.decision.rule, entry.actions.len()), (Rule::High, 3));
}

proptest! {
    #[test]
    fn no_ledger_makes_it_panic(lines in prop::collection::vec("\\PC{0,60}", 0..20), cut in 0_usize..400) {
        let mut all = self::lines(&ledger()[..4]);
        let at = cut.min(all[3].len());
        all[3].truncate(at);
        all.extend(lines);
        explain(&view(EngineState::Running, None), &all);
    }
}
