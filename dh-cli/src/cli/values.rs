//! Reads option values with the core's own parsers: what they refuse is told with their own hints.

use std::time::Duration;

use dh_core::domain::{
    EngineName, EnvironmentName, Error, ErrorKind, MachineId, OperationId, Result, SizeGb, UserName, parse_duration,
};

pub fn environment(text: &str) -> Result<EnvironmentName> {
    EnvironmentName::new(text)
}

pub fn engine_name(text: &str) -> Result<EngineName> {
    EngineName::new(text)
}

/// Checks that a text can be an engine's name or a machine's id at all.
pub fn name_or_id(text: &str) -> Result<String> {
    match EngineName::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) if text.starts_with("i-") && MachineId::new(text).is_ok() => Ok(text.to_owned()),
        Err(error) => Err(error),
    }
}

pub fn user(text: &str) -> Result<UserName> {
    UserName::new(text)
}

pub fn operation(text: &str) -> Result<OperationId> {
    OperationId::new(text).map_err(|error| error.with_hint("'dh ops list' lists the operations"))
}

pub fn size(text: &str) -> Result<SizeGb> {
    text.parse()
}

pub fn duration(text: &str) -> Result<Duration> {
    parse_duration(text)
}

/// How many lines or operations.
pub fn count(text: &str) -> Result<usize> {
    text.parse().map_err(|_| {
        Error::new(ErrorKind::InvalidArgument, format!("{text:?} is not a number")).with_hint("give a whole number")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_value_comes_with_its_hint() {
        let hint = |error: Error| error.hint().expect("a hint").to_owned();
        assert_eq!(hint(size("0").unwrap_err()), "give a whole number of GB from 1 to 16384");
        assert!(hint(duration("4d").unwrap_err()).contains("2h30m"));
        assert!(hint(operation("../x").unwrap_err()).contains("dh ops list"));
        assert!(count("-1").is_err());
    }

    #[test]
    fn names_and_ids_are_both_taken() {
        assert!(name_or_id("my-engine").is_ok());
        assert!(name_or_id("i-0123456789abcdef0").is_ok());
        assert!(name_or_id("../x").is_err());
    }
}
