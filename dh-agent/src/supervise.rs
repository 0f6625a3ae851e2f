//! `dh-agent supervise`: one process for each engine of this machine that has power.
//!
//! It holds the machine's lock, so that everybody sees that the engine lives; all processes of the engine are below it, also
//! those that left their parents; and it ends when the last of them has ended.

mod children;
mod connection;
mod engine;
mod group;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use dh_core::backend::local::map::io_error;
use dh_core::backend::local::{EngineDir, MachineRecord, PowerLock};
use dh_core::domain::{Error, ErrorKind, MachineState, Result, StateReason, StopCause};
use dh_core::ports::LogSource;
use jiff::Timestamp;
use rustix::io::{FdFlags, fcntl_setfd};

/// A console log longer than this begins anew when the engine is started.
const CONSOLE_MAX: u64 = 1 << 20;

/// The variables of whoever starts an engine that its processes take over. Everything else stays outside: the engine
/// would keep it for days, and a machine of its own would not have it either.
const KEPT_VARIABLES: &[&str] = &["PATH", "LANG", "LANGUAGE", "TZ", "DH_LOG", "RUST_BACKTRACE"];

#[derive(Debug, clap::Args)]
pub struct SuperviseArgs {
    /// The machine's directory.
    #[arg(long)]
    dir: PathBuf,
    /// The program that is kept running as `PROGRAM run`, and stands for `dh-agent` in commands.
    #[arg(long)]
    agent: PathBuf,
    /// How long processes have between the request to end and the kill.
    #[arg(long, default_value_t = 5.0)]
    grace_secs: f64,
    /// This is the lasting process.
    #[arg(long, hide = true)]
    detached: bool,
}

/// Starts the lasting process and returns, or is that process.
pub fn run(args: &SuperviseArgs) -> Result<()> {
    let dir = EngineDir::new(&args.dir);
    let lock = take_lock(&dir)?;
    if !args.detached {
        return detach(args, &dir, &lock);
    }
    tracing_subscriber::fmt().with_ansi(false).with_target(false).with_writer(io::stderr).init();
    let served = serve(args, dir.clone(), &lock);
    if let Err(error) = &served {
        tracing::error!(error = %error.full_message(), "the supervisor gives up");
        record_failure(&dir, error);
    }
    served
}

/// Takes the machine's power from standard input, where whoever starts the engine passes it on, or by itself.
fn take_lock(dir: &EngineDir) -> Result<PowerLock> {
    let copy = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3);
    let passed = copy.map(PowerLock::from_passed).ok().filter(|lock| lock.belongs_to(dir));
    let null = File::open("/dev/null").map_err(|source| io_error("cannot open", "/dev/null".as_ref(), source))?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| io_error("cannot open", "/dev/null".as_ref(), errno.into()))?;
    if let Some(lock) = passed {
        return Ok(lock);
    }
    PowerLock::try_take(dir)?.ok_or_else(|| {
        Error::new(ErrorKind::Conflict, "the machine has a supervisor already")
            .with_hint("run 'dh engine list' to see its state")
    })
}

/// Starts this program again in a session of its own, with nothing of the caller's but the lock.
fn detach(args: &SuperviseArgs, dir: &EngineDir, lock: &PowerLock) -> Result<()> {
    let failed = |source| io_error("cannot start a supervisor for", dir.path(), source);
    close_on_exec().map_err(failed)?;
    let console = dir.log(LogSource::Console);
    let begin_anew = console.metadata().is_ok_and(|log| log.len() > CONSOLE_MAX);
    let log = OpenOptions::new().create(true).append(true).open(&console);
    let log = log.map_err(|source| io_error("cannot open", &console, source))?;
    if begin_anew {
        log.set_len(0).map_err(|source| io_error("cannot write", &console, source))?;
    }
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("supervise").arg("--dir").arg(dir.path()).arg("--agent").arg(&args.agent);
    command.args(["--grace-secs", &args.grace_secs.to_string(), "--detached"]);
    command.env_clear().current_dir("/");
    command.envs(std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| KEPT_VARIABLES.contains(&name) || name.starts_with("LC_"))
    }));
    command.stdin(Stdio::from(lock.share().map_err(failed)?));
    command.stdout(Stdio::from(log.try_clone().map_err(failed)?)).stderr(Stdio::from(log));
    // SAFETY: setsid is a plain system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    command.spawn().map(drop).map_err(failed)
}

/// Keeps whatever the caller has left open from the lasting process: a pipe held by it would never end.
fn close_on_exec() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if number > 2 {
            // SAFETY: the number was just read from our own table, and nothing else runs in this process that could
            // close it; for the listing's own, closed by now, the call fails and changes nothing.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = fcntl_setfd(descriptor.as_fd(), FdFlags::CLOEXEC);
        }
    }
    Ok(())
}

fn serve(args: &SuperviseArgs, dir: EngineDir, lock: &PowerLock) -> Result<()> {
    let grace = Duration::try_from_secs_f64(args.grace_secs)
        .map_err(|error| Error::new(ErrorKind::InvalidArgument, "the grace is no time").with_source(error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| io_error("cannot supervise", dir.path(), source))?;
    tokio::task::LocalSet::new().block_on(&runtime, engine::supervise(dir, args.agent.clone(), grace, lock))
}

/// The engine never came to run, or its end went wrong: says so in its record, for whoever looks.
fn record_failure(dir: &EngineDir, error: &Error) {
    let Ok(Some(mut record)) = MachineRecord::load(dir) else { return };
    if record.state != MachineState::Terminating {
        let message = format!("its supervisor gave up: {}", error.full_message());
        record.set_state(
            MachineState::Stopped,
            Some(StateReason { cause: StopCause::Died, message, at: Timestamp::now() }),
        );
        if let Err(error) = record.save(dir) {
            tracing::error!(error = %error.full_message(), "the failure is not recorded");
        }
    }
}
