//! Attaching a studio to an engine, in the seed's six steps.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::json;

use super::joint::{self, user};
use super::{Output, Step, StepContext, reserve, wait};
use crate::domain::{
    DeviceName, EngineName, Error, ErrorKind, MachineId, MachineState, Result, Studio, StudioAttachment, StudioStatus,
    VolumeId,
};
use crate::logic::rules;
use crate::ports::{AttachVolume, StateStoreExt};

pub(super) const STEPS: &[&dyn Step] =
    &[&ValidateEngine, &FindDeviceSlot, &AttachVolumeStep, &ResolveDevice, &MountFilesystem, &UpdateState];

fn engine<'a>(cx: &'a StepContext<'_>) -> &'a EngineName {
    cx.operation.spec.engine().expect("an attach names its engine")
}

fn machine(cx: &StepContext<'_>) -> Result<MachineId> {
    cx.required(ValidateEngine.name(), "machine")
}

fn volume(cx: &StepContext<'_>) -> Result<VolumeId> {
    cx.required(ValidateEngine.name(), "volume")
}

struct ValidateEngine;

#[async_trait]
impl Step for ValidateEngine {
    fn name(&self) -> &'static str {
        "validate_engine"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let found = wait::load(cx.deps, engine(cx)).await?.value;
        let machine = match &found.machine {
            Some(id) => cx.deps.backend.describe_machine(id).await?,
            None => None,
        };
        let machine = rules::may_attach_to(&found, machine)?;
        let studio = reserve::studio(cx, user(cx), |studio| {
            rules::may_change_studio(&cx.operation.spec, studio)?;
            studio.status = StudioStatus::Attaching;
            studio.epoch += 1;
            studio.attachment = Some(StudioAttachment {
                engine: engine(cx).clone(),
                machine: machine.id.clone(),
                device: None,
                mount_point: None,
            });
            Ok(())
        })
        .await?;
        // A stop or terminate takes hold of the engine first and looks at studios then; this side marks the studio first and
        // looks at the engine then. So at least one of the two sees the other.
        let found = wait::load(cx.deps, engine(cx)).await?.value;
        if let Some(other) = rules::holder(cx.deps, found.operation.as_ref()).await? {
            return Err(rules::engine_busy(engine(cx), &other));
        }
        rules::room_for_studio(cx.deps, engine(cx), user(cx)).await?;
        let volume = studio.volume.ok_or_else(|| rules::no_studio(user(cx)))?;
        if let Some(volume) = cx.deps.backend.describe_volume(&volume).await?
            && volume.zone != machine.zone
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the studio lies in zone {} and the engine in {}", volume.zone, machine.zone),
            )
            .with_hint(format!("launch an engine in zone {} and attach there", volume.zone)));
        }
        Ok(json!({ "machine": machine.id, "volume": volume, "epoch": studio.epoch }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        reserve::change_studio(cx, user(cx), joint::as_available).await
    }
}

/// The device names taken on the machine: by the backend's account, and by attaches of others that are on their way.
async fn taken(cx: &StepContext<'_>, id: &MachineId) -> Result<BTreeSet<DeviceName>> {
    let mut taken: BTreeSet<DeviceName> = cx
        .deps
        .backend
        .describe_machine(id)
        .await?
        .map(|machine| machine.attachments.into_keys().collect())
        .unwrap_or_default();
    for other in cx.deps.store.load_all::<Studio>(cx.deps.environment()).await? {
        if other.value.user != *user(cx) {
            let here = other.value.attachment.filter(|attachment| attachment.machine == *id);
            taken.extend(here.and_then(|attachment| attachment.device));
        }
    }
    Ok(taken)
}

