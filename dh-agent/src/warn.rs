//! Telling whoever is on the engine, on their own terminals.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dh_core::domain::{EngineName, Error, ErrorKind, Result, describe_duration};
use dh_core::ports::{Host, Notifier};
use dh_core::sensor::plain;
use rustix::fs::{Mode, OFlags};

/// How long finding the terminals may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Writes to every terminal that a process of the engine has.
#[derive(Debug)]
pub struct Terminals {
    host: Arc<dyn Host>,
    dev: PathBuf,
}

impl Terminals {
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { host, dev: "/dev".into() }
    }
}

#[async_trait]
impl Notifier for Terminals {
    async fn notify(&self, message: &str) -> Result<usize> {
        let (host, dev) = (self.host.clone(), self.dev.clone());
        // A bell, and a line of its own whatever stands there now. Terminals in raw mode need the carriage return.
        let lines: Vec<String> = message.lines().map(plain).collect();
        let text = format!("\r\n\x07{}\r\n", lines.join("\r\n"));
        let tell = tokio::task::spawn_blocking(move || {
            let terminals: BTreeSet<String> = host.processes()?.into_iter().filter_map(|process| process.tty).collect();
            let mut reached = 0;
            for terminal in terminals.iter().filter(|name| is_terminal(name)) {
                match write(&dev.join(terminal), text.as_bytes()) {
                    Ok(()) => reached += 1,
                    Err(error) => tracing::info!(%terminal, %error, "a terminal took no message"),
                }
            }
            Ok(reached)
        });
        match tokio::time::timeout(PATIENCE, tell).await {
            Ok(Ok(reached)) => reached,
            Ok(Err(crash)) => Err(Error::new(ErrorKind::Internal, "telling people crashed").with_source(crash)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the engine's terminals could not be found in time")),
        }
    }
}

/// `pts/7`, `tty1`; nothing that leads elsewhere.
fn is_terminal(name: &str) -> bool {
    let number = name.strip_prefix("pts/").or_else(|| name.strip_prefix("tty"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Writes what fits without waiting: a terminal that nobody reads from, or that was stopped with Ctrl-S, takes nothing.
fn write(path: &std::path::Path, text: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(path, flags, Mode::empty())?;
    if !rustix::termios::isatty(&terminal) {
        return Err(rustix::io::Errno::NOTTY);
    }
    rustix::io::write(&terminal, text).map(drop)
}

/// Says that the engine will be stopped, why, when, and how to keep it.
pub fn warning(engine: &EngineName, idle_for: Duration, left: Duration) -> String {
    format!(
        "*** Engine '{engine}' has been idle for {} and will be stopped in {}.\n*** To keep it: dh engine coffee {engine} 1h",
        describe_duration(idle_for),
        describe_duration(rounded(left)),
    )
}

/// Says that it will not.
pub fn all_clear(engine: &EngineName, reason: &str) -> String {
    format!("*** Engine '{engine}' will not be stopped: {reason}")
}

/// A countdown of 4.998 seconds is one of five.
fn rounded(left: Duration) -> Duration {
    Duration::from_secs(left.as_millis().div_ceil(1_000) as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use dh_core::ports::Process;
    use jiff::Timestamp;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;
    use crate::testing::FakeHost;

    /// A terminal: the side of whoever sits there, the open other side, and its name.
    fn terminal() -> (OwnedFd, OwnedFd, String) {
        let here = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&here).unwrap();
        unlockpt(&here).unwrap();
        let path = ptsname(&here, Vec::new()).unwrap().into_string().unwrap();
        let there = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        (here, there, path.strip_prefix("/dev/").unwrap().to_owned())
    }

    fn process(pid: u32, tty: Option<&str>) -> Process {
        Process {
            pid,
            ppid: 1,
            session: pid,
            tty: tty.map(str::to_owned),
            user: "alice".into(),
            comm: "bash".into(),
            cmdline: Vec::new(),
            started_at: Timestamp::UNIX_EPOCH,
            dh_session: Some("shell".into()),
        }
    }

    #[tokio::test]
    async fn every_terminal_of_the_engine_shows_it_once() {
        let (here, _there, name) = terminal();
        let host = FakeHost::with_processes(vec![process(1, Some(&name)), process(2, Some(&name)), process(3, None)]);
        let engine = EngineName::new("lab").unwrap();
        let message = warning(&engine, Duration::from_secs(1_500), Duration::from_millis(299_990));
        assert_eq!(Terminals::new(host).notify(&message).await.unwrap(), 1);
        let mut shown = [0; 400];
        let length = std::fs::File::from(here).read(&mut shown).unwrap();
        let shown = String::from_utf8_lossy(&shown[..length]);
        assert!(shown.contains("'lab' has been idle for 25 minutes and will be stopped in 5 minutes."), "{shown}");
        assert!(shown.contains("dh engine coffee lab 1h"), "{shown}");
        assert_eq!(shown.matches("will be stopped").count(), 1);
    }

    #[tokio::test]
    async fn a_stuck_terminal_delays_nobody() {
        let (_stuck, stuck_end, stuck_name) = terminal();
        // As Ctrl-S does it: whoever writes waits until it is taken back.
        rustix::termios::tcflow(&stuck_end, rustix::termios::Action::OOff).unwrap();
        let (_here, _there, name) = terminal();
        let host = FakeHost::with_processes(vec![process(1, Some(&stuck_name)), process(2, Some(&name))]);
        assert_eq!(Terminals::new(host).notify("hello").await.unwrap(), 1);
    }

    #[tokio::test]
    async fn nothing_but_terminals_is_written_to_and_nothing_but_text() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pts")).unwrap();
        std::fs::write(dir.path().join("pts/0"), "").unwrap();
        let host = FakeHost::with_processes(vec![
            process(1, Some("pts/0")),
            process(2, Some("../x")),
            process(3, Some("pts/9")),
        ]);
        let terminals = Terminals { dev: dir.path().into(), ..Terminals::new(host) };
        assert_eq!(terminals.notify("hello").await.unwrap(), 0);
        assert_eq!(std::fs::read(dir.path().join("pts/0")).unwrap(), b"");

        let (here, _there, name) = terminal();
        let host = FakeHost::with_processes(vec![process(1, Some(&name))]);
        Terminals::new(host).notify("docker: \x1b[2J gone").await.unwrap();
        let mut shown = [0; 100];
        let length = std::fs::File::from(here).read(&mut shown).unwrap();
        assert!(!shown[..length].contains(&0x1b));
    }
}
