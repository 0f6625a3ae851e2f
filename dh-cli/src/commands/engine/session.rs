//! `dh engine exec|shell`: this process becomes the session.

use dh_core::ports::SessionRequest;

use crate::cli::{Exec, OneEngine};
use crate::context::Context;
use crate::failure::Failure;
use crate::operate;

pub async fn exec(context: &Context, args: &Exec) -> Result<(), Failure> {
    enter(context, &args.one.engine, SessionRequest::Exec(args.argv.clone())).await
}

pub async fn shell(context: &Context, args: &OneEngine) -> Result<(), Failure> {
    enter(context, &args.engine, SessionRequest::Shell).await
}

async fn enter(context: &Context, engine: &str, request: SessionRequest) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let program = context.control.session(engine, request).await?;
    Err(context.host.become_program(&program).into())
}
