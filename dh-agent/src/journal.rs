//! The agent's own log.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;

use dh_core::backend::local::map::io_error;
use dh_core::connect::variables::DH_LOG;
use dh_core::domain::Result;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// A log larger than this is moved to `agent.log.1` when the agent starts.
const MAX_BYTES: u64 = 4 << 20;

/// Sends what the agent has to say to its log. `DH_LOG` sets how much that is (`info` otherwise).
pub fn begin(path: &Path) -> Result<()> {
    if path.metadata().is_ok_and(|log| log.len() > MAX_BYTES) {
        let _ = std::fs::rename(path, path.with_extension("log.1"));
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| io_error("cannot open", path, source))?;
    let asked = DH_LOG.get().and_then(|filter| filter.to_str()?.parse().ok());
    // Not `EnvFilter`, whose regular expressions are a tenth of what the agent may weigh.
    let filter: Targets = asked.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(Mutex::new(file));
    // A second subscriber, in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    Ok(())
}
