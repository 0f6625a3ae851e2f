//! The part of `~/.ssh/config` that dh keeps: one block between two markers. Everything else is the user's and survives
//! byte for byte.

mod block;
mod entry;
mod file;

pub use block::{Section, edit, entries, section, users_own_hosts};
pub use file::{Applied, apply, state};

/// The line that begins the managed block.
pub const BEGIN: &str = "# BEGIN DAYHOFF ENGINES";

/// The line that ends it.
pub const END: &str = "# END DAYHOFF ENGINES";

#[cfg(test)]
mod tests;
