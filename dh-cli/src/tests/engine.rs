//! `dh engine …`, against the specification's outputs.

use std::time::Duration;

use dh_core::domain::*;
use dh_core::ports::*;
use mockall_predicates::eq;

use super::world::*;

/// The one predicate that is needed of mockall's.
mod mockall_predicates {
    pub fn eq(expected: &str) -> impl Fn(&str) -> bool + Send + use<> {
        let expected = expected.to_owned();
        move |found| found == expected
    }
}

fn knowing(view: EngineView) -> MockControlPlane {
    let mut plane = plane();
    plane.expect_engine().returning(move |_| Ok(view.clone()));
    plane
}

#[test]
fn launch_prints_what_the_specification_prints() {
    let stage = |name: StageName, status| ProgressBody::Stage {
        name: name.as_str().into(),
        title: name.title().into(),
        status,
        note: (status == StageStatus::Skipped).then(|| "no GPU".into()),
    };
    use StageStatus::{Completed, InProgress, Skipped};
    let mut plane = knowing(engine());
    will_run(
        &mut plane,
        |spec, _| {
            matches!(spec, OperationSpec::Launch { engine, user, engine_type, boot_disk_gb: None, policy }
                if engine.as_str() == "my-engine" && user.as_str() == "alice" && engine_type == "cpu"
                && policy.idle_timeout == Duration::from_secs(10))
        },
        vec![
            event(0, 0, ProgressBody::Started { resumed: false }),
            event(1, 5, ProgressBody::Note { message: format!("machine launched: {ENGINE_ID}") }),
            event(1, 5, step("launch_machine", Completed)),
            event(5, 10, stage(StageName::InstanceRunning, InProgress)),
            event(8, 20, stage(StageName::DownloadingScripts, InProgress)),
            event(8, 30, stage(StageName::DownloadingScripts, Completed)),
            event(52, 90, stage(StageName::GpuDrivers, Skipped)),
            event(53, 100, ProgressBody::Finished { status: OperationStatus::Completed, error: None }),
        ],
    );
    plane.expect_ssh_entries().returning(|_, _| Ok(Vec::new()));
    let ran = World::new().run(plane, "engine launch my-engine --type cpu --idle-timeout 10s");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        ran.err,
        "🚀 Launching cpu engine 'my-engine'...
✓ Machine launched: i-1234567890abcdef0

⏳ Waiting for engine to be ready (typically 2-3 minutes)...

  [5s] Instance Running
  [8s] Downloading Scripts
  [52s] Installing GPU Drivers (skipped: no GPU)
"
    );
    assert_eq!(ran.out, "\n✓ Engine ready!\n✓ SSH config updated\n\nConnect with:\n  ssh my-engine\n");
}

#[test]
fn launch_that_leaves_the_ssh_config_alone_says_how_to_connect() {
    let mut plane = knowing(engine());
    will_run(&mut plane, |_, _| true, Vec::new());
    let ran = World::new().run(plane, "engine launch my-engine --type cpu --skip-ssh-config");
    assert_eq!(
        ran.out,
        "
✓ Engine ready!

Connect with:
  dh engine config-ssh  # Add to SSH config
  ssh my-engine         # Then use native SSH
"
    );
}

#[test]
fn launch_without_waiting_hands_the_operation_to_a_worker() {
    let mut plane = knowing(engine());
    plane.expect_submit().returning(|spec, _, _| Ok(operation(spec)));
    plane.expect_pause().times(1).returning(|_| Ok(()));
    let ran = World::new().run(plane, "engine launch my-engine --type cpu --no-wait");
    assert_eq!(ran.workers, ["dev op-0123456789ab"]);
    assert!(ran.out.starts_with("✓ Engine 'my-engine' is launching (op-0123456789ab)\n"), "{}", ran.out);
}

