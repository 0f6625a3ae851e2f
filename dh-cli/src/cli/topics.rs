//! `dh help environment` and `dh help exit-codes`.

use dh_core::connect::variables;
use dh_core::domain::ErrorKind;

fn list(title: &str, rows: Vec<(String, String)>) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, about)| format!("  {name:width$}  {about}\n"));
    format!("{title}\n\n{}", lines.collect::<String>())
}

/// Returns the text of `dh help environment`.
pub fn environment_topic() -> String {
    let row = |variable: &variables::Variable| {
        let otherwise = match variable.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        (variable.name.to_owned(), format!("{}{otherwise}", variable.meaning))
    };
    list(
        "Environment variables that dh and its agent read (an empty one counts as not set):",
        variables::ALL.iter().map(row).collect(),
    )
}

fn meaning(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "the input is not of the accepted form, or a confirmation could not be asked for",
        ErrorKind::NotFound => "no such engine, studio, operation or environment",
        ErrorKind::AlreadyExists => "the name or studio exists already",
        ErrorKind::Conflict => "not possible in the present state, or somebody else is at it",
        ErrorKind::Unsupported => "the backend cannot do this",
        ErrorKind::Denied => "you may not do this",
        ErrorKind::Unauthenticated => "no credentials, or expired ones",
        ErrorKind::QuotaExceeded => "a quota or limit is used up",
        ErrorKind::Capacity => "the provider has no such machine now",
        ErrorKind::Throttled => "too many requests",
        ErrorKind::Timeout => "it took longer than it may; it may have happened",
        ErrorKind::Unavailable => "the provider or the store cannot be reached",
        ErrorKind::Storage => "the disk is full, read-only, or its content damaged",
        ErrorKind::Incompatible => "the state was written by a newer dh",
        ErrorKind::Config => "a configuration file is wrong",
        ErrorKind::Failed => "a step on the engine failed",
        ErrorKind::Interrupted => "interrupted; the operation can be resumed",
        ErrorKind::Internal => "a bug in dh",
        _ => "see the message",
    }
}

/// Returns the text of `dh help exit-codes`.
pub fn exit_codes_topic() -> String {
    let row = |code: u8, meaning: &str| (code.to_string(), meaning.to_owned());
    let mut rows = vec![row(0, "success"), row(1, "you answered no, or 'dh doctor' found a fault")];
    rows.extend(ErrorKind::ALL.iter().map(|kind| row(kind.exit_code(), meaning(*kind))));
    list("Exit codes of dh:", rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_is_documented() {
        for kind in ErrorKind::ALL {
            assert_ne!(meaning(*kind), "see the message", "{kind}");
        }
    }
}
