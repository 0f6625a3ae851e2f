//! Creating, growing, deleting and resetting studios.

use async_trait::async_trait;
use serde_json::json;

use super::joint::{self, user};
use super::{Output, Step, StepContext, detach, reserve};
use crate::domain::{
    Effect, ErrorKind, IdempotencyKey, OperationSpec, Result, SizeGb, Studio, StudioStatus, Volume, VolumeId,
};
use crate::logic::rules;
use crate::ports::{CreateVolume, StateStoreExt, find_studio};

pub(super) const CREATE: &[&dyn Step] = &[&ReserveUser, &Create, &FinishCreate];
pub(super) const RESIZE: &[&dyn Step] = &[&ReserveResize, &Grow, &FinishResize];
pub(super) const DELETE: &[&dyn Step] = &[&ReserveDelete, &Delete, &Forget];
pub(super) const RESET: &[&dyn Step] = &[&TakeOver, &detach::Unmount, &detach::DetachVolume, &FinishReset];

fn size(cx: &StepContext<'_>) -> SizeGb {
    match &cx.operation.spec {
        OperationSpec::CreateStudio { size_gb, .. } | OperationSpec::ResizeStudio { size_gb, .. } => *size_gb,
        other => unreachable!("{} has no size", other.kind()),
    }
}

/// Lets go of the studio in a status.
async fn release(cx: &StepContext<'_>, status: StudioStatus) -> Result<()> {
    reserve::change_studio(cx, user(cx), |studio| {
        studio.status = status;
        studio.operation = None;
    })
    .await
}

struct ReserveUser;

#[async_trait]
impl Step for ReserveUser {
    fn name(&self) -> &'static str {
        "reserve_user"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let studio = Studio {
            user: user(cx).clone(),
            environment: cx.deps.environment().clone(),
            volume: None,
            size_gb: size(cx),
            status: StudioStatus::Creating,
            created_at: cx.operation.created_at,
            attachment: None,
            epoch: 0,
            operation: Some(cx.operation.id.clone()),
            caveat: None,
        };
        match cx.deps.store.insert(&studio).await {
            Ok(_) => Ok(Output::Null),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                match find_studio(&*cx.deps.store, cx.deps.environment(), user(cx)).await? {
                    Some(found) if found.value.operation.as_ref() == Some(&cx.operation.id) => Ok(Output::Null),
                    Some(found) => Err(rules::studio_exists(&found.value)),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        forget(cx).await
    }
}

/// Removes the record of a studio that this operation has.
async fn forget(cx: &StepContext<'_>) -> Result<()> {
    loop {
        let Some(found) = find_studio(&*cx.deps.store, cx.deps.environment(), user(cx)).await? else { return Ok(()) };
        if found.value.operation.as_ref() != Some(&cx.operation.id) {
            return Ok(());
        }
        match cx.deps.store.remove(&found.value, found.version).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return other,
        }
    }
}

struct Create;

impl Create {
    fn request(&self, cx: &StepContext<'_>) -> CreateVolume {
        CreateVolume {
            key: IdempotencyKey::for_step(&cx.operation.id, self.name()),
            user: user(cx).clone(),
            environment: cx.deps.environment().clone(),
            size_gb: size(cx),
        }
    }
}

