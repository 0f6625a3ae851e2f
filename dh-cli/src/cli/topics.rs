//! `dh help environment` and `dh help exit-codes`.

use dh_core::domain::ErrorKind;

/// Every environment variable that dh or its agent reads, and what it does.
pub const VARIABLES: &[(&str, &str)] = &[
    ("DH_HOME", "One folder for everything dh keeps: configuration, data, state and logs. Without it, the XDG folders below, each with /dh."),
    ("DH_ENV", "The target environment; --env goes before it."),
    ("DH_OUTPUT", "table, json or jsonl; --output goes before it."),
    ("DH_COLOR", "auto, always or never; --color goes before it."),
    ("DH_USER", "Who you are, where the operating system's name for you is not the one to use."),
    ("DH_AGENT", "The dh-agent program, where it is neither beside dh nor in PATH."),
    ("DH_AGENT_CONFIG", "Set for everything that runs on an engine: the agent's configuration file."),
    ("DH_ENGINE", "Set in sessions on an engine: its name."),
    ("DH_SESSION", "Set in sessions on an engine: exec, shell or ssh."),
    ("NO_COLOR", "Set to anything: no colours, unless --color says otherwise."),
    ("TERM", "dumb: no progress bar and no colours."),
    ("HOME", "The SSH configuration is $HOME/.ssh/config."),
    ("PATH", "Where dh-agent, ssh and sshd are looked for."),
    ("TZ", "The time zone in which times are shown."),
    ("XDG_CONFIG_HOME", "The configuration's folder [default: ~/.config]."),
    ("XDG_DATA_HOME", "The folder of engines and volumes [default: ~/.local/share]."),
    ("XDG_STATE_HOME", "The folder of state and logs [default: ~/.local/state]."),
];

fn list<'a>(title: &str, rows: impl Iterator<Item = (String, &'a str)> + Clone) -> String {
    let width = rows.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!("{title}\n\n");
    for (name, about) in rows {
        text.push_str(&format!("  {name:width$}  {about}\n"));
    }
    text
}

/// Returns the text of `dh help environment`.
pub fn environment_topic() -> String {
    list(
        "Environment variables that dh reads (an empty one counts as not set):",
        VARIABLES.iter().map(|(name, about)| ((*name).to_owned(), *about)),
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
    let own = [("0".to_owned(), "success"), ("1".to_owned(), "you answered no, or 'dh doctor' found a fault")];
    let kinds = ErrorKind::ALL.iter().map(|kind| (kind.exit_code().to_string(), meaning(*kind)));
    list("Exit codes of dh:", own.into_iter().chain(kinds))
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
