//! `dh studio …`.

mod attach;
mod change;
mod show;

use dh_core::domain::{Error, UserName};

use crate::cli::StudioCommand;
use crate::context::Context;
use crate::failure::Failure;

/// Runs a command about studios.
pub async fn run(context: &Context, command: &StudioCommand) -> Result<(), Failure> {
    match command {
        StudioCommand::Create(args) => change::create(context, args).await,
        StudioCommand::Delete(args) => change::delete(context, args).await,
        StudioCommand::Status(args) => show::status(context, args).await,
        StudioCommand::List => show::list(context).await,
        StudioCommand::Attach(args) => attach::attach(context, args).await,
        StudioCommand::Detach(args) => attach::detach(context, args).await,
        StudioCommand::Resize(args) => change::resize(context, args).await,
        StudioCommand::Reset(args) => change::reset(context, args).await,
    }
}

/// Says `you` where an error speaks of the caller by name.
fn address(context: &Context, user: &UserName, error: Error) -> Error {
    let name = format!("user '{user}'");
    let rest = (user == context.control.user()).then(|| error.message().strip_prefix(&name)).flatten();
    let message = match rest.and_then(|rest| rest.split_once(" has ")) {
        Some((before, after)) => format!("you{before} have {after}"),
        None => return error,
    };
    let mut addressed = Error::new(error.kind(), message).with_retry(error.retry()).with_effect(error.effect());
    if let Some(hint) = error.hint() {
        addressed = addressed.with_hint(hint.replace(&format!(" --user {user}"), ""));
    }
    addressed
}

impl Context {
    async fn studio_of(&self, user: &UserName) -> Result<dh_core::domain::Studio, Failure> {
        self.control.studio(user).await.map_err(|error| address(self, user, error).into())
    }
}
