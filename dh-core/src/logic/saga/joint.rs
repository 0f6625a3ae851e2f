//! What attaching, detaching and resetting share: a volume joined to a machine, and a studio mounted there.

use std::time::Duration;

use super::{StepContext, agent_call, reserve};
use crate::domain::{
    AttachmentState, Error, ErrorKind, MachineId, Result, Retry, Studio, StudioAttachment, StudioStatus, UserName,
    VolumeId,
};
use crate::logic::pace::Pace;
use crate::wire::MountReply;

/// A volume that is still attaching or detaching after this long is stuck. AWS's EBS CSI driver gives up after as long.
const ATTACH_DEADLINE: Duration = Duration::from_secs(90);

/// The owner of the studio that the operation is about.
pub(super) fn user<'a>(cx: &'a StepContext<'_>) -> &'a UserName {
    cx.operation.spec.studio().expect("operations on studios name their user")
}

/// Makes a studio available.
pub(super) fn as_available(studio: &mut Studio) {
    studio.status = StudioStatus::Available;
    studio.attachment = None;
    studio.operation = None;
}

/// Waits until a volume is attached to a machine.
pub(super) async fn for_joined(cx: &StepContext<'_>, machine: &MachineId, volume: &VolumeId) -> Result<()> {
    let mut pace = Pace::new();
    loop {
        let joined = cx.deps.backend.describe_volume(volume).await?.and_then(|volume| volume.attachment);
        if joined.is_some_and(|joined| joined.machine == *machine && joined.state == AttachmentState::Attached) {
            return Ok(());
        }
        if pace.over(cx.deps, ATTACH_DEADLINE).await {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("volume {volume} was not attached to {machine} after {} s", ATTACH_DEADLINE.as_secs()),
            )
            .with_retry(Retry::Exhausted)
            .with_hint("it is detached again; try once more with: dh studio attach NAME"));
        }
    }
}

/// Detaches a volume from a machine and waits until it is.
pub(super) async fn part(cx: &StepContext<'_>, machine: &MachineId, volume: &VolumeId) -> Result<()> {
    cx.deps.backend.detach_volume(volume, machine).await?;
    let mut pace = Pace::new();
    loop {
        let joined = cx.deps.backend.describe_volume(volume).await?.and_then(|volume| volume.attachment);
        if joined.is_none_or(|attachment| attachment.machine != *machine) {
            return Ok(());
        }
        if pace.over(cx.deps, ATTACH_DEADLINE).await {
            return Err(Error::new(ErrorKind::Timeout, format!("volume {volume} is still in use on {machine}"))
                .with_retry(Retry::Exhausted)
                .with_hint("end what uses the studio's files, then run: dh studio detach"));
        }
    }
}

/// Has the engine's agent mount a studio.
pub(super) async fn mount(
    cx: &StepContext<'_>,
    attachment: &StudioAttachment,
    volume: &VolumeId,
    epoch: u64,
) -> Result<MountReply> {
    let studio = reserve::load_studio(cx, user(cx)).await?.value;
    let (epoch, size) = (epoch.to_string(), studio.size_gb.get().to_string());
    let device = attachment.device.map(|device| device.to_string()).unwrap_or_default();
    let args = [
        "mount",
        "--volume",
        volume.as_str(),
        "--epoch",
        &epoch,
        "--user",
        user(cx).as_str(),
        "--size-gb",
        &size,
        "--device",
        &device,
    ];
    agent_call::call(cx.deps, &attachment.machine, &args, Vec::new()).await
}

/// Unmounts a studio from a running machine.
pub(super) async fn unmount(cx: &StepContext<'_>, machine: &MachineId, volume: &VolumeId) -> Result<()> {
    let args = ["unmount", "--volume", volume.as_str(), "--user", user(cx).as_str()];
    agent_call::call::<MountReply>(cx.deps, machine, &args, Vec::new()).await.map(drop)
}
