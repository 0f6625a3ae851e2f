//! `dh studio attach|detach`.

use dh_core::domain::OperationSpec;
use dh_core::ports::SubmitOptions;

use super::address;
use crate::cli::{Attach, OneStudio};
use crate::commands::engine::{is_without_ssh, ssh_command, update_ssh_config};
use crate::context::Context;
use crate::failure::Failure;
use crate::operate;
use crate::progress::{Detail, Progress, show_of};

pub async fn attach(context: &Context, args: &Attach) -> Result<(), Failure> {
    let user = context.user_or_caller(args.user.as_ref());
    let view = context.control.engine(&args.engine).await?;
    let name = &view.engine.name;
    context.screen.say(&format!("📎 Attaching studio to {name}...\n"));
    let spec = OperationSpec::Attach { user: user.clone(), engine: name.clone() };
    let submitted = operate::submit(context, spec, SubmitOptions::default()).await;
    let operation = submitted.map_err(|failure| match failure {
        Failure::Error(error) => address(context, &user, error).into(),
        other => other,
    })?;
    context.screen.say("⏳ Attachment in progress...\n");
    let progress = Progress::new(&context.screen, show_of(&operation.spec), Detail::Full);
    progress.open();
    let operation = operate::run(context, &operation, &progress).await?;
    context.screen.result("\n✓ Studio attached successfully!")?;
    let ours = view.engine.user == *context.control.user();
    let updated = ours && !args.skip_ssh_config && update_ssh_config(context).await?;
    let studio = context.studio_of(&user).await?;
    if let Some(path) = studio.attachment.as_ref().and_then(|attachment| attachment.mount_point.as_ref()) {
        context.screen.result(&format!("\nYour files are now available at:\n  {}/", path.trim_end_matches('/')))?;
    }
    let by_ssh = updated && !is_without_ssh(&view.engine);
    let way_in = if by_ssh { ssh_command(context, name.as_str()) } else { format!("dh engine shell {name}") };
    context.screen.result(&format!("\nConnect with:\n  {way_in}"))?;
    operate::document(context, &operation).await
}

pub async fn detach(context: &Context, args: &OneStudio) -> Result<(), Failure> {
    let user = context.user_or_caller(args.user.as_ref());
    let studio = context.studio_of(&user).await?;
    let id = studio.volume.map_or_else(|| format!("of {user}"), |id| id.to_string());
    context.screen.say(&format!("Detaching studio {id}..."));
    let operation = operate::submit(context, OperationSpec::Detach { user }, SubmitOptions::default()).await?;
    let operation = operate::finish(context, &operation).await?;
    context.screen.result("✓ Studio detached")?;
    operate::document(context, &operation).await
}
