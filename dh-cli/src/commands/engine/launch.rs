//! `dh engine launch`.

use std::sync::Arc;
use std::time::Duration;

use dh_core::domain::{Error, ErrorKind, Operation, OperationSpec};
use dh_core::ports::SubmitOptions;

use super::{access, confirm_outside_dev};
use crate::cli::Launch;
use crate::context::Context;
use crate::failure::Failure;
use crate::operate;
use crate::progress::{Detail, Progress, show_of};

/// How long the process that goes on with a launch may take to begin, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub async fn launch(context: &Context, args: &Launch) -> Result<(), Failure> {
    let name = &args.name;
    let spec = spec(context, args)?;
    confirm_outside_dev(context, args.yes, "Launch", name.as_str())?;
    let engine_type = match &spec {
        OperationSpec::Launch { engine_type, .. } => engine_type.as_str(),
        _ => "",
    };
    let operation = operate::submit(context, spec.clone(), SubmitOptions::default()).await?;
    context.screen.say(&format!("🚀 Launching {engine_type} engine '{name}'..."));
    if args.no_wait {
        operate::hand_over(context, &operation.id).await?;
        reserved(context, &operation).await;
        context.screen.result(&format!(
            "✓ Engine '{name}' is launching ({id})\n\nSee how far it is with:\n  dh engine status {name}\n  dh ops show {id}",
            id = operation.id
        ))?;
        return operate::document(context, &operation).await;
    }
    let operation = wait(context, &operation).await?;
    context.screen.result("\n✓ Engine ready!")?;
    // Somebody else's engine is not among the entries that are kept by themselves.
    let ours = context.user_or_caller(args.user.as_ref()) == *context.control.user();
    let updated = ours && !args.skip_ssh_config && access::after_change(context).await?;
    let without_ssh =
        context.control.engine(name.as_str()).await.is_ok_and(|view| access::is_without_ssh(&view.engine));
    let ssh = access::ssh_command(context, name.as_str());
    let connect = match (updated, ours) {
        _ if without_ssh => format!("  dh engine shell {name}"),
        (true, _) => format!("  {ssh}"),
        (false, ours) => {
            // The two comments stand one below the other.
            let command = if ours { "dh engine config-ssh" } else { "dh engine config-ssh --all" };
            let width = command.len().max(ssh.len());
            format!("  {command:width$}  # Add to SSH config\n  {ssh:width$}  # Then use native SSH")
        }
    };
    context.screen.result(&format!("\nConnect with:\n{connect}"))?;
    operate::document(context, &operation).await
}

/// Waits until the engine is known by its name, so that the commands that are named next find it. It is none of the
/// launch's matter if that takes long: the operation tells how it went.
async fn reserved(context: &Context, operation: &Operation) {
    let known = async {
        let name = operation.spec.engine().map(|name| name.as_str()).unwrap_or_default();
        while context.control.engine(name).await.is_err() {
            match context.control.operation(&operation.id).await {
                Ok(now) if now.status.is_open() => tokio::time::sleep(LOOK_AGAIN).await,
                _ => break,
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, known).await;
}

fn spec(context: &Context, args: &Launch) -> Result<OperationSpec, Error> {
    let defaults = &context.place.defaults;
    let Some(engine_type) = args.engine_type.clone().or_else(|| defaults.engine_type.clone()) else {
        let known: Vec<&str> = context.control.capabilities().engine_types.keys().map(String::as_str).collect();
        return Err(Error::new(ErrorKind::InvalidArgument, "no engine type is given")
            .with_hint(format!("add --type with one of: {}", known.join(", "))));
    };
    let mut policy = defaults.idle_policy();
    if let Some(timeout) = args.idle_timeout {
        policy.idle_timeout = timeout;
    }
    Ok(OperationSpec::Launch {
        engine: args.name.clone(),
        user: context.user_or_caller(args.user.as_ref()),
        engine_type,
        boot_disk_gb: args.size.or(defaults.boot_disk_gb),
        policy,
    })
}

/// Runs the launch. Its machine is told as soon as there is one, above the bar.
async fn wait(context: &Context, operation: &Operation) -> Result<Operation, Failure> {
    let progress = Progress::new(&context.screen, show_of(&operation.spec), Detail::Full);
    let run = operate::run(context, operation, &progress);
    tokio::pin!(run);
    let ended = tokio::select! {
        biased;
        ended = &mut run => Some(ended),
        () = announce(context, operation, &progress) => None,
    };
    match ended {
        Some(ended) => {
            if ended.is_ok() && !progress.is_open() {
                announce_machine(context, operation, &progress).await;
            }
            progress.close();
            ended
        }
        None => run.await,
    }
}

/// Waits until there is a machine, tells it, and opens the progress below.
async fn announce(context: &Context, operation: &Operation, progress: &Arc<Progress>) {
    loop {
        progress.changed().await;
        if announce_machine(context, operation, progress).await {
            return;
        }
    }
}

async fn announce_machine(context: &Context, operation: &Operation, progress: &Progress) -> bool {
    let Some(name) = operation.spec.engine() else { return true };
    let Ok(view) = context.control.engine(name.as_str()).await else { return false };
    let Some(machine) = view.engine.machine else { return false };
    let what = if context.place.backend == "aws" { "EC2 instance" } else { "Machine" };
    let usual = context.control.capabilities().usual_launch;
    context
        .screen
        .say(&format!("✓ {what} launched: {machine}\n\n⏳ Waiting for engine to be ready (typically {usual})...\n"));
    progress.open_below(machine.as_str());
    true
}
