//! `dh studio …`, against the specification's outputs.

use dh_core::domain::*;
use dh_core::ports::MockControlPlane;

use super::world::*;

fn owning(studio: Studio) -> MockControlPlane {
    let mut plane = plane();
    plane.expect_studio().returning(move |_| Ok(studio.clone()));
    plane
}

#[test]
fn create_prints_what_the_specification_prints() {
    let mut plane = owning(studio());
    will_run(
        &mut plane,
        |spec, _| matches!(spec, OperationSpec::CreateStudio { user, size_gb } if user.as_str() == "alice" && size_gb.get() == 100),
        Vec::new(),
    );
    let ran = World::new().run(plane, "studio create");
    assert_eq!(ran.err, "Creating 100GB studio for alice...\n");
    assert_eq!(
        ran.out,
        "✓ Studio created: vol-0123456789abcdef0\n\nAttach to an engine with:\n  dh studio attach <engine-name>\n"
    );
}

#[test]
fn a_second_studio_is_refused_as_specified() {
    let mut plane = plane();
    plane.expect_submit().returning(|_, _, _| {
        Err(Error::new(ErrorKind::AlreadyExists, format!("user 'alice' already has a studio: {VOLUME_ID}"))
            .with_hint("use 'dh studio delete --user alice' to remove it first"))
    });
    let ran = World::new().run(plane, "studio create");
    assert_eq!(ran.code, 4);
    assert!(
        ran.err.ends_with(
            "✗ You already have a studio: vol-0123456789abcdef0\n  Use 'dh studio delete' to remove it first\n"
        ),
        "{}",
        ran.err
    );
}

#[test]
fn status_is_shown_as_specified() {
    assert_eq!(
        World::new().run(owning(studio()), "studio status").out,
        "Studio ID: vol-0123456789abcdef0
User: alice
Size: 100GB
Status: available
Created: 5 days ago
"
    );
    let out = World::new().run(owning(attached("my-engine", "i-0fedcba987654321")), "studio status").out;
    assert!(out.contains("Status: attached\nCreated: 5 days ago\nAttached to: i-0fedcba987654321\n"), "{out}");
}

#[test]
fn attach_prints_what_the_specification_prints() {
    use StageStatus::{Completed, InProgress};
    let steps =
        ["validate_engine", "find_device_slot", "attach_volume", "resolve_device", "mount_filesystem", "update_state"];
    let events = steps
        .iter()
        .flat_map(|name| [event(1, 10, step(name, InProgress)), event(2, 20, step(name, Completed))])
        .collect();
    let mut plane = owning(attached("my-engine", ENGINE_ID));
    plane.expect_engine().returning(|_| Ok(engine()));
    plane.expect_ssh_entries().returning(|_, _| Ok(Vec::new()));
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::Attach { .. }), events);
    let ran = World::new().run(plane, "studio attach my-engine");
    assert_eq!(
        ran.err,
        "📎 Attaching studio to my-engine...

⏳ Attachment in progress...

  Validate Engine
  Find Device Slot
  Attach Volume
  Resolve Device
  Mount Filesystem
  Update State
"
    );
    assert_eq!(
        ran.out,
        "
✓ Studio attached successfully!
✓ SSH config updated

Your files are now available at:
  /studios/alice/

Connect with:
  ssh my-engine
"
    );
}

#[test]
fn a_failed_attachment_names_the_step_as_specified() {
    let spec = || OperationSpec::Attach { user: user("alice"), engine: name("my-engine") };
    let mut plane = owning(studio());
    plane.expect_engine().returning(|_| Ok(engine()));
    plane.expect_submit().returning(|spec, _, _| Ok(operation(spec)));
    plane.expect_run().returning(|_, _| Err(Error::new(ErrorKind::Timeout, "Mount filesystem timeout")));
    plane.expect_operation().returning(move |_| {
        let mut failed = operation(spec());
        failed.steps.push(StepRecord {
            name: "mount_filesystem".into(),
            status: StageStatus::Failed,
            started_at: now(),
            duration: None,
            output: serde_json::Value::Null,
            error: Some(StoredError {
                kind: ErrorKind::Timeout,
                message: "SSM command timeout after 30s".into(),
                hint: None,
            }),
            undone: true,
        });
        Ok(failed)
    });
    let ran = World::new().run(plane, "studio attach my-engine");
    assert_eq!(ran.code, ErrorKind::Timeout.exit_code());
    assert!(
        ran.err.ends_with(
            "✗ Attachment failed: Mount filesystem timeout

Failed at step: mount_filesystem
Error: SSM command timeout after 30s
"
        ),
        "{}",
        ran.err
    );
}

