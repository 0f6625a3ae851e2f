//! The caller's terminal, joined with one on an engine.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// What ends input on a terminal.
const END_OF_INPUT: &[u8] = b"\x04";

/// Returns rows and columns of the caller's terminal, if it has one.
pub fn window() -> Option<(u16, u16)> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let size = [stdout.as_fd(), stdin.as_fd()].into_iter().find_map(|fd: BorrowedFd<'_>| tcgetwinsize(fd).ok())?;
    Some((size.ws_row, size.ws_col))
}

/// The two terminals while they are joined. The caller's is as it was when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    remote: Arc<File>,
    before: Option<Termios>,
    output: Option<(JoinHandle<()>, io::PipeWriter)>,
}

impl Terminal {
    /// Joins them: what is typed goes there as it is, what comes is shown.
    pub fn join(remote: OwnedFd) -> io::Result<Self> {
        let remote = Arc::new(File::from(remote));
        let before = make_raw()?;
        let (ended, end) = io::pipe()?;
        let reader = Arc::clone(&remote);
        let output = std::thread::spawn(move || show(&reader, &ended));
        let writer = Arc::clone(&remote);
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut &*writer);
            let _ = (&*writer).write_all(END_OF_INPUT);
        });
        Ok(Self { remote, before, output: Some((output, end)) })
    }

    /// Gives the other terminal this one's size.
    pub fn follow_window(&self) {
        let stdout = io::stdout();
        if let Ok(size) = tcgetwinsize(stdout.as_fd()) {
            let _ = tcsetwinsize(self.remote.as_fd(), size);
        }
    }

    /// Shows what the session wrote before it ended.
    pub fn finish(mut self) {
        if let Some((output, end)) = self.output.take() {
            drop(end);
            let _ = output.join();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, before);
        }
    }
}

fn make_raw() -> io::Result<Option<Termios>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let before = tcgetattr(stdin.as_fd())?;
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(stdin.as_fd(), OptionalActions::Drain, &raw)?;
    Ok(Some(before))
}

/// Shows what comes, until the other end is closed or, once the session has ended, until nothing is left. A process that
/// outlives the session may hold the other end for ever.
fn show(mut remote: &File, ended: &io::PipeReader) {
    let mut chunk = [0; 16 << 10];
    let mut is_over = false;
    loop {
        let mut watched = [PollFd::new(remote, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut watched, is_over.then_some(&at_once)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        let something = watched[0].revents().intersects(PollFlags::IN);
        let closed = watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        is_over |= !watched[1].revents().is_empty();
        if something {
            // The end of a terminal is an error: EIO.
            let Ok(count @ 1..) = remote.read(&mut chunk) else { return };
            let mut stdout = io::stdout().lock();
            if stdout.write_all(&chunk[..count]).and_then(|()| stdout.flush()).is_err() {
                return;
            }
        } else if closed || is_over {
            return;
        }
    }
}
