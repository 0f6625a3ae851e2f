//! What the backend has and no record knows, as after the state was lost, and making records for it.

use super::InProcess;
use crate::domain::{
    AttachmentState, Bootstrap, Engine, EngineName, EngineState, Error, ErrorKind, IdlePolicy, Machine, MachineState,
    Operation, OperationSpec, Result, Stage, StageName, StageStatus, Studio, StudioAttachment, StudioStatus, Volume,
};
use crate::logic::saga::agent_call;
use crate::ports::{Adopted, Orphans, StateStoreExt, find_studio};
use crate::wire::MountReply;

impl InProcess {
    /// The backend is asked first: what a launch makes after that is not seen, and what one has made before it is known,
    /// or its operation is open. What goes away meanwhile is asked for once more.
    pub(super) async fn find_orphans(&self) -> Result<Orphans> {
        let deps = &self.deps;
        let environment = deps.environment();
        let machines = deps.backend.list_machines(environment).await?;
        let volumes = match deps.backend.capabilities().volumes {
            true => deps.backend.list_volumes(environment).await?,
            false => Vec::new(),
        };
        let open: Vec<Operation> =
            deps.store.load_operations(environment, true, None).await?.into_iter().map(|found| found.value).collect();
        let engines = deps.store.load_all::<Engine>(environment).await?;
        let studios = deps.store.load_all::<Studio>(environment).await?;
        let mut orphans = Orphans::default();
        for machine in machines {
            let known = engines.iter().any(|found| found.value.machine.as_ref() == Some(&machine.id));
            if known || open.iter().any(|operation| explains_machine(operation, &machine)) {
                continue;
            }
            let now = deps.backend.describe_machine(&machine.id).await?;
            let stays =
                |machine: &Machine| !matches!(machine.state, MachineState::Terminating | MachineState::Terminated);
            orphans.machines.extend(now.filter(stays));
        }
        for volume in volumes {
            let known = studios.iter().any(|found| found.value.volume.as_ref() == Some(&volume.id));
            if known || open.iter().any(|operation| explains_volume(operation, &volume)) {
                continue;
            }
            orphans.volumes.extend(deps.backend.describe_volume(&volume.id).await?);
        }
        Ok(orphans)
    }

    pub(super) async fn adopt_orphans(&self) -> Result<Adopted> {
        let orphans = self.find_orphans().await?;
        let mut adopted = Adopted::default();
        for machine in &orphans.machines {
            adopted.engines.push(self.adopt_machine(machine).await?);
        }
        let mut volumes = orphans.volumes;
        // Of several volumes of one user the one in use is the studio.
        volumes.sort_by_key(|volume| volume.attachment.is_none());
        for volume in volumes {
            match self.adopt_volume(&volume).await? {
                Some(studio) => adopted.studios.push(studio),
                None => adopted.left.push(volume),
            }
        }
        Ok(adopted)
    }

