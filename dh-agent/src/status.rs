//! `dh-agent status`: what the running agent last found.

use dh_core::backend::local::durable::read_json;
use dh_core::domain::{Error, ErrorKind, IdleStatus, Result};

use crate::layout::{Layout, load_config};

const STATUS_SCHEMA: u64 = 1;

/// Returns the status that the agent wrote at its last look.
pub fn run() -> Result<IdleStatus> {
    let config = load_config()?;
    read_json(&Layout::of(&config).status(), STATUS_SCHEMA)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("the agent of engine '{}' has not looked around yet", config.engine))
            .with_hint(format!("look at its log with: dh engine logs {}", config.engine))
    })
}
