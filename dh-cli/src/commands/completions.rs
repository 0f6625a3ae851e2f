//! `dh completions` and `dh man`.

use std::path::Path;

use clap_complete::Shell;
use dh_core::domain::{Error, ErrorKind};

use crate::cli;
use crate::failure::Failure;
use crate::screen::Screen;

/// Writes the completion script of a shell to standard output.
pub fn completions(screen: &Screen, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "dh", &mut script);
    screen.raw(&String::from_utf8_lossy(&script))?;
    Ok(())
}

/// Writes a manual page for each command into a folder.
pub fn man(screen: &Screen, folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Storage, format!("cannot write manual pages to {}", folder.display()))
            .with_hint("give a folder that you can write to")
            .with_source(error)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(cli::command(), folder).map_err(failed)?;
    screen.say(&format!("✓ Manual pages are in {0}; read one with: man {0}/dh-engine.1", folder.display()));
    Ok(())
}
