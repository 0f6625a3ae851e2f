//! `dh engine coffee|idle`.

use dh_core::domain::{EngineState, describe_duration, format_duration};
use dh_core::wire::view::{self, Body};

use crate::cli::{Coffee, Idle};
use crate::context::Context;
use crate::failure::Failure;
use crate::{operate, render};

pub async fn coffee(context: &Context, args: &Coffee) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let name = context.control.engine(&args.one.engine).await?.engine.name;
    let until = context.control.coffee(name.as_str(), args.duration).await?;
    match args.duration {
        Some(duration) => {
            context.screen.result(&format!("✓ Coffee lock set for '{name}': {}", format_duration(duration)))?;
        }
        None => context.screen.result(&format!("✓ Coffee lock cancelled for '{name}'"))?,
    }
    context.screen.document(|| Body::Coffee { coffee: view::Coffee { engine: name.to_string(), until } })?;
    Ok(())
}

pub async fn idle(context: &Context, args: &Idle) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let mut found = context.control.engine(&args.one.engine).await?;
    match args.set {
        Some(timeout) => {
            let mut policy = found.engine.policy.clone();
            policy.idle_timeout = timeout;
            let name = found.engine.name.clone();
            found.engine.policy = context.control.set_policy(name.as_str(), policy).await?;
            let now = describe_duration(found.engine.policy.idle_timeout);
            context.screen.result(&format!("✓ Idle timeout set for '{name}': {now}"))?;
        }
        None => context.screen.result(&render::idle_settings(&found, context.host.now()))?,
    }
    let (engine, policy) = (&found.engine, &found.engine.policy);
    context.screen.document(|| Body::Idle {
        idle: view::Idle {
            engine: engine.name.to_string(),
            idle_timeout: policy.idle_timeout,
            warning: policy.effective_warning(),
            action: policy.action,
            state: engine.idle.as_ref().filter(|_| found.state == EngineState::Running).map(view::IdleState::from),
        },
    })?;
    Ok(())
}
