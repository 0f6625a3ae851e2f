//! What the supervisor of an engine is asked through its control socket, and a blocking client for it.
//!
//! A message is its length (four bytes, little-endian) and that much JSON. Descriptors travel with the first byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::map::{io_error, no_answer, no_supervisor};
use crate::domain::{Error, ErrorKind, Result, SizeGb, StopCause, StopMode, StoredError};

/// How long the supervisor may take to answer; what takes longer is answered at its beginning.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// The most descriptors in one message.
const MAX_DESCRIPTORS: usize = 3;

/// The longest message: arguments and environment of a session have room in it.
const MAX_MESSAGE: usize = 4 << 20;

/// What the supervisor is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Stops or hibernates the engine. Answered when that has begun.
    Stop {
        /// How.
        mode: StopMode,
        /// Who or what wants it.
        cause: StopCause,
        /// Why, for people.
        message: String,
    },
    /// Thaws a hibernated engine. Answered when it runs.
    Thaw,
    /// Ends the engine and removes its disk. Answered when that has begun.
    Terminate,
    /// Changes the machine's record.
    Update(RecordUpdate),
    /// Begins a session; its descriptors come along. Answered by `Started`, and later by `Ended`.
    Session(SessionSpec),
    /// Sends a signal to the processes of this connection's session, by the signal's name.
    Signal(SessionSignal),
}

/// A change of the record that needs no supervisor, but waits for none to hold the lock.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RecordUpdate {
    /// The boot disk's new size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_disk_gb: Option<SizeGb>,
    /// Tags to set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl RecordUpdate {
    /// Changes a record: boot disks only grow, tags that are not named stay.
    pub fn apply(&self, record: &mut super::machine::MachineRecord) {
        if let Some(size) = self.boot_disk_gb {
            record.boot_disk_gb = record.boot_disk_gb.max(size);
        }
        record.tags.extend(self.tags.clone());
    }
}

/// A session to begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Which kind.
    pub kind: SessionKind,
    /// Variables of the client's that the session takes over (`TERM`, `LANG`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Rows and columns of the client's terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<(u16, u16)>,
}

/// The kinds of session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SessionKind {
    /// A person's command. Descriptors: standard input, output and error.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// A command of dh's own, which does not count as use of the engine, and goes on to its end or its deadline when its
    /// client ends: half a mount would help nobody. Descriptors as for `Exec`.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// After this it is killed, with all below it.
        #[serde(rename = "timeout_secs", with = "crate::domain::secs")]
        timeout: Duration,
    },
    /// A login shell. No descriptors; the answer carries the terminal's other end.
    Shell,
    /// An SSH server. Descriptors: the connection, and where errors go.
    Ssh,
}

/// The signals that a session's client passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionSignal {
    /// The client's terminal is gone.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\.
    Quit,
    /// The client was asked to end.
    Terminate,
    /// The client's window has another size.
    WindowChange,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is done, or has begun.
    Done,
    /// It was refused, or failed.
    Failed(StoredError),
    /// The session runs. A shell's terminal comes along.
    Started,
    /// The session's command has ended.
    Ended {
        /// Its exit code; 128 and the signal's number when a signal ended it.
        exit_code: i32,
    },
    /// The session's command was killed because its time was over.
    TimedOut,
}

/// Messages that have arrived in part or whole.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Inbox {
    /// Receives once; returns the number of bytes, 0 at the end of the connection.
    ///
    /// # Errors
    /// Whatever the socket says, `WouldBlock` included.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut chunk = [0u8; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut chunk)], &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.bytes.extend_from_slice(&chunk[..received.bytes]);
        Ok(received.bytes)
    }

    /// Takes the next message that is there as a whole, with the descriptors that have come.
    ///
    /// # Errors
    /// `InvalidData` when it is too long or not understood.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        let Some(text) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(text).map_err(io::Error::from)?;
        self.bytes.drain(..4 + length);
        Ok(Some((message, std::mem::take(&mut self.descriptors))))
    }
}

/// Returns a message as it travels.
///
/// # Errors
/// `InvalidInput` when it is too long.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command and its environment are too long"));
    }
    Ok([&(text.len() as u32).to_le_bytes(), text.as_slice()].concat())
}

