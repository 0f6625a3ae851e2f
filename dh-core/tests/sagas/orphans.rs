//! What is left when the state is lost, and taking it over.

use std::sync::Arc;

use dh_core::domain::*;
use dh_core::logic::InProcess;
use dh_core::ports::*;
use dh_core::testkit::scaffold::{Saga, World};
use dh_core::testkit::{Call, FaultKind};

use crate::fake::{Fake, fake};

/// Empties the store, as somebody who moves its file aside.
async fn without_state(fake: &Fake) -> (World, InProcess) {
    let environment = fake.world.deps.settings.environment.to_string();
    for table in [Table::Engines, Table::Studios, Table::Operations] {
        let query = ItemQuery {
            table,
            environment: environment.clone(),
            alias: None,
            open_only: false,
            newest_first: false,
            limit: None,
        };
        for item in fake.inner.list(query).await.unwrap() {
            fake.inner.delete(&item.key, item.version).await.unwrap();
        }
    }
    (fake.world.clone(), InProcess::new(fake.world.deps.clone()))
}

async fn attached() -> Fake {
    let fake = fake();
    for saga in [Saga::Launch, Saga::CreateStudio, Saga::Attach] {
        fake.world.run(saga).await.unwrap();
    }
    fake
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_store_knew_is_adopted_and_works() {
    let fake = attached().await;
    assert_eq!(InProcess::new(fake.world.deps.clone()).orphans().await.unwrap(), Orphans::default());
    let before = fake.world.studio().await.unwrap().unwrap();
    let policy = fake.world.engine().await.unwrap().unwrap().policy;

    let (world, control) = without_state(&fake).await;
    let orphans = control.orphans().await.unwrap();
    assert_eq!((orphans.machines.len(), orphans.volumes.len()), (1, 1));
    let adopted = control.adopt().await.unwrap();
    assert_eq!((adopted.engines.len(), adopted.studios.len(), adopted.left.len()), (1, 1, 0));
    assert_eq!(control.orphans().await.unwrap(), Orphans::default());
    assert_eq!(control.adopt().await.unwrap(), Adopted::default());

    let view = control.engine("bench").await.unwrap();
    assert_eq!((view.state, view.engine.policy.clone()), (EngineState::Running, policy));
    assert_eq!(view.engine.engine_type, "cpu");
    assert!(view.engine.bootstrap.is_ready());
    let studio = world.studio().await.unwrap().unwrap();
    assert_eq!((studio.status, &studio.attachment), (StudioStatus::Attached, &before.attachment));
    world.assert_sound("adoption").await;
    for saga in [Saga::Detach, Saga::Attach, Saga::Detach] {
        world.run(saga).await.unwrap();
    }
    world.clean("adoption").await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_gets_the_end_of_the_id_and_a_user_with_a_studio_keeps_it() {
    let fake = attached().await;
    let (world, control) = without_state(&fake).await;
    fake.clock.sleep(std::time::Duration::from_secs(60)).await;
    world.run(Saga::Launch).await.unwrap();
    world.run(Saga::CreateStudio).await.unwrap();
    let old = control.orphans().await.unwrap().machines[0].id.clone();
    let adopted = control.adopt().await.unwrap();
    let name = format!("bench-{}", &old.as_str()[old.as_str().len() - 4..]);
    assert_eq!(adopted.engines[0].name.as_str(), name);
    assert_eq!((adopted.studios.len(), adopted.left.len()), (0, 1));
    assert_eq!(control.engine(&name).await.unwrap().engine.machine, Some(old));
}

#[tokio::test(start_paused = true)]
async fn what_an_open_operation_is_making_is_no_orphan() {
    let fake = fake();
    let control = InProcess::new(fake.world.deps.clone());
    for (call, saga) in [(Call::LaunchMachine, Saga::Launch), (Call::CreateVolume, Saga::CreateStudio)] {
        let spec = saga.spec(&fake.world);
        let operation = control.submit(spec, SubmitOptions::default(), Arc::new(NoProgress)).await.unwrap();
        // The process dies when the thing is made and nothing of it is recorded.
        fake.backend.fail_next(call, FaultKind::HangAfter);
        let running = control.run(&operation.id, Arc::new(NoProgress));
        assert!(fake.backend.faults().until_hung(running).await.is_none(), "{call:?} did not hang");
        assert_eq!(control.orphans().await.unwrap(), Orphans::default(), "{call:?}");
    }
    assert!(!fake.backend.leaks().is_empty(), "there was something to be taken for an orphan");
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_fails_ends_no_older_machine_of_its_name() {
    let fake = attached().await;
    let (world, control) = without_state(&fake).await;
    fake.clock.sleep(std::time::Duration::from_secs(60)).await;
    fake.backend.fail_next(Call::LaunchMachine, FaultKind::Before(Error::new(ErrorKind::Capacity, "none left")));
    world.run(Saga::Launch).await.unwrap_err();
    assert_eq!(control.orphans().await.unwrap().machines.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_cannot_be_read_keeps_its_record_until_it_is_terminated() {
    let fake = fake();
    fake.world.run(Saga::Launch).await.unwrap();
    let control = InProcess::new(fake.world.deps.clone());
    let unread = || FaultKind::Before(Error::new(ErrorKind::Storage, "machine.json is missing"));
    fake.backend.fail_next(Call::DescribeMachine, unread());
    let view = control.engine("bench").await.unwrap();
    assert_eq!(view.state, EngineState::Failed);
    assert!(view.state_reason.unwrap().message.contains("machine.json"));
    fake.backend.fail_next(Call::TerminateMachine, unread());
    fake.world.run(Saga::Terminate).await.unwrap_err();
    assert!(fake.world.engine().await.unwrap().is_some(), "the record of a machine that may live is kept");
    fake.backend.fail_next(Call::DescribeMachine, unread());
    fake.world.run(Saga::Terminate).await.unwrap();
    assert!(fake.backend.leaks().is_empty());
}
