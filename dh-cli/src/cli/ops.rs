//! `dh ops …` and `dh config …`.

use clap::{Args, Subcommand};
use dh_core::domain::OperationId;

use super::values;

/// Operations.
#[derive(Debug, Subcommand)]
pub enum OpsCommand {
    /// List operations, the newest first
    List(ListOps),

    /// Show an operation step by step
    Show(OneOp),

    /// Go on with an interrupted operation
    Resume(ResumeOp),

    /// Undo what an unfinished operation has done
    Cancel(OneOp),
}

#[derive(Debug, Args)]
pub struct ListOps {
    /// Only operations with something left to do
    #[arg(long)]
    pub open: bool,

    /// At most so many
    #[arg(short = 'n', long, value_name = "N", value_parser = values::count, allow_negative_numbers = true, default_value_t = 20)]
    pub limit: usize,
}

#[derive(Debug, Args)]
pub struct OneOp {
    /// The operation's ID
    #[arg(value_name = "OPERATION", value_parser = values::operation)]
    pub id: OperationId,
}

#[derive(Debug, Args)]
pub struct ResumeOp {
    #[command(flatten)]
    pub one: OneOp,

    /// Say nothing; the exit code tells how it went
    #[arg(short, long)]
    pub quiet: bool,

    /// Leave the caller's terminal and session: this process is a worker that outlives the command that began it
    #[arg(long, hide = true)]
    pub worker: bool,
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the configuration in force
    Show,
    /// Print where the configuration file is, or would be
    Path,
}
