//! Machines and volumes that no record knows, as after the state was lost.

use dh_core::domain::Volume;
use dh_core::ports::ControlPlane;
use dh_core::wire::view::Check;

use super::{broken, failed, ok};

const ADOPT: &str = "take it over with: dh doctor --adopt";

/// A line for each orphan.
pub async fn checks(control: &dyn ControlPlane) -> Vec<Check> {
    let (orphans, studios) = match (control.orphans().await, control.studios().await) {
        (Ok(orphans), Ok(studios)) => (orphans, studios),
        (Err(error), _) | (_, Err(error)) => return vec![broken("orphans", &error)],
    };
    let mut checks = Vec::new();
    for machine in &orphans.machines {
        let told = format!("{} of engine '{}' ({}) is in no record", machine.id, machine.engine, machine.user);
        checks.push(failed("machine", told, ADOPT));
    }
    for volume in &orphans.volumes {
        let told = format!("{} with the studio of {} is in no record", volume.id, volume.user);
        let advice = match studios.iter().any(|studio| studio.user == volume.user) {
            true => replace(volume),
            false => ADOPT.to_owned(),
        };
        checks.push(failed("volume", told, &advice));
    }
    if checks.is_empty() {
        checks.push(ok("orphans", "every machine and volume has a record"));
    }
    checks
}

/// One user has one studio: which of two volumes it is, is for people to say.
fn replace(volume: &Volume) -> String {
    let user = &volume.user;
    format!(
        "{user} has another studio; to have this one instead: dh studio delete --user {user}, then dh doctor --adopt"
    )
}

/// Takes over what no record knows, and tells what became of it.
pub async fn adopt(control: &dyn ControlPlane) -> Vec<Check> {
    let adopted = match control.adopt().await {
        Ok(adopted) => adopted,
        Err(error) => return vec![broken("adopted", &error)],
    };
    let mut checks = Vec::new();
    for engine in &adopted.engines {
        let machine = engine.machine.as_ref().map(ToString::to_string).unwrap_or_default();
        checks.push(ok("adopted", format!("engine '{}' of {} ({machine})", engine.name, engine.user)));
    }
    for studio in &adopted.studios {
        let at = studio.attachment.as_ref().map(|at| format!(" to {}", at.engine)).unwrap_or_default();
        checks.push(ok("adopted", format!("the studio of {} ({}{at})", studio.user, studio.status)));
    }
    if checks.is_empty() {
        checks.push(ok("adopted", "nothing: no machine or volume could be taken over"));
    }
    checks
}
