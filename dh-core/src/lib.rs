//! dh-core launches ephemeral compute **engines**, attaches persistent **studio** volumes to them, senses whether
//! anyone or anything uses them, and stops them when nothing does.
//!
//! A program that embeds it talks to a [`ports::ControlPlane`]. Over the backend of [`testkit`], with a virtual clock, the two
//! minutes of a launch go by in a millisecond:
//!
//! ```
//! # #[cfg(feature = "testkit")] {
//! use std::sync::Arc;
//!
//! use dh_core::domain::*;
//! use dh_core::logic::{Deps, InProcess, Settings};
//! use dh_core::ports::*;
//! use dh_core::store::MemoryStore;
//! use dh_core::testkit::{FakeBackend, FakeRunners, SeededEntropy, TestClock};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! let (clock, store) = (Arc::new(TestClock::new()), Arc::new(MemoryStore::new()));
//! let control = InProcess::new(Deps {
//!     backend: Arc::new(FakeBackend::new(clock.clone()).with_store(store.clone())),
//!     store,
//!     clock,
//!     entropy: Arc::new(SeededEntropy::new(1)),
//!     runners: Arc::new(FakeRunners::new()),
//!     settings: Settings {
//!         environment: EnvironmentName::new("dev")?,
//!         user: UserName::new("alice")?,
//!         policy: IdlePolicy::default(),
//!     },
//! });
//! let launch = OperationSpec::Launch {
//!     engine: EngineName::new("train")?,
//!     user: UserName::new("alice")?,
//!     engine_type: "cpu".into(),
//!     boot_disk_gb: None,
//!     policy: IdlePolicy::default(),
//! };
//! let operation = control.submit(launch, SubmitOptions::default(), Arc::new(NoProgress)).await?;
//! control.run(&operation.id, Arc::new(NoProgress)).await?;
//! assert_eq!(control.engine("train").await?.state, EngineState::Running);
//! # Ok::<(), Error>(()) }).unwrap();
//! # }
//! ```
//!
//! Imports point one way: `domain <- ports <- logic <- {backend, store, sensor}`.

#![deny(missing_docs)]

pub mod backend;
pub mod connect;
pub mod domain;
pub mod logic;
pub mod ports;
pub mod sensor;
pub mod store;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod wire;