async fn choose(cx: &StepContext<'_>, id: &MachineId, bad: &BTreeSet<DeviceName>) -> Result<DeviceName> {
    let taken = taken(cx, id).await?;
    let device = DeviceName::all().find(|name| !taken.contains(name) && !bad.contains(name)).ok_or_else(|| {
        Error::new(
            ErrorKind::QuotaExceeded,
            format!("engine {} has no device name left for another studio", engine(cx)),
        )
        .with_hint("detach a studio from it, or attach to another engine")
    })?;
    reserve::change_studio(cx, user(cx), |studio| {
        if let Some(attachment) = &mut studio.attachment {
            attachment.device = Some(device);
        }
    })
    .await?;
    Ok(device)
}

struct FindDeviceSlot;

#[async_trait]
impl Step for FindDeviceSlot {
    fn name(&self) -> &'static str {
        "find_device_slot"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let device = choose(cx, &machine(cx)?, &BTreeSet::new()).await?;
        Ok(json!({ "device": device }))
    }
}

struct AttachVolumeStep;

#[async_trait]
impl Step for AttachVolumeStep {
    fn name(&self) -> &'static str {
        "attach_volume"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let (machine, volume) = (machine(cx)?, volume(cx)?);
        let joined = cx.deps.backend.describe_volume(&volume).await?.and_then(|volume| volume.attachment);
        // An earlier try may have got this far, perhaps under a name chosen after the first was refused. It is asked for again
        // all the same: what was cut off in the middle is finished so.
        let mut device: DeviceName = match joined.filter(|joined| joined.machine == machine) {
            Some(joined) => joined.device,
            None => cx.required(FindDeviceSlot.name(), "device")?,
        };
        let mut bad = BTreeSet::new();
        loop {
            let request = AttachVolume {
                volume: volume.clone(),
                machine: machine.clone(),
                device,
                epoch: cx.required(ValidateEngine.name(), "epoch")?,
            };
            match cx.deps.backend.attach_volume(request).await {
                Ok(()) => return Ok(json!({ "device": device })),
                Err(error) if error.context().contains(&("reason", "device_in_use".to_owned())) => {
                    // The name is taken though not listed yet.
                    bad.insert(device);
                    device = choose(cx, &machine, &bad).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        match (machine(cx), volume(cx)) {
            (Ok(machine), Ok(volume)) => joint::part(cx, &machine, &volume).await,
            _ => Ok(()),
        }
    }
}

struct ResolveDevice;

#[async_trait]
impl Step for ResolveDevice {
    fn name(&self) -> &'static str {
        "resolve_device"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        joint::for_joined(cx, &machine(cx)?, &volume(cx)?).await?;
        Ok(Output::Null)
    }
}

struct MountFilesystem;

#[async_trait]
impl Step for MountFilesystem {
    fn name(&self) -> &'static str {
        "mount_filesystem"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let attachment = StudioAttachment {
            engine: engine(cx).clone(),
            machine: machine(cx)?,
            device: cx.output(AttachVolumeStep.name(), "device"),
            mount_point: None,
        };
        let reply = joint::mount(cx, &attachment, &volume(cx)?, cx.required(ValidateEngine.name(), "epoch")?).await?;
        Ok(json!({ "mount_point": reply.mount_point }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        let (Ok(machine), Ok(volume)) = (machine(cx), volume(cx)) else { return Ok(()) };
        let described = cx.deps.backend.describe_machine(&machine).await?;
        if described.is_some_and(|machine| machine.state == MachineState::Running) {
            joint::unmount(cx, &machine, &volume).await?;
        }
        Ok(())
    }
}

struct UpdateState;

#[async_trait]
impl Step for UpdateState {
    fn name(&self) -> &'static str {
        "update_state"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let device: DeviceName = cx.required(AttachVolumeStep.name(), "device")?;
        let mount_point: String = cx.required(MountFilesystem.name(), "mount_point")?;
        reserve::change_studio(cx, user(cx), |studio| {
            studio.status = StudioStatus::Attached;
            studio.operation = None;
            if let Some(attachment) = &mut studio.attachment {
                attachment.device = Some(device);
                attachment.mount_point = Some(mount_point.clone());
            }
        })
        .await?;
        Ok(Output::Null)
    }
}
