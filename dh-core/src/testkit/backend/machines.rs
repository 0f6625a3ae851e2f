//! What the fake's calls about machines do.

use std::collections::{BTreeMap, HashMap};

use super::world::{FakeMachine, Now, World, conflict, not_now, unsupported};
use crate::domain::{
    Bootstrap, EnvironmentName, Error, ErrorKind, Machine, MachineId, MachineState, Result, SizeGb, StateReason,
    StopCause, StopMode,
};
use crate::ports::{Capabilities, LaunchMachine, LogSource};

impl World {
    pub(super) fn launch(&mut self, capabilities: &Capabilities, request: LaunchMachine, now: Now) -> Result<Machine> {
        if let Some((before, id)) = self.launches.get(&request.key) {
            if *before != request {
                return Err(conflict(
                    "idempotency_mismatch",
                    format!("key {} launched another machine before", request.key.as_str()),
                ));
            }
            let id = id.clone();
            return Ok(self.view_machine(&id).expect("machines stay known once launched"));
        }
        let Some(engine_type) = capabilities.engine_types.get(&request.engine_type) else {
            let known: Vec<&str> = capabilities.engine_types.keys().map(String::as_str).collect();
            return Err(Error::new(ErrorKind::InvalidArgument, format!("no engine type {:?}", request.engine_type))
                .with_hint(format!("choose one of: {}", known.join(", "))));
        };
        self.made += 1;
        let id = MachineId::new(format!("i-{:017x}", 0xfa4e_0000_0000_u64 + self.made))?;
        let machine = Machine {
            id: id.clone(),
            engine: request.engine.clone(),
            environment: request.environment.clone(),
            user: request.user.clone(),
            state: MachineState::Pending,
            state_reason: None,
            launched_at: now.wall,
            public_ip: None,
            engine_type: request.engine_type.clone(),
            instance_type: engine_type.instance_type.clone(),
            boot_disk_gb: request.boot_disk_gb,
            zone: self.machine_zone.clone(),
            attachments: BTreeMap::new(),
        };
        let fake = FakeMachine {
            machine,
            next: Some((now.boot + self.latencies.pending, MachineState::Running)),
            generation: 1,
            gpus: engine_type.gpus,
            tags: BTreeMap::new(),
            bootstrap: Bootstrap::default(),
            mounts: BTreeMap::new(),
            policy: request.policy.clone(),
            coffee_until: None,
            idle: None,
            logs: HashMap::new(),
        };
        self.machines.insert(id.clone(), fake);
        self.launches.insert(request.key.clone(), (request, id.clone()));
        self.powered.push((id.clone(), 1));
        self.settle(now.boot);
        Ok(self.view_machine(&id).expect("it was just made"))
    }

    /// Returns a machine as a caller sees it, terminated ones too.
    pub(super) fn view_machine(&self, id: &MachineId) -> Option<Machine> {
        let mut machine = self.machines.get(id)?.machine.clone();
        machine.attachments = self
            .volumes
            .iter()
            .filter_map(|(volume, fake)| Some((fake.attachment.as_ref()?, volume)))
            .filter(|(attachment, _)| attachment.machine == *id)
            .map(|(attachment, volume)| (attachment.device, volume.clone()))
            .collect();
        Some(machine)
    }

    pub(super) fn describe_machine(&self, id: &MachineId) -> Option<Machine> {
        self.view_machine(id).filter(|machine| machine.state != MachineState::Terminated)
    }

    pub(super) fn list_machines(&self, environment: &EnvironmentName) -> Vec<Machine> {
        self.machines
            .keys()
            .filter_map(|id| self.describe_machine(id))
            .filter(|machine| machine.environment == *environment)
            .collect()
    }

