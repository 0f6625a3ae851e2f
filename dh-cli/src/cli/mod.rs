//! The command line: what can be typed, and the help that explains it. Nothing here does anything.

mod engine;
mod ops;
mod refusal;
mod studio;
mod topics;
mod values;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dh_core::connect::variables::{self, Variable};
use dh_core::domain::{EnvironmentName, Error, ErrorKind, Result};

pub use engine::*;
pub use ops::*;
pub use refusal::refusal;
pub use studio::*;
pub use topics::{environment_topic, exit_codes_topic};

/// Launches engines, attaches studios, and stops what nobody uses.
///
/// An engine is a machine for computing that comes and goes; a studio is your own disk that stays and is attached to
/// one engine at a time.
#[derive(Debug, Parser)]
#[command(
    name = "dh",
    version,
    propagate_version = false,
    disable_help_subcommand = false,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "See 'dh help environment' for the environment variables and 'dh help exit-codes' for the exit codes."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,

    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Target environment [default: dev] [env: DH_ENV]
    #[arg(long, global = true, value_name = "ENV", value_parser = values::environment)]
    pub env: Option<EnvironmentName>,

    /// How results are written [default: table] [env: DH_OUTPUT]
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    pub output: Option<Format>,

    /// When to use colours [default: auto] [env: DH_COLOR]
    #[arg(long, global = true, value_name = "WHEN", value_enum)]
    pub color: Option<When>,
}

impl Global {
    /// Returns how results are written: as asked, else as `DH_OUTPUT` says.
    pub fn format(&self) -> Result<Format> {
        choose(self.output, variables::DH_OUTPUT, Format::Table)
    }

    /// Returns when to use colours: as asked, else as `DH_COLOR` says.
    pub fn when(&self) -> Result<When> {
        choose(self.color, variables::DH_COLOR, When::Auto)
    }
}

// Not clap's own `env`: to it, a variable that is set to nothing is a value.
fn choose<T: ValueEnum>(asked: Option<T>, variable: Variable, otherwise: T) -> Result<T> {
    let value = match (asked, variable.get()) {
        (Some(asked), _) => return Ok(asked),
        (None, None) => return Ok(otherwise),
        (None, Some(value)) => value.to_string_lossy().into_owned(),
    };
    T::from_str(&value, false).map_err(|_| {
        let known: Vec<String> = T::value_variants()
            .iter()
            .filter_map(|known| known.to_possible_value())
            .map(|known| known.get_name().to_owned())
            .collect();
        Error::new(ErrorKind::InvalidArgument, format!("{} is {value:?}", variable.name))
            .with_hint(format!("set it to one of: {}; or unset it", known.join(", ")))
    })
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences
    Table,
    /// One JSON document
    Json,
    /// One JSON object a line, progress included
    Jsonl,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<When> for clap::ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Launch, stop, look into and connect to engines
    #[command(alias = "engine2", subcommand, arg_required_else_help = true)]
    Engine(EngineCommand),

    /// Create, attach and look after studios
    #[command(alias = "studio2", subcommand, arg_required_else_help = true)]
    Studio(StudioCommand),

    /// List, resume and cancel operations
    #[command(subcommand, arg_required_else_help = true)]
    Ops(OpsCommand),

    /// Show the configuration
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),

    /// Check this machine and everything dh keeps on it
    ///
    /// Writes a line for each check. The exit code is 0 unless a check failed (✗); what is merely absent (–) is no
    /// failure.
    Doctor {
        /// Make engines and studios of machines and volumes that no record knows, as after the state was lost
        #[arg(long)]
        adopt: bool,
    },

    /// Write a completion script for a shell to standard output
    #[command(
        after_help = "Examples:\n  source <(dh completions bash)\n  dh completions fish > ~/.config/fish/completions/dh.fish"
    )]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },

    /// Write the manual pages into a directory
    Man {
        /// The directory; it is made when missing
        #[arg(value_name = "DIR")]
        dir: std::path::PathBuf,
    },

    /// The environment variables that dh reads
    #[command(hide = true)]
    Environment,

    /// The exit codes of dh
    #[command(hide = true)]
    ExitCodes,
}

/// Returns the command tree, with the help topics filled in.
pub fn command() -> clap::Command {
    Cli::command()
        .mut_subcommand("environment", |topic| topic.override_help(environment_topic()))
        .mut_subcommand("exit-codes", |topic| topic.override_help(exit_codes_topic()))
}

/// Returns what `--color` says on a command line that is not parsed yet, for the errors of parsing itself.
pub fn color_of(args: &[std::ffi::OsString]) -> When {
    let mut args = args.iter().filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--");
    let value = args
        .clone()
        .find_map(|arg| arg.strip_prefix("--color="))
        .or_else(|| args.by_ref().skip_while(|arg| *arg != "--color").nth(1));
    match value {
        Some("always") => When::Always,
        Some("never") => When::Never,
        _ => When::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_argument_is_explained() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no help");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
            }
            command.get_subcommands().for_each(|sub| walk(sub, &path));
        }
        walk(&command(), "");
    }

    #[test]
    fn the_old_names_still_parse() {
        for args in [["dh", "engine2", "list"], ["dh", "studio2", "list"]] {
            assert!(command().try_get_matches_from(args).is_ok());
        }
        let help = command().render_long_help().to_string();
        assert!(!help.contains("engine2") && !help.contains("studio2"));
    }

    #[test]
    fn colour_is_known_before_parsing() {
        let choice = |args: &[&str]| color_of(&args.iter().map(std::ffi::OsString::from).collect::<Vec<_>>());
        assert_eq!(choice(&["dh", "--color", "never", "x"]), When::Never);
        assert_eq!(choice(&["dh", "x", "--color=always"]), When::Always);
        assert_eq!(choice(&["dh", "engine", "exec", "a", "--", "--color=always"]), When::Auto);
    }
}
