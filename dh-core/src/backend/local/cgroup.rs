//! Control groups, where this process may make some: to freeze an engine whole, and to hold it to its hints.
//!
//! Groups are made below the one the supervisor is in, which is what a system that hands out parts of its hierarchy
//! expects. Without a writable hierarchy everything works on process trees instead.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::domain::MachineId;

/// What an engine may use, where that is less than the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Processors.
    pub vcpus: Option<u32>,
    /// Memory in bytes.
    pub memory: Option<u64>,
}

impl Limits {
    /// Returns the limits that a type's hardware sets on this machine: none where this machine is the smaller one.
    pub fn for_type(vcpus: u32, memory_gb: u32) -> Self {
        let here = std::thread::available_parallelism().map_or(u32::MAX, |count| count.get() as u32);
        let memory = u64::from(memory_gb) << 30;
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        Self { vcpus: (vcpus < here).then_some(vcpus), memory: total.filter(|&total| memory < total).map(|_| memory) }
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// A hierarchy and the group in it that this process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// `freezer`, `cpu`, … under version 1; empty under version 2.
    controllers: Vec<String>,
    own: PathBuf,
}

/// Reads the hierarchies from `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn hierarchies(mountinfo: &str, memberships: &str) -> Vec<Hierarchy> {
    let own = |wanted: &dyn Fn(&str) -> bool| {
        memberships.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let controllers = fields.nth(1)?;
            wanted(controllers).then(|| fields.next().unwrap_or("/").to_owned())
        })
    };
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = before.split(' ').collect();
        let (Some(root), Some(mount_point)) = (fields.get(3), fields.get(4)) else { continue };
        let kind: Vec<&str> = after.splitn(3, ' ').collect();
        let (controllers, path) = match kind.as_slice() {
            ["cgroup2", ..] => (Vec::new(), own(&|controllers| controllers.is_empty())),
            ["cgroup", _, options] => {
                let known = ["freezer", "cpu", "memory"];
                let names: Vec<String> =
                    options.split(',').filter(|option| known.contains(option)).map(str::to_owned).collect();
                if names.is_empty() {
                    continue;
                }
                let path = own(&|controllers| controllers.split(',').any(|controller| names[0] == controller));
                (names, path)
            }
            _ => continue,
        };
        // In a container the mount may show the hierarchy from further down.
        let below = path.as_deref().and_then(|path| path.strip_prefix(root.trim_end_matches('/')));
        let Some(below) = below.filter(|below| below.is_empty() || below.starts_with('/')) else { continue };
        found.push(Hierarchy { controllers, own: Path::new(mount_point).join(below.trim_start_matches('/')) });
    }
    found
}

/// Returns the groups of a machine that [`create`] would have made from here and that exist, for when nothing remembers them.
pub fn of(id: &MachineId) -> Vec<PathBuf> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let hierarchies = hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let groups = hierarchies.into_iter().map(|hierarchy| hierarchy.own.join(format!("dh-{id}")));
    groups.filter(|group| group.is_dir()).collect()
}

/// Makes the groups of a machine where that is possible, and returns their directories.
pub fn create(id: &MachineId, limits: Limits) -> Vec<PathBuf> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut hierarchies = hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    // Where both versions have a freezer one is enough, and version 1's is where the other controllers are too.
    let old_freezer = hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == "freezer"));
    hierarchies.retain(|hierarchy| {
        let has = |name: &str| hierarchy.controllers.iter().any(|controller| controller == name);
        match hierarchy.controllers.is_empty() {
            true => !old_freezer,
            false => {
                has("freezer") || (has("cpu") && limits.vcpus.is_some()) || (has("memory") && limits.memory.is_some())
            }
        }
    });
    let mut groups = Vec::new();
    for hierarchy in hierarchies {
        let group = hierarchy.own.join(format!("dh-{id}"));
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => continue,
            _ => {}
        }
        if OpenOptions::new().write(true).open(group.join("cgroup.procs")).is_err() {
            let _ = fs::remove_dir(&group);
            continue;
        }
        limit(&group, limits);
        groups.push(group);
    }
    groups
}

