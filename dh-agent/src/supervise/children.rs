//! How an engine's processes begin: in its home, with its environment, in its control groups, and dead when the supervisor is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dh_core::backend::local::control::{SessionKind, SessionSpec};
use dh_core::backend::local::map::io_error;
use dh_core::backend::local::process::ENGINE_ID_VARIABLE;
use dh_core::backend::local::{EngineDir, MachineRecord, cgroup, engine_types};
use dh_core::domain::{Error, ErrorKind, Result};
use dh_core::wire::AGENT_CONFIG_VARIABLE;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::account::Account;
use crate::bootstrap::ssh;

/// Where programs are when whoever started the engine had no search path.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The size of a terminal whose client has none.
const DEFAULT_WINDOW: (u16, u16) = (24, 80);

/// Begins processes of one engine.
#[derive(Debug)]
pub struct Children {
    dir: EngineDir,
    agent: PathBuf,
    account: Account,
    env: BTreeMap<OsString, OsString>,
    cgroups: Vec<PathBuf>,
}

/// A session that has begun.
#[derive(Debug)]
pub struct Begun {
    pub pid: Pid,
    pub terminal: Option<OwnedFd>,
}

impl Children {
    pub fn new(dir: EngineDir, agent: PathBuf, record: &MachineRecord, cgroups: Vec<PathBuf>) -> Self {
        let account = Account::current();
        let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        env.entry("PATH".into()).or_insert(DEFAULT_PATH.into());
        let mut set = |name: &str, value: OsString| env.insert(name.into(), value);
        set("HOME", dir.home().into());
        set("USER", account.name.clone().into());
        set("LOGNAME", account.name.clone().into());
        set("SHELL", account.shell.clone().into());
        set(ENGINE_ID_VARIABLE, record.id.as_str().into());
        set("DH_ENGINE", record.engine.as_str().into());
        set(AGENT_CONFIG_VARIABLE, dir.agent_config().into());
        if let Some(hints) = engine_types().get(&record.engine_type) {
            set("DH_VCPUS", hints.vcpus.to_string().into());
            set("DH_MEMORY_GB", hints.memory_gb.to_string().into());
            set("DH_GPUS", hints.gpus.to_string().into());
        }
        Self { dir, agent, account, env, cgroups }
    }

    /// Begins the agent.
    pub fn agent(&self) -> Result<Pid> {
        let mut command = Command::new(&self.agent);
        command.arg("run").stdin(Stdio::null());
        self.spawn(command, false).map_err(|source| io_error("cannot start", &self.agent, source))
    }

    /// Begins a session with the descriptors that its client has sent.
    pub fn session(&self, spec: &SessionSpec, descriptors: Vec<OwnedFd>) -> Result<Begun> {
        let mut terminal = None;
        let mut command = match &spec.kind {
            SessionKind::Exec { argv } | SessionKind::Command { argv, .. } => {
                let [program, arguments @ ..] = argv.as_slice() else {
                    return Err(Error::new(ErrorKind::InvalidArgument, "there is no command to run")
                        .with_hint("give one after '--': dh engine exec NAME -- COMMAND"));
                };
                let mut command = self.program(program);
                command.args(arguments);
                let [stdin, stdout, stderr] = three(descriptors)?;
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                command
            }
            SessionKind::Shell => {
                let (controller, slave) = open_terminal(spec.window)
                    .map_err(|source| io_error("cannot open", "/dev/ptmx".as_ref(), source))?;
                terminal = Some(controller);
                let mut command = Command::new(&self.account.shell);
                command.arg("-l");
                let copy = || slave.try_clone().map_err(|source| io_error("cannot open", "/dev/ptmx".as_ref(), source));
                command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
                command
            }
            SessionKind::Ssh => {
                let server = ssh::server_command(&self.dir)?;
                let mut descriptors = descriptors.into_iter();
                let (Some(connection), Some(errors)) = (descriptors.next(), descriptors.next()) else {
                    return Err(descriptors_missing());
                };
                let copy =
                    connection.try_clone().map_err(|source| io_error("cannot start", self.dir.path(), source))?;
                let mut command = server;
                command.stdin(connection).stdout(copy).stderr(errors);
                command
            }
        };
        command.env_clear().envs(&spec.env);
        if let Some(kind) = marker(&spec.kind) {
            command.env("DH_SESSION", kind);
        }
        let program = PathBuf::from(command.get_program());
        match self.spawn(command, terminal.is_some()) {
            Ok(pid) => Ok(Begun { pid, terminal }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::NotFound, format!("{}: there is no such program", program.display()))
                    .with_hint("give its whole path, or install it: 'dh engine shell NAME' opens a shell"))
            }
            Err(source) => Err(io_error("cannot run", &program, source)),
        }
    }

    fn program(&self, name: &str) -> Command {
        let own = Path::new(name) == Path::new("dh-agent");
        Command::new(if own { self.agent.as_path() } else { Path::new(name) })
    }

    /// Begins a process in a session of its own.
    fn spawn(&self, mut command: Command, terminal: bool) -> io::Result<Pid> {
        let home = self.dir.home();
        // A home that its user has removed must not keep everybody out.
        command.current_dir(if home.is_dir() { home } else { self.dir.path().to_owned() });
        command.envs(&self.env);
        let entrances: Vec<File> = cgroup::entrances(&self.cgroups)?.into_iter().map(File::from).collect();
        let supervisor = getpid();
        // SAFETY: only plain system calls between fork and exec, and writes to files that are open already.
        unsafe {
            command.pre_exec(move || {
                setsid()?;
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // It may have ended before the line above.
                if getppid() != Some(supervisor) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                for entrance in &entrances {
                    rustix::io::write(entrance, b"0")?;
                }
                if terminal {
                    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        Pid::from_raw(child.id() as i32).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn marker(kind: &SessionKind) -> Option<&'static str> {
    match kind {
        SessionKind::Exec { .. } => Some("exec"),
        SessionKind::Shell => Some("shell"),
        SessionKind::Ssh => Some("ssh"),
        // What dh itself runs is no sign that somebody uses the engine.
        SessionKind::Command { .. } => None,
    }
}

fn three(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; 3]> {
    descriptors.try_into().map_err(|_| descriptors_missing())
}

fn descriptors_missing() -> Error {
    Error::new(ErrorKind::InvalidArgument, "a session came without its descriptors")
}

/// Opens a terminal and returns both of its ends.
fn open_terminal(window: Option<(u16, u16)>) -> io::Result<(OwnedFd, File)> {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let name = ptsname(&controller, Vec::new())?;
    let (ws_row, ws_col) = window.filter(|&(rows, columns)| rows > 0 && columns > 0).unwrap_or(DEFAULT_WINDOW);
    tcsetwinsize(controller.as_fd(), Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
    let path = PathBuf::from(OsString::from_vec(name.into_bytes()));
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NOCTTY.bits() as i32);
    let slave = options.read(true).write(true).open(path)?;
    Ok((controller, slave))
}
