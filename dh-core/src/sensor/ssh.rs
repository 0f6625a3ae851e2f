//! Who is connected: by SSH with or without a terminal, by dh's own shell and exec, or logged in on a terminal.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use jiff::Timestamp;

use super::sshd::{self, Kind};
use super::text::plain;
use crate::domain::{Activity, Axis, Confidence, Reading, Result};
use crate::ports::{Host, Login, Process, Sensor, SensorContext};

const NAME: &str = "ssh";

/// Accounts that are no person though they may show as logged in: greeters of display managers, and daemons.
/// Compared whole: `rootbeer` and `nobody2` are people. So is `root`, who logs in by SSH on many an engine; and whoever
/// comes by dh's own shell or exec, for a person asked for it.
const SYSTEM_USERS: &[&str] = &[
    "bin",
    "daemon",
    "gdm",
    "gdm-greeter",
    "lightdm",
    "messagebus",
    "nobody",
    "sddm",
    "sshd",
    "sync",
    "sys",
    "systemd-network",
    "systemd-resolve",
];

/// Sees sessions in three places and counts each once: OpenSSH's server processes (which show what utmp does not:
/// commands, copies, editors, port forwards), utmp, and the processes that dh's own `shell` and `exec` began.
///
/// A pane of tmux or screen is in utmp too, but is nobody's connection: it is listed under `ignored`.
/// Something left running after its session has ended is work, and not for this sensor; only what `dh engine exec`
/// began as a session leader of its own counts until it ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct SshSensor;

/// One session as it will be shown.
#[derive(Debug)]
struct Session {
    user: String,
    /// `pts/0`, or what stands for a terminal where there is none.
    line: String,
    tty: Option<String>,
    since: Timestamp,
    pid: u32,
    ppid: Option<u32>,
    from: String,
}

#[async_trait]
impl Sensor for SshSensor {
    fn name(&self) -> &str {
        NAME
    }

    fn axis(&self) -> Axis {
        Axis::Presence
    }

    async fn sample(&self, context: &SensorContext) -> Result<Reading> {
        let host = &*context.host;
        let processes = host.processes()?;
        let logins = host.logins();
        let mut sessions = by_sshd(&processes);
        sessions.extend(by_dh(&processes));
        let mut ignored = Vec::new();
        match logins {
            Ok(logins) => add_logins(&mut sessions, &mut ignored, logins),
            // What was seen is there, whatever utmp would have added; only absence needs all the evidence.
            Err(error) if sessions.is_empty() => return Err(error),
            Err(_) => {}
        }
        sessions.sort_by(|a, b| (a.since, a.pid, &a.line).cmp(&(b.since, b.pid, &b.line)));
        if sessions.iter().any(|session| session.ppid.is_some() && session.from.is_empty()) {
            add_addresses(&mut sessions, host);
        }
        Ok(reading(&sessions, &ignored, host))
    }
}

fn reading(sessions: &[Session], ignored: &[String], host: &dyn Host) -> Reading {
    let reading = if sessions.is_empty() {
        Reading::new(NAME, Activity::Idle, Confidence::High, Axis::Presence, "No active SSH sessions")
    } else {
        let now = host.now();
        let silent = |session: &Session| {
            // A terminal that has gone since, or hides its times, only leaves the column open.
            let at = host.last_input(session.tty.as_deref()?).ok()??;
            Some(now.duration_since(at).as_secs().max(0))
        };
        let quiet: Vec<Option<i64>> = sessions.iter().map(silent).collect();
        let lines = sessions.iter().zip(&quiet).map(|(session, quiet)| line(session, *quiet)).collect::<Vec<_>>();
        let reason = format!("{} SSH session(s)", sessions.len());
        let reading = Reading::new(NAME, Activity::Active, Confidence::High, Axis::Presence, reason)
            .with_detail("sessions", lines);
        match quiet.iter().flatten().min() {
            // Only when every session has a terminal does the last key pressed say when anybody last did anything.
            Some(least) if quiet.iter().all(Option::is_some) => {
                reading.with_detail("last_input_seconds", *least as f64)
            }
            _ => reading,
        }
    };
    if ignored.is_empty() { reading } else { reading.with_detail("ignored", ignored.to_vec()) }
}

