//! `dh studio …`.

use clap::{Args, Subcommand};
use dh_core::domain::{SizeGb, UserName};

use super::values;

/// Studios.
#[derive(Debug, Subcommand)]
pub enum StudioCommand {
    /// Create a studio
    #[command(after_help = "Examples:\n  dh studio create\n  dh studio create --size 200")]
    Create(CreateStudio),

    /// Delete a studio and all data in it
    #[command(after_help = "Examples:\n  dh studio delete\n  dh studio delete -y")]
    Delete(DeleteStudio),

    /// Show your studio
    Status(OneStudio),

    /// List all studios in the environment
    List,

    /// Attach a studio to an engine
    #[command(after_help = "Example:\n  dh studio attach my-engine")]
    Attach(Attach),

    /// Detach a studio from its engine
    Detach(OneStudio),

    /// Make a detached studio larger
    #[command(after_help = "Examples:\n  dh studio resize --size 200\n  dh studio resize --size 200 -y")]
    Resize(ResizeStudio),

    /// Reset a stuck studio to 'available'
    Reset(ResetStudio),
}

#[derive(Debug, Args)]
pub struct OneStudio {
    /// User whose studio it is [default: you]
    #[arg(long, value_name = "USERNAME", value_parser = values::user)]
    pub user: Option<UserName>,
}

#[derive(Debug, Args)]
pub struct CreateStudio {
    /// Studio size in GB [default: 100, or the configuration's]
    #[arg(long, value_name = "GB", value_parser = values::size, allow_negative_numbers = true)]
    pub size: Option<SizeGb>,

    /// User to create the studio for [default: you]
    #[arg(long, value_name = "USERNAME", value_parser = values::user)]
    pub user: Option<UserName>,
}

#[derive(Debug, Args)]
pub struct DeleteStudio {
    /// Skip the confirmation
    #[arg(short, long)]
    pub yes: bool,

    /// User whose studio to delete [default: you]
    #[arg(long, value_name = "USERNAME", value_parser = values::user)]
    pub user: Option<UserName>,
}

#[derive(Debug, Args)]
pub struct Attach {
    /// Engine name or instance ID
    #[arg(value_name = "ENGINE_NAME_OR_ID", value_parser = values::name_or_id)]
    pub engine: String,

    /// Do not update the SSH config
    #[arg(long)]
    pub skip_ssh_config: bool,

    /// User whose studio to attach [default: you]
    #[arg(long, value_name = "USERNAME", value_parser = values::user)]
    pub user: Option<UserName>,
}

#[derive(Debug, Args)]
pub struct ResizeStudio {
    /// New size in GB
    #[arg(short, long, value_name = "GB", value_parser = values::size, allow_negative_numbers = true)]
    pub size: SizeGb,

    /// Skip the confirmation
    #[arg(short, long)]
    pub yes: bool,

    /// User whose studio to resize [default: you]
    #[arg(long, value_name = "USERNAME", value_parser = values::user)]
    pub user: Option<UserName>,
}

#[derive(Debug, Args)]
pub struct ResetStudio {
    /// Skip the confirmation
    #[arg(short, long)]
    pub yes: bool,

    /// User whose studio to reset [default: you]
    #[arg(long, value_name = "USERNAME", value_parser = values::user)]
    pub user: Option<UserName>,
}