#[test]
fn launch_takes_the_configurations_defaults() {
    let config = "[environments.dev.defaults]\nengine_type = \"a10g\"\nboot_disk_gb = 77\nidle_timeout = \"45m\"\n";
    let mut plane = knowing(engine());
    will_run(
        &mut plane,
        |spec, _| {
            matches!(spec, OperationSpec::Launch { engine_type, boot_disk_gb: Some(size), policy, .. }
                if engine_type == "a10g" && size.get() == 77 && policy.idle_timeout == Duration::from_secs(2_700))
        },
        Vec::new(),
    );
    let ran = World::new().with_config(config).run(plane, "engine launch my-engine --skip-ssh-config");
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn a_refused_launch_does_not_say_that_it_launches() {
    let mut plane = plane();
    plane.expect_submit().returning(|_, _, _| Err(Error::new(ErrorKind::InvalidArgument, "unknown engine type")));
    let ran = World::new().run(plane, "engine launch my-engine --type gpu9");
    assert_eq!((ran.code, ran.err.as_str()), (2, "✗ Unknown engine type\n"));
}

#[test]
fn launch_without_a_type_lists_those_there_are() {
    let ran = World::new().run(plane(), "engine launch my-engine");
    assert_eq!((ran.code, ran.err.as_str()), (2, "✗ No engine type is given\n  Add --type with one of: a10g, cpu\n"));
}

#[test]
fn a_failed_launch_names_the_stage_and_shows_its_log() {
    let mut view = engine();
    let mut failed = stage(StageName::InstallingPackages, StageStatus::Failed, Some(12));
    failed.error = Some("the set-up script ended with 1".into());
    failed.log_tail = vec!["apt-get: no such package".into()];
    view.engine.bootstrap.stages = vec![failed];
    let mut plane = knowing(view);
    plane.expect_submit().returning(|spec, _, _| Ok(operation(spec)));
    plane.expect_run().returning(|_, _| {
        Err(Error::new(ErrorKind::Failed, "bootstrap failed").with_hint("look into it: dh engine debug my-engine"))
    });
    plane.expect_operation().returning(|_| {
        Ok(operation(OperationSpec::Launch {
            engine: name("my-engine"),
            user: user("alice"),
            engine_type: "cpu".into(),
            boot_disk_gb: None,
            policy: IdlePolicy::default(),
        }))
    });
    let ran = World::new().run(plane, "engine launch my-engine --type cpu");
    assert_eq!(ran.code, ErrorKind::Failed.exit_code());
    assert!(
        ran.err.ends_with(
            "✗ Launch failed: bootstrap failed

Failed at stage: installing_packages
Error: the set-up script ended with 1
  | apt-get: no such package

Look into it: dh engine debug my-engine
"
        ),
        "{}",
        ran.err
    );
}

#[test]
fn status_is_shown_as_specified() {
    assert_eq!(
        World::new().run(knowing(engine()), "engine status my-engine").out,
        "Engine: my-engine
Instance ID: i-1234567890abcdef0
Type: cpu
State: running
Public IP: 54.123.45.67
Launched: 2 hours ago

Idle Status: 🟢 ACTIVE
Reason: ssh: 1 active SSH session(s)
"
    );
}

#[test]
fn status_tells_what_the_agent_could_not_do_at_its_start() {
    let problem = "the studio of alice (vol-0123456789abcdef0) is not mounted: e2fsck gave up";
    let mut view = engine();
    view.engine.problems = vec![problem.into()];
    let shown = World::new().run(knowing(view.clone()), "engine status my-engine").out;
    assert!(shown.contains(&format!("\n⚠ {problem}\n")), "{shown}");
    let json = World::new().run(knowing(view), "engine status my-engine --output json").out;
    assert!(json.contains(problem), "{json}");
}

#[test]
fn detailed_status_is_shown_as_specified() {
    assert_eq!(
        World::new().run(knowing(engine()), "engine status my-engine --detailed").out,
        "Engine: my-engine
Instance ID: i-1234567890abcdef0
Type: cpu
State: running

Idle Status: 🟢 ACTIVE
Reason: ssh: 1 active SSH session(s)

============================================================
Activity Sensors:
============================================================

✓ SSH (HIGH confidence)
  1 active SSH session(s)
  sessions:
    - alice pts/0 2025-11-10 14:30 old 12345

✗ IDE (MEDIUM confidence)
  No IDE connections found

✗ DOCKER (MEDIUM confidence)
  No workload containers
  ignored:
    - devcontainer-1 (dev-container)

✗ COFFEE (HIGH confidence)
  No coffee lock
"
    );
}

#[test]
fn a_stopped_engine_tells_why_and_nothing_of_its_old_sensors() {
    let mut view = engine();
    view.state = EngineState::Stopped;
    view.state_reason =
        Some(StateReason { cause: StopCause::Idle, message: "idle for 30 minutes".into(), at: hours_ago(1) });
    let ran = World::new().run(knowing(view), "engine status my-engine");
    assert!(ran.out.contains("State: stopped\n"));
    assert!(ran.out.contains("Reason: idle for 30 minutes (1 hour ago)\n"));
    assert!(!ran.out.contains("Idle Status"));
}

#[test]
fn an_idle_engine_shows_for_how_long_and_when_it_stops() {
    let mut view = engine();
    view.engine.idle = Some(IdleStatus {
        is_idle: true,
        idle_since: Some(now() - Duration::from_secs(1_560)),
        reason: "All sensors report idle".into(),
        stop_at: Some(now() + Duration::from_secs(240)),
        ..idle()
    });
    let out = World::new().run(knowing(view), "engine status my-engine").out;
    assert!(
        out.ends_with(
            "Idle Status: 🟡 IDLE\nReason: All sensors report idle\nIdle for: 26 minutes (timeout: 30 minutes)\nStops in: 4 minutes\n"
        ),
        "{out}"
    );
}

#[test]
fn debug_is_shown_as_specified() {
    use StageStatus::{Completed, InProgress, Skipped};
    let mut view = engine();
    view.engine.bootstrap.stages = vec![
        stage(StageName::InstanceRunning, Completed, Some(30)),
        stage(StageName::DownloadingScripts, Completed, Some(8)),
        stage(StageName::InstallingPackages, InProgress, None),
    ];
    assert_eq!(
        World::new().run(knowing(view.clone()), "engine debug my-engine").out,
        "Engine: i-1234567890abcdef0
Ready: False
Current Stage: installing_packages

Bootstrap Stages:
  ✓ 1. instance_running (30.0s)
  ✓ 2. downloading_scripts (8.0s)
  ⏳ 3. installing_packages
"
    );
    let mut skipped = stage(StageName::GpuDrivers, Skipped, None);
    skipped.note = Some("no GPU".into());
    view.engine.bootstrap.stages = vec![skipped];
    let out = World::new().run(knowing(view), "engine debug my-engine").out;
    assert!(out.contains("  – 5. gpu_drivers (skipped: no GPU)\n"), "{out}");
}

#[test]
fn start_and_stop_print_what_the_specification_prints() {
    let mut plane = knowing(engine());
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::Start { .. }), Vec::new());
    plane.expect_ssh_entries().returning(|_, _| Ok(Vec::new()));
    let ran = World::new().run(plane, "engine start my-engine");
    assert_eq!(ran.err, "Starting engine 'my-engine'...\n");
    assert!(ran.out.starts_with("✓ Engine 'my-engine' is starting\n"), "{}", ran.out);

    let mut plane = knowing(engine());
    will_run(
        &mut plane,
        |spec, options| matches!(spec, OperationSpec::Stop { mode: StopMode::Stop, .. }) && !options.detach_studios,
        Vec::new(),
    );
    let ran = World::new().run(plane, "engine stop my-engine");
    assert_eq!(ran.err, "Stopping engine 'my-engine'...\n");
    assert_eq!(ran.out, "✓ Engine 'my-engine' is stopping\n✓ Engine 'my-engine' is stopped\n");
}

