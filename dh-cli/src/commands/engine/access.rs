//! `dh engine config-ssh`, and the update that follows a launch, a start and an attachment.

use std::path::Path;

use dh_core::domain::Result;
use dh_core::ports::SshEntry;
use dh_core::wire::view::{self, Body};

use crate::cli::ConfigSsh;
use crate::context::Context;
use crate::failure::Failure;
use crate::ssh_config::{self, Applied, Section};
use crate::{operate, render};

pub async fn config_ssh(context: &Context, args: &ConfigSsh) -> Result<(), Failure> {
    operate::go_on_with_interrupted(context, None).await;
    let path = context.host.ssh_config()?;
    if args.clean {
        let applied = ssh_config::apply(&path, |text| ssh_config::edit(text, None))?;
        let told = if applied.changed {
            "✓ Removed all managed entries from SSH config"
        } else {
            "✓ SSH config has no managed entries"
        };
        context.screen.result(told)?;
        return document(context, &applied, &[], Vec::new());
    }
    let section = Section { environment: context.environment().to_string(), all: args.all, admin: args.admin };
    let entries = context.control.ssh_entries(args.all, args.admin).await?;
    let applied = write(&path, &section, &entries)?;
    context.screen.result(&format!("✓ Updated SSH config with {} engine(s)", entries.len()))?;
    let warnings = warnings(&applied.path, &entries)?;
    warnings.iter().for_each(|warning| context.screen.say(&format!("⚠ {warning}")));
    document(context, &applied, &entries, warnings)
}

/// Updates this environment's entries the way they were last asked for, and says so. A failure is told and is none of
/// the command's own. Returns whether the entries are up to date.
pub async fn after_change(context: &Context) -> Result<bool, Failure> {
    match update(context).await {
        Ok(warnings) => {
            context.screen.result("✓ SSH config updated")?;
            warnings.iter().for_each(|warning| context.screen.say(&format!("⚠ {warning}")));
            Ok(true)
        }
        Err(error) => {
            context.screen.say("⚠ The SSH config could not be updated:");
            context.screen.say(&render::error(&error, context.screen.talk_paint()));
            Ok(false)
        }
    }
}

async fn update(context: &Context) -> Result<Vec<String>> {
    let path = context.host.ssh_config()?;
    let environment = context.environment().to_string();
    let asked = ssh_config::section(&ssh_config::state(&path)?, &environment)?;
    let section = asked.unwrap_or(Section { environment, all: false, admin: false });
    let entries = context.control.ssh_entries(section.all, section.admin).await?;
    let applied = write(&path, &section, &entries)?;
    warnings(&applied.path, &entries)
}

fn write(path: &Path, section: &Section, entries: &[SshEntry]) -> Result<Applied> {
    ssh_config::apply(path, |text| ssh_config::edit(text, Some((section, entries))))
}

fn warnings(path: &Path, entries: &[SshEntry]) -> Result<Vec<String>> {
    let names: Vec<&str> = entries.iter().map(|entry| entry.engine.as_str()).collect();
    let own = ssh_config::users_own_hosts(&ssh_config::state(path)?, &names);
    Ok(own
        .into_iter()
        .map(|(name, line)| {
            format!(
                "{} has an entry of your own for '{name}' on line {line}; ssh takes what comes first",
                path.display()
            )
        })
        .collect())
}

fn document(context: &Context, applied: &Applied, entries: &[SshEntry], warnings: Vec<String>) -> Result<(), Failure> {
    context.screen.document(|| Body::SshConfig {
        ssh_config: view::SshConfig {
            path: applied.path.display().to_string(),
            changed: applied.changed,
            engines: entries.iter().map(|entry| entry.engine.to_string()).collect(),
            warnings,
        },
    })?;
    Ok(())
}
