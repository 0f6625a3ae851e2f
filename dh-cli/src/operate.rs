//! Runs operations: submit, show progress, stop for Ctrl-C, tell how it ended.

use std::sync::Arc;

use dh_core::domain::{Error, Operation, OperationId, OperationSpec, StageStatus};
use dh_core::ports::{NoProgress, SubmitOptions};
use dh_core::wire::view::{self, Body};

use crate::context::Context;
use crate::failure::Failure;
use crate::progress::{Detail, Earlier, Progress, show_of};
use crate::render;

/// Submits an operation. What earlier processes left in its way is finished first, and told.
pub async fn submit(context: &Context, spec: OperationSpec, options: SubmitOptions) -> Result<Operation, Failure> {
    let operation = context.control.submit(spec, options, Earlier::new(&context.screen)).await?;
    // Only now: whatever was left on the same engine or studio has just been dealt with.
    go_on_with_interrupted(context, Some(&operation.id)).await;
    Ok(operation)
}

/// Runs an operation to its end, shown in brief.
pub async fn finish(context: &Context, operation: &Operation) -> Result<Operation, Failure> {
    let progress = Progress::new(&context.screen, show_of(&operation.spec), Detail::Brief);
    progress.open();
    run(context, operation, &progress).await
}

/// Runs an operation to its end. On Ctrl-C it is paused.
pub async fn run(context: &Context, operation: &Operation, progress: &Arc<Progress>) -> Result<Operation, Failure> {
    let id = &operation.id;
    let result = tokio::select! {
        biased;
        () = context.host.interrupted() => {
            progress.close();
            pause(context, operation).await?;
            // It may have ended at the same moment.
            context.control.run(id, Arc::new(NoProgress)).await
        }
        result = context.control.run(id, progress.clone()) => result,
    };
    progress.close();
    match result {
        Ok(operation) => Ok(operation),
        Err(error) => Err(explain(context, id, error).await),
    }
}

/// Pauses an operation that Ctrl-C interrupted. Succeeds only when there was nothing left to pause.
async fn pause(context: &Context, operation: &Operation) -> Result<(), Failure> {
    tokio::select! {
        biased;
        paused = context.control.pause(&operation.id) => paused?,
        // Somebody who presses it twice does not want to wait.
        () = again(context) => {}
    }
    match context.control.operation(&operation.id).await {
        Ok(now) if !now.status.is_open() => Ok(()),
        _ => Err(Failure::Interrupted(Box::new(operation.clone()))),
    }
}

/// Waits for the second Ctrl-C; the first may still be seen at once.
async fn again(context: &Context) {
    tokio::task::yield_now().await;
    context.host.interrupted().await;
}

/// Hands an operation to a process of its own.
pub async fn hand_over(context: &Context, id: &OperationId) -> Result<(), Failure> {
    // This process holds it since it was submitted, and would for as long as it lives.
    context.control.pause(id).await?;
    context.host.spawn_worker(context.environment(), id)?;
    Ok(())
}

/// Turns the failure of an operation into one that tells at which step or stage it failed.
async fn explain(context: &Context, id: &OperationId, error: Error) -> Failure {
    let Ok(operation) = context.control.operation(id).await else { return error.into() };
    let failed = operation.steps.iter().rev().find(|step| step.status == StageStatus::Failed);
    let mut place = Vec::new();
    let stage = match &operation.spec {
        OperationSpec::Launch { engine, .. } => {
            context.control.engine(engine.as_str()).await.ok().and_then(|view| view.engine.bootstrap.failed().cloned())
        }
        _ => None,
    };
    if let Some(stage) = stage {
        place.push(format!("Failed at stage: {}", stage.name.as_str()));
        place.extend(stage.error.iter().filter(|why| is_news(&error, why)).map(|why| cause(why)));
        place.extend(stage.log_tail.iter().map(|line| format!("  | {}", render::plain(line))));
    } else if let Some(step) = failed {
        place.push(format!("Failed at step: {}", step.name));
        place.extend(
            step.error.iter().map(|stored| &stored.message).filter(|why| is_news(&error, why)).map(|why| cause(why)),
        );
    } else {
        return error.into();
    }
    Failure::Operation { title: render::failed_title(&operation.spec).into(), error, place, id: id.clone() }
}

/// Whether the cause of a failure is told by more than the failure's own message.
fn is_news(error: &Error, cause: &str) -> bool {
    !error.full_message().contains(cause)
}

fn cause(cause: &str) -> String {
    format!("Error: {}", render::plain(cause))
}

/// Starts a process for each operation that was interrupted by the death of its own, and says so.
///
/// Best effort: a list is shown even when this fails, and the next command tries again.
pub async fn go_on_with_interrupted(context: &Context, except: Option<&OperationId>) {
    let Ok(left) = context.control.interrupted().await else { return };
    for operation in left.iter().filter(|operation| Some(&operation.id) != except) {
        let what = render::what(operation);
        match context.host.spawn_worker(context.environment(), &operation.id) {
            Ok(()) => context.screen.say(&format!(
                "{} was interrupted and goes on in the background (dh ops show {})",
                render::sentence(&what),
                operation.id
            )),
            Err(error) => context.screen.say(&render::error(&error, context.screen.talk_paint())),
        }
    }
}

/// Writes an operation and what it was about, for programs.
pub async fn document(context: &Context, operation: &Operation) -> Result<(), Failure> {
    if context.screen.format() == crate::cli::Format::Table {
        return Ok(());
    }
    let engine = match operation.spec.engine() {
        Some(name) => context.control.engine(name.as_str()).await.ok(),
        None => None,
    };
    let studio = match operation.spec.studio() {
        Some(user) => context.control.studio(user).await.ok(),
        None => None,
    };
    context.screen.document(|| Body::Operation {
        operation: Box::new(view::Operation::from(operation)),
        engine: engine.as_ref().map(|engine| Box::new(view::Engine::from(engine))),
        studio: studio.as_ref().map(|studio| Box::new(view::Studio::from(studio))),
    })?;
    Ok(())
}