/// Sets limits, as far as the group has the files for them: they are hints.
fn limit(group: &Path, limits: Limits) {
    let set = |name: &str, value: String| {
        let path = group.join(name);
        if path.exists()
            && let Err(error) = fs::write(&path, value)
        {
            tracing::warn!(path = %path.display(), %error, "a resource hint is not in force");
        }
    };
    if let Some(vcpus) = limits.vcpus {
        set("cpu.max", format!("{} 100000", u64::from(vcpus) * 100_000));
        set("cpu.cfs_quota_us", (u64::from(vcpus) * 100_000).to_string());
    }
    if let Some(memory) = limits.memory {
        set("memory.max", memory.to_string());
        set("memory.limit_in_bytes", memory.to_string());
    }
}

/// Opens the files through which a process joins the groups, by writing `0` to each.
///
/// # Errors
/// When a group is gone or may not be joined.
pub fn entrances(groups: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    let open = |group: &PathBuf| Ok(OpenOptions::new().write(true).open(group.join("cgroup.procs"))?.into());
    groups.iter().map(open).collect()
}

/// Freezes whatever is in the groups; false when none of them can freeze, or not before the deadline.
///
/// There is no event to wait for under version 1, so the state is read again after short pauses.
pub fn freeze(groups: &[PathBuf], deadline: Instant) -> bool {
    let Some(group) = groups.iter().find(|group| freezer(group).is_some()) else { return false };
    if !set_frozen(group, true) {
        return false;
    }
    let mut pause = Duration::from_millis(1);
    while !is_frozen(group) {
        if Instant::now() > deadline {
            set_frozen(group, false);
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
        // Version 1 stays at FREEZING when a task was busy; asking again goes on.
        set_frozen(group, true);
    }
    true
}

/// Thaws whatever is in the groups.
pub fn thaw(groups: &[PathBuf]) {
    for group in groups {
        set_frozen(group, false);
    }
}

/// Removes the groups, which must be empty; those that are not, stay.
pub fn remove(groups: &[PathBuf]) {
    // The kernel lets go of a group a moment after its last process has been seen to be dead.
    let deadline = Instant::now() + Duration::from_secs(2);
    for group in groups {
        loop {
            match fs::remove_dir(group) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                    if Instant::now() > deadline {
                        tracing::warn!(path = %group.display(), "a control group is still in use and stays");
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => break,
            }
        }
    }
}

enum Freezer {
    One(PathBuf),
    Two(PathBuf),
}

fn freezer(group: &Path) -> Option<Freezer> {
    let (one, two) = (group.join("freezer.state"), group.join("cgroup.freeze"));
    if one.exists() { Some(Freezer::One(one)) } else { two.exists().then_some(Freezer::Two(two)) }
}

fn set_frozen(group: &Path, frozen: bool) -> bool {
    match freezer(group) {
        Some(Freezer::One(path)) => fs::write(path, if frozen { "FROZEN" } else { "THAWED" }).is_ok(),
        Some(Freezer::Two(path)) => fs::write(path, if frozen { "1" } else { "0" }).is_ok(),
        None => false,
    }
}

fn is_frozen(group: &Path) -> bool {
    match freezer(group) {
        Some(Freezer::One(path)) => fs::read_to_string(path).is_ok_and(|state| state.trim() == "FROZEN"),
        Some(Freezer::Two(_)) => fs::read_to_string(group.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "frozen 1")),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchies_of_both_versions_are_found() {
        let mountinfo = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
34 31 0:31 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let memberships = "9:pids:/p\n4:memory:/docker/abc/x\n3:cpu,cpuacct:/\n2:freezer:/f\n0::/user.slice";
        let found = hierarchies(mountinfo, memberships);
        let own: Vec<&str> = found.iter().map(|hierarchy| hierarchy.own.to_str().unwrap()).collect();
        assert_eq!(
            own,
            [
                "/sys/fs/cgroup/cpu/",
                "/sys/fs/cgroup/freezer/f",
                "/sys/fs/cgroup/memory/x",
                "/sys/fs/cgroup/unified/user.slice"
            ]
        );
    }

    #[test]
    fn a_membership_outside_the_mount_is_no_hierarchy_of_ours() {
        let mountinfo = "34 31 0:31 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(hierarchies(mountinfo, "0::/elsewhere"), []);
    }

    #[test]
    fn only_limits_below_the_machines_own_are_set() {
        assert_eq!(Limits::for_type(u32::MAX, u32::MAX), Limits::default());
        assert_eq!(total_memory("MemTotal:       2048 kB\nMemFree: 1 kB"), Some(2 << 20));
    }

    #[test]
    fn nothing_to_freeze_is_said() {
        assert!(!freeze(&[], Instant::now()));
    }
}
