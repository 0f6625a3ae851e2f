//! `dh studio status|list`.

use dh_core::wire::view::{self, Body};

use crate::cli::OneStudio;
use crate::context::Context;
use crate::failure::Failure;
use crate::{operate, render};

pub async fn status(context: &Context, args: &OneStudio) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let studio = context.studio_of(&context.user_or_caller(args.user.as_ref())).await?;
    let screen = &context.screen;
    screen.result(&render::studio_status(&studio, context.host.now(), screen.paint()))?;
    screen.document(|| Body::Studio { studio: Box::new(view::Studio::from(&studio)) })?;
    Ok(())
}

pub async fn list(context: &Context) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let studios = context.control.studios().await?;
    let screen = &context.screen;
    screen.result(&render::studio_list(&context.title(), &studios, screen.paint(), screen.columns()))?;
    screen.document(|| Body::Studios {
        environment: context.environment().to_string(),
        studios: studios.iter().map(view::Studio::from).collect(),
    })?;
    if studios.is_empty() {
        screen.say("Create one with:\n  dh studio create");
    }
    Ok(())
}