    async fn adopt_machine(&self, machine: &Machine) -> Result<Engine> {
        let mut engine = Engine {
            name: machine.engine.clone(),
            environment: machine.environment.clone(),
            user: machine.user.clone(),
            engine_type: machine.engine_type.clone(),
            machine: Some(machine.id.clone()),
            boot_disk_gb: machine.boot_disk_gb,
            state: state_of(machine),
            created_at: machine.launched_at,
            bootstrap: bootstrap_of(machine),
            idle: None,
            policy: self.policy_of(machine).await,
            operation: None,
            problems: Vec::new(),
        };
        match self.deps.store.insert(&engine).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            stored => return stored.map(|_| engine),
        }
        engine.name = other_name(machine)?;
        self.deps.store.insert(&engine).await.map(|_| engine)
    }

    /// The policy that the agent follows; where none answers, the one that new engines get.
    async fn policy_of(&self, machine: &Machine) -> IdlePolicy {
        let asked = match machine.state {
            MachineState::Running => {
                agent_call::call(&self.deps, &machine.id, &["policy"], Vec::new()).await.map_err(|error| {
                    tracing::warn!(machine = %machine.id, error = %error.full_message(), "no policy is told");
                })
            }
            _ => Err(()),
        };
        asked.unwrap_or_else(|()| self.deps.settings.policy.clone())
    }

    /// Makes the studio of a volume, unless its user has one.
    async fn adopt_volume(&self, volume: &Volume) -> Result<Option<Studio>> {
        let deps = &self.deps;
        if find_studio(&*deps.store, &volume.environment, &volume.user).await?.is_some() {
            return Ok(None);
        }
        let mut studio = Studio {
            user: volume.user.clone(),
            environment: volume.environment.clone(),
            volume: Some(volume.id.clone()),
            size_gb: volume.size_gb,
            status: StudioStatus::Available,
            created_at: deps.clock.now(),
            attachment: None,
            // The next attach must not be older than the last one.
            epoch: volume.epoch,
            operation: None,
            caveat: volume.caveat.clone(),
        };
        if let Some(held) = &volume.attachment {
            let machine = deps.backend.describe_machine(&held.machine).await?;
            let known = deps.store.load_by_alias::<Engine>(&volume.environment, held.machine.as_str()).await?;
            let engine = known.map(|found| found.value.name).or(machine.as_ref().map(|machine| machine.engine.clone()));
            match engine {
                Some(engine) => {
                    let device = Some(held.device);
                    studio.attachment =
                        Some(StudioAttachment { engine, machine: held.machine.clone(), device, mount_point: None });
                    studio.status = StudioStatus::Error;
                    if held.state == AttachmentState::Attached {
                        self.settle_attached(&mut studio, volume, machine.as_ref()).await;
                    }
                }
                // Its machine is gone.
                None => deps.backend.detach_volume(&volume.id, &held.machine).await?,
            }
        }
        match deps.store.insert(&studio).await {
            Ok(_) => Ok(Some(studio)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the agent say where the studio is mounted, by asking it for what should be so already. A studio of which that
    /// cannot be told is stuck, which `dh studio reset` mends.
    async fn settle_attached(&self, studio: &mut Studio, volume: &Volume, machine: Option<&Machine>) {
        let Some(at) = &mut studio.attachment else { return };
        match machine.map(|machine| machine.state) {
            Some(MachineState::Running) => {
                let (epoch, size) = (volume.epoch.to_string(), volume.size_gb.get().to_string());
                let device = at.device.map(|device| device.to_string()).unwrap_or_default();
                let args = ["mount", "--volume", volume.id.as_str(), "--epoch", &epoch, "--user", volume.user.as_str()];
                let args = [args.as_slice(), &["--size-gb", &size, "--device", &device]].concat();
                match agent_call::call::<MountReply>(&self.deps, &at.machine, &args, Vec::new()).await {
                    Ok(reply) => {
                        at.mount_point = Some(reply.mount_point);
                        studio.status = StudioStatus::Attached;
                    }
                    Err(error) => {
                        tracing::warn!(volume = %volume.id, error = %error.full_message(), "its mount is not told");
                    }
                }
            }
            Some(_) => studio.status = StudioStatus::Attached,
            None => {}
        }
    }
}

/// Whether a launch under way has made a machine that its record does not name yet. One that is older than the launch
/// only has the same name; a backend may count launches in whole seconds.
fn explains_machine(operation: &Operation, machine: &Machine) -> bool {
    matches!(&operation.spec, OperationSpec::Launch { engine, .. } if *engine == machine.engine)
        && machine.launched_at.as_second() >= operation.created_at.as_second()
}

/// The same for a studio; volumes do not tell their age.
fn explains_volume(operation: &Operation, volume: &Volume) -> bool {
    matches!(&operation.spec, OperationSpec::CreateStudio { user, .. } if *user == volume.user)
}

fn state_of(machine: &Machine) -> EngineState {
    match machine.state {
        MachineState::Pending => EngineState::Launching,
        MachineState::Running => EngineState::Running,
        MachineState::Stopping => EngineState::Stopping,
        MachineState::Stopped => EngineState::Stopped,
        MachineState::Hibernated => EngineState::Hibernated,
        MachineState::Terminating | MachineState::Terminated => EngineState::Terminating,
    }
}

/// A machine that runs, or has run, is taken for ready; its agent reports what is otherwise.
fn bootstrap_of(machine: &Machine) -> Bootstrap {
    if machine.state == MachineState::Pending {
        return Bootstrap::default();
    }
    let ready = Stage {
        name: StageName::Ready,
        status: StageStatus::Completed,
        started_at: machine.launched_at,
        duration: None,
        note: Some("taken for ready: the record of its launch was lost".into()),
        error: None,
        log_tail: Vec::new(),
    };
    Bootstrap { stages: vec![ready] }
}

/// The name of a machine whose own is taken: with the end of its id.
fn other_name(machine: &Machine) -> Result<EngineName> {
    let id = machine.id.as_str();
    let end = id.get(id.len().saturating_sub(4)..).unwrap_or(id);
    let mut stem = machine.engine.as_str();
    loop {
        match EngineName::new(format!("{stem}-{end}")) {
            Ok(name) => return Ok(name),
            // Too long: all of a name's characters are of one byte.
            Err(error) if stem.len() <= 1 => {
                return Err(Error::new(ErrorKind::Internal, "no name can be made").with_source(error));
            }
            Err(_) => stem = &stem[..stem.len() - 1],
        }
    }
}