#[test]
fn hibernation_is_another_mode_of_stop() {
    let mut plane = knowing(engine());
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::Stop { mode: StopMode::Hibernate, .. }), Vec::new());
    assert_eq!(World::new().run(plane, "engine stop my-engine --hibernate").code, 0);
}

#[test]
fn outside_dev_every_change_asks_first() {
    for (line, question) in [
        ("engine launch my-engine --type cpu", "Launch engine 'my-engine' in environment 'prod'? [y/N]: "),
        ("engine start my-engine", "Start engine 'my-engine' in environment 'prod'? [y/N]: "),
        ("engine stop my-engine", "Stop engine 'my-engine' in environment 'prod'? [y/N]: "),
    ] {
        let mut plane = plane_of("prod");
        plane.expect_engine().returning(|_| Ok(engine()));
        let ran = World::new().answering(&["n\n"]).run(plane, line);
        assert_eq!(ran.code, 1);
        assert_eq!(ran.err, format!("{question}Aborted; nothing was done.\n"));
    }
}

#[test]
fn terminate_asks_as_specified() {
    let mut plane = knowing(engine());
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::Terminate { .. }), Vec::new());
    let ran = World::new().answering(&["y\n"]).run(plane, "engine terminate my-engine");
    assert_eq!(ran.err, "Terminate engine 'my-engine' (i-1234567890abcdef0)? [y/N]: ");
    assert!(ran.out.starts_with("✓ Engine 'my-engine' is terminating\n"));
}

