//! `/proc`, read with as few calls as can be: three small files a process, into one buffer.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::users::Users;
use crate::domain::{Error, ErrorKind, Result};
use crate::ports::Process;

/// The size of the buffer that everything is read into.
pub(super) const SCRATCH: usize = 4_096;

/// The most environment that is looked through for `DH_SESSION`.
const ENVIRONMENT_MAX: usize = 1 << 20;

/// The mark of a kernel thread in `stat`'s flags.
const PF_KTHREAD: u64 = 0x0020_0000;

const SESSION_VARIABLE: &[u8] = b"DH_SESSION=";

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) session: u32,
    pub(super) tty: u32,
    pub(super) comm: String,
    /// Clock ticks since boot.
    pub(super) started: u64,
    pub(super) kernel_thread: bool,
    pub(super) zombie: bool,
}

/// An open `/proc`.
#[derive(Debug)]
pub(super) struct ProcDir {
    dir: OwnedFd,
}

impl ProcDir {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Self { dir }),
            Err(errno) => Err(super::unreadable(path, errno.into())),
        }
    }

    /// Returns every process's id.
    pub(super) fn pids(&self) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        let dir = self.reopen("")?.ok_or_else(|| Error::new(ErrorKind::Unavailable, "/proc has gone"))?;
        each_entry(&dir, |name| {
            if let Some(pid) = number(name) {
                pids.push(pid);
            }
        })
        .map_err(|errno| failed("the list of processes", errno))?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// Reads a process's `stat`; nothing when it has ended.
    pub(super) fn stat(&self, pid: u32, scratch: &mut Vec<u8>) -> Result<Option<Stat>> {
        if !self.read(pid, "stat", scratch)? {
            return Ok(None);
        }
        match parse_stat(scratch) {
            // Reaped while the kernel wrote the line: it has no session and no parent any more.
            Some((_, session)) if session < 0 => Ok(None),
            Some((stat, _)) => Ok(Some(stat)),
            None => Err(Error::new(ErrorKind::Unavailable, format!("/proc/{pid}/stat is not of the known form"))),
        }
    }

    /// Reads the rest of what a process is; nothing when it has ended.
    pub(super) fn describe(
        &self,
        stat: Stat,
        users: &Users,
        booted: Timestamp,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Process>> {
        let pid = stat.pid;
        let mut process = Process {
            pid,
            ppid: stat.ppid,
            session: stat.session,
            tty: tty_name(stat.tty),
            user: String::new(),
            comm: stat.comm,
            cmdline: Vec::new(),
            started_at: began(booted, stat.started),
            dh_session: None,
        };
        if stat.kernel_thread {
            process.user = users.name(0);
            return Ok(Some(process));
        }
        let Some(uid) = self.uid(pid, scratch)? else { return Ok(None) };
        process.user = users.name(uid);
        if stat.zombie {
            return Ok(Some(process));
        }
        if !self.read(pid, "cmdline", scratch)? {
            return Ok(None);
        }
        process.cmdline = arguments(scratch);
        process.dh_session = self.session_variable(pid, scratch)?;
        Ok(Some(process))
    }

    /// Calls back with the inode of every socket a process holds; returns whether it may not be looked into.
    pub(super) fn sockets(&self, pid: u32, mut found: impl FnMut(u32)) -> Result<bool> {
        let dir = match self.reopen(&format!("{pid}/fd")) {
            Ok(Some(dir)) => dir,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Denied => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut target = [std::mem::MaybeUninit::uninit(); 64];
        let listed = each_entry(&dir, |name| {
            if number(name).is_some()
                && let Ok((target, _)) = rustix::fs::readlinkat_raw(&dir, name, &mut target[..])
                && let Some(inode) = socket_inode(target)
            {
                found(inode);
            }
        });
        match listed {
            Ok(()) | Err(Errno::NOENT | Errno::SRCH) => Ok(false),
            Err(Errno::ACCESS | Errno::PERM) => Ok(true),
            Err(errno) => Err(failed(&format!("/proc/{pid}/fd"), errno)),
        }
    }

    /// Opens a directory below; nothing when it is gone.
    fn reopen(&self, below: &str) -> Result<Option<OwnedFd>> {
        let name = if below.is_empty() { "." } else { below };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(errno) => Err(failed(&format!("/proc/{below}"), errno)),
        }
    }

    fn open_file(&self, pid: u32, name: &str) -> Result<Option<OwnedFd>, Errno> {
        match rustix::fs::openat(&self.dir, format!("{pid}/{name}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Reads the beginning of one of a process's files; false when the process has ended.
    fn read(&self, pid: u32, name: &str, scratch: &mut Vec<u8>) -> Result<bool> {
        let read = match self.open_file(pid, name) {
            Ok(Some(file)) => read_once(&file, scratch, 0),
            Ok(None) => return Ok(false),
            Err(errno) => Err(errno),
        };
        match read {
            Ok(_) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(failed(&format!("/proc/{pid}/{name}"), errno)),
        }
    }

    /// Returns the user a process acts as; nothing when it has ended. The owner of its folder says so, save that what may
    /// not be dumped (sshd's sessions, what `sudo` runs) belongs to root there: then `status` tells, which costs more.
    fn uid(&self, pid: u32, scratch: &mut Vec<u8>) -> Result<Option<u32>> {
        match rustix::fs::statat(&self.dir, pid.to_string(), AtFlags::empty()) {
            Ok(stat) if stat.st_uid != 0 => return Ok(Some(stat.st_uid)),
            Ok(_) => {}
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(failed(&format!("/proc/{pid}"), errno)),
        }
        if !self.read(pid, "status", scratch)? {
            return Ok(None);
        }
        match effective_uid(scratch) {
            Some(uid) => Ok(Some(uid)),
            None => Err(Error::new(ErrorKind::Unavailable, format!("/proc/{pid}/status names no user"))),
        }
    }

    /// Looks for `DH_SESSION` in a process's environment. An environment closed to us is none of dh's: what dh begins
    /// runs as this user and is not set-uid, while `sudo` and `ssh-agent` on the engine must not blind every sensor.
    fn session_variable(&self, pid: u32, scratch: &mut Vec<u8>) -> Result<Option<String>> {
        let file = match self.open_file(pid, "environ") {
            Ok(Some(file)) => file,
            Ok(None) | Err(Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(errno) => return Err(failed(&format!("/proc/{pid}/environ"), errno)),
        };
        scratch.clear();
        let mut seen = 0;
        let mut entry_is_open = false;
        while seen < ENVIRONMENT_MAX {
            // One that ends while we read has ended its session too.
            let count = read_once(&file, scratch, scratch.len()).unwrap_or(0);
            seen += count;
            // Every entry that is whole is looked at once; the rest of a long one is skipped, being none of ours.
            let whole = scratch.iter().rposition(|&byte| byte == 0).map_or(0, |at| at + 1);
            for entry in scratch[..whole].split_inclusive(|&byte| byte == 0) {
                let skipped = std::mem::take(&mut entry_is_open);
                if let (false, Some(value)) = (skipped, entry.strip_prefix(SESSION_VARIABLE)) {
                    let value = value.strip_suffix(&[0]).unwrap_or(value);
                    return Ok(Some(String::from_utf8_lossy(value).into_owned()));
                }
            }
            if count < SCRATCH {
                return Ok(None);
            }
            scratch.drain(..whole);
            if scratch.len() > SCRATCH {
                scratch.clear();
                entry_is_open = true;
            }
        }
        Ok(None)
    }
}

/// Reads once, after what is to be kept of the buffer, and returns how much came. The kernel fills the buffer as far as the
/// file goes: a second read to be told of its end would double the cost of most.
fn read_once(file: &OwnedFd, scratch: &mut Vec<u8>, keep: usize) -> Result<usize, Errno> {
    scratch.resize(keep + SCRATCH, 0);
    let read = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut scratch[keep..]));
    scratch.truncate(keep + read.unwrap_or(0));
    read
}

fn failed(what: &str, errno: Errno) -> Error {
    let kind = if matches!(errno, Errno::ACCESS | Errno::PERM) { ErrorKind::Denied } else { ErrorKind::Unavailable };
    Error::new(kind, format!("cannot read {what}")).with_source(std::io::Error::from(errno))
}

fn each_entry(dir: &OwnedFd, mut found: impl FnMut(&std::ffi::CStr)) -> Result<(), Errno> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 8_192];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        found(entry?.file_name());
    }
    Ok(())
}

