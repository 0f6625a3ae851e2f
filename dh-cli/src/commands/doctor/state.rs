//! What dh keeps: whether it can be read, and whether anything in it needs somebody.

use dh_core::domain::{EngineState, StopCause};
use dh_core::ports::{ControlPlane, OperationQuery};
use dh_core::wire::view::Check;

use super::{absent, broken, failed, ok};
use crate::render::what;

pub async fn checks(control: &dyn ControlPlane) -> Vec<Check> {
    let engines = match control.engines().await {
        Ok(engines) => engines,
        Err(error) => return vec![broken("state", &error)],
    };
    let mut checks = vec![ok("state", format!("opens; {} engine(s)", engines.len()))];
    for view in &engines {
        let name = &view.engine.name;
        let died = view.state_reason.as_ref().filter(|reason| {
            matches!(view.state, EngineState::Stopped)
                && matches!(reason.cause, StopCause::Died | StopCause::HostRebooted)
        });
        if let Some(reason) = died {
            let start = format!("start it again: dh engine start {name}");
            let told = format!("'{name}' is stopped: {}", reason.message);
            // A restart of the machine is no fault of the engine's.
            checks.push(match reason.cause {
                StopCause::Died => failed("engine", told, &start),
                _ => absent("engine", told, &start),
            });
        } else if view.state == EngineState::Failed {
            let debug = format!("see where: dh engine debug {name}; remove it: dh engine terminate {name}");
            let told = match &view.state_reason {
                Some(reason) => format!("'{name}' has failed: {}", reason.message),
                None => format!("'{name}' failed to launch"),
            };
            checks.push(failed("engine", told, &debug));
        }
    }
    checks.extend(operations(control).await);
    checks
}

async fn operations(control: &dyn ControlPlane) -> Vec<Check> {
    let query = OperationQuery { open_only: true, limit: None };
    let (open, left) = match (control.operations(query).await, control.interrupted().await) {
        (Ok(open), Ok(left)) => (open, left),
        (Err(error), _) | (_, Err(error)) => return vec![broken("operations", &error)],
    };
    let mut checks = Vec::new();
    for operation in &left {
        let advice = format!("the next command goes on with it, or: dh ops resume {}", operation.id);
        checks.push(absent("operation", format!("{} was interrupted", what(operation)), &advice));
    }
    for operation in open.iter().filter(|operation| operation.paused) {
        let id = &operation.id;
        let advice = format!("go on with: dh ops resume {id}; undo with: dh ops cancel {id}");
        checks.push(absent("operation", format!("{} is paused", what(operation)), &advice));
    }
    if checks.is_empty() {
        checks.push(ok("operations", "none was interrupted"));
    }
    checks
}
