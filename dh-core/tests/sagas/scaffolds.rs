//! The three scaffolds over every saga.

use dh_core::testkit::scaffold::{Saga, fail_at_every_step, repeat_every_step};

use crate::fake::fake;

#[tokio::test(start_paused = true)]
async fn every_step_of_every_saga_can_be_repeated() {
    for saga in Saga::ALL {
        repeat_every_step(&fake().world, *saga).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_saga_unwinds_from_every_step() {
    for saga in Saga::ALL {
        fail_at_every_step(|| async { fake().world }, *saga, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_undo_of_every_saga_can_be_repeated() {
    for saga in Saga::ALL {
        fail_at_every_step(|| async { fake().world }, *saga, true).await;
    }
}
