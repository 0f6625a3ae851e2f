//! Launching: once per key, whoever asks and however often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dh_core::domain::{ErrorKind, IdempotencyKey, MachineState, OperationId, SizeGb, StopCause};
use dh_core::ports::EngineBackend;

use crate::harness::{House, backend, environment, write_program};

#[tokio::test]
async fn a_launched_machine_runs_and_is_described() {
    let house = House::new();
    let launched = house.backend.launch_machine(house.request("work")).await.unwrap();
    assert!(matches!(launched.state, MachineState::Pending | MachineState::Running));
    let machine = house.await_state(&launched.id, MachineState::Running).await;
    assert_eq!((machine.engine.as_str(), machine.user.as_str()), ("work", "alice"));
    assert_eq!((machine.instance_type.as_str(), machine.zone.as_str()), ("local", "local"));
    assert_eq!(house.backend.list_machines(&environment()).await.unwrap(), std::slice::from_ref(&machine));
    assert_eq!(std::fs::read_to_string(house.dir(&machine.id).boot_id()).unwrap().len(), 32);
}

#[tokio::test]
async fn an_unknown_type_is_refused_with_the_known_ones() {
    let house = House::new();
    let error = house
        .backend
        .launch_machine(dh_core::ports::LaunchMachine { engine_type: "gpu".into(), ..house.request("work") })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.hint().unwrap().contains("a10g"), "{error:?}");
    assert!(!house.path().join("data").exists(), "nothing was made");
}

#[tokio::test]
async fn one_key_launches_one_machine_however_many_ask_at_once() {
    let house = Arc::new(House::new());
    let asked: Vec<_> = (0..12)
        .map(|_| {
            // A backend of its own each, as in processes of their own.
            let (backend, request) = (backend(house.path(), &house.agent), house.request("work"));
            tokio::spawn(async move { backend.launch_machine(request).await.unwrap().id })
        })
        .collect();
    let mut ids = Vec::new();
    for one in asked {
        ids.push(one.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    house.await_state(&ids[0], MachineState::Running).await;
    assert_eq!(std::fs::read_dir(house.path().join("data/engines")).unwrap().count(), 1);
    assert_eq!(house.record(&ids[0]).boots, 1);
}

#[tokio::test]
async fn a_launch_cut_off_before_the_machine_had_power_is_finished_by_its_key() {
    let house = House::new();
    let broken = backend(house.path(), &house.path().join("missing"));
    let error = broken.launch_machine(house.request("work")).await.unwrap_err();
    assert!(error.hint().unwrap().contains("DH_AGENT"), "{error:?}");
    let machine = &house.backend.list_machines(&environment()).await.unwrap()[0];
    assert_eq!(machine.state_reason.as_ref().unwrap().cause, StopCause::Died);
    let again = house.launch("work").await;
    assert_eq!(again.id, machine.id);
    assert_eq!(house.record(&again.id).boots, 1);
}

#[tokio::test]
async fn a_launch_killed_between_its_record_and_its_supervisor_is_finished_by_its_key() {
    let house = House::new();
    // The one who launches is killed by the very program it calls, when the record is written and nothing runs yet.
    let killer = house.path().join("killer");
    write_program(&killer, "#!/bin/sh\nkill -9 $PPID\n");
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "launch::launches_with_the_agent_named", "--ignored"])
        .env("DH_TEST_HOUSE", house.path())
        .env("DH_TEST_KILLER", &killer)
        .env("DH_TEST_REQUEST", serde_json::to_string(&house.request("work")).unwrap())
        .output()
        .unwrap()
        .status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status:?}");
    let id = house.backend.list_machines(&environment()).await.unwrap().remove(0).id;
    let machine = house.await_state(&id, MachineState::Stopped).await;
    assert!(machine.state_reason.as_ref().unwrap().message.contains("cut off"), "{machine:?}");
    assert_eq!(house.launch("work").await.id, machine.id);
}

#[tokio::test]
#[ignore = "the process that another test has killed"]
async fn launches_with_the_agent_named() {
    let variable = |name| std::path::PathBuf::from(std::env::var_os(name).expect("set by the test that runs this"));
    let backend = backend(&variable("DH_TEST_HOUSE"), &variable("DH_TEST_KILLER"));
    let request = serde_json::from_str(&std::env::var("DH_TEST_REQUEST").unwrap()).unwrap();
    panic!("it lives on: {:?}", backend.launch_machine(request).await);
}

#[tokio::test]
async fn a_supervisor_that_cannot_work_says_why() {
    let house = House::new();
    let liar = house.path().join("liar");
    write_program(&liar, "#!/bin/sh\necho '{\"kind\":\"storage\",\"message\":\"the disk is full\"}' >&2\nexit 14\n");
    let error = backend(house.path(), &liar).launch_machine(house.request("work")).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Storage, "the disk is full"));
}

#[tokio::test]
async fn tags_and_boot_disk_change_with_and_without_power() {
    let house = House::new();
    let machine = house.launch("work").await;
    let tag = |key: &str, value: &str| std::collections::BTreeMap::from([(key.to_owned(), value.to_owned())]);
    house.backend.tag_machine(&machine.id, &tag("team", "red")).await.unwrap();
    house.backend.resize_boot_disk(&machine.id, SizeGb::new(80).unwrap()).await.unwrap();
    house.backend.resize_boot_disk(&machine.id, SizeGb::new(60).unwrap()).await.unwrap();
    house.backend.stop_machine(&machine.id, dh_core::domain::StopMode::Stop).await.unwrap();
    let stopped = house.await_state(&machine.id, MachineState::Stopped).await;
    assert_eq!(stopped.boot_disk_gb.get(), 80);
    house.backend.tag_machine(&machine.id, &tag("cost", "low")).await.unwrap();
    house.backend.resize_boot_disk(&machine.id, SizeGb::new(90).unwrap()).await.unwrap();
    let record = house.record(&machine.id);
    assert_eq!((record.boot_disk_gb.get(), record.tags.len()), (90, 2));
}

#[tokio::test]
async fn a_hundred_machines_are_listed_at_once() {
    let house = House::new();
    let machine = house.launch("work").await;
    let record = house.record(&machine.id);
    let mut held = Vec::new();
    for number in 0..99 {
        let operation = OperationId::new(format!("op-{number}")).unwrap();
        let id = dh_core::domain::MachineId::new(format!("i-{number:017x}")).unwrap();
        let dir = house.dir(&id);
        std::fs::create_dir_all(dir.path()).unwrap();
        held.push(dh_core::backend::local::PowerLock::create(&dir).unwrap());
        let key = IdempotencyKey::for_step(&operation, "x");
        dh_core::backend::local::MachineRecord { id, key, ..record.clone() }.save(&dir).unwrap();
    }
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(house.backend.list_machines(&environment()).await.unwrap().len(), 100);
        best = best.min(begun.elapsed());
    }
    println!("100 machines listed in {best:?}");
    // The limit is for a release build; unoptimized code may take four times as long.
    let limit = if cfg!(debug_assertions) { 20 } else { 5 };
    assert!(best < Duration::from_millis(limit), "{best:?}");
    // Nobody answers behind these locks.
    drop(held);
}
