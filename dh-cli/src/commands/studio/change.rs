//! `dh studio create|delete|resize|reset`.

use dh_core::domain::{Error, OperationSpec, SizeGb, Studio};
use dh_core::logic::may_change_studio;
use dh_core::ports::SubmitOptions;

use super::address;
use crate::cli::{CreateStudio, DeleteStudio, ResetStudio, ResizeStudio};
use crate::context::Context;
use crate::failure::Failure;
use crate::operate;
use crate::terminal::confirm;

/// The size of a studio when neither the command nor the configuration says.
const USUAL_SIZE_GB: i64 = 100;

fn id(studio: &Studio) -> String {
    studio.volume.as_ref().map_or_else(|| format!("of {}", studio.user), ToString::to_string)
}

pub async fn create(context: &Context, args: &CreateStudio) -> Result<(), Failure> {
    let user = context.user_or_caller(args.user.as_ref());
    let size_gb = match args.size.or(context.place.defaults.studio_gb) {
        Some(size) => size,
        None => SizeGb::new(USUAL_SIZE_GB)?,
    };
    context.screen.say(&format!("Creating {size_gb} studio for {user}..."));
    let spec = OperationSpec::CreateStudio { user: user.clone(), size_gb };
    let submitted = operate::submit(context, spec, SubmitOptions::default()).await;
    let operation = submitted.map_err(|failure| match failure {
        Failure::Error(error) => address(context, &user, error).into(),
        other => other,
    })?;
    let operation = operate::finish(context, &operation).await?;
    let studio = context.studio_of(&user).await?;
    context.screen.result(&format!(
        "✓ Studio created: {}\n\nAttach to an engine with:\n  dh studio attach <engine-name>",
        id(&studio)
    ))?;
    if let Some(caveat) = &studio.caveat {
        context.screen.say(&format!("\nNote: {caveat}"));
    }
    operate::document(context, &operation).await
}

pub async fn delete(context: &Context, args: &DeleteStudio) -> Result<(), Failure> {
    let user = context.user_or_caller(args.user.as_ref());
    let studio = context.studio_of(&user).await?;
    let spec = OperationSpec::DeleteStudio { user };
    check_first(&spec, &studio)?;
    let id = id(&studio);
    if !args.yes {
        let paint = context.screen.talk_paint();
        let warning = paint.red(&format!("⚠ WARNING: This will permanently delete all data in {id}"));
        confirm(&context.screen, &*context.terminal, &format!("{warning}\nAre you sure?"), "-y")?;
    }
    let operation = operate::submit(context, spec, SubmitOptions::default()).await?;
    let operation = operate::finish(context, &operation).await?;
    context.screen.result(&format!("✓ Studio {id} deleted"))?;
    operate::document(context, &operation).await
}

pub async fn resize(context: &Context, args: &ResizeStudio) -> Result<(), Failure> {
    let user = context.user_or_caller(args.user.as_ref());
    let studio = context.studio_of(&user).await?;
    let (old, new) = (studio.size_gb, args.size);
    let spec = OperationSpec::ResizeStudio { user, size_gb: new };
    check_first(&spec, &studio)?;
    if !args.yes {
        confirm(&context.screen, &*context.terminal, &format!("Resize studio from {old} to {new}?"), "-y")?;
    }
    let operation = operate::submit(context, spec, SubmitOptions::default()).await?;
    context.screen.result(&format!("✓ Studio resize initiated: {old} → {new}"))?;
    let operation = operate::finish(context, &operation).await?;
    context.screen.result(&format!("✓ Studio has {new}; its filesystem expands on the next attach"))?;
    operate::document(context, &operation).await
}

pub async fn reset(context: &Context, args: &ResetStudio) -> Result<(), Failure> {
    let user = context.user_or_caller(args.user.as_ref());
    let studio = context.studio_of(&user).await?;
    context.screen.say(&format!("Studio: {}\nCurrent Status: {}\n", id(&studio), studio.status));
    if !args.yes {
        confirm(&context.screen, &*context.terminal, "Reset studio status to 'available'?", "-y")?;
    }
    let operation = operate::submit(context, OperationSpec::ResetStudio { user }, SubmitOptions::default()).await?;
    let operation = operate::finish(context, &operation).await?;
    context.screen.result("✓ Studio reset to 'available' status\n  Note: Manual cleanup may be required on engines")?;
    operate::document(context, &operation).await
}

/// Refuses before anything is asked: a question whose yes is then refused is none. Where an operation holds the studio, it
/// may yet change what is refused here.
fn check_first(spec: &OperationSpec, studio: &Studio) -> Result<(), Error> {
    if studio.operation.is_some() { Ok(()) } else { may_change_studio(spec, studio) }
}
