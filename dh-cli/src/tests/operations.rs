//! Operations: interrupted, resumed, cancelled.

use dh_core::domain::*;
use dh_core::ports::MockControlPlane;

use super::world::*;

fn attach() -> OperationSpec {
    OperationSpec::Attach { user: user("alice"), engine: name("my-engine") }
}

#[test]
fn ctrl_c_pauses_the_operation_and_says_how_to_go_on() {
    let mut plane = plane();
    plane.expect_engine().returning(|_| Ok(engine()));
    plane.expect_submit().returning(|spec, _, _| Ok(operation(spec)));
    plane.expect_pause().times(1).returning(|_| Ok(()));
    plane.expect_operation().returning(|_| Ok(operation(attach())));
    let ran = World::new().pressing_ctrl_c().run(plane, "studio attach my-engine");
    assert_eq!(ran.code, 130);
    assert!(
        ran.err.ends_with(
            "
Interrupted. The attachment of alice's studio to 'my-engine' is paused and can be resumed.
  Go on:  dh ops resume op-0123456789ab
  Undo:   dh ops cancel op-0123456789ab
"
        ),
        "{}",
        ran.err
    );
}

#[test]
fn what_another_process_left_is_carried_on_and_told() {
    let mut plane = MockControlPlane::new();
    plane.expect_environment().return_const(EnvironmentName::new("dev").unwrap());
    plane.expect_interrupted().returning(|| Ok(vec![operation(attach())]));
    plane.expect_engines().returning(|| Ok(Vec::new()));
    let ran = World::new().run(plane, "engine list");
    assert_eq!(ran.workers, ["dev op-0123456789ab"]);
    assert!(
        ran.err.starts_with(
            "The attachment of alice's studio to 'my-engine' was interrupted and goes on in the background (dh ops show op-0123456789ab)\n"
        ),
        "{}",
        ran.err
    );
}

#[test]
fn operations_are_listed_and_shown() {
    let mut paused = operation(attach());
    paused.paused = true;
    let mut plane = plane();
    let listed = paused.clone();
    plane
        .expect_operations()
        .withf(|query| query.open_only && query.limit == Some(5))
        .returning(move |_| Ok(vec![listed.clone()]));
    let out = World::new().run(plane, "ops list --open -n 5").out;
    insta::assert_snapshot!(out, @r"

    Operations in environment dev
    ╭─────────────────┬───────────┬───────────────────┬──────────────────────┬────────────────╮
    │ Operation       │ Kind      │ About             │ Status               │ Asked for      │
    ├─────────────────┼───────────┼───────────────────┼──────────────────────┼────────────────┤
    │ op-0123456789ab │ attach    │ alice → my-engine │ in_progress (paused) │ just now       │
    ╰─────────────────┴───────────┴───────────────────┴──────────────────────┴────────────────╯
    Total: 1
    ");

    let mut plane = plane_with(paused);
    plane.expect_engine().returning(|_| Ok(engine()));
    let out = World::new().run(plane, "ops show op-0123456789ab").out;
    insta::assert_snapshot!(out, @r"
    Operation: op-0123456789ab
    What: The attachment of alice's studio to 'my-engine'
    Status: in_progress (paused)
    Asked for: 2025-11-10 16:30:00 by alice

    Steps:
      none has begun

    Go on:  dh ops resume op-0123456789ab
    Undo:   dh ops cancel op-0123456789ab
    ");
}

fn plane_with(stored: Operation) -> MockControlPlane {
    let mut plane = plane();
    plane.expect_operation().returning(move |_| Ok(stored.clone()));
    plane
}

#[test]
fn resume_runs_to_the_end() {
    let mut plane = plane_with(operation(attach()));
    plane.expect_run().times(1).returning(|_, sink| {
        sink.emit(&event(9, 80, step("update_state", StageStatus::InProgress)));
        Ok(completed(attach()))
    });
    let ran = World::new().run(plane, "ops resume op-0123456789ab");
    assert_eq!(ran.out, "\n✓ The attachment of alice's studio to 'my-engine' is done\n");
    assert!(ran.err.contains("  Update State\n"), "{}", ran.err);
}

#[test]
fn a_worker_is_quiet() {
    let mut plane = plane_with(operation(attach()));
    plane.expect_run().times(1).returning(|_, sink| {
        sink.emit(&event(9, 80, step("update_state", StageStatus::InProgress)));
        Ok(completed(attach()))
    });
    let ran = World::new().run(plane, "ops resume op-0123456789ab --quiet");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
}

#[test]
fn what_is_over_cannot_be_resumed() {
    let ran = World::new().run(plane_with(completed(attach())), "ops resume op-0123456789ab");
    assert_eq!((ran.code, ran.out.as_str()), (5, ""));
}

#[test]
fn a_cancelled_operation_is_a_success_of_cancel() {
    let mut plane = plane();
    let mut after = vec![operation(attach()), Operation { status: OperationStatus::Cancelled, ..operation(attach()) }];
    plane.expect_operation().returning(move |_| Ok(after.remove(0)));
    plane.expect_cancel().times(1).returning(|_, sink| {
        sink.emit(&event(3, 20, ProgressBody::Undo { name: "attach_volume".into() }));
        Err(Error::new(ErrorKind::Interrupted, "it was cancelled"))
    });
    let ran = World::new().run(plane, "ops cancel op-0123456789ab");
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("  Undoing Attach Volume\n"), "{}", ran.err);
    assert!(ran.out.contains("is cancelled; what it did is undone"), "{}", ran.out);
}
