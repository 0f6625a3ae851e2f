//! The real host: `/proc`, netlink, utmp, terminals, sockets. Nothing is ever executed.

mod http;
mod netlink;
mod proc;
mod users;
mod utmp;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::fs::Access;
use rustix::time::{ClockId, clock_gettime};

use self::proc::ProcDir;
use self::users::Users;
use crate::domain::{Error, ErrorKind, MachineId, Result};
use crate::ports::{BootTime, ContainerSocket, Host, HttpAnswer, HttpTarget, Login, Process, TcpConnection};

/// The label by which a container on the host's own Docker belongs to one engine of the local backend.
pub const ENGINE_LABEL: &str = "dh.engine";

/// How long a local HTTP service may take, where the caller sets nothing else.
const HTTP_DEADLINE: Duration = Duration::from_secs(2);

/// The kernel's own boot id.
const KERNEL_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The longest coffee lock worth reading; two lines have some hundred bytes.
const COFFEE_MAX_BYTES: u64 = 4_096;

/// What of the machine is in view.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// All of it: the engine is a machine of its own. Seeing other users' processes takes root.
    Machine,
    /// One engine of the local backend: what descends from its supervisor, without the supervisor and this process.
    /// Containers: those on sockets below `root`, and on the host's Docker those labelled [`ENGINE_LABEL`]`=<machine>`.
    Descendants {
        /// The supervisor.
        of: u32,
        /// The engine's root directory.
        root: PathBuf,
        /// The engine's machine.
        machine: MachineId,
    },
}

/// The host this process runs on.
#[derive(Debug)]
pub struct ProcHost {
    scope: Scope,
    coffee: PathBuf,
    boot_id: PathBuf,
    http_deadline: Duration,
    me: u32,
    proc: PathBuf,
    run: PathBuf,
    dev: PathBuf,
    users: Mutex<Users>,
}

impl ProcHost {
    /// Makes the host as one scope sees it. The coffee lock is the file in which an engine is held by a timestamp.
    pub fn new(scope: Scope, coffee_lock: impl Into<PathBuf>) -> Self {
        Self {
            scope,
            coffee: coffee_lock.into(),
            boot_id: KERNEL_BOOT_ID.into(),
            http_deadline: HTTP_DEADLINE,
            me: std::process::id(),
            proc: "/proc".into(),
            run: "/run".into(),
            dev: "/dev".into(),
            users: Mutex::new(Users::new("/etc/passwd")),
        }
    }

    /// Sets how long a local HTTP service may take to answer: two seconds otherwise.
    pub fn with_http_deadline(mut self, deadline: Duration) -> Self {
        self.http_deadline = deadline;
        self
    }

    /// Sets the file whose content changes with every boot: the kernel's own otherwise.
    pub fn with_boot_id(mut self, path: impl Into<PathBuf>) -> Self {
        self.boot_id = path.into();
        self
    }

    /// Takes `/proc`, `/run` and `/dev` from elsewhere: trees that tests make.
    #[cfg(test)]
    fn with_places(mut self, proc: &Path, run: &Path, dev: &Path) -> Self {
        (self.proc, self.run, self.dev) = (proc.into(), run.into(), dev.into());
        self
    }

    /// Returns every process's id. A /proc mounted with hidepid shows a user only their own: everybody else looks gone.
    fn all_pids(&self, proc: &ProcDir) -> Result<Vec<u32>> {
        let pids = proc.pids()?;
        if self.scope == Scope::Machine && !pids.contains(&1) {
            return Err(Error::new(ErrorKind::Denied, "other users' processes are hidden from this one")
                .with_hint("run dh-agent as root, or mount /proc without hidepid"));
        }
        Ok(pids)
    }

    /// Returns what one read of `stat` says about each process in scope.
    fn stats(&self, proc: &ProcDir, scratch: &mut Vec<u8>) -> Result<Vec<proc::Stat>> {
        let mut all = Vec::new();
        for pid in self.all_pids(proc)? {
            if let Some(stat) = proc.stat(pid, scratch)? {
                all.push(stat);
            }
        }
        if let Scope::Descendants { of, .. } = &self.scope {
            let family = proc::descendants(&all, *of).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("the engine's supervisor (process {of}) has ended"))
                    .with_hint("see `dh engine status`")
            })?;
            all.retain(|stat| stat.pid != self.me && family.contains(&stat.pid));
        }
        Ok(all)
    }

    fn pids_in_scope(&self, proc: &ProcDir) -> Result<Vec<u32>> {
        match self.scope {
            Scope::Machine => self.all_pids(proc),
            Scope::Descendants { .. } => {
                Ok(self.stats(proc, &mut Vec::new())?.into_iter().map(|stat| stat.pid).collect())
            }
        }
    }

    /// Adds the sockets that exist. One that this process may not even look for is an error, one that is absent is not.
    fn add_sockets(found: &mut Vec<ContainerSocket>, paths: Vec<PathBuf>, label: Option<&str>) -> Result<()> {
        for path in paths {
            match std::fs::metadata(&path) {
                Ok(meta) if meta.file_type().is_socket() => found.push(ContainerSocket {
                    path: path.to_string_lossy().into_owned(),
                    label: label.map(str::to_owned),
                }),
                Ok(_) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(unreadable(&path, error)),
            }
        }
        Ok(())
    }

    /// Returns where rootless container engines of logged-in users have their sockets.
    fn user_runtime_dirs(&self) -> Result<Vec<PathBuf>> {
        let users = self.run.join("user");
        match std::fs::read_dir(&users) {
            Ok(entries) => {
                let mut dirs = Vec::new();
                for entry in entries {
                    dirs.push(entry.map_err(|error| unreadable(&users, error))?.path());
                }
                dirs.sort();
                Ok(dirs)
            }
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(unreadable(&users, error)),
        }
    }
}

