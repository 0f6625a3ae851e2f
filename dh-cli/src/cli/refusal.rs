//! A command line that cannot be understood, told as every other error is.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use dh_core::domain::Error;

use crate::render::{self, Paint, sentence};

/// Draws why a command line was refused; `None` for help and the version, which are no refusals.
pub fn refusal(error: &clap::Error, paint: Paint) -> Option<String> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    // What the core refused it tells itself, with what is right instead.
    if let Some(refused) = error.source().and_then(|source| source.downcast_ref::<Error>()) {
        let mut text = render::error(refused, paint);
        if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
            && argument.starts_with('-')
        {
            text.push_str(&format!("\n  It was given with {argument}"));
        }
        return Some(text);
    }
    let told = error.render().to_string();
    let mut lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut text = paint.red(&format!("✗ {}", sentence(first.strip_prefix("error: ").unwrap_or(first))));
    for line in lines {
        let line = line.strip_prefix("tip: ").unwrap_or(line);
        text.push_str(&format!("\n  {}", sentence(line)));
    }
    Some(text)
}
