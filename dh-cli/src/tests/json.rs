//! What programs get: golden documents. A change here is a change of the interface (see `docs/json.md`).

use dh_core::domain::*;
use dh_core::wire::view::Document;

use super::world::*;

fn documents(out: &str) -> Vec<Document> {
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn an_engine_as_json() {
    let mut plane = plane();
    plane.expect_engine().returning(|_| Ok(engine()));
    insta::assert_snapshot!(World::new().run(plane, "engine status my-engine --output json").out);
}

#[test]
fn a_studio_as_json() {
    let mut plane = plane();
    plane.expect_studio().returning(|_| Ok(attached("my-engine", ENGINE_ID)));
    insta::assert_snapshot!(World::new().run(plane, "studio status --output json").out);
}

#[test]
fn a_bootstrap_as_json() {
    let mut plane = plane();
    plane.expect_engine().returning(|_| Ok(engine()));
    insta::assert_snapshot!(World::new().run(plane, "engine debug my-engine --output json").out);
}

#[test]
fn a_list_is_one_document_or_a_line_each() {
    let lists = |line: &str| {
        let mut plane = plane();
        plane.expect_engines().returning(|| Ok(vec![engine(), engine()]));
        World::new().run(plane, line).out
    };
    let whole: serde_json::Value = serde_json::from_str(&lists("engine list --output json")).unwrap();
    assert_eq!(whole["version"], 1);
    assert_eq!((&whole["object"], whole["engines"].as_array().unwrap().len()), (&"engines".into(), 2));
    let lines = lists("engine list --output jsonl");
    assert_eq!(documents(&lines).len(), 2);
    assert!(lines.starts_with(r#"{"version":1,"object":"engine","engine":{"name":"my-engine","#), "{lines}");
}

#[test]
fn an_operation_in_jsonl_is_its_events_and_then_its_result() {
    let mut plane = plane();
    plane.expect_engine().returning(|_| Ok(engine()));
    will_run(
        &mut plane,
        |_, _| true,
        vec![
            event(0, 0, ProgressBody::Started { resumed: false }),
            event(1, 50, step("stop_machine", StageStatus::InProgress)),
            event(2, 100, ProgressBody::Finished { status: OperationStatus::Completed, error: None }),
        ],
    );
    let ran = World::new().run(plane, "engine stop my-engine --output jsonl");
    insta::assert_snapshot!(ran.out);
    assert_eq!(documents(&ran.out).len(), 4);
}

#[test]
fn an_error_is_a_document_too_and_people_are_told_on_the_other_stream() {
    let mut plane = plane();
    plane
        .expect_engine()
        .returning(|_| Err(Error::new(ErrorKind::Unavailable, "the store cannot be reached").with_hint("try again")));
    let ran = World::new().run(plane, "engine status my-engine --output jsonl");
    assert_eq!(ran.code, ErrorKind::Unavailable.exit_code());
    assert_eq!(
        ran.out,
        "{\"version\":1,\"object\":\"error\",\"error\":{\"kind\":\"unavailable\",\"message\":\"the store cannot be reached\",\"hint\":\"try again\",\"retryable\":true}}\n"
    );
    assert_eq!(ran.err, "✗ The store cannot be reached\n  Try again\n");
}
