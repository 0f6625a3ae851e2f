//! An engine's processes, found through `/proc`: those below its supervisor, and those that outlived it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::domain::MachineId;

/// The variable that marks every process of an engine with its machine's id.
pub const ENGINE_ID_VARIABLE: &str = "DH_ENGINE_ID";

/// How long leftovers may take to die.
const SWEEP_PATIENCE: Duration = Duration::from_secs(5);

/// A process, told apart from a later one of the same id by when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id.
    pub parent: i32,
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// When it began, in the kernel's ticks.
    pub started: u64,
    /// The kernel's short name for it.
    pub name: String,
}

impl Member {
    /// Returns whether it is dead and waits for its parent to notice.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Returns whether it is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        self.state == 'T'
    }

    /// Sends it a signal; one that has ended is left alone.
    ///
    /// # Errors
    /// `EPERM` when it belongs to somebody else.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        use rustix::io::Errno;
        let sent = pidfd_open(self.pid, PidfdFlags::empty()).and_then(|handle| {
            // With the handle open the id can't be given to another process any more.
            match Self::of(self.pid) {
                Some(now) if now.started == self.started => pidfd_send_signal(&handle, signal),
                _ => Ok(()),
            }
        });
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn of(pid: Pid) -> Option<Self> {
        parse(pid, &std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }
}

/// Reads a line such as `12 (a (b) c) S 1 12 …`: the name may have anything in it, so it ends at the last parenthesis.
fn parse(pid: Pid, line: &str) -> Option<Member> {
    let (begin, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Member {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        started: fields.nth(17)?.parse().ok()?,
        name: begin.split_once('(')?.1.to_owned(),
    })
}

fn all() -> BTreeMap<i32, Member> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(Pid::from_raw)
        .filter_map(Member::of)
        .map(|member| (member.pid.as_raw_nonzero().get(), member))
        .collect()
}

/// Returns the processes below one, parents before children, without the dead.
pub fn descendants(of: Pid) -> Vec<Member> {
    let mut all = all();
    let mut found: Vec<Member> = Vec::new();
    let mut parents = BTreeSet::from([of.as_raw_nonzero().get()]);
    while !parents.is_empty() {
        let children: Vec<i32> =
            all.iter().filter(|(_, member)| parents.contains(&member.parent)).map(|(pid, _)| *pid).collect();
        found.extend(children.iter().filter_map(|pid| all.remove(pid)));
        parents = children.into_iter().collect();
    }
    found.retain(|member| !member.is_zombie());
    found
}

/// Returns the living processes of a machine that are marked as its own, or are in one of its control groups; never the
/// calling process or one above it.
pub fn leftovers(id: &MachineId, cgroups: &[PathBuf]) -> Vec<Member> {
    let mark = format!("{ENGINE_ID_VARIABLE}={id}");
    let grouped: BTreeSet<i32> = cgroups
        .iter()
        .filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>())
        .collect();
    let mut all = all();
    let mut above = getpid().as_raw_nonzero().get();
    while let Some(member) = all.remove(&above) {
        above = member.parent;
    }
    let is_marked = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|text| text.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()))
    };
    all.into_iter()
        .filter(|(pid, member)| !member.is_zombie() && (grouped.contains(pid) || is_marked(*pid)))
        .map(|(_, member)| member)
        .collect()
}

/// Kills what is left of a machine whose supervisor is gone, and removes its control groups. Returns what would not die.
pub fn sweep(id: &MachineId, cgroups: &[PathBuf]) -> Vec<Member> {
    let deadline = Instant::now() + SWEEP_PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let left = leftovers(id, cgroups);
        for member in &left {
            if let Err(error) = member.signal(Signal::KILL) {
                tracing::warn!(machine = %id, pid = ?member.pid, %error, "a leftover process cannot be killed");
            }
        }
        // The frozen die only once they are thawed.
        super::cgroup::thaw(cgroups);
        if left.is_empty() || Instant::now() > deadline {
            super::cgroup::remove(cgroups);
            return left;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read() {
        let pid = Pid::from_raw(12).unwrap();
        let line = "12 (a (b) c) S 7 12 12 0 -1 4194304 1 0 0 0 1 2 3 4 20 0 1 0 991 5 6";
        let member = parse(pid, line).unwrap();
        assert_eq!((member.state, member.parent, member.started, member.name.as_str()), ('S', 7, 991, "a (b) c"));
        assert!(parse(pid, "").is_none() && parse(pid, "12 (x) S").is_none());
    }

    #[test]
    fn a_marked_process_in_a_session_of_its_own_is_swept_and_others_are_not() {
        let id = MachineId::new(format!("i-{:017x}", std::process::id())).unwrap();
        let spawn = |marked: bool| {
            let mut command = Command::new("sleep");
            command.arg("600").stdin(Stdio::null()).process_group(0);
            if marked {
                command.env(ENGINE_ID_VARIABLE, id.as_str());
            }
            command.spawn().unwrap()
        };
        let (mut marked, mut other) = (spawn(true), spawn(false));
        assert_eq!(leftovers(&id, &[]).len(), 1);
        assert!(descendants(getpid()).iter().any(|member| member.pid.as_raw_nonzero().get() == marked.id() as i32));
        assert_eq!(sweep(&id, &[]), []);
        assert!(!marked.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "an unmarked process lives on");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_signal_never_reaches_a_later_process_of_the_same_id() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let member = Member { started: 0, ..Member::of(pid).unwrap() };
        member.signal(Signal::KILL).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
