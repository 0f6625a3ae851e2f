//! `dh engine …`.

mod access;
mod idle;
mod launch;
mod power;
mod resize;
mod session;
mod show;

use dh_core::domain::EngineView;

pub use access::{after_change as update_ssh_config, is_without_ssh, ssh_command};

use crate::cli::EngineCommand;
use crate::context::Context;
use crate::failure::Failure;
use crate::terminal::confirm;

/// The environment in which nothing is asked for safety's sake alone.
const PLAYGROUND: &str = "dev";

/// Runs a command about engines.
pub async fn run(context: &Context, command: &EngineCommand) -> Result<(), Failure> {
    match command {
        EngineCommand::Launch(args) => launch::launch(context, args).await,
        EngineCommand::Start(args) => power::start(context, args).await,
        EngineCommand::Stop(args) => power::stop(context, args).await,
        EngineCommand::Terminate(args) => power::terminate(context, args).await,
        EngineCommand::Status(args) => show::status(context, args).await,
        EngineCommand::List => show::list(context).await,
        EngineCommand::ConfigSsh(args) => access::config_ssh(context, args).await,
        EngineCommand::Coffee(args) => idle::coffee(context, args).await,
        EngineCommand::Idle(args) => idle::idle(context, args).await,
        EngineCommand::Resize(args) => resize::resize(context, args).await,
        EngineCommand::Debug(args) => show::debug(context, args).await,
        EngineCommand::Exec(args) => session::exec(context, args).await,
        EngineCommand::Shell(args) => session::shell(context, args).await,
        EngineCommand::Why(args) => show::why(context, args).await,
        EngineCommand::Logs(args) => show::logs(context, args).await,
    }
}

/// Asks before an engine is changed outside `dev`.
fn confirm_outside_dev(context: &Context, yes: bool, verb: &str, name: &str) -> Result<(), Failure> {
    let environment = context.environment();
    if yes || environment.as_str() == PLAYGROUND {
        return Ok(());
    }
    let question = format!("{verb} engine '{name}' in environment '{environment}'?");
    confirm(&context.screen, &*context.terminal, &question, "-y")
}

/// Offers to detach the studios that are in the way. Returns whether there are any, and they shall be detached.
fn confirm_detaching(context: &Context, view: &EngineView, yes: bool, option: &str) -> Result<bool, Failure> {
    if view.studios.is_empty() || yes {
        return Ok(!view.studios.is_empty());
    }
    let question = format!("Engine '{}' has {} attached.\nDetach first?", view.engine.name, studios_on(view));
    confirm(&context.screen, &*context.terminal, &question, option).map(|()| true)
}

/// Tells that studios were detached: only once they are, for the command may have been refused.
fn tell_detached(context: &Context, view: &EngineView, detached: bool) {
    if detached {
        context.screen.say(&format!("Detached {} from engine '{}' first", studios_on(view), view.engine.name));
    }
}

fn studios_on(view: &EngineView) -> String {
    let users: Vec<&str> = view.studios.iter().map(|user| user.as_str()).collect();
    let what = if users.len() == 1 { "the studio" } else { "the studios" };
    format!("{what} of {}", users.join(", "))
}