#[test]
fn anything_but_yes_declines() {
    for answer in ["\n", "n\n", "no\n", "yeah\n", "", "y e s\n"] {
        let ran = World::new().answering(&[answer]).run(knowing(engine()), "engine terminate my-engine");
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{answer:?}");
    }
}

#[test]
fn where_nobody_can_answer_nothing_is_done() {
    for (line, option) in [("engine terminate my-engine", "-y"), ("engine resize my-engine --size 200", "-f")] {
        let ran = World::new().run(knowing(engine()), line);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""));
        assert!(
            ran.err.contains(&format!("Nothing was done; to agree beforehand, run it again with {option}")),
            "{}",
            ran.err
        );
    }
}

#[test]
fn studios_in_the_way_are_detached_when_agreed() {
    let with_studios = || {
        let mut view = engine();
        view.studios = vec![user("alice"), user("bob")];
        knowing(view)
    };
    let mut plane = with_studios();
    will_run(&mut plane, |_, options| options.detach_studios, Vec::new());
    let ran = World::new().answering(&["y\n"]).run(plane, "engine stop my-engine");
    assert!(
        ran.err.starts_with("Engine 'my-engine' has the studios of alice, bob attached.\nDetach first? [y/N]: "),
        "{}",
        ran.err
    );
    assert_eq!(ran.code, 0);

    assert_eq!(World::new().answering(&["n\n"]).run(with_studios(), "engine stop my-engine").code, 1);
    assert_eq!(World::new().run(with_studios(), "engine stop my-engine").code, 2);

    let mut plane = with_studios();
    will_run(&mut plane, |_, options| options.detach_studios, Vec::new());
    assert_eq!(World::new().run(plane, "engine terminate my-engine -y").code, 0);
}

#[test]
fn coffee_is_set_and_cancelled() {
    let mut plane = knowing(engine());
    plane
        .expect_coffee()
        .withf(|name, duration| eq("my-engine")(name) && *duration == Some(Duration::from_secs(14_400)))
        .returning(|_, _| Ok(Some(now())));
    let ran = World::new().run(plane, "engine coffee my-engine 4h");
    assert_eq!(ran.out, "✓ Coffee lock set for 'my-engine': 4h\n");

    let mut plane = knowing(engine());
    plane.expect_coffee().withf(|_, duration| duration.is_none()).returning(|_, _| Ok(None));
    let ran = World::new().run(plane, "engine coffee my-engine --cancel");
    assert_eq!(ran.out, "✓ Coffee lock cancelled for 'my-engine'\n");
}

