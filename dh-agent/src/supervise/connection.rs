//! One client of the supervisor.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use dh_core::backend::local::control::{
    Inbox, Reply, Request, SessionKind, SessionSignal, SessionSpec, encode, send_part,
};
use dh_core::domain::{Error, ErrorKind, Result, StoredError};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::group::Group;

/// A request on its way to the engine.
#[derive(Debug)]
pub struct Call {
    pub request: Request,
    pub descriptors: Vec<OwnedFd>,
    pub answer: oneshot::Sender<Result<Answer>>,
}

#[derive(Debug)]
pub enum Answer {
    Done,
    Session(Session),
}

/// A session that its connection watches over.
#[derive(Debug)]
pub struct Session {
    pub leader: Pid,
    pub terminal: Option<OwnedFd>,
    /// The exit code, when it comes.
    pub end: oneshot::Receiver<i32>,
}

/// Serves a client until it goes.
pub async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let own = rustix::process::geteuid().as_raw();
    match uid {
        Ok(uid) if uid == own || uid == 0 => {}
        other => {
            tracing::warn!(?other, "a client of another user was refused");
            return;
        }
    }
    let mut connection = Connection { stream, inbox: Inbox::default() };
    if let Err(error) = connection.converse(&calls).await {
        tracing::debug!(%error, "a client went");
    }
}

struct Connection {
    stream: UnixStream,
    inbox: Inbox,
}

impl Connection {
    async fn converse(&mut self, calls: &mpsc::Sender<Call>) -> io::Result<()> {
        while let Some((request, descriptors)) = self.receive().await? {
            let spec = match &request {
                Request::Session(spec) => Some(spec.clone()),
                _ => None,
            };
            let (answer, answered) = oneshot::channel();
            let asked = calls.send(Call { request, descriptors, answer }).await.is_ok();
            let answer = if asked { answered.await.ok() } else { None };
            match (answer.unwrap_or_else(|| Err(ended())), spec) {
                (Ok(Answer::Session(session)), Some(spec)) => return self.watch(session, &spec).await,
                (Ok(_), _) => self.send(&Reply::Done, None).await?,
                (Err(error), _) => self.send(&Reply::Failed(StoredError::from(&error)), None).await?,
            }
        }
        Ok(())
    }

    /// Stays with a session until it ends, or its client does.
    async fn watch(&mut self, mut session: Session, spec: &SessionSpec) -> io::Result<()> {
        let leader = session.leader;
        let time = match spec.kind {
            SessionKind::Command { timeout, .. } => Some(timeout),
            _ => None,
        };
        let mut overdue = std::pin::pin!(expire(time));
        let mut gone = self.send(&Reply::Started, session.terminal.take()).await.is_err();
        loop {
            tokio::select! {
                biased;
                end = &mut session.end => {
                    return self.send(&Reply::Ended { exit_code: end.unwrap_or(128 + Signal::KILL.as_raw()) }, None).await;
                }
                () = &mut overdue => {
                    Group::kill_session(leader);
                    return self.send(&Reply::TimedOut, None).await;
                }
                request = self.receive(), if !gone => match request {
                    Ok(Some((Request::Signal(signal), _))) => pass_on(leader, signal),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => gone = true,
                },
            }
            if gone {
                match spec.kind {
                    // It goes on until its end or its deadline.
                    SessionKind::Command { .. } => {}
                    // The server sees by itself that its connection is gone.
                    SessionKind::Ssh => return Ok(()),
                    SessionKind::Exec { .. } | SessionKind::Shell => {
                        pass_on(leader, SessionSignal::Hangup);
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn receive(&mut self) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.inbox.take()? {
                return Ok(Some(message));
            }
            let (stream, inbox) = (&self.stream, &mut self.inbox);
            if stream.async_io(Interest::READABLE, || inbox.receive(stream.as_fd())).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn send(&self, reply: &Reply, descriptor: Option<OwnedFd>) -> io::Result<()> {
        let bytes = encode(reply)?;
        let mut sent = 0;
        while sent < bytes.len() {
            let passed: Vec<_> = descriptor.iter().filter(|_| sent == 0).map(AsFd::as_fd).collect();
            let part = || send_part(self.stream.as_fd(), &bytes[sent..], &passed);
            sent += self.stream.async_io(Interest::WRITABLE, part).await?;
        }
        Ok(())
    }
}

async fn expire(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => pending().await,
    }
}

fn pass_on(leader: Pid, signal: SessionSignal) {
    let signal = match signal {
        SessionSignal::Hangup => Signal::HUP,
        SessionSignal::Interrupt => Signal::INT,
        SessionSignal::Quit => Signal::QUIT,
        SessionSignal::Terminate => Signal::TERM,
        SessionSignal::WindowChange => Signal::WINCH,
    };
    let _ = kill_process_group(leader, signal);
    if signal == Signal::HUP {
        // What is stopped takes it only when it goes on.
        let _ = kill_process_group(leader, Signal::CONT);
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine's supervisor has ended")
        .with_hint("run 'dh engine list' to see the engine's state")
}
