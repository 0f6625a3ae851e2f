//! Every environment variable that dh or its agent reads: one list, which `dh help environment` prints.

use std::ffi::OsString;

/// An environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What holds when it is not set; empty where the meaning says it all.
    pub default: &'static str,
}

impl Variable {
    /// Returns the value in this process's environment. An empty one counts as not set.
    pub fn get(&self) -> Option<OsString> {
        std::env::var_os(self.name).filter(|value| !value.is_empty())
    }
}

macro_rules! variables {
    ($($name:ident: $meaning:literal, $default:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: Variable = Variable { name: stringify!($name), meaning: $meaning, default: $default };
        )*

        /// Every variable, in the order of the documentation.
        pub const ALL: &[Variable] = &[$($name),*];
    };
}

variables! {
    DH_HOME: "one folder for everything dh keeps: config, data, state and logs", "the XDG folders below, each with /dh";
    DH_ENV: "the target environment; --env goes before it", "dev";
    DH_OUTPUT: "table, json or jsonl; --output goes before it", "table";
    DH_COLOR: "auto, always or never; --color goes before it", "auto";
    DH_USER: "who you are, where that is not your name on this machine", "your name on this machine";
    DH_AGENT: "the dh-agent program", "the one beside dh, else the first in PATH";
    DH_LOG: "what dh and its agent log, as a filter such as debug or dh_core=trace", "info for the agent, nothing for dh";
    DH_AGENT_CONFIG: "set for everything that runs on an engine: the agent's configuration", "/etc/dh/agent.json";
    DH_ENGINE: "set in sessions on an engine: its name", "";
    DH_SESSION: "set in sessions on an engine: exec, shell or ssh", "";
    NO_COLOR: "set to anything: no colours, unless --color says otherwise", "";
    TERM: "dumb: no progress bar and no colours", "";
    SHELL: "the shell that dh engine shell opens", "/bin/sh";
    HOME: "the SSH configuration is $HOME/.ssh/config", "";
    USER: "your name on this machine", "LOGNAME";
    LOGNAME: "your name on this machine, where USER is not set", "the one in /etc/passwd";
    PATH: "where dh-agent, ssh and sshd are looked for", "";
    TZ: "the time zone in which times are shown", "that of the machine";
    XDG_CONFIG_HOME: "where the configuration's folder is", "~/.config";
    XDG_DATA_HOME: "where the folder of engines and volumes is", "~/.local/share";
    XDG_STATE_HOME: "where the folder of state and logs is", "~/.local/state";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_is_listed_once_with_a_meaning() {
        let names: BTreeSet<_> = ALL.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|variable| !variable.meaning.is_empty() && !variable.meaning.ends_with('.')));
    }

    #[test]
    fn the_agents_variable_is_the_one_on_the_wire() {
        assert_eq!(DH_AGENT_CONFIG.name, crate::wire::AGENT_CONFIG_VARIABLE);
    }
}
