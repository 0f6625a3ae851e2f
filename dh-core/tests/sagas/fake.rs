//! Worlds on the fake backend.

use std::sync::Arc;

use async_trait::async_trait;
use dh_core::domain::*;
use dh_core::logic::{Deps, Settings};
use dh_core::ports::{Clock, StateStore};
use dh_core::store::MemoryStore;
use dh_core::testkit::scaffold::{PRECIOUS, StudioFiles, World};
use dh_core::testkit::{FakeBackend, FakeRunners, FaultyStore, SeededEntropy, TestClock};

/// A world whose every part a test can reach.
#[derive(Clone)]
pub struct Fake {
    pub clock: Arc<TestClock>,
    pub backend: FakeBackend,
    pub inner: Arc<MemoryStore>,
    pub runners: Arc<FakeRunners>,
    pub world: World,
}

#[derive(Debug)]
struct Files(FakeBackend);

#[async_trait]
impl StudioFiles for Files {
    async fn write(&self, _machine: &MachineId, _user: &UserName, volume: &VolumeId) -> Result<()> {
        self.0.write_file(volume, "notes.txt", PRECIOUS.as_bytes())
    }

    async fn read(&self, _machine: &MachineId, _user: &UserName, volume: &VolumeId) -> Result<Option<String>> {
        Ok(self.0.read_file(volume, "notes.txt").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

pub fn fake() -> Fake {
    let clock = Arc::new(TestClock::new());
    let inner = Arc::new(MemoryStore::new());
    let backend = FakeBackend::new(clock.clone()).with_store(inner.clone());
    let runners = Arc::new(FakeRunners::new());
    let deps = Deps {
        backend: Arc::new(backend.clone()),
        store: inner.clone(),
        clock: clock.clone() as Arc<dyn Clock>,
        entropy: Arc::new(SeededEntropy::new(7)),
        runners: runners.clone(),
        settings: Settings {
            environment: EnvironmentName::new("dev").unwrap(),
            user: UserName::new("alice").unwrap(),
            policy: IdlePolicy::default(),
        },
    };
    let world = World { deps, files: Arc::new(Files(backend.clone())) };
    Fake { clock, backend, inner, runners, world }
}

impl Fake {
    /// The same world as another process sees it, through a store of its own that can fail.
    pub fn process(&self, pid: u32) -> (World, Arc<FaultyStore>) {
        self.runners.crash_and_become(pid);
        let store = Arc::new(FaultyStore::new(self.inner.clone() as Arc<dyn StateStore>));
        let mut world = self.world.clone();
        world.deps.store = store.clone();
        (world, store)
    }
}
