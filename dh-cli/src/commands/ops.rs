//! `dh ops …`.

use dh_core::domain::{Error, ErrorKind, OperationStatus};
use dh_core::ports::OperationQuery;
use dh_core::wire::view::{self, Body};

use crate::cli::{ListOps, OneOp, OpsCommand, ResumeOp};
use crate::context::Context;
use crate::failure::Failure;
use crate::progress::{Detail, Progress, show_of};
use crate::{operate, render};

/// Runs a command about operations.
pub async fn run(context: &Context, command: &OpsCommand) -> Result<(), Failure> {
    match command {
        OpsCommand::List(args) => list(context, args).await,
        OpsCommand::Show(args) => show(context, args).await,
        OpsCommand::Resume(args) => resume(context, args).await,
        OpsCommand::Cancel(args) => cancel(context, args).await,
    }
}

async fn list(context: &Context, args: &ListOps) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let query = OperationQuery { open_only: args.open, limit: Some(args.limit) };
    let operations = context.control.operations(query).await?;
    let (screen, environment) = (&context.screen, context.environment().as_str());
    let now = context.host.now();
    screen.result(&render::operation_list(environment, &operations, now, screen.paint(), screen.columns()))?;
    screen.document(|| Body::Operations {
        environment: environment.to_owned(),
        operations: operations.iter().map(view::Operation::from).collect(),
    })?;
    Ok(())
}

async fn show(context: &Context, args: &OneOp) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let operation = context.control.operation(&args.id).await?;
    let screen = &context.screen;
    screen.result(&render::operation(&operation, &context.host.zone(), screen.paint()))?;
    operate::document(context, &operation).await
}

async fn resume(context: &Context, args: &ResumeOp) -> Result<(), Failure> {
    if args.worker {
        crate::host::detach();
    }
    let operation = context.control.operation(&args.one.id).await?;
    if !operation.status.is_open() && !args.quiet {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("{} is over (status: {})", operation.id, operation.status.as_str()),
        )
        .with_hint(format!("see it with: dh ops show {}", operation.id))
        .into());
    }
    let detail = if args.quiet { Detail::Silent } else { Detail::Full };
    let progress = Progress::new(&context.screen, show_of(&operation.spec), detail);
    if !args.quiet {
        context.screen.say(&format!("Going on with {} ({})...\n", render::what(&operation), operation.id));
    }
    progress.open();
    let operation = operate::run(context, &operation, &progress).await?;
    if args.quiet {
        return Ok(());
    }
    context.screen.result(&format!("\n{}", render::ended(&operation, context.screen.paint())))?;
    operate::document(context, &operation).await
}

async fn cancel(context: &Context, args: &OneOp) -> Result<(), Failure> {
    let operation = context.control.operation(&args.id).await?;
    context.screen.say(&format!("Undoing {} ({})...\n", render::what(&operation), operation.id));
    let progress = Progress::new(&context.screen, show_of(&operation.spec), Detail::Full);
    progress.open();
    let cancelled = context.control.cancel(&args.id, progress.clone()).await;
    progress.close();
    let operation = match cancelled {
        Ok(operation) => operation,
        // A cancelled operation's own error is that it was cancelled: here, that is success.
        Err(error) => match context.control.operation(&args.id).await {
            Ok(operation) if operation.status == OperationStatus::Cancelled => operation,
            _ => return Err(error.into()),
        },
    };
    context.screen.result(&format!("\n{}", render::ended(&operation, context.screen.paint())))?;
    operate::document(context, &operation).await
}