/// Sends the first part of an encoded message with its descriptors, and returns how much was sent.
///
/// # Errors
/// Whatever the socket says, `WouldBlock` included.
pub fn send_part(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    inbox: Inbox,
    socket: PathBuf,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable` when no supervisor listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => no_supervisor(socket, source),
            _ => io_error("cannot reach", socket, source),
        };
        let stream = through_directory(socket, UnixStream::connect).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER_PATIENCE)).map_err(failed)?;
        Ok(Self { stream, inbox: Inbox::default(), socket: socket.to_owned() })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// `Unavailable` when the supervisor has ended, `Timeout` when it takes nothing.
    pub fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let send = || -> io::Result<()> {
            let bytes = encode(request)?;
            let mut sent = send_part(self.stream.as_fd(), &bytes, descriptors)?;
            while sent < bytes.len() {
                sent += send_part(self.stream.as_fd(), &bytes[sent..], &[])?;
            }
            Ok(())
        };
        send().map_err(|source| self.failed(source))
    }

    /// Waits for the next answer, as long as the patience set lasts.
    ///
    /// # Errors
    /// `Timeout`; `Unavailable` when the supervisor ends first. A `Failed` answer is returned as an error.
    pub fn receive(&mut self) -> Result<(Reply, Vec<OwnedFd>)> {
        loop {
            match self.inbox.take().map_err(|source| self.failed(source))? {
                Some((Reply::Failed(error), _)) => return Err(error.into()),
                Some(answer) => return Ok(answer),
                None => {}
            }
            match self.inbox.receive(self.stream.as_fd()) {
                Ok(0) => return Err(self.failed(rustix::io::Errno::CONNRESET.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::receive`].
    pub fn call(&mut self, request: &Request) -> Result<Reply> {
        self.send(request, &[])?;
        Ok(self.receive()?.0)
    }

    /// Returns the socket with what has arrived already, for a caller that waits for several things at once.
    pub fn into_parts(self) -> (UnixStream, Inbox) {
        (self.stream, self.inbox)
    }

    fn failed(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => no_answer(&self.socket),
            io::ErrorKind::InvalidData => {
                Error::new(ErrorKind::Incompatible, "the engine's supervisor is not understood")
                    .with_hint("stop and start the engine, so that it runs this version of dh-agent")
                    .with_source(source)
            }
            io::ErrorKind::InvalidInput => Error::new(ErrorKind::InvalidArgument, source.to_string())
                .with_hint("give a shorter command; long data goes to its standard input"),
            _ => io_error("cannot talk through", &self.socket, source),
        }
    }
}

/// Listens on a machine's control socket, for the owner only.
///
/// # Errors
/// Whatever binding says.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = through_directory(socket, UnixListener::bind);
    rustix::process::umask(before);
    listener
}

/// Calls with a path to the socket that is short however deep its directory lies: a socket's address has 108 bytes.
fn through_directory<'a, T>(socket: &'a Path, call: impl FnOnce(PathBuf) -> io::Result<T> + 'a) -> io::Result<T> {
    let directory = File::open(socket.parent().unwrap_or(Path::new("/")))?;
    let name = socket.file_name().unwrap_or_default();
    call(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

/// Asks the supervisor behind a control socket to stop its engine, as the engine's own agent does. Returns when that has
/// begun; a caller that is part of the engine ends soon after.
///
/// # Errors
/// `Unavailable` when there is no supervisor, `Timeout` when it does not answer.
pub fn request_stop(socket: &Path, mode: StopMode, cause: StopCause, message: &str) -> Result<()> {
    Client::connect(socket)?.call(&Request::Stop { mode, cause, message: message.to_owned() }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_arrive_with_their_message_also_in_small_pieces() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let request = Request::Session(SessionSpec {
            kind: SessionKind::Exec { argv: vec!["x".repeat(100_000)] },
            env: BTreeMap::new(),
            window: Some((24, 80)),
        });
        let sender = std::thread::spawn({
            let request = request.clone();
            move || {
                let bytes = encode(&request).unwrap();
                let first = send_part(here.as_fd(), &bytes[..1], &[writer.as_fd()]).unwrap();
                (&here).write_all(&bytes[first..]).unwrap();
            }
        });
        let mut inbox = Inbox::default();
        let (received, descriptors) = loop {
            if let Some(found) = inbox.take::<Request>().unwrap() {
                break found;
            }
            assert!(inbox.receive(there.as_fd()).unwrap() > 0);
        };
        sender.join().unwrap();
        assert_eq!(received, request);
        let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).unwrap();
        File::from(descriptor).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn nonsense_is_refused() {
        let mut inbox = Inbox { bytes: vec![0xff; 8], descriptors: Vec::new() };
        assert_eq!(inbox.take::<Request>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut inbox = Inbox { bytes: b"\x02\0\0\0{}".to_vec(), descriptors: Vec::new() };
        assert!(inbox.take::<Request>().is_err());
    }

    #[test]
    fn a_socket_in_a_deep_directory_is_reached_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let deep = (0..20).fold(dir.path().to_owned(), |path, _| path.join("a-long-name-of-a-directory"));
        std::fs::create_dir_all(&deep).unwrap();
        let socket = deep.join("control.sock");
        assert_eq!(Client::connect(&socket).unwrap_err().kind(), ErrorKind::Unavailable);
        let listener = listen(&socket).unwrap();
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let client = Client::connect(&socket).unwrap();
        drop((listener, client));
        let error = request_stop(&socket, StopMode::Stop, StopCause::Idle, "idle").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "nobody listens any more");
        drop(listen(&socket).expect("a stale socket is replaced"));
    }
}
