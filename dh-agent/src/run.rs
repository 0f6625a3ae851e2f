//! `dh-agent run`: the daemon. Puts the parts together and turns the loop until it is told to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dh_core::backend::local::durable::lock;
use dh_core::connect::SystemClock;
use dh_core::domain::{Bootstrap, Error, ErrorKind, Result};
use dh_core::ports::{Clock, StateStore};
use dh_core::store::SqliteStore;
use dh_core::wire::{AgentConfig, AgentStore};
use tokio::net::UnixDatagram;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::bootstrap::{self, Bootstrapper};
use crate::idle::{IdleLoop, Parts};
use crate::layout::{Layout, load_config};
use crate::report::{Reporter, Writer};
use crate::sense::{Senses, bootstrap_hold, host};
use crate::warn::Terminals;
use crate::{journal, mount, poke, power};

/// How long an agent that is being replaced may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last report may take when the agent ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT.
pub async fn run() -> Result<()> {
    let config = load_config()?;
    let layout = Layout::of(&config);
    layout.make()?;
    let _only_agent = lock(&layout.agent_lock(), LOCK_PATIENCE)?;
    journal::begin(&layout.agent_log())?;
    let mut ended = Ended::new()?;
    tracing::info!(engine = %config.engine, machine = %config.machine, version = env!("CARGO_PKG_VERSION"), "agent begins");

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let senses = Arc::new(Senses::stock(host(&config, &layout, true)?));
    let (publish, progress) = watch::channel(bootstrap::stored(&layout, &config).ok().flatten().unwrap_or_default());
    let (started, start) = oneshot::channel();
    let (reporter, writer) = Reporter::new(
        config.environment.clone(),
        config.engine.clone(),
        progress.clone(),
        clock.clone(),
        start,
        store(&config)?,
    );
    write_aside(writer)?;
    let parts = Parts {
        engine: config.engine.clone(),
        layout: layout.clone(),
        policy: config.policy.clone(),
        clock: clock.clone(),
        senses: senses.clone(),
        notifier: Arc::new(Terminals::new(senses.host().clone())),
        power: power::actuator(&config)?,
        reporter,
        bootstrap: progress.clone(),
    };
    // Studios that were mounted when the power went off. Each may take as long as its disk does, up to a deadline; looking
    // for use goes on meanwhile, and reporting waits.
    let studios = config.clone();
    tokio::task::spawn_blocking(move || {
        started.send(mount::remount_all(&studios).iter().map(mount::problem).collect())
    });
    let bootstrapper = Bootstrapper::new(config.clone(), layout.clone(), clock, senses, publish);
    tokio::spawn(Arc::new(bootstrapper).run());
    turn(IdleLoop::new(parts), &layout, progress, &mut ended).await;
    tracing::info!("agent ends");
    Ok(())
}

/// Looks at each tick, when somebody pokes, and when the bootstrap is over.
async fn turn(mut idle: IdleLoop, layout: &Layout, mut progress: watch::Receiver<Bootstrap>, ended: &mut Ended) {
    let pokes = poke::listen(&layout.poke());
    if let Err(error) = &pokes {
        tracing::warn!(%error, "nobody can poke the agent; changes wait for its next look");
    }
    loop {
        let pause = idle.tick().await;
        let held = bootstrap_hold(&progress.borrow()).is_some();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = poked(pokes.as_ref().ok()) => {}
            () = released(&mut progress), if held => {}
            () = ended.wait() => break,
        }
    }
    idle.end(LAST_WORDS).await;
}

async fn poked(socket: Option<&UnixDatagram>) {
    match socket {
        Some(socket) => drop(socket.recv(&mut [0; 16]).await),
        None => std::future::pending().await,
    }
}

/// Waits until the bootstrap holds the engine no longer.
async fn released(progress: &mut watch::Receiver<Bootstrap>) {
    if progress.wait_for(|bootstrap| bootstrap_hold(bootstrap).is_none()).await.is_err() {
        std::future::pending().await
    }
}

/// Opens the store that the configuration names.
fn store(config: &AgentConfig) -> Result<impl Fn() -> Result<Arc<dyn StateStore>> + Send + 'static> {
    let path: PathBuf = match &config.store {
        AgentStore::Sqlite { path } => path.clone(),
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("this agent cannot report to {other:?}"))
                .with_hint("use an agent of the same version as dh"));
        }
    };
    Ok(move || Ok(Arc::new(SqliteStore::open(&path)?) as Arc<dyn StateStore>))
}

/// Gives the writer a thread of its own: the database's disk may hang.
fn write_aside(writer: Writer) -> Result<()> {
    let failed = |source| Error::new(ErrorKind::Internal, "cannot start a thread").with_source(source);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    std::thread::Builder::new()
        .name("report".into())
        .spawn(move || runtime.block_on(writer.run()))
        .map(drop)
        .map_err(failed)
}

/// The signals that end the agent.
struct Ended {
    terminate: Signal,
    interrupt: Signal,
}

impl Ended {
    fn new() -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|source| Error::new(ErrorKind::Internal, "cannot listen for signals").with_source(source))
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
