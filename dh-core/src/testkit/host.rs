//! A host written down: what sensors see is what a JSON document says, faults included.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Error, ErrorKind, Result};
use crate::ports::{BootTime, ContainerSocket, Host, HttpAnswer, HttpTarget, Login, Process, TcpConnection};

/// One of the questions a host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HostCall {
    /// [`Host::processes`].
    Processes,
    /// [`Host::connections`].
    Connections,
    /// [`Host::logins`].
    Logins,
    /// [`Host::last_input`].
    LastInput,
    /// [`Host::container_sockets`].
    ContainerSockets,
    /// [`Host::coffee_lock`].
    CoffeeLock,
    /// [`Host::http_get`].
    HttpGet,
}

/// How a recorded host misbehaves at one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HostFault {
    /// It fails with this message.
    Error(String),
    /// It does not return: until [`RecordedHost::release`] where the caller is a thread, ever where it is a task.
    Hang,
    /// It panics with this message.
    Panic(String),
}

/// What one HTTP service answers to one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedHttp {
    /// The service.
    pub target: HttpTarget,
    /// The path.
    pub path: String,
    /// The status.
    pub status: u16,
    /// The body: a text as it is, anything else as JSON.
    #[serde(default)]
    pub body: serde_json::Value,
}

/// A host as a document. What it leaves out is not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// What is to be seen here, for people.
    #[serde(default)]
    pub about: String,
    /// The wall clock's time.
    pub now: Timestamp,
    /// The boot, and its clock.
    #[serde(default)]
    pub boot: Option<BootTime>,
    /// The processes.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// The connections.
    #[serde(default)]
    pub connections: Vec<TcpConnection>,
    /// Who is logged in.
    #[serde(default)]
    pub logins: Vec<Login>,
    /// When each terminal had its last input.
    #[serde(default)]
    pub last_input: BTreeMap<String, Timestamp>,
    /// Where container engines may answer.
    #[serde(default)]
    pub container_sockets: Vec<ContainerSocket>,
    /// The coffee lock's text.
    #[serde(default)]
    pub coffee: Option<String>,
    /// What HTTP services answer; one that is not named does not listen.
    #[serde(default)]
    pub http: Vec<RecordedHttp>,
    /// The calls that go wrong.
    #[serde(default)]
    pub faults: BTreeMap<HostCall, HostFault>,
}

impl Recording {
    /// Makes an empty host at a time.
    pub fn at(now: Timestamp) -> Self {
        Self {
            about: String::new(),
            now,
            boot: None,
            processes: Vec::new(),
            connections: Vec::new(),
            logins: Vec::new(),
            last_input: BTreeMap::new(),
            container_sockets: Vec::new(),
            coffee: None,
            http: Vec::new(),
            faults: BTreeMap::new(),
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] with line and column of what is wrong.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|error| Error::new(ErrorKind::InvalidArgument, format!("not a recorded host: {error}")))
    }

    /// Makes one call go wrong.
    pub fn with_fault(mut self, call: HostCall, fault: HostFault) -> Self {
        self.faults.insert(call, fault);
        self
    }

    /// Sets the wall clock.
    pub fn with_now(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }
}

/// A [`Host`] that answers from a [`Recording`], and notes what it was asked. What it says can be changed while it is in
/// use: [`RecordedHost::change`].
#[derive(Debug)]
pub struct RecordedHost {
    recording: Mutex<Recording>,
    calls: Mutex<Vec<HostCall>>,
    released: Mutex<bool>,
    release: Condvar,
}

impl RecordedHost {
    /// Makes a host.
    pub fn new(recording: Recording) -> Self {
        Self {
            recording: Mutex::new(recording),
            calls: Mutex::default(),
            released: Mutex::new(false),
            release: Condvar::new(),
        }
    }

    /// Makes a host from a document: see [`Recording::from_json`].
    ///
    /// # Errors
    /// As [`Recording::from_json`].
    pub fn from_json(json: &str) -> Result<Self> {
        Recording::from_json(json).map(Self::new)
    }

    /// Changes what it says from now on.
    pub fn change(&self, change: impl FnOnce(&mut Recording)) {
        change(&mut lock(&self.recording));
    }

    /// Returns every call so far, in order.
    pub fn calls(&self) -> Vec<HostCall> {
        lock(&self.calls).clone()
    }

    /// Returns which calls there were.
    pub fn used(&self) -> BTreeSet<HostCall> {
        lock(&self.calls).iter().copied().collect()
    }

    /// Lets go of every thread that hangs in a call; they, and later ones, get an error.
    pub fn release(&self) {
        *lock(&self.released) = true;
        self.release.notify_all();
    }

    /// Notes the call and says how it goes wrong, where it does.
    fn note(&self, call: HostCall) -> Option<HostFault> {
        lock(&self.calls).push(call);
        lock(&self.recording).faults.get(&call).cloned()
    }

    fn answer<T>(&self, call: HostCall, answer: impl FnOnce(&Recording) -> T) -> Result<T> {
        match self.note(call) {
            None => Ok(answer(&lock(&self.recording))),
            Some(HostFault::Error(message)) => Err(Error::new(ErrorKind::Unavailable, message)),
            Some(HostFault::Panic(message)) => panic!("{message}"),
            Some(HostFault::Hang) => {
                let released = lock(&self.released);
                drop(self.release.wait_while(released, |released| !*released).unwrap_or_else(PoisonError::into_inner));
                Err(Error::new(ErrorKind::Unavailable, "released"))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Host for RecordedHost {
    fn now(&self) -> Timestamp {
        lock(&self.recording).now
    }

    fn boot(&self) -> Option<BootTime> {
        lock(&self.recording).boot.clone()
    }

    fn processes(&self) -> Result<Vec<Process>> {
        self.answer(HostCall::Processes, |recording| recording.processes.clone())
    }

    fn connections(&self) -> Result<Vec<TcpConnection>> {
        self.answer(HostCall::Connections, |recording| recording.connections.clone())
    }

    fn logins(&self) -> Result<Vec<Login>> {
        self.answer(HostCall::Logins, |recording| recording.logins.clone())
    }

    fn last_input(&self, tty: &str) -> Result<Option<Timestamp>> {
        self.answer(HostCall::LastInput, |recording| recording.last_input.get(tty).copied())
    }

    fn container_sockets(&self) -> Result<Vec<ContainerSocket>> {
        self.answer(HostCall::ContainerSockets, |recording| recording.container_sockets.clone())
    }

    fn coffee_lock(&self) -> Result<Option<String>> {
        self.answer(HostCall::CoffeeLock, |recording| recording.coffee.clone())
    }

    async fn http_get(&self, target: &HttpTarget, path: &str) -> Result<Option<HttpAnswer>> {
        match self.note(HostCall::HttpGet) {
            Some(HostFault::Error(message)) => return Err(Error::new(ErrorKind::Unavailable, message)),
            Some(HostFault::Panic(message)) => panic!("{message}"),
            Some(HostFault::Hang) => std::future::pending().await,
            None => {}
        }
        let recording = lock(&self.recording);
        let service: Vec<_> = recording.http.iter().filter(|http| http.target == *target).collect();
        if service.is_empty() {
            return Ok(None);
        }
        Ok(Some(match service.iter().find(|http| http.path == path) {
            None => HttpAnswer { status: 404, body: String::new() },
            Some(http) => HttpAnswer {
                status: http.status,
                body: match &http.body {
                    serde_json::Value::String(text) => text.clone(),
                    json => json.to_string(),
                },
            },
        }))
    }
}
