//! Stopping the agent's own engine.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use dh_core::backend::local::control::request_stop;
use dh_core::domain::{Error, ErrorKind, Result, StopCause, StopMode};
use dh_core::wire::{AgentConfig, AgentPower};

/// How long a stop may take to be accepted.
const PATIENCE: Duration = Duration::from_secs(15);

/// Turns the engine's power off.
#[async_trait]
pub trait Actuator: Debug + Send + Sync + 'static {
    /// Asks for the stop; returns when it is accepted. The power goes off a little later, and this process with it.
    async fn stop(&self, mode: StopMode, message: &str) -> Result<()>;
}

/// Returns how this engine is stopped.
pub fn actuator(config: &AgentConfig) -> Result<Box<dyn Actuator>> {
    match &config.power {
        AgentPower::Supervisor { socket } => Ok(Box::new(SupervisorPower { socket: socket.clone() })),
        other => Err(Error::new(ErrorKind::Unsupported, format!("this agent cannot stop its engine by {other:?}"))
            .with_hint("use an agent of the same version as dh")),
    }
}

/// Asks the supervisor of the local backend.
#[derive(Debug)]
struct SupervisorPower {
    socket: PathBuf,
}

#[async_trait]
impl Actuator for SupervisorPower {
    async fn stop(&self, mode: StopMode, message: &str) -> Result<()> {
        let (socket, message) = (self.socket.clone(), message.to_owned());
        let ask = tokio::task::spawn_blocking(move || request_stop(&socket, mode, StopCause::Idle, &message));
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(crash)) => Err(Error::new(ErrorKind::Internal, "asking for the stop crashed").with_source(crash)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the supervisor did not answer")),
        }
    }
}
