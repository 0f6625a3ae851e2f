//! Reads option values with the core's own parsers, so that a hint reaches the reader as well.

use std::time::Duration;

use dh_core::domain::{EngineName, EnvironmentName, Error, OperationId, Result, SizeGb, UserName, parse_duration};

/// Joins an error's message and hint: clap shows one text.
fn with_hint<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

pub fn environment(text: &str) -> Result<EnvironmentName, String> {
    with_hint(EnvironmentName::new(text))
}

pub fn engine_name(text: &str) -> Result<EngineName, String> {
    with_hint(EngineName::new(text))
}

/// Checks that a text can be an engine's name or a machine's id at all.
pub fn name_or_id(text: &str) -> Result<String, String> {
    use dh_core::domain::MachineId;
    match EngineName::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) if text.starts_with("i-") && MachineId::new(text).is_ok() => Ok(text.to_owned()),
        Err(error) => with_hint(Err(error)),
    }
}

pub fn user(text: &str) -> Result<UserName, String> {
    with_hint(UserName::new(text))
}

pub fn operation(text: &str) -> Result<OperationId, String> {
    with_hint(OperationId::new(text).map_err(|error| error.with_hint("'dh ops list' lists the operations")))
}

pub fn size(text: &str) -> Result<SizeGb, String> {
    with_hint(text.parse())
}

pub fn duration(text: &str) -> Result<Duration, String> {
    with_hint(parse_duration(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_value_comes_with_its_hint() {
        assert_eq!(size("0").unwrap_err(), "0 GB is not a disk size; give a whole number of GB from 1 to 16384");
        assert!(duration("4d").unwrap_err().contains("2h30m"));
    }

    #[test]
    fn names_and_ids_are_both_taken() {
        assert!(name_or_id("my-engine").is_ok());
        assert!(name_or_id("i-0123456789abcdef0").is_ok());
        assert!(name_or_id("../x").is_err());
    }
}
