//! The machine's clock, its randomness, and its processes.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::rand::GetRandomFlags;
use rustix::time::ClockId;

use crate::domain::{Error, ErrorKind, Result, RunnerId};
use crate::ports::{Clock, Entropy, Runners};

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(ClockId::Boottime);
        // Neither is ever negative on this clock.
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The kernel's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the kernel has no `getrandom`, which every kernel since 3.17 has.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        loop {
            // Eight bytes come whole or not at all.
            match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
                Ok(_) => return u64::from_ne_bytes(bytes),
                Err(Errno::INTR) => {}
                Err(error) => panic!("the kernel gives no random numbers: {error}"),
            }
        }
    }
}

/// This process, and the others of this machine.
#[derive(Debug, Clone)]
pub struct SystemRunners {
    this: RunnerId,
}

impl SystemRunners {
    /// Finds out who this process is.
    ///
    /// # Errors
    /// `Unavailable` when `/proc` is not there.
    pub fn new() -> Result<Self> {
        let pid = rustix::process::getpid();
        let no_proc = || {
            Error::new(ErrorKind::Unavailable, "cannot tell which process this is: /proc cannot be read")
                .with_hint("mount /proc, then run the command again")
        };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(|_| no_proc())?;
        let Some(Stat { started, .. }) = stat(pid.as_raw_nonzero().get().unsigned_abs()) else {
            return Err(no_proc());
        };
        Ok(Self {
            this: RunnerId {
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                boot_id: boot_id(boot.trim(), pid_namespace()),
                pid: pid.as_raw_nonzero().get().unsigned_abs(),
                started,
            },
        })
    }
}

impl Runners for SystemRunners {
    fn this(&self) -> RunnerId {
        self.this.clone()
    }

    fn is_gone(&self, runner: &RunnerId) -> bool {
        if runner.host != self.this.host {
            return false;
        }
        let (ours, theirs) = (split_boot_id(&self.this.boot_id), split_boot_id(&runner.boot_id));
        if ours.0 != theirs.0 {
            return true;
        }
        // Process ids mean nothing to another container.
        ours.1 == theirs.1 && !runs(runner.pid, runner.started)
    }
}

/// The kernel's boot id alone, or, in a namespace of processes other than the machine's first, with that namespace: two
/// containers may have the same host name and boot id, and the same process ids for other processes.
fn boot_id(boot: &str, namespace: Option<u64>) -> String {
    match namespace {
        None | Some(FIRST_PID_NAMESPACE) => boot.to_owned(),
        Some(number) => format!("{boot}/{number}"),
    }
}

fn split_boot_id(boot_id: &str) -> (&str, &str) {
    boot_id.split_once('/').unwrap_or((boot_id, ""))
}

/// The inode of the namespace in which the machine's first process runs (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

fn pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())
}

/// Whether the process that had this id and start still runs. When in doubt, true.
fn runs(pid: u32, started: u64) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    // Asked first, because `/proc` may hide other users' processes.
    if rustix::process::test_kill_process(id) == Err(Errno::SRCH) {
        return false;
    }
    stat(pid).is_none_or(|found| found.started == started && !matches!(found.state, 'Z' | 'X'))
}

struct Stat {
    state: char,
    /// In clock ticks since boot.
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name, which may hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, started: fields.nth(18)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn runners() -> SystemRunners {
        SystemRunners::new().unwrap()
    }

    fn runner_of(pid: u32) -> RunnerId {
        RunnerId { pid, started: stat(pid).unwrap().started, ..runners().this() }
    }

    #[test]
    fn this_process_is_not_gone() {
        let this = runners().this();
        assert_eq!(this.pid, std::process::id());
        assert!(!runners().is_gone(&this));
    }

    #[test]
    fn a_process_is_gone_once_it_ended_even_before_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let runner = runner_of(child.id());
        assert!(!runners().is_gone(&runner));
        child.kill().unwrap();
        let id = Pid::from_raw(child.id() as i32).unwrap();
        // Waits for its end and leaves it unreaped.
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(id), options).unwrap();
        assert!(runners().is_gone(&runner));
        child.wait().unwrap();
        assert!(runners().is_gone(&runner));
    }

    #[test]
    fn the_same_id_at_another_start_or_boot_is_somebody_else() {
        let this = runners().this();
        assert!(runners().is_gone(&RunnerId { started: this.started + 1, ..this.clone() }));
        assert!(runners().is_gone(&RunnerId { boot_id: "another".into(), ..this.clone() }));
        assert!(runners().is_gone(&RunnerId { pid: u32::MAX, ..this.clone() }));
        assert!(runners().is_gone(&RunnerId { pid: 0, ..this }));
    }

    #[test]
    fn of_other_hosts_and_containers_nothing_is_known() {
        let this = runners().this();
        let elsewhere = RunnerId { host: "elsewhere".into(), boot_id: "another".into(), pid: 0, ..this.clone() };
        assert!(!runners().is_gone(&elsewhere));
        let container = format!("{}/1", split_boot_id(&this.boot_id).0);
        assert!(!runners().is_gone(&RunnerId { boot_id: container, pid: u32::MAX, ..this }));
    }

    #[test]
    fn the_first_namespace_adds_nothing_to_the_boot_id() {
        assert_eq!(boot_id("b", Some(FIRST_PID_NAMESPACE)), "b");
        assert_eq!(split_boot_id(&boot_id("b", Some(7))), ("b", "7"));
    }

    #[test]
    fn a_program_name_may_hold_anything() {
        let text = "7 (a) R 1) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2";
        let found = parse_stat(text).unwrap();
        assert_eq!((found.state, found.started), ('S', 4242));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn the_boot_clock_goes_on() {
        let clock = SystemClock;
        let before = clock.since_boot();
        assert!(before > Duration::ZERO && clock.since_boot() >= before);
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(SystemEntropy.next_u64(), SystemEntropy.next_u64());
    }
}
