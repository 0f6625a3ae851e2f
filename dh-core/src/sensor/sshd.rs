//! What the titles of OpenSSH's server processes say.

use std::collections::HashMap;

use crate::ports::Process;

/// One session, or one connection without any, as its server process shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SshdSession<'a> {
    pub(super) process: &'a Process,
    pub(super) user: &'a str,
    pub(super) kind: Kind<'a>,
}

/// How somebody is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// On a terminal.
    Terminal(&'a str),
    /// A command, a copy, an editor's server: no terminal.
    NoTerminal,
    /// Logged in without a session: port forwards, or a master connection that waits for the next.
    NoSession,
}

/// The title of one server process, after its `sshd: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Title<'a> {
    /// `alice@pts/0,pts/1`, `alice@notty`.
    Sessions { user: &'a str, terminals: &'a str },
    /// `alice`: logged in, no session.
    LoggedIn { user: &'a str },
    /// The listener, somebody who has not logged in, or the privileged half of a connection (`alice [priv]`).
    Other,
}

/// Returns whoever is logged in through OpenSSH, by process id.
///
/// Until the login a connection is two processes, `alice [priv]` and `alice [net]`, and afterwards the first and `alice`
/// with the terminals; root's is one process, `root` with the terminals. So whoever is logged in has one process that
/// bears a name and no brackets.
pub(super) fn sessions(processes: &[Process]) -> Vec<SshdSession<'_>> {
    let titles: HashMap<u32, Title<'_>> =
        processes.iter().filter_map(|process| Some((process.pid, title(process)?))).collect();
    let mut found = Vec::new();
    for process in processes {
        match titles.get(&process.pid) {
            Some(Title::Sessions { user, terminals }) => {
                // `alice@internal-sftp` is the child of an `alice@notty` already counted.
                if matches!(titles.get(&process.ppid), Some(Title::Sessions { .. } | Title::LoggedIn { .. })) {
                    continue;
                }
                for terminal in terminals.split(',') {
                    let kind = if is_terminal(terminal) { Kind::Terminal(terminal) } else { Kind::NoTerminal };
                    found.push(SshdSession { process, user, kind });
                }
            }
            Some(Title::LoggedIn { user }) => {
                found.push(SshdSession { process, user, kind: Kind::NoSession });
            }
            Some(Title::Other) | None => {}
        }
    }
    found
}

/// Returns what the title of an OpenSSH server process says; `None` for any other process.
fn title(process: &Process) -> Option<Title<'_>> {
    // `sshd` did everything until 9.8; since then `sshd-session` has the connections, and `sshd-auth` the logins.
    if !matches!(process.comm.as_str(), "sshd" | "sshd-session") {
        return None;
    }
    let line = process.cmdline.first()?;
    let Some(text) = line.strip_prefix("sshd: ").or_else(|| line.strip_prefix("sshd-session: ")) else {
        return Some(Title::Other);
    };
    let text = text.trim_end();
    // `[listener]`, `[accepted]`, `[net]`, `[priv]`, `[pam]`: nobody, or not yet. A listener's title goes on after it.
    if text.ends_with(']') || text.contains(" [listener]") || text.is_empty() {
        return Some(Title::Other);
    }
    // A directory's user may be `alice@example.org`: what follows the last @ must be terminals.
    match text.rsplit_once('@') {
        Some((user, terminals)) if terminals.split(',').all(is_place) => Some(Title::Sessions { user, terminals }),
        _ => Some(Title::LoggedIn { user: text }),
    }
}

fn is_place(text: &str) -> bool {
    is_terminal(text) || text == "notty" || text == "internal-sftp"
}

fn is_terminal(text: &str) -> bool {
    text.strip_prefix("pts/").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        || text.starts_with("tty")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn sshd(pid: u32, ppid: u32, comm: &str, title: &str) -> Process {
        Process {
            pid,
            ppid,
            session: pid,
            tty: None,
            user: "root".into(),
            comm: comm.into(),
            cmdline: vec![title.into()],
            started_at: Timestamp::UNIX_EPOCH,
            dh_session: None,
        }
    }

    fn seen(processes: &[Process]) -> Vec<String> {
        sessions(processes).iter().map(|s| format!("{} {} {:?}", s.process.pid, s.user, s.kind)).collect()
    }

    #[test]
    fn listeners_and_logins_under_way_are_nobody() {
        let processes = [
            sshd(1, 0, "sshd", "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups"),
            sshd(2, 1, "sshd", "sshd: [accepted]"),
            sshd(3, 1, "sshd", "sshd: unknown [priv]"),
            sshd(4, 3, "sshd", "sshd: unknown [net]"),
            sshd(5, 1, "sshd", "sshd: root [priv]"),
            sshd(6, 5, "sshd", "sshd: root [net]"),
            sshd(7, 1, "sshd", "/usr/sbin/sshd -i"),
            sshd(8, 1, "sshd-session", "sshd-session: alice [priv]"),
            sshd(9, 8, "sshd-session", "sshd-session: alice [pam]"),
        ];
        assert!(seen(&processes).is_empty(), "{:?}", seen(&processes));
    }

    #[test]
    fn each_terminal_is_a_session_and_the_privileged_half_none() {
        let processes = [
            sshd(10, 1, "sshd", "sshd: alice [priv]"),
            sshd(11, 10, "sshd", "sshd: alice@pts/0,pts/12"),
            sshd(20, 1, "sshd-session", "sshd-session: bob [priv]"),
            sshd(21, 20, "sshd-session", "sshd-session: bob@notty"),
            sshd(22, 21, "sshd-session", "sshd-session: bob@internal-sftp"),
        ];
        assert_eq!(
            seen(&processes),
            ["11 alice Terminal(\"pts/0\")", "11 alice Terminal(\"pts/12\")", "21 bob NoTerminal"]
        );
    }

    #[test]
    fn port_forwards_have_no_session_and_are_seen() {
        let processes = [
            sshd(10, 1, "sshd", "sshd: alice [priv]"),
            sshd(11, 10, "sshd", "sshd: alice"),
            sshd(20, 1, "sshd", "sshd: root"),
        ];
        assert_eq!(seen(&processes), ["11 alice NoSession", "20 root NoSession"]);
    }

    #[test]
    fn an_at_sign_in_the_user_is_the_users() {
        assert_eq!(seen(&[sshd(1, 0, "sshd", "sshd: a@example.org@pts/3")]), ["1 a@example.org Terminal(\"pts/3\")"]);
        assert_eq!(seen(&[sshd(1, 0, "sshd", "sshd: a@example.org")]), ["1 a@example.org NoSession"]);
    }

    #[test]
    fn a_stranger_with_the_title_is_not_sshd() {
        assert!(seen(&[sshd(1, 0, "bash", "sshd: alice@pts/0")]).is_empty());
    }
}
