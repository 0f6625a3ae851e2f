//! Detaching a studio from its engine.

use async_trait::async_trait;
use serde_json::json;

use super::joint::{self, user};
use super::{Output, Step, StepContext, reserve};
use crate::domain::{
    Engine, Error, ErrorKind, MachineId, MachineState, OperationSpec, Result, StudioAttachment, StudioStatus, VolumeId,
};
use crate::logic::rules;
use crate::ports::{AttachVolume, StateStoreExt};

pub(super) const STEPS: &[&dyn Step] = &[&Reserve, &Unmount, &DetachVolume, &Finish];

/// Where the studio was attached, as the first step found it.
fn attachment(cx: &StepContext<'_>) -> Option<StudioAttachment> {
    cx.output(Reserve.name(), "attachment").or_else(|| cx.output("take_over", "attachment"))
}

fn volume(cx: &StepContext<'_>) -> Option<VolumeId> {
    cx.output(Reserve.name(), "volume").or_else(|| cx.output("take_over", "volume"))
}

struct Reserve;

#[async_trait]
impl Step for Reserve {
    fn name(&self) -> &'static str {
        "validate_studio"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let spec = &cx.operation.spec;
        let studio = reserve::studio(cx, user(cx), |studio| {
            rules::may_change_studio(spec, studio)?;
            studio.status = StudioStatus::Detaching;
            Ok(())
        })
        .await?;
        Ok(json!({ "attachment": studio.attachment, "volume": studio.volume, "epoch": studio.epoch }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        reserve::change_studio(cx, user(cx), |studio| {
            studio.status = StudioStatus::Attached;
            studio.operation = None;
        })
        .await
    }
}

/// Whether the machine can run commands now.
async fn runs(cx: &StepContext<'_>, machine: &MachineId) -> Result<bool> {
    let Some(machine) = cx.deps.backend.describe_machine(machine).await? else { return Ok(false) };
    match machine.state {
        MachineState::Running => Ok(true),
        MachineState::Hibernated => {
            Err(Error::new(ErrorKind::Conflict, "the engine is hibernated with the studio's files open in its memory")
                .with_hint(format!("start it first: dh engine start {}", machine.engine)))
        }
        _ => Ok(false),
    }
}

pub(super) struct Unmount;

#[async_trait]
impl Step for Unmount {
    fn name(&self) -> &'static str {
        "unmount_filesystem"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let (Some(attachment), Some(volume)) = (attachment(cx), volume(cx)) else { return Ok(Output::Null) };
        if runs(cx, &attachment.machine).await? {
            joint::unmount(cx, &attachment.machine, &volume).await?;
        }
        // That it was not mounted at the engine's start is settled now.
        let settle = |engine: &mut Engine| {
            let before = engine.problems.len();
            engine.problems.retain(|problem| !problem.contains(volume.as_str()));
            Ok(engine.problems.len() != before)
        };
        cx.deps.store.modify(cx.deps.environment(), attachment.engine.as_str(), &settle).await?;
        Ok(Output::Null)
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        // A reset leaves the studio stuck rather than attach it again.
        if !matches!(cx.operation.spec, OperationSpec::Detach { .. }) {
            return Ok(());
        }
        let (Some(attachment), Some(volume)) = (attachment(cx), volume(cx)) else { return Ok(()) };
        if runs(cx, &attachment.machine).await? {
            let epoch: u64 = cx.required(Reserve.name(), "epoch")?;
            joint::mount(cx, &attachment, &volume, epoch).await?;
        }
        Ok(())
    }
}

pub(super) struct DetachVolume;

#[async_trait]
impl Step for DetachVolume {
    fn name(&self) -> &'static str {
        "detach_volume"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let (Some(attachment), Some(volume)) = (attachment(cx), volume(cx)) else { return Ok(Output::Null) };
        joint::part(cx, &attachment.machine, &volume).await?;
        Ok(Output::Null)
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        if !matches!(cx.operation.spec, OperationSpec::Detach { .. }) {
            return Ok(());
        }
        let (Some(attachment), Some(volume)) = (attachment(cx), volume(cx)) else { return Ok(()) };
        let Some(device) = attachment.device else { return Ok(()) };
        let request = AttachVolume {
            volume: volume.clone(),
            machine: attachment.machine.clone(),
            device,
            epoch: cx.required(Reserve.name(), "epoch")?,
        };
        cx.deps.backend.attach_volume(request).await?;
        joint::for_joined(cx, &attachment.machine, &volume).await
    }
}

struct Finish;

#[async_trait]
impl Step for Finish {
    fn name(&self) -> &'static str {
        "update_state"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        reserve::change_studio(cx, user(cx), joint::as_available).await?;
        Ok(Output::Null)
    }
}
