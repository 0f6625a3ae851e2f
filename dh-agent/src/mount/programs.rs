//! The programs that look at, make and grow filesystems.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dh_core::domain::{Effect, Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal};

/// A program that mounting needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Blkid,
    MkfsExt4,
    MkfsXfs,
    E2fsck,
    Resize2fs,
    XfsGrowfs,
}

impl Program {
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The Debian package that has it.
    fn package(self) -> &'static str {
        self.facts().1
    }

    fn deadline(self) -> Duration {
        Duration::from_secs(self.facts().2)
    }

    /// Whether it dies when this process does. Not what changes a filesystem with files in it: it goes on to its end,
    /// and the kernel keeps a repeated mount away from the device until then.
    fn life(self) -> Life {
        match self {
            Self::Blkid | Self::MkfsExt4 | Self::MkfsXfs => Life::WithParent,
            Self::E2fsck | Self::Resize2fs | Self::XfsGrowfs => Life::Own,
        }
    }

    fn facts(self) -> (&'static str, &'static str, u64) {
        match self {
            Self::Blkid => ("blkid", "util-linux", 30),
            Self::MkfsExt4 => ("mkfs.ext4", "e2fsprogs", 300),
            Self::MkfsXfs => ("mkfs.xfs", "xfsprogs", 300),
            Self::E2fsck => ("e2fsck", "e2fsprogs", 3_600),
            Self::Resize2fs => ("resize2fs", "e2fsprogs", 3_600),
            Self::XfsGrowfs => ("xfs_growfs", "xfsprogs", 3_600),
        }
    }
}

/// Whether a child outlives the thread that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    WithParent,
    Own,
}

/// How a program ended and what it printed.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code, where no signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    #[cfg(test)]
    pub fn of(code: i32, stdout: &str) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: String::new() }
    }
}

/// Runs programs and waits. The one door of this module's logic to other programs and to time.
pub trait Programs {
    /// Runs a program to its end, whatever its exit code.
    fn run(&self, program: Program, args: &[&OsStr]) -> Result<Output>;

    /// Lets some time pass.
    fn pause(&self, time: Duration);
}

/// Runs a program and makes an exit code other than 0 an error.
pub fn run_checked(programs: &dyn Programs, program: Program, args: &[&OsStr]) -> Result<Output> {
    let output = programs.run(program, args)?;
    if output.success() { Ok(output) } else { Err(failed(program, &output)) }
}

/// Makes the error of a program that ended badly, in its own words.
pub fn failed(program: Program, output: &Output) -> Error {
    let said = output.stderr.trim();
    let said = if said.is_empty() { output.stdout.trim() } else { said };
    Error::new(ErrorKind::Failed, format!("{} ended with {}: {said}", program.name(), output.status))
        .with_effect(Effect::Unknown)
        .with_hint("look at the kernel's log on the engine (`dmesg`), then repeat the command")
}

/// The programs installed on this machine.
#[derive(Debug)]
pub struct Installed;

impl Programs for Installed {
    fn run(&self, program: Program, args: &[&OsStr]) -> Result<Output> {
        let mut command = Command::new(program.name());
        // A plain user's PATH often lacks the places where these are.
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
        command.args(args).env("PATH", path).env("LC_ALL", "C");
        match run_child(&mut command, program.deadline(), program.life()) {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(Error::new(
                ErrorKind::Timeout,
                format!("{} took longer than {} seconds and was killed", program.name(), program.deadline().as_secs()),
            )
            .with_hint(
                "the disk may be gone: look at the kernel's log on the engine (`dmesg`), then repeat the command",
            )),
            Err(source) => Err(cannot_run(program, source)),
        }
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

fn cannot_run(program: Program, source: io::Error) -> Error {
    let name = program.name();
    // A directory of PATH that may not be looked into turns "nowhere" into "not permitted".
    if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
        return Error::new(ErrorKind::Failed, format!("{name} is not installed on this engine"))
            .with_hint(format!("install it there: `apt-get install {}`", program.package()));
    }
    Error::new(ErrorKind::Failed, format!("cannot run {name}")).with_source(source)
}

/// Runs a child without input; `None` when it was killed at its deadline.
pub fn run_child(command: &mut Command, deadline: Duration, life: Life) -> io::Result<Option<Output>> {
    // Files in memory, not pipes: a child that prints much never waits for us, and one that is stuck in the kernel
    // never makes us wait for its end of a pipe.
    let (mut stdout, mut stderr) = (memory_file()?, memory_file()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    if life == Life::WithParent {
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
    }
    let mut child = command.spawn()?;
    let Some(status) = wait(&mut child, deadline)? else { return Ok(None) };
    Ok(Some(Output { status, stdout: content(&mut stdout)?, stderr: content(&mut stderr)? }))
}

fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let ended = |within: Duration| -> io::Result<bool> {
        let until = Instant::now() + within;
        loop {
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    };
    if ended(deadline)? {
        return child.wait().map(Some);
    }
    child.kill()?;
    // One that is stuck in the kernel does not die now; it does when the kernel lets it go, and is no zombie of ours
    // for long, as this process ends.
    if ended(Duration::from_secs(2))? {
        child.wait()?;
    }
    Ok(None)
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?))
}

fn content(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_past_its_deadline_is_killed() {
        let begun = Instant::now();
        assert!(
            run_child(Command::new("sleep").arg("60"), Duration::from_millis(50), Life::WithParent).unwrap().is_none()
        );
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn output_larger_than_a_pipe_is_read_whole() {
        let output =
            run_child(Command::new("head").args(["-c", "200000", "/dev/zero"]), Duration::from_secs(60), Life::Own);
        assert_eq!(output.unwrap().unwrap().stdout.len(), 200_000);
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let source = run_child(&mut Command::new("mkfs.no-such"), Duration::from_secs(60), Life::Own).unwrap_err();
        let error = cannot_run(Program::MkfsXfs, source);
        assert_eq!(error.to_string(), "mkfs.xfs is not installed on this engine");
        assert!(error.hint().unwrap().contains("apt-get install xfsprogs"));
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        struct Failing;
        impl Programs for Failing {
            fn run(&self, _: Program, _: &[&OsStr]) -> Result<Output> {
                Ok(Output::of(4, "bad usage\n"))
            }
            fn pause(&self, _: Duration) {}
        }
        let error = run_checked(&Failing, Program::MkfsXfs, &[]).unwrap_err();
        assert_eq!(error.to_string(), "mkfs.xfs ended with exit status: 4: bad usage");
    }
}
