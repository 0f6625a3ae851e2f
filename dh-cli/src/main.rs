//! `dh`: parses the command line, calls the control plane, shows what comes back. No policy.

mod cli;
mod commands;
mod connect;
mod context;
mod failure;
mod host;
mod operate;
mod progress;
mod render;
mod screen;
mod ssh_config;
mod terminal;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::FromArgMatches;
use dh_core::connect::variables;
use dh_core::domain::{Error, ErrorKind};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::prelude::*;

use cli::{Cli, Command, Format, OpsCommand, ResumeOp, When};
use commands::{completions, config, doctor, engine, ops, studio};
use connect::Place;
use context::Context;
use failure::Failure;
use host::ThisHost;
use screen::Screen;
use terminal::OwnTerminal;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let parsed = cli::command()
        .color(cli::color_of(&args).into())
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            match cli::refusal(&error, Screen::of_process(Format::Table, cli::color_of(&args)).talk_paint()) {
                Some(told) => drop(writeln!(std::io::stderr(), "{told}")),
                None => drop(error.print()),
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let options = cli.global.format().and_then(|format| Ok((format, cli.global.when()?)));
    let (screen, outcome) = match options {
        Ok((format, when)) => {
            let screen = Arc::new(Screen::of_process(format, when));
            let outcome = run(&screen, &cli);
            (screen, outcome)
        }
        Err(error) => (Arc::new(Screen::of_process(Format::Table, When::Auto)), Err(error.into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(&screen);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Logs to standard error where `DH_LOG` asks for it.
fn log(screen: &Screen) -> Result<(), Error> {
    let Some(filter) = variables::DH_LOG.get() else { return Ok(()) };
    let filter: Targets = filter.to_string_lossy().parse().map_err(|error: ParseError| {
        Error::new(ErrorKind::InvalidArgument, "DH_LOG is not a filter")
            .with_hint("set it to a level such as debug, or to a target and a level such as dh_core=trace")
            .with_source(error)
    })?;
    let ansi = screen.talk_paint().is_on();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(())
}

fn run(screen: &Arc<Screen>, cli: &Cli) -> Result<(), Failure> {
    if let Command::Ops(OpsCommand::Resume(ResumeOp { worker: true, .. })) = &cli.command {
        host::detach();
    }
    log(screen)?;
    let asked = cli.global.env.as_ref();
    match &cli.command {
        Command::Completions { shell } => completions::completions(screen, *shell),
        Command::Man { dir } => completions::man(screen, dir),
        Command::Environment => Ok(screen.raw(&cli::environment_topic())?),
        Command::ExitCodes => Ok(screen.raw(&cli::exit_codes_topic())?),
        Command::Config(command) => config::run(screen, &Place::find(asked)?, command),
        Command::Doctor { adopt } => {
            let host = ThisHost { logs: PathBuf::new() };
            block_on(doctor::run(screen, &host, asked, *adopt))
        }
        Command::Engine(_) | Command::Studio(_) | Command::Ops(_) => {
            let place = Place::find(asked)?;
            let context = Context {
                control: connect::open(&place)?,
                screen: screen.clone(),
                terminal: Box::new(OwnTerminal),
                host: Arc::new(ThisHost { logs: place.paths.log_dir().to_owned() }),
                place,
            };
            block_on(dispatch(&context, &cli.command))
        }
    }
}

/// Runs a command that calls the control plane.
async fn dispatch(context: &Context, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Engine(command) => engine::run(context, command).await,
        Command::Studio(command) => studio::run(context, command).await,
        Command::Ops(command) => ops::run(context, command).await,
        other => unreachable!("{other:?} needs no control plane"),
    }
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // One thread: a command waits, it does not compute, and threads cost start-up time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot start the event loop")
            .with_hint("is the limit of open files used up? see: ulimit -n")
            .with_source(error)
    })?;
    runtime.block_on(command)
}
