//! `dh config …`.

use dh_core::domain::{Error, ErrorKind};
use dh_core::wire::view::{self, Body};

use crate::cli::ConfigCommand;
use crate::connect::Place;
use crate::failure::Failure;
use crate::screen::Screen;

/// Runs a command about the configuration.
pub fn run(screen: &Screen, place: &Place, command: &ConfigCommand) -> Result<(), Failure> {
    let file = place.paths.config_file();
    match command {
        ConfigCommand::Path => screen.result(&file.display().to_string())?,
        ConfigCommand::Show => {
            let settings = toml::to_string(&place.config).map_err(|error| {
                Error::new(ErrorKind::Internal, "the configuration cannot be written as TOML").with_source(error)
            })?;
            let note = if file.exists() { "" } else { " (there is none; these are the defaults)" };
            screen.result(&format!(
                "# Configuration: {}{note}\n# Data: {}\n# State: {}\n# Logs: {}\n# Environment in force: {} ({})\n\n{}",
                file.display(),
                place.paths.data_dir().display(),
                place.paths.state_dir().display(),
                place.paths.log_dir().display(),
                place.environment,
                place.backend,
                settings.trim_end()
            ))?;
        }
    }
    screen.document(|| Body::Config {
        config: view::Config {
            path: file.display().to_string(),
            exists: file.exists(),
            data: place.paths.data_dir().display().to_string(),
            state: place.paths.state_dir().display().to_string(),
            logs: place.paths.log_dir().display().to_string(),
            environment: place.environment.to_string(),
            backend: place.backend.clone(),
            settings: serde_json::to_value(&place.config).unwrap_or_default(),
        },
    })?;
    Ok(())
}