#[async_trait]
impl Step for Create {
    fn name(&self) -> &'static str {
        "create_volume"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let volume = cx.deps.backend.create_volume(self.request(cx)).await?;
        Ok(json!({ "volume": volume.id, "caveat": volume.caveat }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        let known: Option<VolumeId> = cx.output(self.name(), "volume");
        let id = match known {
            Some(id) => id,
            // The answer may have been lost. The key leads to the volume it made; if it made none, to one that is deleted at once.
            None => match cx.deps.backend.create_volume(self.request(cx)).await {
                Ok(volume) => volume.id,
                Err(error) if error.effect() == Effect::None && error.retry() == crate::domain::Retry::Never => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        cx.deps.backend.delete_volume(&id).await
    }
}

struct FinishCreate;

#[async_trait]
impl Step for FinishCreate {
    fn name(&self) -> &'static str {
        "update_state"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let volume: VolumeId = cx.required(Create.name(), "volume")?;
        let caveat: Option<String> = cx.output(Create.name(), "caveat");
        reserve::change_studio(cx, user(cx), |studio| {
            studio.volume = Some(volume.clone());
            studio.caveat = caveat.clone();
            studio.status = StudioStatus::Available;
            studio.operation = None;
        })
        .await?;
        Ok(Output::Null)
    }
}

/// Returns the volume that the studio's record names, if it exists. An undo asks the record, because the output of a step
/// that was cut off is lost.
async fn recorded_volume(cx: &StepContext<'_>) -> Result<Option<Volume>> {
    let found = find_studio(&*cx.deps.store, cx.deps.environment(), user(cx)).await?;
    match found.and_then(|found| found.value.volume) {
        Some(id) => cx.deps.backend.describe_volume(&id).await,
        None => Ok(None),
    }
}

struct ReserveResize;

#[async_trait]
impl Step for ReserveResize {
    fn name(&self) -> &'static str {
        "reserve_studio"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let spec = &cx.operation.spec;
        let studio = reserve::studio(cx, user(cx), |studio| {
            rules::may_change_studio(spec, studio)?;
            studio.status = StudioStatus::Resizing;
            Ok(())
        })
        .await?;
        Ok(json!({ "volume": studio.volume }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        // A volume that has grown stays grown: the record follows it.
        let volume = recorded_volume(cx).await?;
        reserve::change_studio(cx, user(cx), |studio| {
            if let Some(volume) = &volume {
                studio.size_gb = volume.size_gb;
            }
            studio.status = StudioStatus::Available;
            studio.operation = None;
        })
        .await
    }
}

struct Grow;

#[async_trait]
impl Step for Grow {
    fn name(&self) -> &'static str {
        "grow_volume"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let volume: VolumeId = cx.required(ReserveResize.name(), "volume")?;
        cx.deps.backend.grow_volume(&volume, size(cx)).await?;
        Ok(Output::Null)
    }
}

struct FinishResize;

#[async_trait]
impl Step for FinishResize {
    fn name(&self) -> &'static str {
        "update_state"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let size_gb = size(cx);
        reserve::change_studio(cx, user(cx), |studio| {
            studio.size_gb = size_gb;
            studio.status = StudioStatus::Available;
            studio.operation = None;
        })
        .await?;
        Ok(Output::Null)
    }
}

struct ReserveDelete;

#[async_trait]
impl Step for ReserveDelete {
    fn name(&self) -> &'static str {
        "reserve_studio"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let spec = &cx.operation.spec;
        let studio = reserve::studio(cx, user(cx), |studio| {
            rules::may_change_studio(spec, studio)?;
            studio.status = StudioStatus::Deleting;
            Ok(())
        })
        .await?;
        Ok(json!({ "volume": studio.volume }))
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        match recorded_volume(cx).await? {
            Some(_) => release(cx, StudioStatus::Available).await,
            // The data are gone already: there is nothing to go back to.
            None => forget(cx).await,
        }
    }
}

struct Delete;

#[async_trait]
impl Step for Delete {
    fn name(&self) -> &'static str {
        "delete_volume"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let id: Option<VolumeId> = cx.output(ReserveDelete.name(), "volume");
        if let Some(id) = id {
            cx.deps.backend.delete_volume(&id).await?;
        }
        Ok(Output::Null)
    }
}

struct Forget;

#[async_trait]
impl Step for Forget {
    fn name(&self) -> &'static str {
        "forget_studio"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        forget(cx).await?;
        Ok(Output::Null)
    }
}

/// Takes a stuck studio from whatever operation left it so.
struct TakeOver;

#[async_trait]
impl Step for TakeOver {
    fn name(&self) -> &'static str {
        "take_over"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let found = reserve::load_studio(cx, user(cx)).await?.value;
        if found.operation.as_ref() != Some(&cx.operation.id) {
            rules::may_change_studio(&cx.operation.spec, &found)?;
            if let Some(other) = rules::holder(cx.deps, found.operation.as_ref()).await? {
                rules::abandon(cx.deps, &other, &cx.operation.id).await?;
            }
        }
        let studio = reserve::studio(cx, user(cx), |studio| {
            // A new epoch: a mount that is still on its way under the old one is refused.
            studio.epoch += 1;
            studio.status = StudioStatus::Detaching;
            Ok(())
        })
        .await?;
        Ok(json!({ "attachment": studio.attachment, "volume": studio.volume }))
    }

    /// Leaves the studio as stuck as it was, to be reset again.
    async fn undo(&self, cx: &StepContext<'_>) -> Result<()> {
        release(cx, StudioStatus::Error).await
    }
}

struct FinishReset;

#[async_trait]
impl Step for FinishReset {
    fn name(&self) -> &'static str {
        "update_state"
    }

    async fn run(&self, cx: &StepContext<'_>) -> Result<Output> {
        let has_volume = reserve::load_studio(cx, user(cx)).await?.value.volume.is_some();
        if !has_volume {
            // Its creation never came to a volume: there is nothing to make available.
            forget(cx).await?;
            return Ok(Output::Null);
        }
        reserve::change_studio(cx, user(cx), joint::as_available).await?;
        Ok(Output::Null)
    }
}
