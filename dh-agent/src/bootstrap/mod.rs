//! The nine stages that make a machine an engine. Each is timed, recorded before and after, and done once: an agent that is
//! killed goes on with the stage it was in, and a started engine does none of them again.

mod disk;
mod gpu;
mod log;
mod setup;
pub mod ssh;

use std::sync::Arc;
use std::time::Duration;

use dh_core::backend::local::durable::{read_json, write_json};
use dh_core::domain::{
    Activity, Bootstrap, Error, ErrorKind, MachineId, Result, Stage, StageName, StageStatus, describe_duration,
};
use dh_core::ports::Clock;
use dh_core::wire::AgentConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::gpu::Places as GpuPlaces;
use self::log::StageLog;
use crate::layout::Layout;
use crate::sense::Senses;

const BOOTSTRAP_SCHEMA: u64 = 1;

/// How long a stage may take. A set-up script has a longer time of its own.
const STAGE_DEADLINE: Duration = Duration::from_secs(300);

/// How many lines of a failed stage's log are kept with it.
const TAIL_LINES: usize = 10;

/// `bootstrap.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    schema: u64,
    machine: MachineId,
    #[serde(flatten)]
    bootstrap: Bootstrap,
}

/// Returns how far the bootstrap is, as an agent before recorded it; nothing for a disk that came from another machine.
///
/// # Errors
/// When the record is damaged, or of a newer agent.
pub fn stored(layout: &Layout, config: &AgentConfig) -> Result<Option<Bootstrap>> {
    let stored: Option<Stored> = read_json(&layout.bootstrap(), BOOTSTRAP_SCHEMA)?;
    Ok(stored.filter(|stored| stored.machine == config.machine).map(|stored| stored.bootstrap))
}

/// How a stage ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Done {
    Completed(Option<String>),
    Skipped(String),
}

/// Does the stages.
#[derive(Debug)]
pub struct Bootstrapper {
    config: AgentConfig,
    layout: Layout,
    clock: Arc<dyn Clock>,
    senses: Arc<Senses>,
    publish: watch::Sender<Bootstrap>,
    gpu: GpuPlaces,
    setup_deadline: Duration,
}

impl Bootstrapper {
    pub fn new(
        config: AgentConfig,
        layout: Layout,
        clock: Arc<dyn Clock>,
        senses: Arc<Senses>,
        publish: watch::Sender<Bootstrap>,
    ) -> Self {
        Self { config, layout, clock, senses, publish, gpu: GpuPlaces::default(), setup_deadline: setup::DEADLINE }
    }

