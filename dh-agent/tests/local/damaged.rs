//! A machine of which the record or the lock is lost: it exists, it may run, and it can be terminated.

use std::fs;

use dh_core::backend::local::EngineDir;
use dh_core::domain::{ErrorKind, MachineState, StopMode};
use dh_core::ports::EngineBackend;

use crate::harness::{House, await_that, environment, is_alive, kill};

/// Every way in which a machine is no longer whole.
const DAMAGES: [fn(&EngineDir); 3] = [
    |dir| fs::remove_file(dir.record()).unwrap(),
    |dir| fs::write(dir.record(), "{ not").unwrap(),
    |dir| fs::remove_file(dir.lock()).unwrap(),
];

async fn is_told_and_terminated(house: &House, name: &str, damage: fn(&EngineDir), running: bool) {
    let id = house.launch(name).await.id;
    let daemon = house.daemon(&id, "daemon", "sleep 1000");
    if !running {
        house.backend.stop_machine(&id, StopMode::Stop).await.unwrap();
        house.await_state(&id, MachineState::Stopped).await;
    }
    damage(&house.dir(&id));
    // A supervisor that answers, or a record that says that nothing runs, is as good as the lock.
    if house.dir(&id).lock().exists() {
        let error = house.backend.describe_machine(&id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.message().contains("machine."), "{error}");
        assert!(error.hint().unwrap().contains("dh engine terminate"), "{error:?}");
    }
    assert_eq!(is_alive(daemon), running, "a look does no harm");
    house.backend.terminate_machine(&id).await.unwrap();
    house.await_gone(&id).await;
    await_that("its processes end", || !is_alive(daemon));
    assert_eq!(house.left(&id), []);
    await_that("its directory goes", || fs::read_dir(house.path().join("data/engines")).unwrap().count() == 0);
}

#[tokio::test]
async fn a_running_machine_that_is_not_whole_is_told_and_terminated() {
    let house = House::new();
    for (n, damage) in DAMAGES.into_iter().enumerate() {
        is_told_and_terminated(&house, &format!("work-{n}"), damage, true).await;
    }
}

#[tokio::test]
async fn a_stopped_machine_that_is_not_whole_is_told_and_terminated() {
    let house = House::new();
    for (n, damage) in DAMAGES.into_iter().enumerate() {
        is_told_and_terminated(&house, &format!("work-{n}"), damage, false).await;
    }
}

#[tokio::test]
async fn what_a_dead_supervisor_left_is_swept_also_without_a_record() {
    let house = House::new();
    let id = house.launch("work").await.id;
    let daemon = house.daemon(&id, "daemon", "trap '' TERM HUP INT\nwhile :; do sleep 1000; done");
    let supervisor = house.record(&id).boot.unwrap().supervisor;
    kill(supervisor, rustix::process::Signal::KILL);
    await_that("the supervisor dies", || !is_alive(supervisor));
    fs::remove_file(house.dir(&id).record()).unwrap();
    house.backend.terminate_machine(&id).await.unwrap();
    assert!(!is_alive(daemon));
    assert_eq!(fs::read_dir(house.path().join("data/engines")).unwrap().count(), 0);
}

#[tokio::test]
async fn one_damaged_machine_hides_no_other_from_the_list() {
    let house = House::new();
    let (whole, damaged) = (house.launch("whole").await, house.launch("damaged").await);
    for damage in DAMAGES.into_iter().take(2) {
        damage(&house.dir(&damaged.id));
        assert_eq!(house.backend.list_machines(&environment()).await.unwrap(), std::slice::from_ref(&whole));
        let written = fs::read(house.dir(&whole.id).record()).unwrap();
        fs::write(house.dir(&damaged.id).record(), written).unwrap();
    }
    fs::write(house.dir(&damaged.id).record(), "").unwrap();
    house.backend.terminate_machine(&damaged.id).await.unwrap();
    house.await_gone(&damaged.id).await;
    house.backend.terminate_machine(&whole.id).await.unwrap();
    house.await_gone(&whole.id).await;
}
