//! Commands on an engine: a person's, and dh's own.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use dh_core::domain::{ErrorKind, MachineId, MachineState, StopMode};
use dh_core::ports::{CommandOutput, EngineBackend, RunCommand, SessionRequest};
use rustix::process::Signal;

use crate::harness::{House, await_some, await_that, is_alive, kill};

fn text(output: &Output) -> (Option<i32>, String, String) {
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), utf8(&output.stdout), utf8(&output.stderr))
}

async fn run(house: &House, id: &MachineId, argv: &[&str], stdin: &str) -> dh_core::domain::Result<CommandOutput> {
    let argv = argv.iter().map(|&word| word.to_owned()).collect();
    let timeout = Duration::from_secs(20);
    house.backend.run_command(RunCommand { machine: id.clone(), argv, stdin: stdin.into(), timeout }).await
}

#[tokio::test]
async fn exec_passes_streams_and_exit_code_through() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let mut child = house
        .exec(&id, "cat; echo to-stderr >&2; exit 7")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap()), (Some(7), "through\n".into(), "to-stderr\n".into()));
    assert_eq!(house.exec(&id, "kill -TERM $$").status().unwrap().code(), Some(128 + 15));
}

#[tokio::test]
async fn a_command_finds_the_engines_home_and_environment_and_nothing_of_the_launchers() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let script =
        "echo $DH_ENGINE $DH_ENGINE_ID $DH_SESSION $DH_VCPUS; pwd; echo $HOME; echo ${CARGO_MANIFEST_DIR-none} $TERM";
    let output = house.exec(&id, script).env("TERM", "vt100").output().unwrap();
    let home = house.dir(&id).home();
    let expected = format!("work {id} exec 8\n{0}\n{0}\nnone vt100\n", home.canonicalize().unwrap().display());
    assert_eq!(text(&output), (Some(0), expected, String::new()));
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let output = house.session(&id, SessionRequest::Exec(vec!["no-such-program".into()])).output().unwrap();
    assert_eq!(output.status.code(), Some(127), "as from a shell");
    assert!(text(&output).2.contains("no-such-program"), "{output:?}");
}

#[tokio::test]
async fn a_session_on_a_stopped_engine_says_how_to_go_on() {
    let house = House::new();
    let id = house.launch("work").await.id;
    house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
    house.await_state(&id, MachineState::Stopped).await;
    let output = house.exec(&id, "true").output().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(ErrorKind::Conflict.exit_code())));
    assert!(text(&output).2.contains("dh engine start"), "{output:?}");
    assert_eq!(run(&house, &id, &["true"], "").await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn ctrl_c_reaches_the_command() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let ready = house.dir(&id).home().join("ready");
    let script = "trap 'echo interrupted; exit 42' INT; touch ready; while :; do sleep 0.02; done";
    let child = house.exec(&id, script).stdout(Stdio::piped()).spawn().unwrap();
    await_that("the command runs", || ready.exists());
    kill(child.id() as i32, Signal::INT);
    assert_eq!(text(&child.wait_with_output().unwrap()), (Some(42), "interrupted\n".into(), String::new()));
}

#[tokio::test]
async fn a_killed_client_hangs_up_and_only_what_asked_to_stay_stays() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let home = house.dir(&id).home();
    // Ready only once the one that asked to stay has left the session.
    let script = "echo $$ > command; nohup setsid sh -c 'echo $$ > stays; touch ready; exec sleep 1000' > /dev/null 2>&1 & \
                  sleep 1000; true";
    let mut child = house.exec(&id, script).spawn().unwrap();
    await_that("the command runs", || home.join("ready").exists());
    let pid = |name| fs::read_to_string(home.join(name)).unwrap().trim().parse::<i32>().unwrap();
    let (command, stays) = (pid("command"), pid("stays"));
    child.kill().unwrap();
    child.wait().unwrap();
    await_that("the command is hung up on", || !is_alive(command));
    assert!(is_alive(stays));
    house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
    house.await_state(&id, MachineState::Stopped).await;
    assert!(!is_alive(stays), "but nothing survives a stop");
}

#[tokio::test]
async fn a_stop_ends_the_clients_of_its_sessions() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let ready = house.dir(&id).home().join("ready");
    let mut child = house.exec(&id, "touch ready; exec sleep 1000").spawn().unwrap();
    await_that("the command runs", || ready.exists());
    house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
    house.await_state(&id, MachineState::Stopped).await;
    let status = await_some("the client's end", || child.try_wait().unwrap());
    assert!(status.code().is_some_and(|code| code > 128), "{status:?}");
}

#[tokio::test]
async fn a_command_of_dhs_own_is_fed_and_read_to_its_end() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let long = "x".repeat(300_000);
    let output = run(&house, &id, &["sh", "-c", "cat; echo $DH_SESSION. >&2; exit 3"], &long).await.unwrap();
    assert_eq!((output.exit_code, output.stdout.len(), output.stderr.as_str()), (3, long.len(), ".\n"));
    // A child that keeps the pipes open does not keep the answer back.
    let output = run(&house, &id, &["sh", "-c", "sleep 1000 & echo done"], "").await.unwrap();
    assert_eq!((output.exit_code, output.stdout.as_str()), (0, "done\n"));
}

#[tokio::test]
async fn dh_agent_as_a_command_is_the_engines_own_agent() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let output = run(&house, &id, &["dh-agent", "--version"], "").await.unwrap();
    assert_eq!((output.exit_code, output.stdout.starts_with("dh-agent ")), (0, true), "{output:?}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let script = "sleep 1000 & echo $! > child; echo $$ > command; wait";
    let request = RunCommand {
        machine: id.clone(),
        argv: vec!["sh".into(), "-c".into(), script.into()],
        stdin: Vec::new(),
        timeout: Duration::from_millis(700),
    };
    let error = house.backend.run_command(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    let home = house.dir(&id).home();
    for name in ["command", "child"] {
        let pid = fs::read_to_string(home.join(name)).unwrap().trim().parse().unwrap();
        await_that("it is killed", || !is_alive(pid));
    }
}
