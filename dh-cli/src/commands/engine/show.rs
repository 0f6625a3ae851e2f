//! `dh engine status|list|debug|why|logs`.

use dh_core::wire::view::{self, Body};

use crate::cli::{Logs, OneEngine, Status};
use crate::context::Context;
use crate::failure::Failure;
use crate::{operate, render};

pub async fn status(context: &Context, args: &Status) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let found = context.control.engine(&args.one.engine).await?;
    let screen = &context.screen;
    screen.result(&render::engine_status(&found, args.detailed, context.host.now(), screen.paint()))?;
    screen.document(|| Body::Engine { engine: Box::new(view::Engine::from(&found)) })?;
    Ok(())
}

pub async fn list(context: &Context) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let engines = context.control.engines().await?;
    let screen = &context.screen;
    screen.result(&render::engine_list(&context.title(), &engines, screen.paint(), screen.columns()))?;
    screen.document(|| Body::Engines {
        environment: context.environment().to_string(),
        engines: engines.iter().map(view::Engine::from).collect(),
    })?;
    if engines.is_empty() {
        screen.say("Launch one with:\n  dh engine launch <name> --type cpu");
    }
    Ok(())
}

pub async fn debug(context: &Context, args: &OneEngine) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let engine = context.control.engine(&args.engine).await?.engine;
    context.screen.result(&render::bootstrap(&engine, context.screen.paint()))?;
    context.screen.document(|| Body::Bootstrap { bootstrap: view::Bootstrap::from(&engine) })?;
    Ok(())
}

pub async fn why(context: &Context, args: &OneEngine) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let name = context.control.engine(&args.engine).await?.engine.name;
    let why = context.control.why(name.as_str()).await?;
    let screen = &context.screen;
    screen.result(&render::explanation(name.as_str(), &why, &context.host.zone(), screen.paint()))?;
    screen.document(|| Body::Explanation {
        explanation: view::Explanation { engine: name.to_string(), summary: why.summary, entries: why.entries },
    })?;
    Ok(())
}

pub async fn logs(context: &Context, args: &Logs) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let name = context.control.engine(&args.one.engine).await?.engine.name;
    let lines = context.control.logs(name.as_str(), args.source.into(), args.lines).await?;
    if lines.is_empty() {
        context.screen.say("This log is empty.");
    } else {
        context.screen.result(&render::plain(&lines.join("\n")))?;
    }
    context
        .screen
        .document(|| Body::Log { log: view::Log { engine: name.to_string(), source: args.source.into(), lines } })?;
    Ok(())
}
