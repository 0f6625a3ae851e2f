//! Editors that work here from afar: VS Code, Cursor, JetBrains.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use async_trait::async_trait;

use super::text::plain;
use crate::domain::{Activity, Axis, Confidence, Reading, Result};
use crate::ports::{Process, Sensor, SensorContext, TcpConnection};

const NAME: &str = "ide";

/// How often it looks before it says that there is none.
const LOOKS: u32 = 3;

/// How many of a process's arguments can name its program: an interpreter, an option, the script.
const PROGRAM_ARGUMENTS: usize = 3;

/// Folders that an editor's server runs from, and whose it is.
const SERVER_FOLDERS: &[(&str, &str)] = &[
    (".vscode-server", "VS Code"),
    (".vscode-server-insiders", "VS Code"),
    (".vscode-remote", "VS Code"),
    (".vscodium-server", "VSCodium"),
    (".cursor-server", "Cursor"),
    (".windsurf-server", "Windsurf"),
    ("code-server", "code-server"),
    ("openvscode-server", "OpenVSCode"),
];

/// Sees an editor's server with a client connected to it. The server alone proves nothing: it outlives its client by hours.
///
/// A client comes to a port on which the server listens, mostly by way of sshd's forwarding. What the server calls itself
/// (a marketplace, a model) is no client, nor is what its own children have to say to it.
///
/// It looks three times before it says that there is none. A connection can be missed by one look: the server hands a
/// new one to another of its processes, and while it is on the way it belongs to neither. The looks follow at once on one
/// another, for that passes in microseconds; a client that is away for seconds is ridden out by the idle timeout, which
/// each connected moment starts anew. A server process cannot be missed that way: where there is none at all, one look
/// stands for three.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdeSensor;

#[async_trait]
impl Sensor for IdeSensor {
    fn name(&self) -> &str {
        NAME
    }

    fn axis(&self) -> Axis {
        Axis::Presence
    }

    async fn sample(&self, context: &SensorContext) -> Result<Reading> {
        let host = &*context.host;
        let mut processes = host.processes()?;
        for _ in 0..LOOKS {
            if !processes.iter().any(|process| editor(&process.cmdline).is_some()) {
                break;
            }
            let connections = host.connections()?;
            // The holder of a connection may have begun since the processes were listed.
            if connections.iter().any(|c| c.inbound && c.pid.is_some_and(|pid| !processes.iter().any(|p| p.pid == pid)))
            {
                processes = host.processes()?;
            }
            let clients = clients(&processes, &servers(&processes), &connections);
            if !clients.is_empty() {
                let reason = format!("{} IDE connection(s)", clients.len());
                return Ok(Reading::new(NAME, Activity::Active, Confidence::Medium, Axis::Presence, reason)
                    .with_detail("connections", clients));
            }
        }
        let reason = format!("No IDE connections detected (after {LOOKS} checks)");
        Ok(Reading::new(NAME, Activity::Idle, Confidence::Medium, Axis::Presence, reason))
    }
}

/// Whose server a process is, and the process.
type Server<'a> = (&'static str, &'a Process);

/// Returns the processes of editors' servers.
fn servers(processes: &[Process]) -> HashMap<u32, Server<'_>> {
    processes.iter().filter_map(|process| Some((process.pid, (editor(&process.cmdline)?, process)))).collect()
}

fn editor(cmdline: &[String]) -> Option<&'static str> {
    cmdline.iter().take(PROGRAM_ARGUMENTS).find_map(|argument| {
        let parts: Vec<&str> = argument.split('/').collect();
        if parts.len() < 2 {
            return None;
        }
        let known = SERVER_FOLDERS.iter().find(|(folder, _)| parts.contains(folder)).map(|(_, editor)| *editor);
        known.or_else(|| {
            let jetbrains = parts.windows(2).any(|pair| pair == ["JetBrains", "RemoteDev"])
                || parts.last().is_some_and(|name| name.starts_with("remote-dev-server"));
            jetbrains.then_some("JetBrains")
        })
    })
}

/// Returns the servers' clients, one line each.
fn clients(processes: &[Process], servers: &HashMap<u32, Server<'_>>, connections: &[TcpConnection]) -> Vec<String> {
    let family = with_descendants(processes, servers);
    let holders: HashMap<(SocketAddr, SocketAddr), u32> =
        connections.iter().filter_map(|c| Some(((c.local, c.remote), c.pid?))).collect();
    // Keyed by its two ends, a connection counts once.
    let mut lines = BTreeMap::new();
    for connection in connections.iter().filter(|connection| connection.inbound) {
        let Some((editor, process)) = connection.pid.and_then(|pid| servers.get(&pid)) else { continue };
        let other_end = holders.get(&(connection.remote, connection.local));
        if other_end.is_some_and(|other| family.contains(other)) {
            continue;
        }
        let (pid, user) = (process.pid, plain(&process.user));
        let line = format!("{editor}: {} -> {} (process {pid}, {user})", connection.remote, connection.local);
        lines.insert((connection.local, connection.remote), line);
    }
    lines.into_values().collect()
}

/// Returns the servers with all they have begun: language servers, debuggers, terminals.
fn with_descendants(processes: &[Process], servers: &HashMap<u32, Server<'_>>) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in processes {
        children.entry(process.ppid).or_default().push(process.pid);
    }
    let mut family: HashSet<u32> = servers.keys().copied().collect();
    let mut next: Vec<u32> = family.iter().copied().collect();
    while let Some(pid) = next.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            if family.insert(child) {
                next.push(child);
            }
        }
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Option<&'static str> {
        editor(&arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn servers_are_known_by_the_folder_they_run_from() {
        let home = "/home/alice";
        let node = format!("{home}/.vscode-server/cli/servers/Stable-abc/server/node");
        let java = format!("{home}/.cache/JetBrains/RemoteDev/dist/x/jbr/bin/java");
        let cursor = format!("{home}/.cursor-server/bin/x/out/server-main.js");
        assert_eq!(of(&[&node, "--dns", "x"]), Some("VS Code"));
        assert_eq!(of(&["node", &cursor]), Some("Cursor"));
        assert_eq!(of(&[&java]), Some("JetBrains"));
        assert_eq!(
            of(&["/usr/lib/code-server/lib/node", "/usr/lib/code-server/out/node/entry.js"]),
            Some("code-server")
        );
    }

    #[test]
    fn names_that_only_resemble_one_are_none() {
        assert_eq!(of(&["vim", "notes-on-.vscode-server"]), None);
        assert_eq!(of(&["/opt/my-code-server-clone/run"]), None);
        assert_eq!(of(&["grep", "-r", "x", "/home/a/.vscode-server"]), None, "the fourth argument is no program");
        assert_eq!(of(&[]), None);
    }
}
