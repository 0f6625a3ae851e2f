//! A process that is killed at any moment: the next one carries on.

use std::sync::Arc;

use dh_core::logic::InProcess;
use dh_core::ports::{ControlPlane, NoProgress};
use dh_core::testkit::scaffold::{Saga, World};
use dh_core::testkit::{Call, Death, FaultKind};

use crate::fake::fake;

/// What the next process does: looks for what was interrupted, and goes on with it. A failure of the operation itself is no
/// failure here: it was unwound.
async fn carry_on(world: &World, after: &str) {
    let control = InProcess::new(world.deps.clone());
    for operation in control.interrupted().await.unwrap_or_else(|error| panic!("{after}: {error:?}")) {
        let _ = control.run(&operation.id, Arc::new(NoProgress)).await;
    }
    world.assert_sound(after).await;
    if world.studio().await.unwrap().is_some_and(|studio| studio.epoch > 0) {
        world.assert_data_intact_unless_blank(after).await;
    }
    world.clean(after).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_at_any_write_is_carried_on_by_the_next() {
    for saga in Saga::ALL {
        for death in [Death::BeforeWrite, Death::AfterWrite] {
            for n in 1.. {
                let after = format!("{saga:?}, killed {death:?} write {n}");
                let fake = fake();
                saga.prepare(&fake.world).await.unwrap();
                let (world, store) = fake.process(100);
                store.kill_at_write(n, death);
                let whole = store.until_killed(world.run(*saga)).await;
                let (next, _) = fake.process(101);
                carry_on(&next, &after).await;
                if let Some(outcome) = whole {
                    outcome.unwrap_or_else(|error| panic!("{after}: {error:?}"));
                    assert!(n > 3, "{saga:?} makes no writes");
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_at_any_call_is_carried_on_by_the_next() {
    for saga in Saga::ALL {
        for n in 1.. {
            let after = format!("{saga:?}, killed at call {n}");
            let fake = fake();
            saga.prepare(&fake.world).await.unwrap();
            let (world, _) = fake.process(100);
            fake.backend.faults().fail_nth(Call::ALL, n, FaultKind::Hang);
            let whole = fake.backend.faults().until_hung(world.run(*saga)).await;
            fake.backend.faults().clear();
            let (next, _) = fake.process(101);
            carry_on(&next, &after).await;
            if let Some(outcome) = whole {
                outcome.unwrap_or_else(|error| panic!("{after}: {error:?}"));
                break;
            }
        }
    }
}