#[test]
fn idle_settings_are_shown_as_specified_and_set() {
    assert_eq!(
        World::new().run(knowing(engine()), "engine idle my-engine").out,
        "Idle Settings for 'my-engine':\n  Timeout: 30 minutes\n  Current State: ACTIVE\n"
    );
    let mut plane = knowing(engine());
    plane
        .expect_set_policy()
        .withf(|_, policy| {
            policy.idle_timeout == Duration::from_secs(7_200) && policy.warning == IdlePolicy::default().warning
        })
        .returning(|_, policy| Ok(policy));
    let ran = World::new().run(plane, "engine idle my-engine --set 2h");
    assert_eq!(ran.out, "✓ Idle timeout set for 'my-engine': 2 hours\n");
}

#[test]
fn resize_prints_what_the_specification_prints() {
    let mut plane = knowing(engine());
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::ResizeEngine { online: false, .. }), Vec::new());
    let ran = World::new().run(plane, "engine resize my-engine --size 200 --force");
    assert!(
        ran.out.starts_with(
            "✓ Boot disk resize initiated for 'my-engine'
  Engine will be stopped and restarted
  Filesystem will be automatically expanded
"
        ),
        "{}",
        ran.out
    );
    let ran = World::new().answering(&["n\n"]).run(knowing(engine()), "engine resize my-engine -s 200");
    assert!(ran.err.starts_with("Resize boot disk of engine 'my-engine' from 50GB to 200GB? [y/N]: "));
}

#[test]
fn a_boot_disk_that_is_large_enough_is_refused_and_nobody_is_asked() {
    let ran = World::new().answering(&[]).run(knowing(engine()), "engine resize my-engine --size 10");
    let told = "✗ The boot disk of 'my-engine' has 50GB already; it can only grow\n  Give a size above 50\n";
    assert_eq!((ran.code, ran.err.as_str()), (2, told));
}

#[test]
fn a_session_becomes_the_program_that_carries_it() {
    let program = LocalCommand { argv: vec!["dh-agent".into(), "session".into()], env: Default::default() };
    let mut plane = plane();
    let answer = program.clone();
    plane
        .expect_session()
        .withf(|_, request| *request == SessionRequest::Exec(vec!["ls".into(), "-l".into()]))
        .returning(move |_, _| Ok(answer.clone()));
    let ran = World::new().run(plane, "engine exec my-engine -- ls -l");
    assert_eq!(ran.became, [program]);
}

#[test]
fn an_unknown_engine_is_told_with_the_nearest_names() {
    let mut plane = plane();
    plane.expect_engine().returning(|_| {
        Err(Error::new(ErrorKind::NotFound, "no engine 'my-engin' in environment dev")
            .with_hint("did you mean my-engine?"))
    });
    let ran = World::new().run(plane, "engine status my-engin");
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert_eq!(ran.err, "✗ No engine 'my-engin' in environment dev\n  Did you mean my-engine?\n");
}

#[test]
fn why_and_logs_are_shown() {
    let mut plane = knowing(engine());
    plane.expect_why().returning(|_| {
        Ok(Explanation {
            summary: "running: ssh: 1 active SSH session(s)".into(),
            entries: vec![ExplanationEntry {
                from: at("2025-11-10T14:30:00Z"),
                until: at("2025-11-10T16:30:00Z"),
                state: "active".into(),
                reason: "ssh: 1 active SSH session(s)".into(),
                evidence: vec!["ssh: 1 session".into()],
            }],
        })
    });
    assert_eq!(
        World::new().run(plane, "engine why my-engine").out,
        "my-engine: running: ssh: 1 active SSH session(s)

2025-11-10 14:30:00 to 2025-11-10 16:30:00  active
  ssh: 1 active SSH session(s)
    - ssh: 1 session
"
    );
    let mut plane = knowing(engine());
    plane
        .expect_logs()
        .withf(|_, source, lines| *source == LogSource::Agent && *lines == 2)
        .returning(|_, _, _| Ok(vec!["one".into(), "two\u{1b}[2J".into()]));
    let ran = World::new().run(plane, "engine logs my-engine --source agent -n 2");
    assert_eq!(ran.out, "one\ntwo\u{fffd}[2J\n");
}
