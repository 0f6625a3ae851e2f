//! A process that is killed at any moment: the next one carries on.

use std::sync::Arc;

use dh_core::domain::StudioStatus;
use dh_core::logic::InProcess;
use dh_core::ports::{ControlPlane, NoProgress};
use dh_core::testkit::scaffold::{Saga, World};
use dh_core::testkit::{Call, Death, FaultKind};

use crate::fake::fake;

/// What the next process does: looks for what was interrupted, and goes on with it. A failure of the operation itself is no
/// failure here: it was unwound.
async fn carry_on(world: &World, saga: Saga, after: &str) {
    let control = InProcess::new(world.deps.clone());
    for operation in control.interrupted().await.unwrap_or_else(|error| panic!("{after}: {error:?}")) {
        let _ = control.run(&operation.id, Arc::new(NoProgress)).await;
    }
    if saga == Saga::ResetStudio && world.studio().await.unwrap().unwrap().status != StudioStatus::Available {
        // It died before its intent was stored: the studio is as stuck as before.
        world.run(saga).await.unwrap_or_else(|error| panic!("{after}: {error:?}"));
    }
    world.assert_sound(after).await;
    world.assert_data_intact_after(saga, after).await;
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
                carry_on(&next, *saga, &after).await;
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
async fn a_process_killed_around_any_effect_is_carried_on_by_the_next() {
    for saga in Saga::ALL {
        for (n, dead) in (1..).flat_map(|n| [(n, "before"), (n, "after")]) {
            let after = format!("{saga:?}, killed {dead} effect {n}");
            let fake = fake();
            saga.prepare(&fake.world).await.unwrap();
            let (world, _) = fake.process(100);
            fake.backend.faults().fail_nth(
                Call::EFFECTS,
                n,
                if dead == "after" { FaultKind::HangAfter } else { FaultKind::Hang },
            );
            let whole = fake.backend.faults().until_hung(world.run(*saga)).await;
            fake.backend.faults().clear();
            let (next, _) = fake.process(101);
            carry_on(&next, *saga, &after).await;
            if let Some(outcome) = whole {
                outcome.unwrap_or_else(|error| panic!("{after}: {error:?}"));
                break;
            }
        }
    }
}