    /// Does what is left to do. Ends with the last stage or the first that fails; the agent goes on either way.
    pub async fn run(self: Arc<Self>) {
        let mut bootstrap = match stored(&self.layout, &self.config) {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                // What an agent before has done is not known, so nothing is done again and nothing is overwritten.
                tracing::error!(error = %error.full_message(), "the record of the bootstrap cannot be used");
                let failed = self.failed(StageName::InstanceRunning, &error, Vec::new());
                self.publish.send_replace(Bootstrap { stages: vec![failed] });
                return;
            }
        };
        if bootstrap.is_ready() || bootstrap.failed().is_some() {
            self.publish.send_replace(bootstrap);
            return;
        }
        let interrupted = bootstrap.stages.iter().any(|stage| stage.status == StageStatus::InProgress);
        bootstrap.stages.retain(|stage| stage.status != StageStatus::InProgress);
        for name in StageName::ALL {
            if bootstrap.stages.iter().any(|stage| stage.name == name) {
                continue;
            }
            let began = self.clock.since_boot();
            let stage = Stage {
                name,
                status: StageStatus::InProgress,
                started_at: self.clock.now(),
                duration: None,
                note: None,
                error: None,
                log_tail: Vec::new(),
            };
            bootstrap.stages.push(stage);
            self.record(&bootstrap);
            let ended = self.clone().stage(name, interrupted).await;
            let took = self.clock.since_boot().saturating_sub(began);
            let failed = ended.status == StageStatus::Failed;
            if let Some(last) = bootstrap.stages.last_mut() {
                *last = Stage { started_at: last.started_at, duration: ended.duration.or(Some(took)), ..ended };
            }
            self.record(&bootstrap);
            if failed {
                return;
            }
        }
        tracing::info!("the engine is ready");
    }

    /// Does one stage; a crash fails it like anything else.
    async fn stage(self: Arc<Self>, name: StageName, interrupted: bool) -> Stage {
        let log = StageLog::begin(&self.layout.bootstrap_log(), name, self.clock.now());
        let log = match log {
            Ok(log) => Arc::new(log),
            Err(error) => return self.failed(name, &error, Vec::new()),
        };
        let deadline = match name {
            StageName::InstallingPackages => self.setup_deadline + STAGE_DEADLINE,
            _ => STAGE_DEADLINE,
        };
        let task = tokio::spawn({
            let (this, log) = (self.clone(), log.clone());
            async move { this.work(name, &log, interrupted).await }
        });
        let outcome = match tokio::time::timeout(deadline, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(crash)) => Err(Error::new(ErrorKind::Internal, "the stage crashed").with_source(crash)),
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, format!("it took longer than {}", describe_duration(deadline))))
            }
        };
        let ended = |status, note| Stage {
            name,
            status,
            started_at: self.clock.now(),
            duration: None,
            note,
            error: None,
            log_tail: Vec::new(),
        };
        match outcome {
            Ok(Done::Completed(note)) => {
                log.line(note.as_deref().unwrap_or("done"));
                // The machine was up before its agent was.
                let duration = (name == StageName::InstanceRunning)
                    .then(|| disk::age_of_boot(&self.layout, self.clock.now()))
                    .flatten();
                Stage { duration, ..ended(StageStatus::Completed, note) }
            }
            Ok(Done::Skipped(why)) => {
                log.line(&format!("skipped: {why}"));
                ended(StageStatus::Skipped, Some(why))
            }
            Err(error) => {
                log.line(&format!("failed: {}", error.full_message()));
                self.failed(name, &error, log.tail(TAIL_LINES))
            }
        }
    }

    async fn work(&self, name: StageName, log: &StageLog, interrupted: bool) -> Result<Done> {
        match name {
            StageName::InstanceRunning => disk::machine(&self.layout),
            StageName::DownloadingScripts => disk::scripts(&self.layout).await,
            StageName::InstallingPackages => {
                setup::run(&self.config, &self.layout, log, interrupted, self.setup_deadline).await
            }
            StageName::MountingPrimordial => disk::primordial(&self.config, &self.layout),
            StageName::GpuDrivers => gpu::drivers(&self.gpu),
            StageName::CreatingEnvironment => disk::environment(&self.config, &self.layout),
            StageName::ConfiguringIdleDetector => self.idle_detector(log).await,
            StageName::ConfiguringSsh => {
                let config = self.config.clone();
                let configured = tokio::task::spawn_blocking(move || ssh::configure(&config)).await;
                match configured.map_err(|crash| Error::new(ErrorKind::Internal, "it crashed").with_source(crash))?? {
                    ssh::Configured::Ready(note) => Ok(Done::Completed(note)),
                    ssh::Configured::Skipped(why) => Ok(Done::Skipped(why)),
                }
            }
            StageName::Ready => Ok(Done::Completed(None)),
        }
    }

    /// Sets the policy where none is, and has every sensor look once.
    async fn idle_detector(&self, log: &StageLog) -> Result<Done> {
        if !self.layout.policy().exists() {
            write_json(&self.layout.policy(), &self.config.policy)?;
        }
        let readings = self.senses.look().await;
        for reading in &readings {
            log.line(&format!(
                "{}: {:?} ({} confidence): {}",
                reading.sensor, reading.activity, reading.confidence, reading.reason
            ));
        }
        let blind: Vec<String> = readings
            .iter()
            .filter(|reading| reading.activity == Activity::Unknown)
            .map(|reading| format!("{} ({})", reading.sensor, reading.reason))
            .collect();
        match blind.len() {
            0 => Ok(Done::Completed(None)),
            all if all == readings.len() => {
                Err(Error::new(ErrorKind::Failed, format!("no sensor can see anything: {}", blind.join(", "))))
            }
            _ => Ok(Done::Completed(Some(format!("cannot see everything: {}", blind.join(", "))))),
        }
    }

    fn failed(&self, name: StageName, error: &Error, log_tail: Vec<String>) -> Stage {
        let text = match error.hint() {
            Some(hint) => format!("{}; {hint}", error.full_message()),
            None => error.full_message(),
        };
        tracing::error!(stage = name.as_str(), error = %text, "the bootstrap failed");
        Stage {
            name,
            status: StageStatus::Failed,
            started_at: self.clock.now(),
            duration: None,
            note: None,
            error: Some(text),
            log_tail,
        }
    }

    fn record(&self, bootstrap: &Bootstrap) {
        if let Some(stage) = bootstrap.stages.last() {
            tracing::info!(stage = stage.name.as_str(), status = ?stage.status, "bootstrap");
        }
        let stored =
            Stored { schema: BOOTSTRAP_SCHEMA, machine: self.config.machine.clone(), bootstrap: bootstrap.clone() };
        if let Err(error) = write_json(&self.layout.bootstrap(), &stored) {
            tracing::error!(error = %error.full_message(), "the bootstrap cannot be recorded");
        }
        self.publish.send_replace(bootstrap.clone());
    }
}

#[cfg(test)]
mod tests;
