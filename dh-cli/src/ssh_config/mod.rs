//! The part of `~/.ssh/config` that dh keeps: one block between two markers. Everything else is the user's and survives
//! byte for byte.

mod block;
mod entry;
mod file;
mod hidden;

use std::path::{Path, PathBuf};

use block::users_own_hosts;
pub use block::{Section, edit, entries, section};
pub use entry::shell_quoted;
pub use file::{Applied, apply, state};
pub use hidden::names;

use crate::host::Host;

/// The line that begins the managed block.
pub const BEGIN: &str = "# BEGIN DAYHOFF ENGINES";

/// The line that ends it.
pub const END: &str = "# END DAYHOFF ENGINES";

/// Returns the file that ssh reads by itself, where that is another than the one dh writes.
pub fn elsewhere(host: &dyn Host) -> Option<PathBuf> {
    let (ours, reads) = (host.ssh_config().ok()?, host.ssh_reads()?);
    let followed = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    (followed(&ours) != followed(&reads)).then_some(reads)
}

/// Says which lines of the user's own keep ssh from what the entries of these engines say.
pub fn warnings(path: &Path, text: &[u8], names: &[&str]) -> Vec<String> {
    let own = users_own_hosts(text, names).into_iter().map(|(name, line)| {
        format!("{} has an entry of your own for '{name}' on line {line}; ssh takes what comes first", path.display())
    });
    let hidden = hidden::hidden(text, names);
    own.chain(hidden.iter().map(|hidden| format!("{}: {}", path.display(), hidden.message()))).collect()
}

#[cfg(test)]
mod tests;
