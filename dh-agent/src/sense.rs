//! Looking at the engine with every sensor.

use std::sync::Arc;
use std::time::Duration;

use dh_core::backend::local::durable::read_json;
use dh_core::domain::{Activity, Axis, Bootstrap, Confidence, Reading, Result};
use dh_core::ports::{Host, Sensor, SensorContext};
use dh_core::sensor::host::{ProcHost, Scope};
use dh_core::sensor::{Sweep, stock};
use dh_core::wire::{AgentConfig, AgentPower};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::layout::Layout;

/// How long one sensor may take.
const SENSOR_DEADLINE: Duration = Duration::from_secs(3);

const SUPERVISOR_SCHEMA: u64 = 1;

/// The sensors and the host they look at.
#[derive(Debug)]
pub struct Senses {
    sweep: Sweep,
    context: SensorContext,
}

impl Senses {
    pub fn new(sensors: Vec<Arc<dyn Sensor>>, host: Arc<dyn Host>) -> Self {
        Self { sweep: Sweep::new(sensors), context: SensorContext { host, deadline: SENSOR_DEADLINE } }
    }

    /// The sensors of every engine, on this one's share of the host.
    pub fn stock(host: Arc<dyn Host>) -> Self {
        Self::new(stock(), host)
    }

    pub fn host(&self) -> &Arc<dyn Host> {
        &self.context.host
    }

    pub async fn look(&self) -> Vec<Reading> {
        self.sweep.run(&self.context).await
    }
}

/// Whose descendants are the engine's processes.
#[derive(Debug, Serialize, Deserialize)]
struct Supervisor {
    schema: u64,
    pid: u32,
}

/// Returns this engine's share of the host. The agent itself is the supervisor's child and tells others by a file who that
/// is: they may be anywhere below.
pub fn host(config: &AgentConfig, layout: &Layout, is_agent: bool) -> Result<Arc<dyn Host>> {
    let scope = match &config.power {
        AgentPower::Supervisor { .. } if config.root != std::path::Path::new("/") => {
            let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
            let of = if is_agent {
                files::replace_json(&layout.supervisor(), &Supervisor { schema: SUPERVISOR_SCHEMA, pid: parent })?;
                parent
            } else {
                read_json::<Supervisor>(&layout.supervisor(), SUPERVISOR_SCHEMA)?.map_or(parent, |found| found.pid)
            };
            Scope::Descendants { of, root: config.root.clone(), machine: config.machine.clone() }
        }
        _ => Scope::Machine,
    };
    Ok(Arc::new(ProcHost::new(scope, layout.coffee()).with_boot_id(layout.boot_id())))
}

/// Returns what an unfinished bootstrap says: a set-up that still runs is work, whoever is connected or not. A failed one
/// holds nothing: it costs as much as any other idle engine.
pub fn bootstrap_hold(bootstrap: &Bootstrap) -> Option<Reading> {
    if bootstrap.is_ready() || bootstrap.failed().is_some() {
        return None;
    }
    let stage = bootstrap.current().map_or("not begun", |stage| stage.name.as_str());
    let reason = format!("Set-up still running ({stage})");
    Some(Reading::new("bootstrap", Activity::Active, Confidence::High, Axis::Work, reason))
}
