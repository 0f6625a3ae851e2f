//! The three scaffolds over every saga, with real processes and real volumes: every step twice, failed at every step, every
//! undo twice. Afterwards no process, loop device or mount is left.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use dh_core::connect::{SystemClock, SystemEntropy, SystemRunners};
use dh_core::domain::{Error, ErrorKind, IdlePolicy, MachineId, Result, UserName, VolumeId};
use dh_core::logic::{Deps, Settings};
use dh_core::ports::{CommandOutput, EngineBackend, RunCommand};
use dh_core::store::SqliteStore;
use dh_core::testkit::scaffold::{PRECIOUS, Saga, StudioFiles, World, fail_at, failures, repeat_every_step, user};
use futures::StreamExt;

use crate::harness::{House, PATIENCE, await_eq, environment};

/// How many worlds there are at a time: most of what a saga does is wait.
const AT_ONCE: usize = 6;

/// A studio's files, by commands on the engine.
#[derive(Debug)]
struct Files(Arc<House>);

impl Files {
    async fn shell(&self, machine: &MachineId, user: &UserName, script: &str) -> Result<CommandOutput> {
        let studio = self.0.dir(machine).disk().join("studios").join(user.as_str());
        let argv = ["sh", "-c", script, "sh", &studio.to_string_lossy()].map(str::to_owned).to_vec();
        let request = RunCommand { machine: machine.clone(), argv, stdin: PRECIOUS.into(), timeout: PATIENCE };
        self.0.backend.run_command(request).await
    }
}

#[async_trait]
impl StudioFiles for Files {
    async fn write(&self, machine: &MachineId, user: &UserName, _volume: &VolumeId) -> Result<()> {
        let output = self.shell(machine, user, "cd \"$1\" && cat > notes.txt").await?;
        if output.exit_code == 0 { Ok(()) } else { Err(Error::new(ErrorKind::Failed, output.stderr)) }
    }

    async fn read(&self, machine: &MachineId, user: &UserName, _volume: &VolumeId) -> Result<Option<String>> {
        let output = self.shell(machine, user, "cat \"$1/notes.txt\"").await?;
        Ok((output.exit_code == 0).then_some(output.stdout))
    }
}

/// Lets something happen in a world of its own, and looks that it leaves nothing.
async fn in_a_world(act: impl AsyncFnOnce(&World)) {
    let house = Arc::new(House::with_real_agent());
    let world = World {
        deps: Deps {
            backend: Arc::new(house.backend.clone()),
            store: Arc::new(SqliteStore::open(&house.path().join("dh.sqlite3")).unwrap()),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            runners: Arc::new(SystemRunners::new().unwrap()),
            settings: Settings { environment: environment(), user: user(), policy: IdlePolicy::default() },
        },
        files: Arc::new(Files(house.clone())),
    };
    act(&world).await;
    tokio::task::spawn_blocking(move || await_eq(Vec::<String>::new(), || left(house.path()))).await.unwrap();
}

/// What is left below a directory: processes that name it, mounts, loop devices, and folders of engines and volumes.
fn left(path: &Path) -> Vec<String> {
    let path = path.to_string_lossy();
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\0', " ");
    let processes = entries("/proc").filter(|entry| {
        let is_other = entry.file_name().is_some_and(|name| name.to_string_lossy() != std::process::id().to_string());
        is_other && ["cmdline", "environ"].iter().any(|file| text(&entry.join(file)).contains(&*path))
    });
    let loops = entries("/sys/block").filter(|entry| text(&entry.join("loop/backing_file")).contains(&*path));
    let folders = ["engines", "volumes"].into_iter().flat_map(|kind| entries(&format!("{path}/data/{kind}")));
    let named = |what: &'static str| move |entry: std::path::PathBuf| format!("{what} {}", entry.display());
    let mounts = text(Path::new("/proc/self/mountinfo"));
    // The kernel writes a space as \040.
    let escaped = path.replace(' ', "\\040");
    let mounts = mounts.lines().filter(|line| line.contains(&escaped)).map(|line| format!("mount {line}"));
    let found =
        processes.map(named("process")).chain(loops.map(named("loop device"))).chain(folders.map(named("folder")));
    found.chain(mounts).collect()
}

async fn every_step_twice(saga: Saga) {
    in_a_world(async |world| repeat_every_step(world, saga).await).await;
}

/// Every step and every undo is done twice, which is more than once each.
async fn fails_everywhere(saga: Saga) {
    let mut all = Vec::new();
    in_a_world(async |world| all = failures(world, saga)).await;
    let turns = all.into_iter().map(|failure| in_a_world(async move |world| fail_at(world, saga, failure, true).await));
    futures::stream::iter(turns).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

macro_rules! sagas {
    ($($saga:ident $name:ident,)*) => {
        $(mod $name {
            use super::*;

            #[tokio::test]
            async fn can_be_repeated_at_every_step() {
                every_step_twice(Saga::$saga).await;
            }

            #[tokio::test]
            async fn unwinds_from_every_step() {
                fails_everywhere(Saga::$saga).await;
            }
        })*

        #[test]
        fn no_saga_is_left_out() {
            assert_eq!(Saga::ALL, [$(Saga::$saga),*]);
        }
    };
}

sagas! {
    Launch launch,
    Start start,
    Stop stop,
    Hibernate hibernate,
    Terminate terminate,
    ResizeEngine resize_engine,
    ResizeEngineOnline resize_engine_online,
    CreateStudio create_studio,
    Attach attach,
    Detach detach,
    ResizeStudio resize_studio,
    DeleteStudio delete_studio,
    ResetStudio reset_studio,
}
