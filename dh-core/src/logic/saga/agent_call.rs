//! Commands that the control plane has an engine's agent run.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::domain::{Error, ErrorKind, MachineId, MachineState, Result, StoredError};
use crate::logic::Deps;
use crate::ports::{CommandOutput, RunCommand};

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
        Err(_) => Err(cut_off(deps, machine, command, &output).await?),
    }
}

/// Says why a command ended without a word: most likely the engine stopped beneath it.
async fn cut_off(deps: &Deps, machine: &MachineId, command: &str, output: &CommandOutput) -> Result<Error> {
    let described = deps.backend.describe_machine(machine).await?;
    let Some(described) = described else {
        return Ok(Error::new(ErrorKind::Failed, format!("the engine was terminated during '{command}'"))
            .with_hint("list engines with: dh engine list"));
    };
    let name = &described.engine;
    if described.state != MachineState::Running {
        let why = described.state_reason.map_or_else(String::new, |reason| format!(": {}", reason.message));
        return Ok(Error::new(ErrorKind::Conflict, format!("engine '{name}' stopped during '{command}'{why}"))
            .with_hint(format!("start it first: dh engine start {name}")));
    }
    let said = output.stderr.lines().last().unwrap_or("it said nothing");
    Ok(Error::new(ErrorKind::Failed, format!("'dh-agent {command}' ended with exit code {}: {said}", output.exit_code))
        .with_hint(format!("look at the agent's log with: dh engine logs {name} --source agent")))
}