#[async_trait]
impl Host for ProcHost {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn boot(&self) -> Option<BootTime> {
        let time = clock_gettime(ClockId::Boottime);
        let since_boot = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
        // The id is read last: whoever was frozen in between finds that it has changed.
        let id = std::fs::read_to_string(&self.boot_id).ok()?.trim().to_owned();
        (!id.is_empty()).then_some(BootTime { id, since_boot })
    }

    fn processes(&self) -> Result<Vec<Process>> {
        let proc = ProcDir::open(&self.proc)?;
        let mut scratch = Vec::with_capacity(proc::SCRATCH);
        let stats = self.stats(&proc, &mut scratch)?;
        let mut users = self.users.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        users.refresh();
        let booted = proc::booted_at();
        let mut processes = Vec::with_capacity(stats.len());
        for stat in stats {
            if let Some(process) = proc.describe(stat, &users, booted, &mut scratch)? {
                processes.push(process);
            }
        }
        Ok(processes)
    }

    fn connections(&self) -> Result<Vec<TcpConnection>> {
        let sockets = netlink::tcp_sockets()?;
        if sockets.established.is_empty() {
            return Ok(Vec::new());
        }
        let proc = ProcDir::open(&self.proc)?;
        let wanted: HashSet<u32> = sockets.established.iter().map(|socket| socket.inode).filter(|&i| i != 0).collect();
        let mut owners: HashMap<u32, u32> = HashMap::with_capacity(wanted.len());
        let mut denied = None;
        for pid in self.pids_in_scope(&proc)? {
            // A socket that was inherited belongs to several; the lowest id stands for them, whatever order we came in.
            let refused = proc.sockets(pid, |inode| {
                if wanted.contains(&inode) {
                    owners.entry(inode).and_modify(|owner| *owner = pid.min(*owner)).or_insert(pid);
                }
            })?;
            if refused {
                denied = Some(pid);
            }
        }
        if let (Scope::Machine, Some(pid)) = (&self.scope, denied)
            && owners.len() < wanted.len()
        {
            return Err(Error::new(ErrorKind::Denied, format!("the sockets of process {pid} may not be read"))
                .with_hint("run dh-agent as root"));
        }
        let everywhere = self.scope == Scope::Machine;
        Ok(sockets
            .established
            .iter()
            .map(|socket| TcpConnection {
                local: socket.local,
                remote: socket.remote,
                pid: owners.get(&socket.inode).copied(),
                inbound: sockets.is_listening(socket.local),
            })
            .filter(|connection| everywhere || connection.pid.is_some())
            .collect())
    }

    fn logins(&self) -> Result<Vec<Login>> {
        let path = self.run.join("utmp");
        let logins = match std::fs::read(&path) {
            Ok(bytes) => utmp::logins(&bytes),
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&path, error)),
        };
        if logins.is_empty() {
            return Ok(logins);
        }
        let alive = self.pids_in_scope(&ProcDir::open(&self.proc)?)?;
        // Whoever was cut off leaves an entry behind: its process is gone, or its terminal.
        Ok(logins
            .into_iter()
            .filter(|login| alive.contains(&login.pid))
            .filter(|login| !login.line.starts_with("pts/") || self.dev.join(&login.line).exists())
            .collect())
    }

    fn last_input(&self, tty: &str) -> Result<Option<Timestamp>> {
        if tty.is_empty() || tty.starts_with('/') || tty.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("{tty:?} is not a terminal")));
        }
        let path = self.dev.join(tty);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.file_type().is_char_device() => {
                Ok(Timestamp::new(meta.atime(), meta.atime_nsec() as i32).ok())
            }
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreadable(&path, error)),
        }
    }

    fn container_sockets(&self) -> Result<Vec<ContainerSocket>> {
        let system = |run: &Path| vec![run.join("docker.sock"), run.join("podman/podman.sock")];
        let mut found = Vec::new();
        match &self.scope {
            Scope::Machine => {
                Self::add_sockets(&mut found, system(&self.run), None)?;
                for dir in self.user_runtime_dirs()? {
                    Self::add_sockets(&mut found, system(&dir), None)?;
                }
            }
            Scope::Descendants { root, machine, .. } => {
                Self::add_sockets(&mut found, system(&root.join("run")), None)?;
                // The engine's processes run as this user: a socket closed to it holds no container of theirs.
                let own = self.run.join(format!("user/{}", rustix::process::getuid().as_raw()));
                let hosts = [self.run.join("docker.sock"), own.join("docker.sock")];
                let open =
                    hosts.into_iter().filter(|path| rustix::fs::access(path, Access::WRITE_OK).is_ok()).collect();
                Self::add_sockets(&mut found, open, Some(&format!("{ENGINE_LABEL}={machine}")))?;
            }
        }
        Ok(found)
    }

    fn coffee_lock(&self) -> Result<Option<String>> {
        use std::io::Read;
        let read = || {
            let mut text = String::new();
            std::fs::File::open(&self.coffee)?.take(COFFEE_MAX_BYTES).read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreadable(&self.coffee, error)),
        }
    }

    async fn http_get(&self, target: &HttpTarget, path: &str) -> Result<Option<HttpAnswer>> {
        http::get(target, path, self.http_deadline).await
    }
}

/// Returns whether an error says that the thing is not there, rather than that it could not be seen.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Makes the error for something that is there and could not be read.
fn unreadable(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("cannot read {}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests;
