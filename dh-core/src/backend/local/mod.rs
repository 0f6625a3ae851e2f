//! Engines as supervised processes on this machine, studios as volumes of its disk.
//!
//! A machine is a directory ([`EngineDir`]) and, while it has power, a supervisor: `dh-agent supervise`, which holds
//! [`PowerLock`], keeps the engine's agent running and answers [`control`] requests. [`LocalBackend`] reads the directories
//! and asks the supervisors. Whoever finds a machine without its supervisor makes its record true: nothing is left running.

mod backend;
pub mod cgroup;
mod command;
mod config;
pub mod control;
mod creation;
pub mod durable;
mod layout;
mod lock;
mod log;
pub mod loopdev;
mod machine;
pub mod map;
pub mod mountinfo;
mod power;
pub mod process;
pub mod removal;
mod ssh;
mod types;
pub mod volume;

pub use backend::LocalBackend;
pub use config::{LocalConfig, LocalSettings};
pub use layout::EngineDir;
pub use lock::PowerLock;
pub use log::tail;
pub use machine::{Boot, MachineRecord, host_boot_id, renew_boot_id};
pub use power::reach;
pub use ssh::login_name;
pub use types::engine_types;
