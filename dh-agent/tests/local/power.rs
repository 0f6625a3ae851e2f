//! Stopping, starting, terminating, and what is left when something is killed.

use std::fs;

use dh_core::backend::local::control::request_stop;
use dh_core::domain::{ErrorKind, MachineId, MachineState, StopCause, StopMode};
use dh_core::ports::EngineBackend;
use rustix::process::Signal;

use crate::harness::{House, await_eq, await_some, await_that, environment, is_alive, kill};

/// Heeds nothing but the kill.
const STUBBORN: &str = "trap '' TERM HUP INT\nwhile :; do sleep 1000; done";

fn agent_runs(house: &House, id: &MachineId) -> Vec<i32> {
    let text = fs::read_to_string(house.dir(id).home().join("agent-runs")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_stop_ends_every_process_and_keeps_the_disk() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let daemons = [house.daemon(&id, "gentle", "sleep 1000"), house.daemon(&id, "stubborn", STUBBORN)];
    assert!(daemons.iter().all(|&pid| is_alive(pid)));
    house.exec(&id, "echo kept > file").status().unwrap();
    house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
    let stopped = house.await_state(&id, MachineState::Stopped).await;
    assert_eq!(stopped.state_reason.unwrap().cause, StopCause::User);
    assert!(daemons.iter().all(|&pid| !is_alive(pid)), "stopped means that nothing runs");
    assert_eq!(house.left(&id), []);
    assert_eq!(fs::read_to_string(house.dir(&id).home().join("file")).unwrap(), "kept\n");
    house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();

    let boot = fs::read_to_string(house.dir(&id).boot_id()).unwrap();
    house.backend.start_machine(&id).await.unwrap();
    let running = house.await_state(&id, MachineState::Running).await;
    assert!(running.launched_at > stopped.launched_at && running.state_reason.is_none());
    assert_ne!(fs::read_to_string(house.dir(&id).boot_id()).unwrap(), boot);
    house.backend.start_machine(&id).await.unwrap();
    assert_eq!(house.record(&id).boots, 2);
}

#[tokio::test]
async fn an_agent_can_stop_its_own_engine_and_its_reason_is_kept() {
    let house = House::new();
    let id = house.launch("work").await.id;
    request_stop(&house.dir(&id).socket(), StopMode::Stop, StopCause::Idle, "idle for 30 minutes").unwrap();
    let reason = house.await_state(&id, MachineState::Stopped).await.state_reason.unwrap();
    assert_eq!((reason.cause, reason.message.as_str()), (StopCause::Idle, "idle for 30 minutes"));
    let error = request_stop(&house.dir(&id).socket(), StopMode::Stop, StopCause::Idle, "again").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable), "{error:?}");
}

#[tokio::test]
async fn terminating_leaves_no_process_and_no_file() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let stubborn = house.daemon(&id, "stubborn", STUBBORN);
    let groups = house.record(&id).boot.unwrap().cgroups;
    house.exec(&id, "mkdir -p cache/deep && chmod 500 cache").status().unwrap();
    house.backend.terminate_machine(&id).await.unwrap();
    house.await_gone(&id).await;
    assert!(!is_alive(stubborn));
    await_eq(0, || fs::read_dir(house.path().join("data/engines")).unwrap().count());
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    house.backend.terminate_machine(&id).await.unwrap();
    assert_eq!(house.backend.start_machine(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_stopped_machine_is_terminated_too() {
    let house = House::new();
    let id = house.launch("work").await.id;
    house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
    house.await_state(&id, MachineState::Stopped).await;
    house.backend.terminate_machine(&id).await.unwrap();
    house.await_gone(&id).await;
    assert_eq!(fs::read_dir(house.path().join("data/engines")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_killed_agent_is_started_again() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let first = await_some("the agent", || agent_runs(&house, &id).first().copied());
    kill(first, Signal::KILL);
    let second = await_some("the agent's second run", || agent_runs(&house, &id).get(1).copied());
    assert!(second != first && is_alive(second));
    let console = house.backend.read_log(&id, dh_core::ports::LogSource::Console, 50).await.unwrap();
    assert!(console.iter().any(|line| line.contains("the agent ended")), "{console:?}");
}

#[tokio::test]
async fn a_killed_supervisor_leaves_a_stopped_machine_and_nothing_running() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let stubborn = house.daemon(&id, "stubborn", STUBBORN);
    let agent = await_some("the agent", || agent_runs(&house, &id).first().copied());
    let boot = house.record(&id).boot.unwrap();
    kill(boot.supervisor, Signal::KILL);
    await_that("the agent dies with its supervisor", || !is_alive(agent));
    let machine = house.await_state(&id, MachineState::Stopped).await;
    assert_eq!(machine.state_reason.unwrap().cause, StopCause::Died);
    assert!(!is_alive(stubborn), "the look that found it also cleared it away");
    assert_eq!(house.left(&id), []);
    assert!(boot.cgroups.iter().all(|group| !group.exists()));
    house.backend.start_machine(&id).await.unwrap();
    house.await_state(&id, MachineState::Running).await;
}

#[tokio::test]
async fn a_machine_whose_host_was_restarted_says_so() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let mut record = house.record(&id);
    let boot = record.boot.as_mut().unwrap();
    kill(boot.supervisor, Signal::KILL);
    let supervisor = boot.supervisor;
    await_that("the supervisor dies", || !is_alive(supervisor));
    boot.host = "the boot before".into();
    record.save(&house.dir(&id)).unwrap();
    let machine = house.await_state(&id, MachineState::Stopped).await;
    assert_eq!(machine.state_reason.as_ref().unwrap().cause, StopCause::HostRebooted);
    assert_eq!(house.backend.list_machines(&environment()).await.unwrap(), [machine]);
}

#[tokio::test]
async fn a_termination_that_was_cut_off_is_finished_by_the_next_look() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let mut record = house.record(&id);
    let supervisor = record.boot.as_ref().unwrap().supervisor;
    kill(supervisor, Signal::KILL);
    await_that("the supervisor dies", || !is_alive(supervisor));
    record.set_state(MachineState::Terminating, None);
    record.save(&house.dir(&id)).unwrap();
    house.await_gone(&id).await;
    assert_eq!(fs::read_dir(house.path().join("data/engines")).unwrap().count(), 0);
    assert_eq!(house.left(&id), []);
}

#[tokio::test]
async fn a_supervisor_asked_to_end_stops_its_engine_in_order() {
    let house = House::new();
    let id = house.launch("work").await.id;
    kill(house.record(&id).boot.unwrap().supervisor, Signal::TERM);
    let machine = house.await_state(&id, MachineState::Stopped).await;
    assert!(machine.state_reason.unwrap().message.contains("asked to end"));
    assert_eq!(house.left(&id), []);
}

#[tokio::test]
async fn ids_that_are_no_ids_reach_no_path() {
    let house = House::new();
    for id in ["..", "x", "i-zz", ".new-i-1"] {
        let id = MachineId::new(id).unwrap();
        assert_eq!(house.backend.describe_machine(&id).await.unwrap(), None);
        assert_eq!(house.backend.stop_machine(&id, StopMode::Stop).await.unwrap_err().kind(), ErrorKind::NotFound);
        house.backend.terminate_machine(&id).await.unwrap();
    }
}
