//! Freezing an engine with its memory, and letting it run on.

use std::fs;

use dh_core::domain::{ErrorKind, MachineId, MachineState, StopCause, StopMode};
use dh_core::ports::{EngineBackend, RunCommand};

use crate::harness::{House, await_some, await_that, is_alive};

/// Keeps something in its memory alone, and writes it down when it is asked to.
pub const MEMORY: &str = r#"cd "$HOME"
secret=$(cat /proc/sys/kernel/random/uuid)
echo $secret > once
while :; do
    if [ -e ask ]; then rm ask; echo $secret > answer.new; mv answer.new answer; fi
    sleep 0.02
done"#;

/// What the daemon first had in its memory.
pub fn secret(house: &House, id: &MachineId) -> String {
    let path = house.dir(id).home().join("once");
    await_some("the daemon's first word", || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')))
}

/// What the daemon has in its memory now.
pub fn ask(house: &House, id: &MachineId) -> String {
    let home = house.dir(id).home();
    let _ = fs::remove_file(home.join("answer"));
    fs::write(home.join("ask"), "").unwrap();
    await_some("the daemon's answer", || fs::read_to_string(home.join("answer")).ok())
}

/// Whether the kernel runs a process no more: stopped, or in a frozen group.
pub fn is_frozen(house: &House, id: &MachineId, pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let stopped = stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T');
    let groups = house.record(id).boot.unwrap().cgroups;
    stopped
        || groups.iter().any(|group| {
            let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            let frozen = fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
                || fs::read_to_string(group.join("cgroup.events")).is_ok_and(|events| events.contains("frozen 1"));
            frozen && members.lines().any(|member| member == pid.to_string())
        })
}

#[tokio::test]
async fn a_hibernated_engine_keeps_its_memory_and_goes_on_when_started() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let daemon = house.daemon(&id, "daemon", MEMORY);
    let secret = secret(&house, &id);
    house.backend.stop_machine(&id, StopMode::Hibernate).await.unwrap();
    let machine = house.await_state(&id, MachineState::Hibernated).await;
    assert_eq!(machine.state_reason.unwrap().cause, StopCause::User);
    assert!(is_frozen(&house, &id, daemon));
    house.backend.stop_machine(&id, StopMode::Hibernate).await.unwrap();

    let run = RunCommand {
        machine: id.clone(),
        argv: vec!["true".into()],
        stdin: Vec::new(),
        timeout: std::time::Duration::from_secs(5),
    };
    assert_eq!(house.backend.run_command(run).await.unwrap_err().kind(), ErrorKind::Conflict);

    let boot = fs::read_to_string(house.dir(&id).boot_id()).unwrap();
    house.backend.start_machine(&id).await.unwrap();
    house.await_state(&id, MachineState::Running).await;
    assert_ne!(fs::read_to_string(house.dir(&id).boot_id()).unwrap(), boot, "the agent sees that time has passed");
    assert_eq!(ask(&house, &id), secret);
    assert!(is_alive(daemon), "it is the same process");
    assert_eq!(house.record(&id).boots, 1);
}

#[tokio::test]
async fn a_hibernated_engine_is_terminated_with_all_it_froze() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let daemon = house.daemon(&id, "daemon", MEMORY);
    house.backend.stop_machine(&id, StopMode::Hibernate).await.unwrap();
    house.await_state(&id, MachineState::Hibernated).await;
    house.backend.terminate_machine(&id).await.unwrap();
    house.await_gone(&id).await;
    assert!(!is_alive(daemon));
}

#[tokio::test]
async fn a_hibernated_engine_whose_supervisor_is_killed_is_stopped_and_nothing_stays_frozen() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let daemon = house.daemon(&id, "daemon", MEMORY);
    house.backend.stop_machine(&id, StopMode::Hibernate).await.unwrap();
    house.await_state(&id, MachineState::Hibernated).await;
    crate::harness::kill(house.record(&id).boot.unwrap().supervisor, rustix::process::Signal::KILL);
    house.await_state(&id, MachineState::Stopped).await;
    await_that("the frozen process is gone", || !is_alive(daemon));
    assert_eq!(house.left(&id), []);
}
