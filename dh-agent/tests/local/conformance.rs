//! The cases that every backend must pass, on this one, with the agent itself on every engine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dh_core::connect::SystemClock;
use dh_core::testkit::conformance::backend::{BackendHarness, Setting, run};

use crate::harness::House;

struct Local;

#[async_trait]
impl BackendHarness for Local {
    async fn set_up(&self) -> Setting {
        let house = House::with_real_agent();
        Setting {
            backend: Arc::new(house.backend.clone()),
            environment: house.environment(),
            clock: Arc::new(SystemClock),
            guard: Box::new(house),
        }
    }

    fn runs_commands(&self) -> bool {
        true
    }

    fn has_agent(&self) -> bool {
        true
    }

    fn look_every(&self) -> Duration {
        Duration::from_millis(5)
    }

    fn racers(&self) -> usize {
        8
    }
}

#[tokio::test]
async fn the_local_backend_conforms() {
    run(&Local).await.assert_passed();
}
