//! The stage `configuring_ssh`, until the SSH server's own configuration takes this file's place.

use dh_core::domain::Result;
use dh_core::wire::AgentConfig;

/// How the stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    /// Logins work; what is worth knowing.
    #[allow(dead_code, reason = "nothing here configures a server yet")]
    Ready(Option<String>),
    /// There is nothing to configure, and why.
    Skipped(String),
}

/// Skips: this agent cannot configure an SSH server.
pub fn configure(_config: &AgentConfig) -> Result<Configured> {
    Ok(Configured::Skipped("this agent configures no SSH server; use 'dh engine shell' and 'dh engine exec'".into()))
}
