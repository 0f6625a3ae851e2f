//! `dh engine start|stop|terminate`.

use dh_core::domain::{EngineView, OperationSpec, StopMode};
use dh_core::ports::SubmitOptions;

use super::{access, confirm_detaching, confirm_outside_dev, tell_detached};
use crate::cli::{Start, Stop, Terminate};
use crate::context::Context;
use crate::failure::Failure;
use crate::operate;
use crate::progress::{Detail, Progress, show_of};
use crate::terminal::confirm;

pub async fn start(context: &Context, args: &Start) -> Result<(), Failure> {
    let view = context.control.engine(&args.one.engine).await?;
    let name = &view.engine.name;
    confirm_outside_dev(context, args.yes, "Start", name.as_str())?;
    context.screen.say(&format!("Starting engine '{name}'..."));
    let spec = OperationSpec::Start { engine: name.clone() };
    let operation = operate::submit(context, spec, SubmitOptions::default()).await?;
    context.screen.result(&format!("✓ Engine '{name}' is starting"))?;
    if args.no_wait {
        operate::hand_over(context, &operation.id).await?;
        return operate::document(context, &operation).await;
    }
    let progress = Progress::new(&context.screen, show_of(&operation.spec), Detail::Brief);
    progress.open();
    let operation = operate::run(context, &operation, &progress).await?;
    context.screen.result("✓ Engine ready!")?;
    if !args.skip_ssh_config && view.engine.user == *context.control.user() {
        access::after_change(context).await?;
    }
    operate::document(context, &operation).await
}

pub async fn stop(context: &Context, args: &Stop) -> Result<(), Failure> {
    let view = context.control.engine(&args.one.engine).await?;
    let name = &view.engine.name;
    let (mode, verb, doing, done) = if args.hibernate {
        (StopMode::Hibernate, "Hibernate", "hibernating", "hibernated")
    } else {
        (StopMode::Stop, "Stop", "stopping", "stopped")
    };
    confirm_outside_dev(context, args.yes, verb, name.as_str())?;
    let detach_studios = confirm_detaching(context, &view, args.yes, "-y")?;
    let heading = if args.hibernate { "Hibernating" } else { "Stopping" };
    context.screen.say(&format!("{heading} engine '{name}'..."));
    let spec = OperationSpec::Stop { engine: name.clone(), mode };
    carry_out(context, &view, spec, detach_studios, doing, done).await
}

pub async fn terminate(context: &Context, args: &Terminate) -> Result<(), Failure> {
    let view = context.control.engine(&args.one.engine).await?;
    let name = &view.engine.name;
    if !args.yes {
        let id = view.engine.machine.as_ref().map_or_else(|| "no instance".to_owned(), ToString::to_string);
        confirm(&context.screen, &*context.terminal, &format!("Terminate engine '{name}' ({id})?"), "-y")?;
    }
    let detach_studios = confirm_detaching(context, &view, args.yes, "-y")?;
    let spec = OperationSpec::Terminate { engine: name.clone() };
    carry_out(context, &view, spec, detach_studios, "terminating", "terminated").await
}

async fn carry_out(
    context: &Context,
    view: &EngineView,
    spec: OperationSpec,
    detach_studios: bool,
    doing: &str,
    done: &str,
) -> Result<(), Failure> {
    let name = &view.engine.name;
    let operation = operate::submit(context, spec, SubmitOptions { detach_studios }).await?;
    tell_detached(context, view, detach_studios);
    context.screen.result(&format!("✓ Engine '{name}' is {doing}"))?;
    let operation = operate::finish(context, &operation).await?;
    context.screen.result(&format!("✓ Engine '{name}' is {done}"))?;
    operate::document(context, &operation).await
}
