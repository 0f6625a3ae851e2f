//! The agent's own log.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;

use dh_core::backend::local::map::io_error;
use dh_core::domain::Result;
use tracing_subscriber::EnvFilter;

/// A log larger than this is moved to `agent.log.1` when the agent starts.
const MAX_BYTES: u64 = 4 << 20;

/// Sends what the agent has to say to its log. `DH_AGENT_LOG` sets how much that is (`info` otherwise).
pub fn begin(path: &Path) -> Result<()> {
    if path.metadata().is_ok_and(|log| log.len() > MAX_BYTES) {
        let _ = std::fs::rename(path, path.with_extension("log.1"));
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| io_error("cannot open", path, source))?;
    let filter = EnvFilter::try_from_env("DH_AGENT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second subscriber, in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(Mutex::new(file))
        .try_init();
    Ok(())
}
