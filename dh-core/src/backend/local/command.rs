//! Runs one of dh's own commands on a machine, through its supervisor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::control::{Client, Inbox, Reply, Request, SessionKind, SessionSpec};
use super::layout::EngineDir;
use super::map::io_error;
use crate::domain::{Effect, Error, ErrorKind, Result};
use crate::ports::{CommandOutput, RunCommand};

/// Of each stream so much is kept; the rest is read and dropped, so that the command does not block.
const KEPT: usize = 16 << 20;

/// How much later than the command's deadline the supervisor may say so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a command and waits for its end.
pub fn run(dir: &EngineDir, mut client: Client, request: &RunCommand) -> Result<CommandOutput> {
    // The supervisor keeps the time; this is for one that has stopped doing so.
    let deadline = Instant::now() + request.timeout + PATIENCE;
    let failed = |source| io_error("cannot run a command on", dir.path(), source);
    let pipes = || Ok((io::pipe()?, io::pipe()?, io::pipe()?));
    let ((child_in, stdin), (stdout, child_out), (stderr, child_err)) = pipes().map_err(failed)?;
    let kind = SessionKind::Command { argv: request.argv.clone(), timeout: request.timeout };
    let spec = SessionSpec { kind, env: BTreeMap::new(), window: None };
    client.send(&Request::Session(spec), &[child_in.as_fd(), child_out.as_fd(), child_err.as_fd()])?;
    drop((child_in, child_out, child_err));
    client.receive()?;
    let (stream, inbox) = client.into_parts();
    let mut watched = Watched {
        control: stream,
        inbox,
        stdin: Some(File::from(OwnedFd::from(stdin))).filter(|_| !request.stdin.is_empty()),
        left: &request.stdin,
        outputs: [OwnedFd::from(stdout), OwnedFd::from(stderr)]
            .map(|fd| Output { file: Some(fd.into()), kept: Vec::new() }),
    };
    match watched.until_end(deadline) {
        Ok(Ok(exit_code)) => {
            let [stdout, stderr] = watched.outputs.map(|output| String::from_utf8_lossy(&output.kept).into_owned());
            Ok(CommandOutput { exit_code, stdout, stderr })
        }
        Ok(Err(TimedOut)) => {
            let program = request.argv.first().map_or("the command", String::as_str);
            Err(Error::new(
                ErrorKind::Timeout,
                format!("{program} took longer than {:?} and was killed", request.timeout),
            )
            .with_effect(Effect::Unknown)
            .with_context("backend", "local")
            .with_hint("run 'dh engine logs NAME' to see what the engine is busy with"))
        }
        Err(source) => Err(failed(source).with_effect(Effect::Unknown)),
    }
}

/// Its time was over.
struct TimedOut;

struct Output {
    file: Option<File>,
    kept: Vec<u8>,
}

impl Output {
    /// Reads what is there without waiting.
    fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0; 32 << 10];
        while let Some(file) = &mut self.file {
            match file.read(&mut chunk) {
                Ok(0) => self.file = None,
                Ok(count) => {
                    let room = KEPT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&chunk[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

struct Watched<'a> {
    control: UnixStream,
    inbox: Inbox,
    stdin: Option<File>,
    left: &'a [u8],
    outputs: [Output; 2],
}

impl Watched<'_> {
    /// Feeds and reads until the command has ended, and returns its exit code.
    fn until_end(&mut self, deadline: Instant) -> io::Result<Result<i32, TimedOut>> {
        self.control.set_nonblocking(true)?;
        for file in self.outputs.iter().map(|output| &output.file).chain([&self.stdin]).flatten() {
            rustix::fs::fcntl_setfl(file, OFlags::NONBLOCK)?;
        }
        loop {
            if let Some(end) = self.ended()? {
                // Whatever the command wrote is in the pipes by now; a child of it may hold them open for ever.
                for output in &mut self.outputs {
                    output.drain()?;
                }
                return Ok(end);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Err(TimedOut));
            }
            self.wait(left)?;
            self.feed()?;
            for output in &mut self.outputs {
                output.drain()?;
            }
        }
    }

    fn wait(&self, left: Duration) -> io::Result<()> {
        let mut watched = vec![PollFd::new(&self.control, PollFlags::IN)];
        watched
            .extend(self.outputs.iter().filter_map(|output| Some(PollFd::new(output.file.as_ref()?, PollFlags::IN))));
        watched.extend(self.stdin.as_ref().map(|file| PollFd::new(file, PollFlags::OUT)));
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 });
        match poll(&mut watched, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn feed(&mut self) -> io::Result<()> {
        while let Some(file) = &mut self.stdin {
            match file.write(self.left) {
                Ok(count) => self.left = &self.left[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The command does not want it.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.left = &[],
                Err(error) => return Err(error),
            }
            if self.left.is_empty() {
                self.stdin = None;
            }
        }
        Ok(())
    }

    fn ended(&mut self) -> io::Result<Option<Result<i32, TimedOut>>> {
        loop {
            if let Some((reply, _)) = self.inbox.take::<Reply>()? {
                match reply {
                    Reply::Ended { exit_code } => return Ok(Some(Ok(exit_code))),
                    Reply::TimedOut => return Ok(Some(Err(TimedOut))),
                    Reply::Failed(error) => return Err(io::Error::other(Error::from(error))),
                    Reply::Done | Reply::Started => continue,
                }
            }
            match self.inbox.receive(self.control.as_fd()) {
                Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