/// Shows a session as `who -u` does: user, line, since, silent for, process, from.
fn line(session: &Session, quiet: Option<i64>) -> String {
    let quiet = match quiet {
        None => "?".to_owned(),
        Some(0..60) => ".".to_owned(),
        Some(seconds @ 60..86_400) => format!("{:02}:{:02}", seconds / 3_600, seconds / 60 % 60),
        Some(_) => "old".to_owned(),
    };
    let since = session.since.strftime("%Y-%m-%d %H:%M");
    let mut text = format!("{} {} {since} {quiet} {}", plain(&session.user), plain(&session.line), session.pid);
    if !session.from.is_empty() {
        text.push_str(&format!(" ({})", plain(&session.from)));
    }
    text
}

fn by_sshd(processes: &[Process]) -> Vec<Session> {
    sshd::sessions(processes)
        .into_iter()
        .filter(|seen| is_person(seen.user))
        .map(|seen| Session {
            user: seen.user.to_owned(),
            line: match seen.kind {
                Kind::Terminal(tty) => tty.to_owned(),
                Kind::NoTerminal => "notty".to_owned(),
                Kind::NoSession => "forward".to_owned(),
            },
            tty: match seen.kind {
                Kind::Terminal(tty) => Some(tty.to_owned()),
                _ => None,
            },
            since: seen.process.started_at,
            pid: seen.process.pid,
            ppid: Some(seen.process.ppid),
            from: String::new(),
        })
        .collect()
}

/// Finds the first process of each shell and exec. Their children inherit the mark; what is left of an ended session has
/// the supervisor for its parent as a first process has, but leads no session, or has lost the terminal of a shell.
fn by_dh(processes: &[Process]) -> Vec<Session> {
    let marked: HashMap<u32, bool> =
        processes.iter().map(|process| (process.pid, process.dh_session.is_some())).collect();
    let is_first = |process: &&Process| !marked.get(&process.ppid).copied().unwrap_or(false);
    let leads = |process: &Process| process.session == process.pid;
    let is_dh = |process: &Process| process.comm == "dh-agent";
    processes
        .iter()
        .filter(is_first)
        .filter_map(|process| {
            let line = match process.dh_session.as_deref()? {
                "shell" if is_dh(process) || (leads(process) && process.tty.is_some()) => {
                    process.tty.clone().unwrap_or_else(|| "shell".to_owned())
                }
                "exec" if is_dh(process) || leads(process) => "exec".to_owned(),
                // `ssh` is sshd, whose title says more.
                _ => return None,
            };
            Some(Session {
                user: process.user.clone(),
                line,
                tty: process.tty.clone(),
                since: process.started_at,
                pid: process.pid,
                ppid: None,
                from: format!("dh: {}", process.cmdline.first().unwrap_or(&process.comm)),
            })
        })
        .collect()
}

/// Adds the logins that no process has shown yet, and gives those that one has their address.
fn add_logins(sessions: &mut Vec<Session>, ignored: &mut Vec<String>, logins: Vec<Login>) {
    let seen: BTreeSet<String> = sessions.iter().filter_map(|session| session.tty.clone()).collect();
    for login in logins {
        if seen.contains(&login.line) {
            for session in sessions.iter_mut() {
                if session.tty.as_ref() == Some(&login.line) && session.from.is_empty() {
                    session.from.clone_from(&login.from);
                    session.since = login.since;
                }
            }
        } else if is_pane(&login.from) {
            ignored.push(format!("{} {} (terminal multiplexer)", plain(&login.user), plain(&login.line)));
        } else if is_person(&login.user) {
            sessions.push(Session {
                user: login.user,
                tty: Some(login.line.clone()),
                line: login.line,
                since: login.since,
                pid: login.pid,
                ppid: None,
                from: login.from,
            });
        }
    }
}

fn is_person(user: &str) -> bool {
    !SYSTEM_USERS.contains(&user)
}

/// Returns whether a login is a pane: tmux writes `tmux(123).%0`, screen `:pts/0:S.0` or `host:S.0`.
fn is_pane(from: &str) -> bool {
    from.starts_with("tmux(") || from.rsplit_once(":S.").is_some_and(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()))
}

/// Adds where sessions come from, where utmp had not said. Good to know and nothing more: a failure is no matter.
fn add_addresses(sessions: &mut [Session], host: &dyn Host) {
    let Ok(connections) = host.connections() else { return };
    for session in sessions.iter_mut().filter(|session| session.from.is_empty()) {
        let holders = [Some(session.pid), session.ppid];
        let from = connections.iter().find(|c| c.inbound && c.pid.is_some() && holders.contains(&c.pid));
        if let Some(connection) = from {
            session.from = connection.remote.ip().to_string();
        }
    }
}
