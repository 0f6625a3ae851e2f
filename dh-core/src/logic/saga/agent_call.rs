//! Commands that the control plane has an engine's agent run.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::domain::{Error, ErrorKind, MachineId, Result, StoredError};
use crate::logic::Deps;
use crate::ports::RunCommand;

/// How long the agent may take for a command; making a large filesystem is the longest.
const DEADLINE: Duration = Duration::from_secs(180);

/// Runs `dh-agent ARGS` on a machine and reads its reply.
///
/// # Errors
/// What the agent said, as it said it; `Failed` when it did not say anything that can be read.
pub(crate) async fn call<T: DeserializeOwned>(
    deps: &Deps,
    machine: &MachineId,
    args: &[&str],
    stdin: Vec<u8>,
) -> Result<T> {
    let argv = std::iter::once("dh-agent").chain(args.iter().copied()).map(str::to_owned).collect();
    let request = RunCommand { machine: machine.clone(), argv, stdin, timeout: DEADLINE };
    let output = deps.backend.run_command(request).await?;
    let command = args.first().copied().unwrap_or_default();
    if output.exit_code == 0 {
        return serde_json::from_str(output.stdout.trim()).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("the agent's reply to '{command}' cannot be read"))
                .with_hint("check with 'dh doctor' that dh and dh-agent are of the same version")
                .with_source(error)
        });
    }
    let last = output.stderr.lines().last().unwrap_or_default();
    match serde_json::from_str::<StoredError>(last) {
        Ok(stored) => Err(stored.into()),
        Err(_) => Err(Error::new(
            ErrorKind::Failed,
            format!("'dh-agent {command}' ended with exit code {}: {last}", output.exit_code),
        )
        .with_hint("look at the agent's log with: dh engine logs NAME")),
    }
}
