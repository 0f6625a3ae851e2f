//! `dh engine config-ssh`, and the update that follows a launch, a start and an attachment.

use std::path::Path;

use dh_core::domain::{Engine, Result, StageName, StageStatus};
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
    let warnings = warnings(context, &applied.path, &entries)?;
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
    warnings(context, &applied.path, &entries)
}

fn write(path: &Path, section: &Section, entries: &[SshEntry]) -> Result<Applied> {
    ssh_config::apply(path, |text| ssh_config::edit(text, Some((section, entries))))
}

fn warnings(context: &Context, path: &Path, entries: &[SshEntry]) -> Result<Vec<String>> {
    let names: Vec<&str> = entries.iter().map(|entry| entry.engine.as_str()).collect();
    let mut warnings = ssh_config::warnings(path, &ssh_config::state(path)?, &names);
    if !names.is_empty()
        && let Some(reads) = ssh_config::elsewhere(&*context.host)
    {
        let command = ssh_command(context, "NAME");
        warnings.push(format!("ssh reads {}, and HOME is another folder; connect with: {command}", reads.display()));
    }
    Ok(warnings)
}

/// Returns the command that connects to an engine by ssh. Where ssh would read another file than the one dh writes, it
/// names the file.
pub fn ssh_command(context: &Context, name: &str) -> String {
    match (ssh_config::elsewhere(&*context.host), context.host.ssh_config()) {
        (Some(_), Ok(path)) => format!("ssh -F {} {name}", ssh_config::shell_quoted(&path.display().to_string())),
        _ => format!("ssh {name}"),
    }
}

/// Returns whether an engine has no way in by ssh, as its set-up found.
pub fn is_without_ssh(engine: &Engine) -> bool {
    let stages = &engine.bootstrap.stages;
    stages.iter().any(|stage| stage.name == StageName::ConfiguringSsh && stage.status == StageStatus::Skipped)
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