    pub(super) fn start(&mut self, capabilities: &Capabilities, id: &MachineId, now: Now) -> Result<()> {
        if !capabilities.stop {
            return Err(unsupported("start"));
        }
        let pending = self.latencies.pending;
        let machine = self.machine(id)?;
        match machine.machine.state {
            MachineState::Pending | MachineState::Running => return Ok(()),
            MachineState::Stopped | MachineState::Hibernated => {}
            state => return Err(not_now(format!("machine {id} cannot be started while it is {state:?}"))),
        }
        machine.machine.state = MachineState::Pending;
        machine.machine.state_reason = None;
        machine.machine.launched_at = now.wall;
        machine.next = Some((now.boot + pending, MachineState::Running));
        machine.generation += 1;
        let generation = machine.generation;
        // What was detached meanwhile is not mounted again.
        let joined: Vec<_> = self.describe_machine(id).into_iter().flat_map(|view| view.attachments).collect();
        self.machine(id)?.mounts.retain(|volume, _| joined.iter().any(|(_, attached)| attached == volume));
        self.powered.push((id.clone(), generation));
        self.settle(now.boot);
        Ok(())
    }

    pub(super) fn stop(
        &mut self,
        capabilities: &Capabilities,
        id: &MachineId,
        mode: StopMode,
        reason: (StopCause, &str),
        now: Now,
    ) -> Result<()> {
        let (possible, latency, target) = match mode {
            StopMode::Stop => (capabilities.stop, self.latencies.stopping, MachineState::Stopped),
            StopMode::Hibernate => (capabilities.hibernate, self.latencies.hibernating, MachineState::Hibernated),
        };
        if !possible {
            return Err(unsupported(if mode == StopMode::Stop { "stop" } else { "hibernate" }));
        }
        let machine = self.machine(id)?;
        match machine.machine.state {
            MachineState::Pending | MachineState::Running => {}
            MachineState::Stopping | MachineState::Stopped | MachineState::Hibernated => return Ok(()),
            state => return Err(not_now(format!("machine {id} cannot be stopped while it is {state:?}"))),
        }
        machine.machine.state = MachineState::Stopping;
        machine.machine.state_reason =
            Some(StateReason { cause: reason.0, message: reason.1.to_owned(), at: now.wall });
        machine.next = Some((now.boot + latency, target));
        self.settle(now.boot);
        Ok(())
    }

    pub(super) fn terminate(&mut self, id: &MachineId, now: Now) {
        let latency = self.latencies.terminating;
        let Ok(machine) = self.machine(id) else { return };
        if machine.machine.state != MachineState::Terminating {
            machine.machine.state = MachineState::Terminating;
            machine.next = Some((now.boot + latency, MachineState::Terminated));
        }
        self.settle(now.boot);
    }

    /// Ends a machine at once, as a crash does.
    pub(super) fn crash(&mut self, id: &MachineId, cause: StopCause, now: Now) -> Result<()> {
        let machine = self.machine(id)?;
        machine.machine.state = MachineState::Stopped;
        machine.machine.state_reason = Some(StateReason { cause, message: "it ended by itself".into(), at: now.wall });
        machine.next = None;
        self.power_off(id, false);
        Ok(())
    }

    pub(super) fn resize_boot_disk(&mut self, capabilities: &Capabilities, id: &MachineId, size: SizeGb) -> Result<()> {
        if !capabilities.resize_boot_disk {
            return Err(unsupported("resizing boot disks"));
        }
        let machine = self.machine(id)?;
        if machine.machine.boot_disk_gb >= size {
            return Ok(());
        }
        if machine.machine.state != MachineState::Stopped && !capabilities.resize_boot_disk_online {
            return Err(conflict("incorrect_state", format!("machine {id} must be stopped before its disk can grow"))
                .with_hint("stop the engine first, or resize it without --online"));
        }
        machine.machine.boot_disk_gb = size;
        Ok(())
    }

    pub(super) fn read_log(&mut self, id: &MachineId, source: LogSource, lines: usize) -> Result<Vec<String>> {
        let log = self.machine(id)?.logs.get(&source).map(Vec::as_slice).unwrap_or_default();
        Ok(log[log.len().saturating_sub(lines)..].to_vec())
    }
}