#[test]
fn an_unavailable_studio_is_told_as_specified() {
    let mut plane = plane();
    plane.expect_engine().returning(|_| Ok(engine()));
    plane
        .expect_submit()
        .returning(|_, _, _| Err(Error::new(ErrorKind::Conflict, "studio is not available (status: attaching)")));
    let ran = World::new().run(plane, "studio attach my-engine");
    assert_eq!(ran.code, 5);
    assert!(ran.err.ends_with("✗ Studio is not available (status: attaching)\n"), "{}", ran.err);
}

#[test]
fn detach_prints_what_the_specification_prints() {
    let mut plane = owning(attached("my-engine", ENGINE_ID));
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::Detach { .. }), Vec::new());
    let ran = World::new().run(plane, "studio detach");
    assert_eq!(ran.err, "Detaching studio vol-0123456789abcdef0...\n");
    assert_eq!(ran.out, "✓ Studio detached\n");
}

#[test]
fn delete_warns_as_specified() {
    let mut plane = owning(studio());
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::DeleteStudio { .. }), Vec::new());
    let ran = World::new().answering(&["y\n"]).run(plane, "studio delete");
    assert_eq!(
        ran.err,
        "⚠ WARNING: This will permanently delete all data in vol-0123456789abcdef0\nAre you sure? [y/N]: "
    );
    assert_eq!(ran.out, "✓ Studio vol-0123456789abcdef0 deleted\n");
}

#[test]
fn an_attached_studio_is_not_deleted_and_nobody_is_asked() {
    let ran = World::new().answering(&[]).run(owning(attached("my-engine", ENGINE_ID)), "studio delete");
    assert_eq!(ran.code, 5);
    assert_eq!(ran.err, "✗ Studio must be detached before deletion\n  Run: dh studio detach\n");
}

#[test]
fn resize_asks_and_prints_as_specified() {
    let mut plane = owning(studio());
    will_run(
        &mut plane,
        |spec, _| matches!(spec, OperationSpec::ResizeStudio { size_gb, .. } if size_gb.get() == 200),
        Vec::new(),
    );
    let ran = World::new().answering(&["y\n"]).run(plane, "studio resize --size 200");
    assert_eq!(ran.err, "Resize studio from 100GB to 200GB? [y/N]: ");
    assert!(ran.out.starts_with("✓ Studio resize initiated: 100GB → 200GB\n"), "{}", ran.out);
}

#[test]
fn a_resize_that_cannot_be_is_refused_and_nobody_is_asked() {
    let ran = World::new().answering(&[]).run(owning(studio()), "studio resize --size 10");
    let told = "✗ The studio has 100GB already; it can only grow\n  Give a size above 100\n";
    assert_eq!((ran.code, ran.err.as_str()), (2, told));
    let ran = World::new().answering(&[]).run(owning(attached("my-engine", ENGINE_ID)), "studio resize --size 200");
    let told = "✗ Studio must be detached before it can be resized\n  Run: dh studio detach\n";
    assert_eq!((ran.code, ran.err.as_str()), (5, told));
}

#[test]
fn reset_asks_and_prints_as_specified() {
    let mut stuck = studio();
    stuck.status = StudioStatus::Attaching;
    let mut plane = owning(stuck);
    will_run(&mut plane, |spec, _| matches!(spec, OperationSpec::ResetStudio { .. }), Vec::new());
    let ran = World::new().answering(&["y\n"]).run(plane, "studio reset");
    assert_eq!(
        ran.err,
        "Studio: vol-0123456789abcdef0\nCurrent Status: attaching\n\nReset studio status to 'available'? [y/N]: "
    );
    assert_eq!(ran.out, "✓ Studio reset to 'available' status\n  Note: Manual cleanup may be required on engines\n");
}

#[test]
fn another_users_studio_is_named_with_user() {
    let mut plane = plane();
    plane.expect_studio().withf(|user| user.as_str() == "testuser1").returning(|_| Ok(studio()));
    will_run(
        &mut plane,
        |spec, _| matches!(spec, OperationSpec::DeleteStudio { user } if user.as_str() == "testuser1"),
        Vec::new(),
    );
    assert_eq!(World::new().run(plane, "studio delete --user testuser1 -y").code, 0);
}
