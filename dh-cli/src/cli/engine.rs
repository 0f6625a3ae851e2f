//! `dh engine …`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use dh_core::domain::{EngineName, SizeGb, UserName};
use dh_core::ports::LogSource;

use super::values;

/// Engines.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// Launch a new engine and wait until it is ready
    #[command(
        after_help = "Examples:\n  dh engine launch dev-work --type cpu\n  dh engine launch training-job --type a10g --size 200\n  dh engine launch batch-worker --type cpumax --no-wait"
    )]
    Launch(Launch),

    /// Start a stopped engine
    #[command(after_help = "Example:\n  dh engine start my-engine")]
    Start(Start),

    /// Stop a running engine, keeping its boot disk
    #[command(after_help = "Example:\n  dh engine stop my-engine")]
    Stop(Stop),

    /// Permanently terminate an engine and delete its boot disk
    #[command(after_help = "Examples:\n  dh engine terminate my-engine\n  dh engine terminate my-engine -y")]
    Terminate(Terminate),

    /// Show an engine's status and what its idle detector sees
    #[command(after_help = "Examples:\n  dh engine status my-engine\n  dh engine status my-engine --detailed")]
    Status(Status),

    /// List all engines in the environment
    #[command(after_help = "Examples:\n  dh engine list\n  dh engine list --env sand")]
    List,

    /// Update ~/.ssh/config with entries for the running engines
    #[command(
        after_help = "Examples:\n  dh engine config-ssh\n  dh engine config-ssh --all\n  dh engine config-ssh --clean"
    )]
    ConfigSsh(ConfigSsh),

    /// Keep an engine from being stopped for being idle, for a time
    #[command(
        after_help = "Examples:\n  dh engine coffee my-engine 4h\n  dh engine coffee my-engine 2h30m\n  dh engine coffee my-engine --cancel"
    )]
    Coffee(Coffee),

    /// Show or set an engine's idle timeout
    #[command(after_help = "Examples:\n  dh engine idle my-engine\n  dh engine idle my-engine --set 2h")]
    Idle(Idle),

    /// Make an engine's boot disk larger
    #[command(
        after_help = "Examples:\n  dh engine resize my-engine --size 200\n  dh engine resize my-engine --size 200 --online --force"
    )]
    Resize(ResizeEngine),

    /// Show how far an engine's bootstrap is, and where it failed
    Debug(OneEngine),

    /// Run a command on an engine, with this terminal's own input and output
    #[command(after_help = "Example:\n  dh engine exec my-engine -- ls -l /studios")]
    Exec(Exec),

    /// Open a login shell on an engine
    Shell(OneEngine),

    /// Explain why an engine runs or was stopped
    Why(OneEngine),

    /// Show the last lines of one of an engine's logs
    #[command(
        after_help = "Examples:\n  dh engine logs my-engine\n  dh engine logs my-engine --source agent --lines 20"
    )]
    Logs(Logs),
}

/// A command about one engine without further options.
#[derive(Debug, Args)]
pub struct OneEngine {
    /// Engine name or instance ID
    #[arg(value_name = "NAME_OR_ID", value_parser = values::name_or_id)]
    pub engine: String,
}

#[derive(Debug, Args)]
pub struct Launch {
    /// Unique name for the engine, used for SSH and to identify it
    #[arg(value_name = "NAME", value_parser = values::engine_name)]
    pub name: EngineName,

    /// Engine type, such as cpu, cpumax, t4, a10g or a100; required unless the configuration has a default
    #[arg(long = "type", value_name = "TYPE")]
    pub engine_type: Option<String>,

    /// Boot disk size in GB [default: the configuration's, or the backend's]
    #[arg(long, value_name = "GB", value_parser = values::size, allow_negative_numbers = true)]
    pub size: Option<SizeGb>,

    /// User to launch the engine for [default: you]
    #[arg(long, value_name = "USERNAME", value_parser = values::user)]
    pub user: Option<UserName>,

    /// Idle time after which the engine is stopped, such as 30m or 10s
    #[arg(long, value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true)]
    pub idle_timeout: Option<Duration>,

    /// Return at once, without waiting until the engine is ready
    #[arg(long)]
    pub no_wait: bool,

    /// Do not update the SSH config
    #[arg(long)]
    pub skip_ssh_config: bool,

    /// Skip the confirmation outside dev
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub one: OneEngine,

    /// Return at once, without waiting until the engine is ready
    #[arg(long)]
    pub no_wait: bool,

    /// Do not update the SSH config
    #[arg(long)]
    pub skip_ssh_config: bool,

    /// Skip the confirmation outside dev
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    pub one: OneEngine,

    /// Keep the engine's memory; start goes on where it was
    #[arg(long)]
    pub hibernate: bool,

    /// Skip the confirmation outside dev, and detach studios without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Terminate {
    #[command(flatten)]
    pub one: OneEngine,

    /// Skip the confirmation, and detach studios without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub one: OneEngine,

    /// Show what each sensor sees, with its confidence
    #[arg(long)]
    pub detailed: bool,
}

#[derive(Debug, Args)]
pub struct ConfigSsh {
    /// Remove all managed entries and add none
    #[arg(long, conflicts_with_all = ["all", "admin"])]
    pub clean: bool,

    /// Include the engines of all users, not only yours
    #[arg(long)]
    pub all: bool,

    /// Log in as the administrator (ec2-user on AWS) rather than as the owner
    #[arg(long)]
    pub admin: bool,
}

#[derive(Debug, Args)]
pub struct Coffee {
    #[command(flatten)]
    pub one: OneEngine,

    /// How long to keep it alive, such as 4h, 2h30m or 45m
    #[arg(value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true, required_unless_present = "cancel", conflicts_with = "cancel")]
    pub duration: Option<Duration>,

    /// Cancel the coffee lock
    #[arg(long)]
    pub cancel: bool,
}

#[derive(Debug, Args)]
pub struct Idle {
    #[command(flatten)]
    pub one: OneEngine,

    /// Set a new timeout, such as 2h or 45m
    #[arg(long, value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true)]
    pub set: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct ResizeEngine {
    #[command(flatten)]
    pub one: OneEngine,

    /// New size in GB
    #[arg(short, long, value_name = "GB", value_parser = values::size, allow_negative_numbers = true)]
    pub size: SizeGb,

    /// Resize while the engine runs; on AWS the filesystem must then be expanded by hand
    #[arg(long)]
    pub online: bool,

    /// Skip the confirmation, and detach studios without asking
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    pub one: OneEngine,

    /// The command and its arguments, after '--'
    #[arg(value_name = "COMMAND", required = true, num_args = 1.., last = true)]
    pub argv: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub one: OneEngine,

    /// Which log
    #[arg(long, value_name = "LOG", value_enum, default_value_t = Log::Bootstrap)]
    pub source: Log,

    /// How many lines, counted from the end
    #[arg(short = 'n', long, value_name = "N", value_parser = values::count, allow_negative_numbers = true, default_value_t = 100)]
    pub lines: usize,
}

/// One of an engine's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// What the bootstrap's stages printed
    Bootstrap,
    /// What the agent has to say
    Agent,
    /// Every look of the idle detector, as JSON lines
    Ledger,
    /// What the machine itself printed
    Console,
}

impl From<Log> for LogSource {
    fn from(log: Log) -> Self {
        match log {
            Log::Bootstrap => Self::Bootstrap,
            Log::Agent => Self::Agent,
            Log::Ledger => Self::Ledger,
            Log::Console => Self::Console,
        }
    }
}