fn number(name: &std::ffi::CStr) -> Option<u32> {
    let bytes = name.to_bytes();
    if bytes.first()?.is_ascii_digit() { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

fn socket_inode(target: &[u8]) -> Option<u32> {
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns what the line says, and the session as it stands there: -1 once the process is reaped. The name may hold spaces
/// and brackets: it ends at the last bracket of the line.
fn parse_stat(bytes: &[u8]) -> Option<(Stat, i32)> {
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let pid = std::str::from_utf8(&bytes[..open]).ok()?.trim().parse().ok()?;
    let rest: Vec<&str> = std::str::from_utf8(&bytes[close + 1..]).ok()?.split_ascii_whitespace().collect();
    let session: i32 = rest.get(3)?.parse().ok()?;
    let stat = Stat {
        pid,
        comm,
        zombie: matches!(*rest.first()?, "Z" | "X"),
        ppid: rest.get(1)?.parse().ok()?,
        session: u32::try_from(session).unwrap_or(0),
        // Signed in the kernel's format; the high bit is part of the minor number.
        tty: rest.get(4)?.parse::<i32>().ok()? as u32,
        kernel_thread: rest.get(6)?.parse::<u64>().ok()? & PF_KTHREAD != 0,
        started: rest.get(19)?.parse().ok()?,
    };
    Some((stat, session))
}

fn effective_uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn arguments(cmdline: &[u8]) -> Vec<String> {
    // A program that rewrites its title (sshd does) leaves a tail of zeros.
    let end = cmdline.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    if end == 0 {
        return Vec::new();
    }
    cmdline[..end].split(|&byte| byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

/// Names a terminal by its device number, as in Linux's `devices.txt`.
fn tty_name(device: u32) -> Option<String> {
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    match (major, minor) {
        (0, _) => None,
        (136..=143, _) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (4, 0..=63) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        (204, 64..) => Some(format!("ttyAMA{}", minor - 64)),
        (229, _) => Some(format!("hvc{minor}")),
        (5, 1) => Some("console".to_owned()),
        _ => Some(format!("device {major}:{minor}")),
    }
}

/// Returns the processes that descend from one; `None` when that one is not there.
pub(super) fn descendants(all: &[Stat], of: u32) -> Option<HashSet<u32>> {
    if !all.iter().any(|stat| stat.pid == of && !stat.zombie) {
        return None;
    }
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for stat in all {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let mut family = HashSet::new();
    let mut next = vec![of];
    while let Some(pid) = next.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            if family.insert(child) {
                next.push(child);
            }
        }
    }
    family.remove(&of);
    Some(family)
}

/// Returns when the machine booted, by the wall clock as it stands now.
pub(super) fn booted_at() -> Timestamp {
    let uptime = clock_gettime(ClockId::Boottime);
    Timestamp::now() - SignedDuration::new(uptime.tv_sec, uptime.tv_nsec as i32)
}

fn began(booted: Timestamp, ticks: u64) -> Timestamp {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let after = Duration::new(ticks / per_second, ((ticks % per_second) * 1_000_000_000 / per_second) as u32);
    booted.checked_add(after).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "42 (a) b (c) S 7 42 40 34817 42 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2 3";

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_whole() {
        let (stat, _) = parse_stat(LINE.as_bytes()).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.session, stat.comm.as_str()), (42, 7, 40, "a) b (c"));
        assert_eq!((stat.started, stat.kernel_thread, tty_name(stat.tty)), (12_345, false, Some("pts/1".to_owned())));
    }

    #[test]
    fn terminals_have_the_names_of_their_devices() {
        for (device, name) in [(0x8800, "pts/0"), (0x8900, "pts/256"), (0x0401, "tty1"), (0x0440, "ttyS0")] {
            assert_eq!(tty_name(device).as_deref(), Some(name), "{device:#x}");
        }
        assert_eq!(tty_name(0), None);
    }

    #[test]
    fn a_rewritten_title_has_no_empty_arguments() {
        assert_eq!(arguments(b"sshd: alice@pts/0\0\0\0\0"), ["sshd: alice@pts/0"]);
        assert_eq!(arguments(b"printf\0\0x\0"), ["printf", "", "x"]);
        assert!(arguments(b"").is_empty() && arguments(b"\0\0").is_empty());
    }

    #[test]
    fn the_user_is_the_one_it_acts_as() {
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1\n"), Some(0));
        assert_eq!(effective_uid(b"Name:\tx\n"), None);
    }

    #[test]
    fn descendants_leave_out_the_ancestor_and_strangers() {
        let stat = |pid, ppid| Stat { pid, ppid, ..parse_stat(LINE.as_bytes()).unwrap().0 };
        let all = [stat(1, 0), stat(10, 1), stat(11, 10), stat(12, 11), stat(20, 1)];
        assert_eq!(descendants(&all, 10).unwrap(), HashSet::from([11, 12]));
        assert!(descendants(&all, 99).is_none());
        let dead = Stat { zombie: true, ..stat(10, 1) };
        assert!(descendants(&[dead, stat(11, 10)], 10).is_none(), "a zombie supervises nothing");
    }

    #[test]
    fn a_session_variable_is_found_wherever_it_stands() {
        // Pieces of it would stand at the beginning of a buffer, were it taken for several entries.
        let filler = "DH_SESSION=no".repeat(SCRATCH);
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .env("AAA", &filler)
            .env("DH_SESSION", "exec")
            .env("ZZZ", &filler)
            .spawn()
            .unwrap();
        // The kernel lets go of whoever spawns before the new program's environment is in place; an answer comes after it.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let found = proc.session_variable(child.id(), &mut Vec::new());
        let missing = proc.session_variable(std::process::id(), &mut Vec::new());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.unwrap().as_deref(), Some("exec"));
        assert_eq!(missing.unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_stat(&bytes), effective_uid(&bytes), arguments(&bytes), socket_inode(&bytes));
        }
    }
}
